#include "services/ctl/representation_commands.h"

#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "common/net/client_credentials.h"
#include "doppel/v1/reports.grpc.pb.h"
#include "miner/models/model_store.h"
#include "services/ctl/table.h"
#include "trainer/stream/model_client.h"

namespace doppel {
namespace {

constexpr absl::Duration kReportDeadline = absl::Seconds(30);
constexpr absl::Duration kPublishPatience = absl::Seconds(30);
constexpr int kSubspacesShown = 20;

template <typename Request, typename Response>
absl::StatusOr<Response> AskReports(const MiningClient& client, const Request& request,
                                    grpc::Status (v1::ReportService::Stub::*method)(grpc::ClientContext*,
                                                                                    const Request&,
                                                                                    Response*)) {
  const auto stub = v1::ReportService::NewStub(MakeChannel(client.address(), client.security(), {}));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kReportDeadline));
  Response response;
  const grpc::Status status = (stub.get()->*method)(&context, request, &response);
  if (status.ok()) return response;
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat("miner at ", client.address(), ": ", status.error_message(),
                                   status.error_code() == grpc::StatusCode::UNAVAILABLE
                                       ? ": is doppel-miner running there? name another with --server"
                                       : ""));
}

// Numbers as they are; names are looked up in the miner's catalog, if it can be opened here.
absl::StatusOr<uint64_t> IdentityNumber(const std::string& text, MiningClient& client) {
  uint64_t number = 0;
  if (absl::SimpleAtoi(text, &number)) return number;
  ASSIGN_OR_RETURN(const v1::DescribeResponse description, client.Describe());
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(description.catalog_path()));
  return catalog->FindIdentity(text);
}

absl::Status PrintStored(const v1::PublishModelResponse& response, const Console& console) {
  if (console.structured()) return PrintMessage(console, response);
  console.out << (response.created() ? "published " : "was there before, and is the latest again: ")
              << response.model().hash() << ", step " << response.model().step() << ", "
              << FormatBytes(response.model().bytes()) << "\n";
  return absl::OkStatus();
}

std::string Share(uint64_t part, uint64_t of) {
  return of == 0 ? ""
                 : absl::StrFormat(" (%.1f %%)", 100.0 * static_cast<double>(part) / static_cast<double>(of));
}

std::string Age(double seconds, const std::string& never) {
  return seconds < 0 ? never : absl::StrCat(doppel::FormatDuration(absl::Seconds(seconds)), " ago");
}

void PrintIdentities(const v1::DescribeRepresentationsResponse& response, const Console& console) {
  if (response.identity_size() == 0) return;
  constexpr auto kRight = Table::Align::kRight;
  Table table(
      {{"IDENTITY", kRight}, {"NAME"}, {"LAST STEP", kRight}, {"STALENESS", kRight}, {"IMAGES", kRight}});
  for (const v1::IdentityStaleness& one : response.identity()) {
    table.AddRow({absl::StrCat(one.identity()), one.name(),
                  one.seen() ? absl::StrCat(one.model_step()) : "never",
                  one.seen() ? absl::StrCat(one.staleness()) : "", absl::StrCat(one.samples())});
  }
  console.out << "\n" << table.Render(console.colour);
}

}  // namespace

absl::Status RunModels(const MiningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::ListModelsResponse response,
                   MakeGrpcModelClient(client.address(), client.security())->List());
  if (console.structured()) return PrintMessage(console, response);
  constexpr auto kRight = Table::Align::kRight;
  std::vector<Table::Column> columns = {
      {"HASH"}, {"STEP", kRight}, {"ARCHITECTURE"}, {"D", kRight}, {"SIZE", kRight}, {"PUBLISHED"}, {"BY"}};
  if (console.wide()) columns.push_back({"DIRECTORY"});
  Table table(columns);
  for (const v1::StoredModel& model : response.models()) {
    table.AddRow({model.hash() + (model.latest() ? " (latest)" : ""), absl::StrCat(model.step()),
                  model.architecture(), absl::StrCat(model.dimension()), FormatBytes(model.bytes()),
                  model.published_at(), model.publisher(), model.directory()});
  }
  console.out << table.Render(console.colour);
  for (const std::string& damaged : response.damaged()) console.err << "damaged: " << damaged << "\n";
  return absl::OkStatus();
}

absl::Status RunPublishModel(const std::string& directory, const MiningClient& client,
                             const Console& console) {
  ASSIGN_OR_RETURN(ModelContent content, ReadModelContent(directory));
  std::error_code ignored;
  content.description.set_publisher(
      std::filesystem::absolute(directory, ignored).lexically_normal().string());
  ASSIGN_OR_RETURN(const v1::PublishModelResponse response,
                   MakeGrpcModelClient(client.address(), client.security())
                       ->Publish(content.description, content.weights->data(), kPublishPatience));
  return PrintStored(response, console);
}

absl::Status RunRepresentations(const std::string& split, const std::vector<std::string>& identities,
                                MiningClient& client, const Console& console) {
  v1::DescribeRepresentationsRequest request;
  request.set_split(split);
  for (const std::string& identity : identities) {
    ASSIGN_OR_RETURN(const uint64_t number, IdentityNumber(identity, client));
    request.add_identities(number);
  }
  ASSIGN_OR_RETURN(const v1::DescribeRepresentationsResponse response,
                   AskReports(client, request, &v1::ReportService::Stub::DescribeRepresentations));
  if (console.structured()) return PrintMessage(console, response);
  if (response.run().empty()) {
    console.out << "no trainer has reported embeddings yet\n";
    return absl::OkStatus();
  }
  const v1::Staleness& staleness = response.staleness();
  console.out << RenderFields(
      {{"run", response.run()},
       {"step", absl::StrCat(FormatCount(response.model_step()), ", last report ",
                             Age(response.seconds_since_report(), "before the miner's start"))},
       {"seen", absl::StrCat(FormatCount(response.seen()), " of ", FormatCount(response.identities()),
                             " identities of split ", response.split(),
                             Share(response.seen(), response.identities()))},
       {"staleness",
        absl::StrFormat("mean %.0f steps, median %d, 90 %% %d, 99 %% %d, most %d", staleness.mean(),
                        staleness.p50(), staleness.p90(), staleness.p99(), staleness.max())},
       {"reports", absl::StrCat(FormatCount(response.reports()), " batches, ",
                                FormatCount(response.dropped_steps()), " dropped by trainers, ",
                                FormatCount(response.refused_reports()), " messages of other runs refused")},
       {"half-life", absl::StrCat(response.half_life_steps(), " steps")},
       {"memory", absl::StrCat(FormatBytes(response.memory_bytes()), ", D = ", response.dimension())},
       {"snapshot", Age(response.snapshot_age_seconds(), "none yet")}});
  PrintIdentities(response, console);
  return absl::OkStatus();
}

absl::Status RunHardness(uint64_t generation, const MiningClient& client, const Console& console) {
  v1::ListSubspaceHardnessRequest request;
  request.set_generation(generation);
  ASSIGN_OR_RETURN(v1::ListSubspaceHardnessResponse response,
                   AskReports(client, request, &v1::ReportService::Stub::ListSubspaceHardness));
  if (console.structured()) return PrintMessage(console, response);
  if (response.subspaces_size() == 0) {
    console.out << "no trainer has reported batches of subspaces yet\n";
    return absl::OkStatus();
  }
  std::sort(response.mutable_subspaces()->begin(), response.mutable_subspaces()->end(),
            [](const v1::SubspaceHardness& a, const v1::SubspaceHardness& b) {
              return a.active_share() > b.active_share();
            });
  constexpr auto kRight = Table::Align::kRight;
  Table table({{"SUBSPACE", kRight},
               {"ACTIVE", kRight},
               {"LOSS", kRight},
               {"BATCHES", kRight},
               {"LAST STEP", kRight}});
  const int shown =
      console.wide() ? response.subspaces_size() : std::min(kSubspacesShown, response.subspaces_size());
  for (int i = 0; i < shown; ++i) {
    const v1::SubspaceHardness& one = response.subspaces(i);
    table.AddRow({absl::StrCat(one.subspace()), absl::StrFormat("%.1f %%", 100 * one.active_share()),
                  absl::StrFormat("%.4f", one.loss()), absl::StrCat(one.batches()),
                  absl::StrCat(one.model_step())});
  }
  console.out << "generation " << response.generation() << ", hardest first\n"
              << table.Render(console.colour);
  if (shown < response.subspaces_size())
    console.out << response.subspaces_size() - shown << " more: -o wide shows them\n";
  return absl::OkStatus();
}

absl::Status RunSteering(const std::string& run, const MiningClient& client, const Console& console) {
  v1::ListSteeringRequest request;
  request.set_run(run);
  ASSIGN_OR_RETURN(const v1::ListSteeringResponse response,
                   AskReports(client, request, &v1::ReportService::Stub::ListSteering));
  if (console.structured()) return PrintMessage(console, response);
  if (response.plans_size() == 0) {
    console.out << "no plan has followed reports since the miner started\n";
    return absl::OkStatus();
  }
  for (const v1::SteeredPlan& plan : response.plans()) {
    const v1::Steering& steering = plan.steering();
    const auto& decisions = plan.plan().hardness();
    std::vector<std::pair<std::string, std::string>> fields = {
        {"run", steering.run()},
        {"plan", absl::StrCat(plan.plan().name(), " ", plan.plan().identities_per_batch(), "x",
                              plan.plan().samples_per_identity(), ", seed ", plan.seed())},
        {"reports", FormatCount(plan.reports())},
        {"settled", absl::StrCat("below cursor ", FormatCount(plan.settled_below()))}};
    if (steering.active_high() > 0) {
      fields.emplace_back("active band", absl::StrFormat("%.1f … %.1f %%", 100 * steering.active_low(),
                                                         100 * steering.active_high()));
    }
    if (!decisions.empty()) {
      const v1::HardnessDecision& last = decisions[decisions.size() - 1];
      fields.emplace_back("hard share",
                          absl::StrFormat("%.1f %% from cursor %d on (%.1f %% were active), decision %d",
                                          100 * last.hard_share(), last.from_cursor(),
                                          100 * last.active_share(), decisions.size()));
    }
    if (plan.plan().subspace_stage_size() > 0) {
      const v1::SubspaceStage& last = plan.plan().subspace_stage(plan.plan().subspace_stage_size() - 1);
      fields.emplace_back(
          "visits",
          absl::StrFormat("by hardness, of generation %d from cursor %d on, stage %d", last.generation(),
                          last.from_cursor(), plan.plan().subspace_stage_size()));
    }
    console.out << RenderFields(fields);
  }
  return absl::OkStatus();
}

std::string ModelArgument(const std::string& model) {
  std::error_code ignored;
  const bool is_name = ModelStore::IsName(model);
  if (model == "latest" || (is_name && !std::filesystem::is_directory(model, ignored))) return model;
  return std::filesystem::absolute(model, ignored).lexically_normal().string();
}

void AddRepresentationCommands(const AddRemoteCommand& add) {
  add("models", "List the models that were published to the miner",
      "  doppel models\n  doppel models -o wide",
      [](MiningClient& client, const Console& console) { return RunModels(client, console); });

  const auto directory = std::make_shared<std::string>();
  CLI::App* publish = add("publish-model", "Send a model to the miner's store; it becomes the latest",
                          "  doppel publish-model runs/faces/model\n"
                          "  doppel recluster --model latest",
                          [directory](MiningClient& client, const Console& console) {
                            return RunPublishModel(*directory, client, console);
                          });
  publish->add_option("directory", *directory, "Directory with model.json and weights.pt")->required();

  const auto split = std::make_shared<std::string>();
  const auto identities = std::make_shared<std::vector<std::string>>();
  CLI::App* representations =
      add("representations", "Show how fresh the live representations are",
          "  doppel representations\n  doppel representations --identity 42 --identity U+672A",
          [split, identities](MiningClient& client, const Console& console) {
            return RunRepresentations(*split, *identities, client, console);
          });
  representations->add_option("--split", *split, "Count the identities of this split")
      ->option_text("NAME [train if there is one, else all]");
  representations->add_option("--identity", *identities, "Show this one, too: a number, or a name")
      ->expected(1)
      ->take_all()
      ->option_text("IDENTITY ...");

  const auto generation = std::make_shared<uint64_t>(0);
  const auto run = std::make_shared<std::string>();
  CLI::App* steering = add("steering", "Show what the miner decided of plans that follow reports",
                           "  doppel steering\n  doppel steering host:/runs/faces -o json",
                           [run](const MiningClient& client, const Console& console) {
                             return RunSteering(*run, client, console);
                           });
  steering->add_option("run", *run, "That training run's alone");
  CLI::App* hardness = add("hardness", "Show how hard trainers find each subspace",
                           "  doppel hardness\n  doppel hardness 3 -o wide",
                           [generation](MiningClient& client, const Console& console) {
                             return RunHardness(*generation, client, console);
                           });
  hardness->add_option("generation", *generation, "The newest that was reported if left out");
}

}  // namespace doppel
