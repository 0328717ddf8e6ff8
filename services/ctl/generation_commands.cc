#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "services/ctl/mining_commands.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {

constexpr int kShownSubspaces = 20;

std::string Seconds(double seconds) { return absl::StrFormat("%.1f s", seconds); }

std::string LastObjective(const v1::GenerationInfo& info) {
  return info.objective().empty() ? "" : absl::StrFormat("%.6g", *info.objective().rbegin());
}

std::string RenderSubspaces(const v1::GenerationInfo& info, const Console& console) {
  constexpr auto kRight = Table::Align::kRight;
  Table table({{"SUBSPACE", kRight},
               {"IDENTITIES", kRight},
               {"MEAN RADIUS", kRight},
               {"MAX RADIUS", kRight},
               {"NEAREST", kRight},
               {"COSINE", kRight},
               {"DENSITY", kRight},
               {"IN", kRight},
               {"OUT", kRight}});
  const int shown = console.wide() ? info.subspace_size() : std::min(info.subspace_size(), kShownSubspaces);
  for (int i = 0; i < shown; ++i) {
    const v1::SubspaceInfo& subspace = info.subspace(i);
    table.AddRow({absl::StrCat(subspace.subspace()), FormatCount(subspace.identities()),
                  absl::StrFormat("%.4f", subspace.mean_radius()),
                  absl::StrFormat("%.4f", subspace.max_radius()), absl::StrCat(subspace.nearest_subspace()),
                  absl::StrFormat("%.4f", subspace.nearest_cosine()),
                  info.neighbours() == 0 ? "" : absl::StrFormat("%.4f", subspace.lookalike_density()),
                  FormatCount(subspace.arrived()), FormatCount(subspace.departed())});
  }
  std::string text = table.Render(console.colour);
  if (shown < info.subspace_size()) {
    absl::StrAppend(&text, "… and ", info.subspace_size() - shown, " more: -o wide shows all\n");
  }
  return text;
}

}  // namespace

std::string ShortFingerprint(const std::string& fingerprint) { return fingerprint.substr(0, 12); }

absl::Status PrintGeneration(const v1::GenerationInfo& info, const Console& console) {
  if (console.structured()) return PrintMessage(console, info);
  std::vector<std::pair<std::string, std::string>> fields = {
      {"generation",
       absl::StrCat(info.generation(), info.active() ? " (active)" : "", info.pinned() ? " (pinned)" : "")},
      {"created", info.created_at()},
      {"split", info.split()},
      {"identities", FormatCount(info.identities())},
      {"subspaces", absl::StrCat(FormatCount(info.subspaces()), " of ", FormatCount(info.smallest_subspace()),
                                 " to ", FormatCount(info.largest_subspace()), " identities, imbalance ",
                                 absl::StrFormat("%.2f", info.imbalance()))},
      {"objective", LastObjective(info)},
      {"dimension", absl::StrCat(info.dimension())},
      {"model", absl::StrCat(info.model_fingerprint(), " at step ", info.model_step())},
      {"catalog", info.catalog_fingerprint()},
      {"time", absl::StrCat("embed ", Seconds(info.embed_seconds()), ", cluster ",
                            Seconds(info.cluster_seconds()), ", publish ", Seconds(info.publish_seconds()))}};
  if (info.neighbours() > 0) {
    fields.emplace_back("neighbours", absl::StrFormat("%d of each, look-alike density %.4f, found in %.1f s",
                                                      info.neighbours(), info.lookalike_density(),
                                                      info.neighbours_seconds()));
  }
  if (info.guarded_pairs() + info.dropped_samples() > 0) {
    fields.emplace_back("guard list", absl::StrCat(FormatCount(info.guarded_pairs()), " pairs kept apart, ",
                                                   FormatCount(info.dropped_samples()), " samples left out"));
  }
  if (info.base() > 0)
    fields.emplace_back("made of", absl::StrCat("generation ", info.base(), ": ", info.note()));
  if (info.previous() > 0) {
    fields.emplace_back("against", absl::StrFormat("generation %d: churn %.2f %%, NMI %.4f", info.previous(),
                                                   100 * info.churn(), info.nmi()));
  }
  if (info.warm_start() > 0) {
    fields.emplace_back("started from", absl::StrCat("the subspaces of generation ", info.warm_start()));
  }
  if (info.merged_subspaces() + info.split_subspaces() > 0) {
    fields.emplace_back("of",
                        absl::StrCat(info.requested_subspaces(), " asked for, ", info.merged_subspaces(),
                                     " merged away, ", info.split_subspaces(), " more by splitting"));
  }
  if (console.wide()) fields.emplace_back("request", info.provenance());
  console.out << RenderFields(fields);
  if (!info.subspace().empty()) console.out << "\n" << RenderSubspaces(info, console);
  return absl::OkStatus();
}

absl::Status RunGeneration(uint64_t generation, MiningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::GenerationInfo info, client.GetGeneration(generation));
  return PrintGeneration(info, console);
}

absl::Status RunGenerations(MiningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::ListGenerationsResponse list, client.ListGenerations());
  if (console.structured()) return PrintMessage(console, list);
  if (list.generations().empty()) {
    console.out << "no generations yet: make one with `doppel recluster --model DIR`\n";
    return absl::OkStatus();
  }
  constexpr auto kRight = Table::Align::kRight;
  std::vector<Table::Column> columns = {{"GENERATION", kRight},
                                        {"ACTIVE"},
                                        {"PINNED"},
                                        {"CREATED"},
                                        {"SPLIT"},
                                        {"IDENTITIES", kRight},
                                        {"SUBSPACES", kRight},
                                        {"SMALLEST", kRight},
                                        {"LARGEST", kRight},
                                        {"IMBALANCE", kRight},
                                        {"CHURN", kRight},
                                        {"MODEL"},
                                        {"STEP", kRight}};
  if (console.wide()) {
    columns.insert(columns.end(), {{"OBJECTIVE", kRight},
                                   {"DIMENSION", kRight},
                                   {"EMBED", kRight},
                                   {"CLUSTER", kRight},
                                   {"PUBLISH", kRight},
                                   {"CATALOG"}});
  }
  Table table(columns);
  for (const v1::GenerationInfo& info : list.generations()) {
    table.AddRow({absl::StrCat(info.generation()), info.active() ? "*" : "", info.pinned() ? "*" : "",
                  info.created_at(), info.split(), FormatCount(info.identities()),
                  FormatCount(info.subspaces()), FormatCount(info.smallest_subspace()),
                  FormatCount(info.largest_subspace()), absl::StrFormat("%.2f", info.imbalance()),
                  info.previous() == 0 ? "" : absl::StrFormat("%.2f %%", 100 * info.churn()),
                  console.wide() ? info.model_fingerprint() : ShortFingerprint(info.model_fingerprint()),
                  absl::StrCat(info.model_step()), LastObjective(info), absl::StrCat(info.dimension()),
                  Seconds(info.embed_seconds()), Seconds(info.cluster_seconds()),
                  Seconds(info.publish_seconds()), info.catalog_fingerprint()});
  }
  console.out << table.Render(console.colour);
  return absl::OkStatus();
}

absl::Status RunActivate(uint64_t generation, bool dry_run, MiningClient& client, const Console& console) {
  // A dry run still asks whether there is such a generation.
  ASSIGN_OR_RETURN(const v1::GenerationInfo info,
                   dry_run ? client.GetGeneration(generation) : client.ActivateGeneration(generation));
  if (console.structured()) return PrintMessage(console, info);
  const std::string name = absl::StrCat("generation ", info.generation());
  if (!dry_run) {
    console.out << name << " is active: streams move to it at their next batch\n";
  } else if (info.active()) {
    console.out << name << " is active already: nothing would change\n";
  } else {
    console.out << name << " would become active\n";
  }
  return absl::OkStatus();
}

}  // namespace doppel
