#include "miner/generation/generation_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "absl/synchronization/notification.h"
#include "tests/support/fake_catalog.h"
#include "tests/unit/miner/generation/mining_fixture.h"

namespace doppel {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kDimension = 8;
constexpr int kGroups = 4;
constexpr uint64_t kTrain = 200;
const absl::Duration kPatience = absl::Seconds(60);

class GenerationManagerTest : public testing::Test {
 protected:
  GenerationManagerTest() : catalog_(MakeFakeCatalog(250, 2, 5, 1, {{"test", 50}, {"train", kTrain}})) {
    WriteModel(model_, "weights-a", kDimension);
  }

  absl::StatusOr<std::unique_ptr<GenerationManager>> TryOpen(std::unique_ptr<Clusterer> clusterer = nullptr) {
    GenerationManager::Options options;
    options.catalog = catalog_;
    options.state_directory = state_;
    options.fs = &PosixFileSystem();
    options.clock = &clock_;
    options.clusterer = clusterer ? std::move(clusterer) : std::make_unique<AxisClusterer>();
    options.lease_identities = 16;
    options.lease_duration = absl::Seconds(60);
    return GenerationManager::Open(std::move(options));
  }
  std::unique_ptr<GenerationManager> Open(std::unique_ptr<Clusterer> clusterer = nullptr) {
    auto manager = TryOpen(std::move(clusterer));
    EXPECT_TRUE(manager.ok()) << manager.status();
    return *std::move(manager);
  }
  v1::ReclusterRequest Request() const {
    v1::ReclusterRequest request;
    request.set_model_path(model_);
    request.set_subspaces(kGroups);
    request.set_iterations(3);
    request.set_min_size(1);
    return request;
  }
  // Embeds, waits, and returns the end.
  v1::Operation Finish(GenerationManager& manager, const std::string& id) {
    EmbedUntilOver(manager, id, kDimension, kGroups);
    return *manager.WaitOperation(id, kPatience);
  }
  v1::Operation Run(GenerationManager& manager, const v1::ReclusterRequest& request) {
    const auto started = manager.Recluster(request);
    EXPECT_TRUE(started.ok()) << started.status();
    return Finish(manager, started->id());
  }
  // Waits until the job leases ranges.
  v1::EmbeddingLease WaitForLease(GenerationManager& manager, const std::string& id) {
    while (true) {
      const auto response = *manager.LeaseRange({});
      if (response.has_lease()) return response.lease();
      const auto operation = manager.WaitOperation(id, absl::Milliseconds(2));
      if (operation->state() != v1::Operation::STATE_RUNNING) {
        ADD_FAILURE() << operation->ShortDebugString();
        return {};
      }
    }
  }

  TemporaryDirectory directory_;
  const std::string state_ = directory_.path() + "/state";
  const std::string model_ = directory_.path() + "/model";
  ManualClock clock_{absl::FromUnixSeconds(1700000000)};
  std::shared_ptr<const Catalog> catalog_;
};

TEST_F(GenerationManagerTest, StartsEmpty) {
  auto manager = Open();
  EXPECT_EQ(manager->ActiveGeneration(), nullptr);
  EXPECT_EQ(manager->GetGeneration(0).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(manager->GetGeneration(1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(manager->ListGenerations().empty());
  EXPECT_TRUE(manager->ListOperations().empty());
  EXPECT_EQ(manager->Activate(1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager->Activate(0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(manager->GetOperation("x").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager->WaitOperation("x", kPatience).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager->CancelOperation("x").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GenerationManagerTest, WithoutAJobThereIsNothingToLease) {
  auto manager = Open();
  const auto response = manager->LeaseRange({});
  ASSERT_TRUE(response.ok());
  EXPECT_FALSE(response->has_lease());
  EXPECT_EQ(response->retry_after_seconds(), 0.5);
  EXPECT_EQ(manager->RenewLease({}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager->CommitRange({}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GenerationManagerTest, MinesAGenerationOfTheTrainSplit) {
  auto manager = Open();
  const v1::Operation operation = Run(*manager, Request());
  ASSERT_EQ(operation.state(), v1::Operation::STATE_SUCCEEDED) << operation.error();
  EXPECT_EQ(operation.generation(), 1U);
  const auto generation = manager->ActiveGeneration();
  ASSERT_NE(generation, nullptr);
  EXPECT_EQ(generation->first_identity(), 50U);
  EXPECT_EQ(generation->num_identities(), kTrain);
  for (uint64_t i = 50; i < 50 + kTrain; ++i) {
    ASSERT_EQ(generation->SubspaceOf(i), i % kGroups);
    double norm = 0;
    for (float value : generation->Representation(i)) norm += value * value;
    ASSERT_NEAR(norm, 1, 1e-5);
  }
  EXPECT_EQ(*manager->GetGeneration(1), generation);
  EXPECT_EQ(*manager->GetGeneration(0), generation);
}

TEST_F(GenerationManagerTest, InfoSaysWhereItComesFrom) {
  auto manager = Open();
  Run(*manager, Request());
  const v1::GenerationInfo info = manager->ListGenerations().at(0);
  EXPECT_TRUE(info.active());
  EXPECT_EQ(info.created_at(), "2023-11-14T22:13:20Z");
  EXPECT_EQ(info.catalog_fingerprint(), catalog_->fingerprint());
  EXPECT_EQ(info.model_fingerprint(), "weights-a");
  EXPECT_EQ(info.model_step(), 700U);
  EXPECT_EQ(info.split(), "train");
  EXPECT_EQ(info.identities(), kTrain);
  EXPECT_EQ(info.subspaces(), static_cast<uint32_t>(kGroups));
  EXPECT_EQ(info.objective_size(), 3);
  EXPECT_EQ(info.smallest_subspace(), kTrain / kGroups);
  EXPECT_EQ(info.imbalance(), 1);
  EXPECT_THAT(info.provenance(),
              AllOf(HasSubstr("\"split\":\"train\""), HasSubstr("\"target_size\":\"10000\""),
                    HasSubstr("\"iterations\":3"), HasSubstr(model_)));
}

TEST_F(GenerationManagerTest, SubspacesComeFromTheTargetSize) {
  auto manager = Open();
  v1::ReclusterRequest request = Request();
  request.set_subspaces(0);
  request.set_target_size(70);  // 200 / 70 rounds to 3
  Run(*manager, request);
  EXPECT_EQ(manager->ActiveGeneration()->num_subspaces(), 3U);
  request.set_target_size(0);  // 200 / 10 000, but at least 1
  Run(*manager, request);
  EXPECT_EQ(manager->ActiveGeneration()->num_subspaces(), 1U);
}

TEST_F(GenerationManagerTest, ReopeningServesTheSame) {
  std::string before;
  {
    auto manager = Open();
    Run(*manager, Request());
    before = manager->DebugState();
  }
  auto manager = Open();
  EXPECT_EQ(manager->DebugState(), before);
  ASSERT_NE(manager->ActiveGeneration(), nullptr);
  EXPECT_EQ(manager->ActiveGeneration()->number(), 1U);
  EXPECT_EQ(manager->GetOperation("recluster-1")->state(), v1::Operation::STATE_SUCCEEDED);
}

TEST_F(GenerationManagerTest, ActivatesOlderGenerationsDurably) {
  {
    auto manager = Open();
    Run(*manager, Request());
    const auto first = manager->ActiveGeneration();
    Run(*manager, Request());
    EXPECT_EQ(manager->ActiveGeneration()->number(), 2U);
    EXPECT_TRUE(manager->Activate(1)->active());
    EXPECT_EQ(manager->ActiveGeneration()->number(), 1U);
    EXPECT_EQ(manager->ActiveGeneration(), first) << "still mapped, so not mapped again";
  }
  auto manager = Open();
  EXPECT_EQ(manager->ActiveGeneration()->number(), 1U);
  const auto list = manager->ListGenerations();
  ASSERT_EQ(list.size(), 2U);
  EXPECT_TRUE(list[0].active());
  EXPECT_FALSE(list[1].active());
}

TEST_F(GenerationManagerTest, KeepActivePublishesAside) {
  auto manager = Open();
  Run(*manager, Request());
  v1::ReclusterRequest request = Request();
  request.set_keep_active(true);
  EXPECT_EQ(Run(*manager, request).state(), v1::Operation::STATE_SUCCEEDED);
  EXPECT_EQ(manager->ActiveGeneration()->number(), 1U);
  EXPECT_EQ((*manager->GetGeneration(2))->number(), 2U);
}

TEST_F(GenerationManagerTest, BadRequestsNameTheFieldAndStartNothing) {
  auto manager = Open();
  const auto error = [&](const std::function<void(v1::ReclusterRequest&)>& change) {
    v1::ReclusterRequest request = Request();
    change(request);
    const absl::Status status = manager->Recluster(request).status();
    EXPECT_FALSE(status.ok());
    return status.ToString();
  };
  EXPECT_THAT(error([](auto& r) { r.clear_model_path(); }),
              AllOf(HasSubstr("INVALID"), HasSubstr("model_path")));
  EXPECT_THAT(error([](auto& r) { r.set_model_path("/nowhere"); }),
              AllOf(HasSubstr("INVALID"), HasSubstr("/nowhere")));
  EXPECT_THAT(error([](auto& r) { r.set_split("validation"); }),
              AllOf(HasSubstr("NOT_FOUND"), HasSubstr("train")));
  EXPECT_THAT(error([](auto& r) { r.set_subspaces(201); }),
              AllOf(HasSubstr("INVALID"), HasSubstr("subspaces")));
  EXPECT_THAT(error([](auto& r) { r.set_iterations(1000000); }), HasSubstr("iterations"));
  EXPECT_TRUE(manager->ListOperations().empty());
}

TEST_F(GenerationManagerTest, OneOperationAtATime) {
  auto manager = Open();
  const auto first = manager->Recluster(Request());
  EXPECT_EQ(first->state(), v1::Operation::STATE_RUNNING);
  const absl::Status second = manager->Recluster(Request()).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.message()), HasSubstr(first->id()));
}

TEST_F(GenerationManagerTest, ReportsProgressAndEta) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  const v1::EmbeddingLease lease = WaitForLease(*manager, id);
  EXPECT_EQ(lease.first_identity(), 50U);
  EXPECT_EQ(lease.identity_count(), 16U);
  EXPECT_EQ(lease.model_path(), model_);
  EXPECT_EQ(lease.catalog_fingerprint(), catalog_->fingerprint());
  clock_.Advance(absl::Seconds(8));
  EXPECT_TRUE(manager->CommitRange(Embed(lease, kDimension, kGroups))->accepted());
  const v1::Operation operation = *manager->GetOperation(id);
  EXPECT_EQ(operation.phase(), "embed");
  EXPECT_EQ(operation.done(), 16U);
  EXPECT_EQ(operation.total(), kTrain);
  EXPECT_DOUBLE_EQ(operation.elapsed_seconds(), 8);
  EXPECT_DOUBLE_EQ(operation.eta_seconds(), 8.0 * (200 - 16) / 16);
}

TEST_F(GenerationManagerTest, WaitingEndsAtItsTimeout) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  EXPECT_EQ(manager->WaitOperation(id, absl::Milliseconds(1))->state(), v1::Operation::STATE_RUNNING);
}

TEST_F(GenerationManagerTest, CancelsWhileEmbedding) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  const v1::EmbeddingLease lease = WaitForLease(*manager, id);
  ASSERT_TRUE(manager->CancelOperation(id).ok());
  const v1::Operation operation = *manager->WaitOperation(id, kPatience);
  EXPECT_EQ(operation.state(), v1::Operation::STATE_CANCELLED);
  EXPECT_EQ(operation.generation(), 0U);
  EXPECT_EQ(manager->CommitRange(Embed(lease, kDimension, kGroups)).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(manager->CancelOperation(id)->state(), v1::Operation::STATE_CANCELLED) << "again";
  EXPECT_EQ(Run(*manager, Request()).generation(), 2U) << "the next one works";
}

TEST_F(GenerationManagerTest, CancelsWhileClustering) {
  absl::Notification clustering;
  absl::Notification cancelled;
  auto manager = Open(std::make_unique<AxisClusterer>([&](int iteration) {
    if (iteration != 2) return;
    clustering.Notify();
    cancelled.WaitForNotification();
  }));
  const std::string id = manager->Recluster(Request())->id();
  std::thread embedder([&] { EmbedUntilOver(*manager, id, kDimension, kGroups); });
  clustering.WaitForNotification();
  EXPECT_EQ(manager->GetOperation(id)->phase(), "cluster");
  EXPECT_EQ(manager->GetOperation(id)->done(), 1U);
  ASSERT_TRUE(manager->CancelOperation(id).ok());
  cancelled.Notify();
  EXPECT_EQ(manager->WaitOperation(id, kPatience)->state(), v1::Operation::STATE_CANCELLED);
  embedder.join();
  EXPECT_TRUE(manager->ListGenerations().empty());
}

TEST_F(GenerationManagerTest, CommitsAreCheckedAndIdempotent) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  const v1::EmbeddingLease lease = WaitForLease(*manager, id);
  const v1::CommitRangeRequest good = Embed(lease, kDimension, kGroups);
  v1::CommitRangeRequest bad = good;
  bad.set_dimension(kDimension / 2);
  EXPECT_EQ(manager->CommitRange(bad).status().code(), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.set_operation("recluster-9");
  EXPECT_EQ(manager->CommitRange(bad).status().code(), absl::StatusCode::kNotFound);
  bad = good;
  bad.set_first_identity(0);  // of the test split
  EXPECT_EQ(manager->CommitRange(bad).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(manager->CommitRange(good)->accepted());
  EXPECT_FALSE(manager->CommitRange(good)->accepted());
  Finish(*manager, id);
  EXPECT_FALSE(manager->CommitRange(good)->accepted()) << "after the end, too";
}

TEST_F(GenerationManagerTest, AnEmbedderThatDiesLosesItsLeaseToAnother) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  const v1::EmbeddingLease lost = WaitForLease(*manager, id);
  v1::RenewLeaseRequest renew;
  renew.set_lease(lost.lease());
  EXPECT_EQ(manager->RenewLease(renew)->lease_seconds(), 60);
  clock_.Advance(absl::Seconds(61));
  EXPECT_EQ(manager->RenewLease(renew).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(WaitForLease(*manager, id).first_identity(), lost.first_identity());
  clock_.Advance(absl::Seconds(61));
  EXPECT_EQ(Finish(*manager, id).state(), v1::Operation::STATE_SUCCEEDED);
}

TEST_F(GenerationManagerTest, ACommitByOtherWeightsIsRefused) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  v1::CommitRangeRequest commit = Embed(WaitForLease(*manager, id), kDimension, kGroups);
  commit.set_model_fingerprint("stale");
  EXPECT_EQ(manager->CommitRange(commit).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(manager->GetOperation(id)->state(), v1::Operation::STATE_RUNNING) << "the embedder's fault alone";
}

TEST_F(GenerationManagerTest, WeightsThatChangeUnderneathEndTheOperation) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  v1::CommitRangeRequest commit = Embed(WaitForLease(*manager, id), kDimension, kGroups);
  WriteModel(model_, "weights-b", kDimension);
  commit.set_model_fingerprint("weights-b");
  EXPECT_EQ(manager->CommitRange(commit).status().code(), absl::StatusCode::kFailedPrecondition);
  const v1::Operation operation = *manager->WaitOperation(id, kPatience);
  EXPECT_EQ(operation.state(), v1::Operation::STATE_FAILED);
  EXPECT_THAT(operation.error(), AllOf(HasSubstr("weights-a"), HasSubstr("weights-b"), HasSubstr(model_)));
}

TEST_F(GenerationManagerTest, WeightsThatChangeAreNoticedWhenLeasing) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  WaitForLease(*manager, id);
  WriteModel(model_, "weights-b", kDimension);
  EXPECT_FALSE(manager->LeaseRange({})->has_lease());
  EXPECT_EQ(manager->WaitOperation(id, kPatience)->state(), v1::Operation::STATE_FAILED);
}

TEST_F(GenerationManagerTest, IdentitiesWithoutAReadableSampleAreKept) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  v1::CommitRangeRequest commit = Embed(WaitForLease(*manager, id), kDimension, kGroups);
  commit.mutable_representations()->replace(0, kDimension * sizeof(float), kDimension * sizeof(float), '\0');
  commit.set_samples(0, 0);
  commit.set_failed_samples(3);
  commit.add_failures("sample 1: no image");
  ASSERT_TRUE(manager->CommitRange(commit).ok());
  EXPECT_EQ(Finish(*manager, id).state(), v1::Operation::STATE_SUCCEEDED);
  EXPECT_EQ(manager->ActiveGeneration()->Representation(50)[0], 0);
}

TEST_F(GenerationManagerTest, WithoutOneReadableSampleTheOperationFails) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  while (manager->GetOperation(id)->state() == v1::Operation::STATE_RUNNING) {
    const auto response = *manager->LeaseRange({});
    if (!response.has_lease()) {
      (void)manager->WaitOperation(id, absl::Milliseconds(2));
      continue;
    }
    v1::CommitRangeRequest commit = Embed(response.lease(), kDimension, kGroups);
    for (int i = 0; i < commit.samples_size(); ++i) commit.set_samples(i, 0);
    ASSERT_TRUE(manager->CommitRange(commit).ok());
  }
  EXPECT_THAT(manager->GetOperation(id)->error(), HasSubstr("not one sample"));
}

TEST_F(GenerationManagerTest, ARestartTakesTheOperationUpAndKeepsItsRanges) {
  std::string id;
  std::set<uint64_t> committed;
  {
    auto manager = Open();
    id = manager->Recluster(Request())->id();
    for (const auto& commit : EmbedUntilOver(*manager, id, kDimension, kGroups, 5)) {
      committed.insert(commit.first_identity());
    }
  }
  auto manager = Open();
  EXPECT_EQ(manager->GetOperation(id)->state(), v1::Operation::STATE_RUNNING);
  for (const auto& commit : EmbedUntilOver(*manager, id, kDimension, kGroups)) {
    EXPECT_EQ(committed.count(commit.first_identity()), 0U) << "embedded twice";
  }
  const v1::Operation operation = *manager->WaitOperation(id, kPatience);
  EXPECT_EQ(operation.state(), v1::Operation::STATE_SUCCEEDED);
  EXPECT_EQ(operation.generation(), 1U);
}

TEST_F(GenerationManagerTest, ACommitThatWasOnItsWayDuringARestartCounts) {
  std::string id;
  v1::CommitRangeRequest commit;
  {
    auto manager = Open();
    id = manager->Recluster(Request())->id();
    commit = Embed(WaitForLease(*manager, id), kDimension, kGroups);
  }
  auto manager = Open();
  const auto response = manager->CommitRange(commit);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_TRUE(response->accepted());
}

TEST_F(GenerationManagerTest, ARestartWhileClusteringNeedsNoEmbedder) {
  absl::Notification clustering;
  std::string id;
  {
    absl::Notification stop;
    auto manager = Open(std::make_unique<AxisClusterer>([&](int iteration) {
      if (iteration == 1) clustering.Notify();
      if (iteration == 2) stop.WaitForNotification();
    }));
    id = manager->Recluster(Request())->id();
    EmbedUntilOver(*manager, id, kDimension, kGroups, (kTrain + 15) / 16);
    clustering.WaitForNotification();
    stop.Notify();
  }
  auto manager = Open();
  const v1::Operation operation = *manager->WaitOperation(id, kPatience);
  EXPECT_EQ(operation.state(), v1::Operation::STATE_SUCCEEDED) << operation.error();
}

TEST_F(GenerationManagerTest, AModelThatIsGoneAfterARestartFailsTheOperation) {
  std::string id;
  {
    auto manager = Open();
    id = manager->Recluster(Request())->id();
  }
  std::filesystem::remove_all(model_);
  auto manager = Open();
  const v1::Operation operation = *manager->WaitOperation(id, kPatience);
  EXPECT_EQ(operation.state(), v1::Operation::STATE_FAILED);
  EXPECT_THAT(operation.error(), HasSubstr(model_));
}

TEST_F(GenerationManagerTest, TheSameModelIsNotEmbeddedTwice) {
  auto manager = Open();
  Run(*manager, Request());
  const std::string id = manager->Recluster(Request())->id();
  EXPECT_EQ(manager->WaitOperation(id, kPatience)->state(), v1::Operation::STATE_SUCCEEDED);
  EXPECT_EQ(manager->ActiveGeneration()->number(), 2U);
}

TEST_F(GenerationManagerTest, KeepsTheRepresentationsOfTheLastTwoModels) {
  auto manager = Open();
  for (int i = 0; i < 4; ++i) {
    WriteModel(model_, absl::StrCat("weights-", i), kDimension);
    ASSERT_EQ(Run(*manager, Request()).state(), v1::Operation::STATE_SUCCEEDED);
  }
  EXPECT_EQ(PosixFileSystem().List(state_ + "/representations")->size(), 2U);
}

TEST_F(GenerationManagerTest, TwoMinersCannotShareAState) {
  auto manager = Open();
  const absl::Status status = TryOpen().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr(state_));
}

TEST_F(GenerationManagerTest, AnotherCatalogIsRefusedWithBothFingerprints) {
  {
    auto manager = Open();
    Run(*manager, Request());
  }
  const std::string before = catalog_->fingerprint();
  catalog_ = MakeFakeCatalog(300, 2, 5, 2);
  const absl::Status status = TryOpen().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(before), HasSubstr(catalog_->fingerprint())));
}

TEST_F(GenerationManagerTest, AStateWithoutHistoryTakesAnotherCatalog) {
  Open().reset();
  catalog_ = MakeFakeCatalog(300, 2, 5, 2);
  EXPECT_TRUE(TryOpen().ok());
}

TEST_F(GenerationManagerTest, ADamagedActiveGenerationLeavesTheLastGoodOneServing) {
  {
    auto manager = Open();
    Run(*manager, Request());
    Run(*manager, Request());
  }
  const std::string path = state_ + "/generations/000002/" + kAssignmentFile;
  std::string good = *PosixFileSystem().ReadFile(path);
  std::string bad = good;
  bad[9] = static_cast<char>(bad[9] ^ 1);
  ASSERT_TRUE(WriteFileAtomically(PosixFileSystem(), path, bad).ok());
  {
    auto manager = Open();
    EXPECT_EQ(manager->ActiveGeneration()->number(), 1U);
    const absl::Status status = manager->GetGeneration(2).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
    EXPECT_EQ(manager->Activate(2).status().code(), absl::StatusCode::kDataLoss);
    ASSERT_EQ(manager->ListGenerations().size(), 1U);
    EXPECT_TRUE(manager->ListGenerations()[0].active());
    ASSERT_TRUE(WriteFileAtomically(PosixFileSystem(), path, good).ok());
    EXPECT_TRUE(manager->Activate(2).ok()) << "restored";
  }
  EXPECT_EQ(Open()->ActiveGeneration()->number(), 2U);
}

TEST_F(GenerationManagerTest, AnUndamagedSetOfFilesIsStillRefusedWhenTheJournalIsDamaged) {
  {
    auto manager = Open();
    Run(*manager, Request());
  }
  std::string journal = *PosixFileSystem().ReadFile(state_ + "/journal.rec");
  journal[16] = static_cast<char>(journal[16] ^ 1);
  ASSERT_TRUE(WriteFileAtomically(PosixFileSystem(), state_ + "/journal.rec", journal).ok());
  // One damaged file is mended from the other.
  EXPECT_EQ(Open()->ActiveGeneration()->number(), 1U);
  for (const char* name : {"/journal.rec", "/journal.rec.copy"}) {
    ASSERT_TRUE(WriteFileAtomically(PosixFileSystem(), state_ + name, journal).ok());
  }
  const absl::Status status = TryOpen().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("journal.rec"));
}

TEST_F(GenerationManagerTest, ALostJournalDoesNotOverwriteGenerations) {
  {
    auto manager = Open();
    Run(*manager, Request());
  }
  for (const char* name : {"/journal.rec", "/journal.rec.copy"}) {
    ASSERT_TRUE(PosixFileSystem().Remove(state_ + name).ok());
  }
  auto manager = Open();
  EXPECT_EQ(Run(*manager, Request()).generation(), 2U);
  EXPECT_TRUE(std::filesystem::exists(state_ + "/generations/000001"));
}

TEST_F(GenerationManagerTest, ReadersHoldTheirGenerationWhileANewOneIsPublished) {
  auto manager = Open();
  Run(*manager, Request());
  const auto held = manager->ActiveGeneration();
  std::atomic<bool> done = false;
  std::atomic<bool> consistent = true;
  std::thread reader([&] {
    while (!done) {
      const auto generation = manager->ActiveGeneration();
      if (generation->Members(0).empty() || generation->number() > 2) consistent = false;
    }
  });
  Run(*manager, Request());
  done = true;
  reader.join();
  EXPECT_TRUE(consistent);
  EXPECT_EQ(held->number(), 1U);
  EXPECT_EQ(held->SubspaceOf(50), 50U % kGroups);
  EXPECT_EQ(manager->ActiveGeneration()->number(), 2U);
}

TEST_F(GenerationManagerTest, ManyEmbeddersTogether) {
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  std::vector<std::thread> embedders;
  std::atomic<size_t> commits = 0;
  for (int i = 0; i < 4; ++i) {
    embedders.emplace_back([&] { commits += EmbedUntilOver(*manager, id, kDimension, kGroups).size(); });
  }
  for (std::thread& embedder : embedders) embedder.join();
  EXPECT_EQ(manager->WaitOperation(id, kPatience)->state(), v1::Operation::STATE_SUCCEEDED);
  EXPECT_EQ(commits, (kTrain + 15) / 16);
}

}  // namespace
}  // namespace doppel
