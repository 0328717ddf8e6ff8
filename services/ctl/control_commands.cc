#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "services/ctl/mining_commands.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {

std::string Percent(double share) { return absl::StrFormat("%.2f %%", 100 * share); }

std::string OrOff(uint64_t value) { return value == 0 ? "off" : FormatCount(value); }

absl::Status PrintPolicy(const v1::ReclusterPolicySpec& policy, const v1::GetPolicyResponse* now,
                         const Console& console) {
  std::vector<std::pair<std::string, std::string>> fields = {
      {"every batches", OrOff(policy.every_batches())},
      {"max staleness", policy.max_staleness_steps() == 0
                            ? "off"
                            : absl::StrCat(FormatCount(policy.max_staleness_steps()), " steps")},
      {"min active share", policy.min_active_share() == 0 ? "off" : Percent(policy.min_active_share())},
      {"max churn", policy.max_churn() == 0 ? "off" : Percent(policy.max_churn())},
      {"min interval",
       absl::StrFormat("%g s", policy.min_interval_seconds() == 0 ? 60.0 : policy.min_interval_seconds())},
      {"max per day", absl::StrCat(policy.max_per_day() == 0 ? 48 : policy.max_per_day())},
      {"model",
       policy.request().model_path().empty() ? "as in the last job" : policy.request().model_path()}};
  if (now != nullptr) {
    fields.emplace_back("batches since", FormatCount(now->batches_since_activation()));
    fields.emplace_back("staleness", absl::StrCat(FormatCount(now->staleness_steps()), " steps"));
    fields.emplace_back("active share",
                        now->active_share() < 0 ? "not reported" : Percent(now->active_share()));
    fields.emplace_back("sampled churn",
                        now->sampled_churn() < 0 ? "not checked" : Percent(now->sampled_churn()));
    fields.emplace_back("now", now->verdict());
  }
  console.out << RenderFields(fields);
  return absl::OkStatus();
}

}  // namespace

absl::Status RunRollback(bool dry_run, MiningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::GenerationInfo info, client.Rollback(dry_run));
  if (console.structured()) return PrintMessage(console, info);
  console.out << "generation " << info.generation()
              << (dry_run ? " would become active again\n"
                          : " is active again: streams move to it at their next batch\n");
  return absl::OkStatus();
}

absl::Status RunRetire(uint64_t generation, bool dry_run, MiningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::GenerationInfo info, client.RetireGeneration(generation, dry_run));
  if (console.structured()) return PrintMessage(console, info);
  console.out << "generation " << info.generation()
              << (dry_run ? " would be removed from the disk\n" : " is removed from the disk\n");
  return absl::OkStatus();
}

absl::Status RunPin(uint64_t generation, bool pinned, bool dry_run, MiningClient& client,
                    const Console& console) {
  ASSIGN_OR_RETURN(const v1::GenerationInfo info,
                   dry_run ? client.GetGeneration(generation) : client.PinGeneration(generation, pinned));
  if (console.structured()) return PrintMessage(console, info);
  console.out << "generation " << info.generation();
  if (dry_run && info.pinned() == pinned) {
    console.out << (pinned ? " is pinned already" : " is not pinned") << ": nothing would change\n";
  } else {
    console.out << (dry_run ? " would be" : " is")
                << (pinned ? " pinned: it stays until it is unpinned\n" : " unpinned: it may be retired\n");
  }
  return absl::OkStatus();
}

absl::Status RunDiff(uint64_t from, uint64_t to, uint32_t limit, MiningClient& client,
                     const Console& console) {
  ASSIGN_OR_RETURN(const v1::DiffGenerationsResponse diff, client.DiffGenerations(from, to, limit));
  if (console.structured()) return PrintMessage(console, diff);
  console.out << RenderFields(
      {{"generations", absl::StrCat(diff.from(), " → ", diff.to())},
       {"identities",
        absl::StrCat(FormatCount(diff.common()), " in both, ", FormatCount(diff.only_from()), " only in ",
                     diff.from(), ", ", FormatCount(diff.only_to()), " only in ", diff.to())},
       {"moved", absl::StrCat(FormatCount(diff.moved()), ", churn ", Percent(diff.churn()), ", ",
                              Percent(diff.matched_churn()), " under the best matching of numbers")},
       {"NMI", absl::StrFormat("%.4f", diff.nmi())}});
  constexpr auto kRight = Table::Align::kRight;
  if (!diff.flows().empty()) {
    Table flows({{"FROM", kRight}, {"TO", kRight}, {"IDENTITIES", kRight}});
    for (const v1::SubspaceFlow& flow : diff.flows()) {
      flows.AddRow({absl::StrCat(flow.from()), absl::StrCat(flow.to()), FormatCount(flow.identities())});
    }
    console.out << "\nlargest movements\n" << flows.Render(console.colour);
  }
  Table table({{"SUBSPACE", kRight},
               {"BEFORE", kRight},
               {"NOW", kRight},
               {"STAYED", kRight},
               {"ARRIVED", kRight},
               {"DEPARTED", kRight},
               {"CENTROIDS' COSINE", kRight}});
  const int listed = limit == 0 ? 20 : static_cast<int>(std::min<uint32_t>(limit, INT32_MAX));
  const int shown = console.wide() ? diff.subspaces_size() : std::min(diff.subspaces_size(), listed);
  for (int i = 0; i < shown; ++i) {
    const v1::SubspaceDiff& subspace = diff.subspaces(i);
    table.AddRow({absl::StrCat(subspace.subspace()), FormatCount(subspace.from()), FormatCount(subspace.to()),
                  FormatCount(subspace.stayed()), FormatCount(subspace.arrived()),
                  FormatCount(subspace.departed()), absl::StrFormat("%.4f", subspace.centroid_cosine())});
  }
  console.out << "\n" << table.Render(console.colour);
  if (shown < diff.subspaces_size()) {
    console.out << "… and " << diff.subspaces_size() - shown << " more: -o wide shows all\n";
  }
  if (diff.identities().empty()) return absl::OkStatus();
  Table moved({{"IDENTITY", kRight}, {"NAME"}, {"FROM", kRight}, {"TO", kRight}});
  for (const v1::MovedIdentity& identity : diff.identities()) {
    moved.AddRow({absl::StrCat(identity.identity()), identity.name(), absl::StrCat(identity.from()),
                  absl::StrCat(identity.to())});
  }
  console.out << "\nsome that moved\n" << moved.Render(console.colour);
  return absl::OkStatus();
}

absl::Status RunShowPolicy(MiningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::GetPolicyResponse policy, client.GetPolicy());
  if (console.structured()) return PrintMessage(console, policy);
  return PrintPolicy(policy.policy(), &policy, console);
}

absl::Status RunSetPolicy(const std::function<void(v1::ReclusterPolicySpec&)>& change, bool dry_run,
                          MiningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::GetPolicyResponse before, client.GetPolicy());
  v1::ReclusterPolicySpec policy = before.policy();
  change(policy);
  if (!dry_run) {
    ASSIGN_OR_RETURN(policy, client.SetPolicy(policy));
  }
  if (console.structured()) return PrintMessage(console, policy);
  return PrintPolicy(policy, nullptr, console);
}

}  // namespace doppel
