// Beside command_line.cc the only unit that sees CLI11.
#include "services/ctl/control_command_line.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <vector>

#include "services/ctl/mining_commands.h"

namespace doppel {
namespace {

struct ControlFlags {
  bool dry_run = false;
  uint64_t generation = 0;
  uint64_t other = 0;
  uint32_t subspace = 0;
  uint32_t limit = 0;
  uint64_t after = 0;
  LookalikesOptions lookalikes;
  bool watch = false;
  double interval = 1;
  WatchStatusOptions status;
  std::vector<std::function<void(v1::ReclusterPolicySpec&)>> policy;
};
using SharedFlags = std::shared_ptr<ControlFlags>;

void AddDryRun(CLI::App* command, const SharedFlags& flags) {
  command->add_flag("--dry-run", flags->dry_run, "Show what would happen, change nothing");
}

void AddNumber(CLI::App* command, const SharedFlags& flags) {
  command->add_option("number", flags->generation, "The generation's number")
      ->required()
      ->check(CLI::PositiveNumber);
}

void AddGenerationFlag(CLI::App* command, uint64_t& into) {
  command->add_option("--generation", into, "In this generation")->option_text("N [the active one]");
}

void AddMutations(const AddRemoteCommand& add, const SharedFlags& flags) {
  AddDryRun(add("rollback", "Activate the generation that was active before",
                "  doppel rollback --dry-run\n  doppel rollback",
                [flags](MiningClient& client, const Console& console) {
                  return RunRollback(flags->dry_run, client, console);
                }),
            flags);
  CLI::App* retire =
      add("retire", "Remove a generation from the disk", "  doppel retire 3 --dry-run\n  doppel retire 3",
          [flags](MiningClient& client, const Console& console) {
            return RunRetire(flags->generation, flags->dry_run, client, console);
          });
  AddNumber(retire, flags);
  AddDryRun(retire, flags);
  for (const bool pinned : {true, false}) {
    CLI::App* pin = add(pinned ? "pin" : "unpin",
                        pinned ? "Keep a generation until it is unpinned" : "Let a pinned generation go",
                        pinned ? "  doppel pin 3" : "  doppel unpin 3",
                        [flags, pinned](MiningClient& client, const Console& console) {
                          return RunPin(flags->generation, pinned, flags->dry_run, client, console);
                        });
    AddNumber(pin, flags);
    AddDryRun(pin, flags);
  }
}

void AddPolicy(const AddRemoteCommand& add, const SharedFlags& flags) {
  CLI::App* command = add("policy", "Show, or set, when the miner re-clusters by itself",
                          "  doppel policy\n"
                          "  doppel policy --every-batches 2000 --model /models/latest\n"
                          "  doppel policy --max-staleness 5000 --min-interval 600 --max-per-day 24\n"
                          "  doppel policy --off",
                          [flags](MiningClient& client, const Console& console) {
                            if (flags->policy.empty()) return RunShowPolicy(client, console);
                            const auto change = [&flags](v1::ReclusterPolicySpec& policy) {
                              for (const auto& one : flags->policy) one(policy);
                            };
                            return RunSetPolicy(change, flags->dry_run, client, console);
                          });
  const auto number = [command, flags](const char* flag, const char* text, const char* type, auto set) {
    command
        ->add_option_function<double>(
            flag,
            [flags, set](double value) {
              flags->policy.push_back([set, value](v1::ReclusterPolicySpec& policy) { set(policy, value); });
            },
            text)
        ->check(CLI::NonNegativeNumber)
        ->option_text(type);
  };
  number("--every-batches", "After so many acknowledged batches; 0: off", "N",
         [](v1::ReclusterPolicySpec& policy, double value) {
           policy.set_every_batches(static_cast<uint64_t>(value));
         });
  number("--max-staleness", "When the model is so many steps ahead; 0: off", "STEPS",
         [](v1::ReclusterPolicySpec& policy, double value) {
           policy.set_max_staleness_steps(static_cast<uint64_t>(value));
         });
  number("--min-active-share", "When fewer of the triplets are active; 0: off", "SHARE",
         [](v1::ReclusterPolicySpec& policy, double value) { policy.set_min_active_share(value); });
  number("--max-churn", "When more of a sample would be in another subspace; 0: off", "SHARE",
         [](v1::ReclusterPolicySpec& policy, double value) { policy.set_max_churn(value); });
  number("--min-interval", "From one job to the next, at least", "SECONDS [60]",
         [](v1::ReclusterPolicySpec& policy, double value) { policy.set_min_interval_seconds(value); });
  number("--max-per-day", "Jobs within 24 hours, at most", "N [48]",
         [](v1::ReclusterPolicySpec& policy, double value) {
           policy.set_max_per_day(static_cast<uint32_t>(value));
         });
  command
      ->add_option_function<std::string>(
          "--model",
          [flags](const std::string& model) {
            flags->policy.push_back([model](v1::ReclusterPolicySpec& policy) {
              policy.mutable_request()->set_model_path(model);
            });
          },
          "What to mine with, on the miner's machine")
      ->option_text("DIR [as in the last job]");
  command->add_flag_function(
      "--off",
      [flags](int64_t) {
        flags->policy.push_back([](v1::ReclusterPolicySpec& policy) {
          policy.clear_every_batches();
          policy.clear_max_staleness_steps();
          policy.clear_min_active_share();
          policy.clear_max_churn();
        });
      },
      "No condition at all");
  AddDryRun(command, flags);
}

void AddLookups(const AddRemoteCommand& add, const SharedFlags& flags) {
  CLI::App* diff = add("diff", "Show what moved from one generation to another",
                       "  doppel diff 3 4\n  doppel diff 3 4 -o json --limit 1000",
                       [flags](MiningClient& client, const Console& console) {
                         return RunDiff(flags->generation, flags->other, flags->limit, client, console);
                       });
  diff->add_option("from", flags->generation, "The one before; 0: the active one")->required();
  diff->add_option("to", flags->other, "The one after; 0: the active one")->required();
  diff->add_option("--limit", flags->limit, "Movements and identities to list")->option_text("N [20]");

  CLI::App* subspace =
      add("subspace", "Show one subspace: statistics, members, nearest subspaces",
          "  doppel subspace show 17\n  doppel subspace show 17 --generation 3 --limit 100",
          [flags](MiningClient& client, const Console& console) {
            return RunSubspace(flags->generation, flags->subspace, flags->limit, client, console);
          });
  subspace->add_option("action", "What to do")
      ->required()
      ->check(CLI::IsMember({"show"}).description(""))
      ->option_text("show");
  subspace->add_option("number", flags->subspace, "The subspace's number")->required();
  AddGenerationFlag(subspace, flags->generation);
  subspace->add_option("--limit", flags->limit, "Members and nearest subspaces to list")
      ->option_text("N [20]");

  LookalikesOptions& lookalikes = flags->lookalikes;
  CLI::App* find = add("lookalikes", "Show the identities most similar to one, with their pictures",
                       "  doppel lookalikes 未\n"
                       "  doppel lookalikes U+672A --count 40 --sheet sheet.png\n"
                       "  doppel lookalikes '#4711' --generation 2 -o json",
                       [flags](MiningClient& client, const Console& console) {
                         return RunLookalikes(flags->lookalikes, client, console);
                       });
  find->add_option("identity", lookalikes.identity,
                   "Its name, or number; # and a number, if names are numbers")
      ->required();
  find->add_option("--count", lookalikes.count, "How many")
      ->check(CLI::Range(1, 10000).description(""))
      ->option_text("N [16]");
  AddGenerationFlag(find, lookalikes.generation);
  find->add_option("--sheet", lookalikes.sheet, "PNG file to write the pictures to")
      ->option_text("FILE [lookalikes-NUMBER.png]");
  find->add_flag_function(
      "--no-pictures", [flags](int64_t) { flags->lookalikes.pictures = false; }, "Write no file");
}

void AddWatching(const AddRemoteCommand& add, const SharedFlags& flags) {
  CLI::App* watch =
      add("watch", "Print what happens, as it happens", "  doppel watch\n  doppel watch --after 12 -o json",
          [flags](MiningClient& client, const Console& console) {
            return RunWatch(flags->after, client, console);
          });
  watch->add_option("--after", flags->after, "Begin with what came after this event")->option_text("N [now]");

  CLI::App* status = add("status", "Show what the miner serves, and to whom",
                         "  doppel status\n"
                         "  doppel status --watch\n"
                         "  DOPPEL_SERVER=miner.example.org:50051 doppel status -o json",
                         [flags](MiningClient& client, const Console& console) {
                           if (!flags->watch) return RunStatus(client, console);
                           flags->status.interval = absl::Seconds(flags->interval);
                           return RunWatchStatus(flags->status, client, console);
                         });
  CLI::Option* live = status->add_flag(
      "--watch", flags->watch, "Look again and again: redraws a terminal, elsewhere prints what changed");
  status->add_option("--interval", flags->interval, "Between two looks")
      ->needs(live)
      ->check(CLI::Range(0.05, 86400.0).description(""))
      ->option_text("SECONDS [1]");
  status->add_option("--looks", flags->status.looks, "End after so many")
      ->needs(live)
      ->option_text("N [never]");
}

}  // namespace

void AddControlCommands(const AddRemoteCommand& add) {
  const auto flags = std::make_shared<ControlFlags>();
  AddMutations(add, flags);
  AddPolicy(add, flags);
  AddLookups(add, flags);
  AddWatching(add, flags);
}

}  // namespace doppel
