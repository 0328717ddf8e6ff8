#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "miner/generation/generation_manager.h"
#include "tests/faults/durable_path.h"
#include "tests/support/fake_catalog.h"
#include "tests/unit/miner/generation/mining_fixture.h"

namespace doppel {
namespace {

using Session = DurablePath::Session;

constexpr int kMinerDimension = 4;
constexpr int kMinerGroups = 3;

absl::StatusOr<std::unique_ptr<GenerationManager>> OpenManager(FileSystem& fs, const std::string& dir) {
  static const ManualClock* const clock = new ManualClock(absl::FromUnixSeconds(1700000000));
  GenerationManager::Options options;
  options.catalog = MakeFakeCatalog(30, 2, 3, 1);
  options.state_directory = dir + "/state";
  options.fs = &fs;
  options.clock = clock;
  options.clusterer = std::make_unique<AxisClusterer>();
  options.lease_identities = 15;
  return GenerationManager::Open(std::move(options));
}

std::vector<uint64_t> Published(const GenerationManager& manager) {
  std::vector<uint64_t> numbers;
  for (const v1::GenerationInfo& info : manager.ListGenerations()) numbers.push_back(info.generation());
  return numbers;
}

// The control state of a miner through mining, steering and cleaning.
class MinerPath : public DurablePath {
 public:
  std::string name() const override { return "miner: mine, activate, guard, pin, retire"; }
  int steps() const override { return 8; }
  int recovery_stride() const override { return 61; }
  // Mining again makes one more generation.
  bool repeatable() const override { return false; }
  void Prepare(const std::string& dir) override { WriteModel(dir + "/model", "weights", kMinerDimension); }

  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    auto session = std::make_unique<MinerSession>();
    session->model = dir + "/model";
    ASSIGN_OR_RETURN(session->manager, OpenManager(fs, dir));
    // A job that was cut off goes on.
    for (const v1::Operation& operation : session->manager->ListOperations()) {
      if (operation.state() == v1::Operation::STATE_RUNNING) session->Drive(operation.id()).IgnoreError();
    }
    return std::unique_ptr<Session>(std::move(session));
  }

  std::string Differs(const std::string& dir, int done) override {
    const auto opened = OpenManager(PosixFileSystem(), dir);
    if (!opened.ok()) return opened.status().ToString();
    GenerationManager& manager = **opened;
    const std::vector<uint64_t> numbers = Published(manager);
    const size_t counts[] = {0, 1, 2, 2, 3, 3, 3, 3, 2};
    const int actives[] = {-1, 0, 1, 0, 2, 0, 0, 0, 0};
    if (numbers.size() != counts[done]) return absl::StrCat(numbers.size(), " generations");
    for (const uint64_t number : numbers) {
      const auto generation = manager.GetGeneration(number);
      if (!generation.ok()) return generation.status().ToString();
      for (uint64_t i = 0; i < 30; ++i) {
        if ((*generation)->SubspaceOf(i) != i % kMinerGroups)
          return absl::StrCat(number, ": other subspaces");
      }
    }
    const auto active = manager.ActiveGeneration();
    const uint64_t expected = actives[done] < 0 ? 0 : numbers[static_cast<size_t>(actives[done])];
    if ((active == nullptr ? 0 : active->number()) != expected) return "another generation is active";
    if (!numbers.empty() && manager.DescribeGeneration(numbers[0])->pinned() != (done >= 6)) return "pin";
    if ((manager.GetPolicy().policy().every_batches() == 77) != (done >= 7)) return "policy";
    const std::vector<std::string> names = PosixFileSystem().List(dir + "/state/generations").value();
    for (const std::string& name : names) {
      if (name[0] == '.') return name + " lies about";
    }
    return "";
  }

 private:
  struct MinerSession : Session {
    absl::Status Drive(const std::string& id) {
      EmbedUntilOver(*manager, id, kMinerDimension, kMinerGroups);
      ASSIGN_OR_RETURN(const v1::Operation ended, manager->WaitOperation(id, absl::Seconds(60)));
      if (ended.state() == v1::Operation::STATE_SUCCEEDED) return absl::OkStatus();
      return absl::AbortedError(ended.error());
    }
    absl::Status Mine() {
      v1::ReclusterRequest request;
      request.set_model_path(model);
      request.set_subspaces(kMinerGroups);
      request.set_iterations(2);
      request.set_min_size(1);
      ASSIGN_OR_RETURN(const v1::Operation started, manager->Recluster(request));
      return Drive(started.id());
    }
    absl::Status Do(int step) override {
      const std::vector<uint64_t> numbers = Published(*manager);
      if (step < 2) return Mine();
      if (step == 2) return manager->Activate(numbers[0]).status();
      if (step == 3) return manager->PublishGuardList(0, GuardList::Make({{1, 2}}, {5}).value(), "").status();
      if (step == 4) return manager->Rollback(false).status();
      if (step == 5) return manager->Pin(numbers[0], true).status();
      if (step == 7) return manager->Retire(numbers[1], false).status();
      v1::ReclusterPolicySpec policy;
      policy.set_every_batches(77);
      return manager->SetPolicy(policy).status();
    }
    std::string model;
    std::unique_ptr<GenerationManager> manager;
  };
};

}  // namespace

void AddMinerPaths(DurablePaths& paths) { paths.push_back(std::make_unique<MinerPath>()); }

}  // namespace doppel
