// Generations under control: rollback, retiring, pins, guard lists, dry runs, the queue, the policy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/synchronization/notification.h"
#include "miner/generation/generation_manager.h"
#include "tests/support/fake_catalog.h"
#include "tests/unit/miner/generation/mining_fixture.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kControlDimension = 6;
constexpr int kControlGroups = 3;
constexpr uint64_t kControlIdentities = 60;

// The k rows after each one, with falling similarities.
absl::StatusOr<IdentityNeighbours> NextRows(const Matrix& rows, const NeighbourOptions& options) {
  IdentityNeighbours found;
  found.neighbours = static_cast<int>(std::min<int64_t>(options.neighbours, rows.rows - 1));
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int j = 1; j <= found.neighbours; ++j) {
      found.rows.push_back(static_cast<uint32_t>((i + j) % rows.rows));
      found.similarities.push_back(1.0F / static_cast<float>(j));
    }
    if (!options.on_progress(i + 1, rows.rows)) return absl::CancelledError("neighbours");
  }
  return found;
}

class GenerationControlTest : public testing::Test {
 protected:
  GenerationControlTest() { WriteModel(model_, "weights-a", kControlDimension); }

  std::unique_ptr<GenerationManager> Open(std::unique_ptr<Clusterer> clusterer = nullptr) {
    GenerationManager::Options options;
    options.catalog = catalog_;
    options.state_directory = state_;
    options.fs = &PosixFileSystem();
    options.clock = &clock_;
    options.clusterer = clusterer ? std::move(clusterer) : std::make_unique<AxisClusterer>();
    options.lease_identities = 16;
    options.find_neighbours = neighbours_;
    options.keep_generations = keep_;
    options.stall_after = stall_after_;
    options.stall_cancel = stall_cancel_;
    options.open_stores = [this]() -> absl::StatusOr<const RunningMeanManager*> { return live_.get(); };
    auto manager = GenerationManager::Open(std::move(options));
    EXPECT_TRUE(manager.ok()) << manager.status();
    return *std::move(manager);
  }
  v1::ReclusterRequest Request() const {
    v1::ReclusterRequest request;
    request.set_model_path(model_);
    request.set_subspaces(kControlGroups);
    request.set_iterations(2);
    request.set_min_size(1);
    request.set_neighbours(4);
    return request;
  }
  v1::Operation Finish(GenerationManager& manager, const std::string& id) {
    EmbedUntilOver(manager, id, kControlDimension, kControlGroups);
    return *manager.WaitOperation(id, absl::Seconds(60));
  }
  v1::Operation Run(GenerationManager& manager, const v1::ReclusterRequest& request) {
    const auto started = manager.Recluster(request);
    EXPECT_TRUE(started.ok()) << started.status();
    const v1::Operation ended = Finish(manager, started->id());
    EXPECT_EQ(ended.state(), v1::Operation::STATE_SUCCEEDED) << ended.error();
    return ended;
  }
  void Mine(GenerationManager& manager, int count) {
    for (int i = 0; i < count; ++i) Run(manager, Request());
  }
  std::vector<uint64_t> Numbers(const GenerationManager& manager) {
    std::vector<uint64_t> numbers;
    for (const v1::GenerationInfo& info : manager.ListGenerations()) numbers.push_back(info.generation());
    return numbers;
  }
  bool OnDisk(uint64_t number) {
    return PosixFileSystem().Exists(absl::StrFormat("%s/generations/%06d", state_, number));
  }
  static GuardList List(std::vector<GuardList::Pair> pairs, std::vector<uint64_t> samples = {}) {
    return *GuardList::Make(std::move(pairs), std::move(samples));
  }

  TemporaryDirectory directory_;
  const std::string state_ = directory_.path() + "/state";
  const std::string model_ = directory_.path() + "/model";
  ManualClock clock_{absl::FromUnixSeconds(1700000000)};
  std::shared_ptr<const Catalog> catalog_ =
      MakeFakeCatalog(kControlIdentities + 10, 2, 5, 1, {{"test", 10}, {"train", kControlIdentities}});
  NeighbourSearch neighbours_ = NextRows;
  uint32_t keep_ = 0;
  absl::Duration stall_after_ = absl::ZeroDuration();
  bool stall_cancel_ = false;
  std::unique_ptr<RunningMeanManager> live_;
};

TEST_F(GenerationControlTest, NeighboursAreCatalogNumbersAndSurviveARestart) {
  Mine(*Open(), 1);
  const auto generation = Open()->ActiveGeneration();
  ASSERT_EQ(generation->num_neighbours(), 4);
  EXPECT_THAT(generation->Neighbours(10), ElementsAre(11, 12, 13, 14));
  EXPECT_THAT(generation->Neighbours(69), ElementsAre(10, 11, 12, 13));
  EXPECT_THAT(generation->NeighbourSimilarities(30), ElementsAre(1.0F, 0.5F, 1.0F / 3, 0.25F));
  EXPECT_NEAR(generation->info().lookalike_density(), (1 + 0.5 + 1.0 / 3 + 0.25) / 4, 1e-6);
  // Rows i + 1 … i + 4 of three groups: one of them, i + 3, is of the own group.
  for (const v1::SubspaceInfo& subspace : generation->info().subspace()) {
    EXPECT_NEAR(subspace.neighbours_inside(), 0.25, 1e-9);
  }
}

TEST_F(GenerationControlTest, NeighboursCanBeLeftOut) {
  auto manager = Open();
  v1::ReclusterRequest request = Request();
  request.set_neighbours(-1);
  Run(*manager, request);
  EXPECT_EQ(manager->ActiveGeneration()->num_neighbours(), 0);
  EXPECT_THAT(manager->ActiveGeneration()->Neighbours(10), IsEmpty());
}

TEST_F(GenerationControlTest, ThereAreNoMoreNeighboursThanOthers) {
  auto manager = Open();
  v1::ReclusterRequest request = Request();
  request.set_neighbours(4096);
  Run(*manager, request);
  EXPECT_EQ(manager->ActiveGeneration()->num_neighbours(), static_cast<int>(kControlIdentities) - 1);
  request.set_neighbours(-2);
  EXPECT_EQ(manager->Recluster(request).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GenerationControlTest, ADamagedNeighbourFileIsNamed) {
  auto manager = Open();
  Mine(*manager, 2);
  manager.reset();
  const std::string path = state_ + "/generations/000001/neighbour_similarities.f32";
  std::string bytes = *PosixFileSystem().ReadFile(path);
  bytes[17] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(PosixFileSystem(), path, bytes).ok());
  const auto damaged = Open()->GetGeneration(1);
  EXPECT_EQ(damaged.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(damaged.status().message()), HasSubstr("neighbour_similarities.f32"));
}

TEST_F(GenerationControlTest, TheNextOneStartsFromTheActiveOne) {
  auto manager = Open();
  Mine(*manager, 2);
  const v1::GenerationInfo warm = *manager->DescribeGeneration(2);
  EXPECT_EQ(warm.warm_start(), 1U);
  EXPECT_EQ(warm.previous(), 1U);
  EXPECT_EQ(warm.churn(), 0);
  EXPECT_NEAR(warm.nmi(), 1, 1e-9);
  v1::ReclusterRequest request = Request();
  request.set_cold_start(true);
  Run(*manager, request);
  EXPECT_EQ(manager->DescribeGeneration(3)->warm_start(), 0U);
  EXPECT_EQ(manager->DescribeGeneration(3)->previous(), 2U);
  request = Request();
  request.set_subspaces(kControlGroups + 1);
  Run(*manager, request);
  EXPECT_EQ(manager->DescribeGeneration(4)->warm_start(), 0U) << "another M";
}

// AxisClusterer with its subspaces the other way round.
class ReversedClusterer : public Clusterer {
 public:
  absl::StatusOr<ClusterResult> Cluster(const Matrix& rows, const ClusterOptions& options) override {
    absl::StatusOr<ClusterResult> result = AxisClusterer().Cluster(rows, options);
    for (int32_t& subspace : result->assignment) subspace = options.subspaces - 1 - subspace;
    const Matrix centroids = result->centroids;
    for (int64_t m = 0; m < centroids.rows; ++m) {
      std::copy_n(centroids.row(centroids.rows - 1 - m), centroids.dimension, result->centroids.row(m));
    }
    return result;
  }
};

TEST_F(GenerationControlTest, SubspacesKeepTheirNumbers) {
  Mine(*Open(), 1);
  auto manager = Open(std::make_unique<ReversedClusterer>());
  Mine(*manager, 1);
  const auto before = *manager->GetGeneration(1);
  const auto after = *manager->GetGeneration(2);
  for (uint64_t i = 10; i < 10 + kControlIdentities; ++i)
    ASSERT_EQ(after->SubspaceOf(i), before->SubspaceOf(i));
  for (uint32_t m = 0; m < kControlGroups; ++m) EXPECT_EQ(after->Centroid(m)[m], 1);
  EXPECT_EQ(after->info().churn(), 0);
}

TEST_F(GenerationControlTest, RollbackGoesBackStepByStep) {
  auto manager = Open();
  EXPECT_EQ(manager->Rollback(false).status().code(), absl::StatusCode::kFailedPrecondition);
  Mine(*manager, 3);
  EXPECT_EQ(manager->Rollback(true)->generation(), 2U);
  EXPECT_EQ(manager->ActiveGeneration()->number(), 3U) << "a dry run";
  EXPECT_EQ(manager->Rollback(false)->generation(), 2U);
  EXPECT_TRUE(manager->DescribeGeneration(2)->active());
  manager.reset();
  manager = Open();
  EXPECT_EQ(manager->ActiveGeneration()->number(), 2U);
  EXPECT_EQ(manager->Rollback(false)->generation(), 1U);
  EXPECT_EQ(manager->Rollback(false).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(GenerationControlTest, RetiringRemovesTheFilesForGood) {
  auto manager = Open();
  Mine(*manager, 3);
  const auto held = *manager->GetGeneration(1);
  EXPECT_EQ(manager->Retire(1, true)->generation(), 1U);
  EXPECT_TRUE(OnDisk(1));
  ASSERT_TRUE(manager->Retire(1, false).ok());
  EXPECT_FALSE(OnDisk(1));
  EXPECT_EQ(held->SubspaceOf(10), 1U) << "who has it may use it on";
  EXPECT_THAT(Numbers(*manager), ElementsAre(2, 3));
  EXPECT_EQ(manager->GetGeneration(1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(manager->GetGeneration(1).status().message()), HasSubstr("retired"));
  EXPECT_EQ(manager->Activate(1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager->Retire(1, false).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager->Retire(3, false).status().code(), absl::StatusCode::kFailedPrecondition) << "active";
  manager.reset();
  EXPECT_THAT(Numbers(*Open()), ElementsAre(2, 3));
}

TEST_F(GenerationControlTest, WhatACrashLeftOfARetiredOneIsRemoved) {
  auto manager = Open();
  Mine(*manager, 2);
  std::filesystem::copy(state_ + "/generations/000001", state_ + "/copy",
                        std::filesystem::copy_options::recursive);
  ASSERT_TRUE(manager->Retire(1, false).ok());
  manager.reset();
  std::filesystem::rename(state_ + "/copy", state_ + "/generations/000001");
  manager = Open();
  EXPECT_FALSE(OnDisk(1));
  EXPECT_THAT(Numbers(*manager), ElementsAre(2));
}

TEST_F(GenerationControlTest, APinHoldsUntilItIsTakenAway) {
  auto manager = Open();
  Mine(*manager, 2);
  EXPECT_TRUE(manager->Pin(1, true)->pinned());
  EXPECT_EQ(manager->Retire(1, false).status().code(), absl::StatusCode::kFailedPrecondition);
  manager.reset();
  manager = Open();
  EXPECT_TRUE(manager->DescribeGeneration(1)->pinned());
  EXPECT_FALSE(manager->Pin(1, false)->pinned());
  EXPECT_TRUE(manager->Retire(1, false).ok());
  EXPECT_EQ(manager->Pin(1, true).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(manager->Pin(0, true).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GenerationControlTest, OnlySoManyGenerationsAreKept) {
  keep_ = 1;
  auto manager = Open();
  Mine(*manager, 1);
  ASSERT_TRUE(manager->Pin(1, true).ok());
  Mine(*manager, 5);
  // Active 6, previously active 5, pinned 1, and one more.
  EXPECT_THAT(Numbers(*manager), ElementsAre(1, 4, 5, 6));
  EXPECT_FALSE(OnDisk(2));
  EXPECT_EQ(manager->Rollback(false)->generation(), 5U);
}

TEST_F(GenerationControlTest, WhatSomebodyReadsIsKept) {
  keep_ = 1;
  auto manager = Open();
  Mine(*manager, 1);
  const auto held = manager->ActiveGeneration();
  Mine(*manager, 4);
  EXPECT_THAT(Numbers(*manager), ElementsAre(1, 3, 4, 5));
}

TEST_F(GenerationControlTest, AGuardListMakesANewGenerationOfTheSameArrays) {
  auto manager = Open();
  Mine(*manager, 1);
  const auto base = manager->ActiveGeneration();
  const auto info = manager->PublishGuardList(0, List({{12, 11}, {40, 50}}, {7, 3}), "confirmed by hand");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->generation(), 2U);
  EXPECT_TRUE(info->active());
  EXPECT_EQ(info->base(), 1U);
  EXPECT_EQ(info->note(), "confirmed by hand");
  EXPECT_EQ(info->guarded_pairs(), 2U);
  EXPECT_EQ(info->dropped_samples(), 2U);
  manager.reset();
  manager = Open();
  const auto generation = manager->ActiveGeneration();
  ASSERT_EQ(generation->number(), 2U);
  EXPECT_TRUE(generation->guard_list().Guarded(11, 12));
  EXPECT_FALSE(generation->guard_list().Guarded(11, 40));
  EXPECT_TRUE(generation->guard_list().Dropped(3));
  EXPECT_EQ(generation->Representation(33), base->Representation(33));
  EXPECT_EQ(generation->Neighbours(33), base->Neighbours(33));
  EXPECT_TRUE((*manager->GetGeneration(1))->guard_list().empty());
  // The arrays do not go with the first name.
  ASSERT_TRUE(manager->Retire(1, false).ok());
  manager.reset();
  EXPECT_EQ(Open()->ActiveGeneration()->SubspaceOf(11), base->SubspaceOf(11));
}

TEST_F(GenerationControlTest, AGuardListForAnotherThanTheActiveOneDoesNotActivate) {
  auto manager = Open();
  Mine(*manager, 2);
  const auto info = manager->PublishGuardList(1, List({{11, 12}}), "late");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->generation(), 3U);
  EXPECT_FALSE(info->active());
  EXPECT_EQ(manager->ActiveGeneration()->number(), 2U);
}

TEST_F(GenerationControlTest, AGuardListNamesWhatTheCatalogHas) {
  auto manager = Open();
  Mine(*manager, 1);
  EXPECT_EQ(manager->PublishGuardList(0, List({{1, 70}}), "").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(manager->PublishGuardList(0, List({}, {catalog_->num_samples()}), "").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(manager->PublishGuardList(9, List({}), "").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GenerationControlTest, MiningTakesTheGuardListOver) {
  auto manager = Open();
  Mine(*manager, 1);
  ASSERT_TRUE(manager->PublishGuardList(0, List({{11, 12}}, {5}), "").ok());
  Mine(*manager, 1);
  EXPECT_EQ(manager->ActiveGeneration()->number(), 3U);
  EXPECT_TRUE(manager->ActiveGeneration()->guard_list().Guarded(11, 12));
  EXPECT_EQ(manager->ActiveGeneration()->info().base(), 0U);
}

TEST_F(GenerationControlTest, AGuardListThatComesDuringAJobIsNotLost) {
  Mine(*Open(), 1);
  absl::Notification clustering, go_on;
  auto manager = Open(std::make_unique<AxisClusterer>([&](int iteration) {
    if (iteration != 1) return;
    clustering.Notify();
    go_on.WaitForNotification();
  }));
  const auto started = manager->Recluster(Request());
  clustering.WaitForNotification();
  const auto derived = manager->PublishGuardList(0, List({{11, 12}}), "meanwhile");
  go_on.Notify();
  ASSERT_TRUE(derived.ok()) << derived.status();
  EXPECT_EQ(derived->generation(), 3U) << "2 is promised to the job";
  EXPECT_EQ(Finish(*manager, started->id()).state(), v1::Operation::STATE_SUCCEEDED);
  EXPECT_EQ(manager->ActiveGeneration()->number(), 2U);
  EXPECT_TRUE(manager->ActiveGeneration()->guard_list().Guarded(11, 12));
  manager.reset();
  EXPECT_EQ(Open()->ActiveGeneration()->info().guarded_pairs(), 1U);
}

TEST_F(GenerationControlTest, ADryRunPublishesNothing) {
  auto manager = Open();
  Mine(*manager, 1);
  v1::ReclusterRequest request = Request();
  request.set_dry_run(true);
  const v1::Operation operation = Run(*manager, request);
  EXPECT_EQ(operation.generation(), 0U);
  EXPECT_EQ(operation.statistics().identities(), kControlIdentities);
  EXPECT_EQ(operation.statistics().subspace_size(), kControlGroups);
  EXPECT_GT(operation.statistics().lookalike_density(), 0);
  EXPECT_THAT(Numbers(*manager), ElementsAre(1));
  EXPECT_FALSE(OnDisk(2));
  manager.reset();
  manager = Open();
  EXPECT_EQ(manager->GetOperation(operation.id())->statistics().identities(), kControlIdentities);
  EXPECT_FALSE(manager->ListOperations().back().has_statistics());
}

TEST_F(GenerationControlTest, AJobWaitsInTheQueueIfItMay) {
  absl::Notification go_on;
  auto manager = Open(std::make_unique<AxisClusterer>([&](int) { go_on.WaitForNotification(); }));
  const auto first = manager->Recluster(Request());
  EXPECT_EQ(manager->Recluster(Request()).status().code(), absl::StatusCode::kFailedPrecondition);
  v1::ReclusterRequest request = Request();
  request.set_queue(true);
  const auto second = manager->Recluster(request);
  const auto third = manager->Recluster(request);
  ASSERT_TRUE(second.ok() && third.ok());
  EXPECT_EQ(second->state(), v1::Operation::STATE_QUEUED);
  EXPECT_EQ(manager->CancelOperation(second->id())->state(), v1::Operation::STATE_CANCELLED);
  EXPECT_EQ(manager->GetOperation(third->id())->state(), v1::Operation::STATE_QUEUED);
  go_on.Notify();
  EXPECT_EQ(Finish(*manager, first->id()).generation(), 1U);
  EXPECT_EQ(Finish(*manager, third->id()).generation(), 3U);
  EXPECT_THAT(Numbers(*manager), ElementsAre(1, 3));
}

TEST_F(GenerationControlTest, TheQueueSurvivesARestart) {
  std::string first, second;
  {
    auto manager = Open();
    first = manager->Recluster(Request())->id();
    v1::ReclusterRequest request = Request();
    request.set_queue(true);
    second = manager->Recluster(request)->id();
  }
  auto manager = Open();
  EXPECT_EQ(manager->GetOperation(second)->state(), v1::Operation::STATE_QUEUED);
  EXPECT_EQ(Finish(*manager, first).state(), v1::Operation::STATE_SUCCEEDED);
  EXPECT_EQ(Finish(*manager, second).state(), v1::Operation::STATE_SUCCEEDED);
}

TEST_F(GenerationControlTest, TheQueueIsBounded) {
  auto manager = Open();
  v1::ReclusterRequest request = Request();
  request.set_queue(true);
  for (int i = 0; i < 17; ++i) ASSERT_TRUE(manager->Recluster(request).ok());
  EXPECT_EQ(manager->Recluster(request).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(GenerationControlTest, EventsTellWhatHappened) {
  auto manager = Open();
  Mine(*manager, 2);
  ASSERT_TRUE(manager->Rollback(false).ok());
  ASSERT_TRUE(manager->Retire(2, false).ok());
  std::vector<v1::WatchResponse::EventCase> kinds;
  for (const v1::WatchResponse& event : manager->events().After(0)) kinds.push_back(event.event_case());
  using Event = v1::WatchResponse;
  EXPECT_THAT(kinds, ElementsAre(Event::kOperation, Event::kPublished, Event::kActivated, Event::kOperation,
                                 Event::kOperation, Event::kPublished, Event::kActivated, Event::kOperation,
                                 Event::kActivated, Event::kRetired));
}

TEST_F(GenerationControlTest, ThePolicyMinesWhenItsConditionHoldsAndTheModelMoved) {
  auto manager = Open();
  Mine(*manager, 1);
  uint64_t batches = 5;
  manager->SetTrainingSource([&batches] {
    TrainingFacts facts;
    facts.batches_acknowledged = batches;
    return facts;
  });
  v1::ReclusterPolicySpec spec;
  spec.set_every_batches(10);
  ASSERT_TRUE(manager->SetPolicy(spec).ok());
  clock_.Advance(absl::Hours(1));
  manager->CheckPolicy();
  batches = 15;
  manager->CheckPolicy();
  EXPECT_EQ(manager->ListOperations().size(), 1U) << "the same weights";
  EXPECT_THAT(manager->GetPolicy().verdict(), HasSubstr("still that of"));
  WriteModel(model_, "weights-b", kControlDimension, 900);
  EXPECT_THAT(manager->GetPolicy().verdict(), HasSubstr("re-cluster: 15 batches"));
  EXPECT_EQ(manager->GetPolicy().staleness_steps(), 200U);
  manager->CheckPolicy();
  ASSERT_EQ(manager->ListOperations().size(), 2U);
  const v1::Operation started = manager->ListOperations().back();
  EXPECT_THAT(started.policy_reason(), HasSubstr("15 batches"));
  EXPECT_EQ(started.request().subspaces(), static_cast<uint32_t>(kControlGroups)) << "as in the last job";
  manager->CheckPolicy();
  EXPECT_EQ(manager->ListOperations().size(), 2U) << "one at a time";
  EXPECT_EQ(Finish(*manager, started.id()).state(), v1::Operation::STATE_SUCCEEDED);
  EXPECT_EQ(manager->ActiveGeneration()->info().model_fingerprint(), "weights-b");
  EXPECT_EQ(manager->GetPolicy().batches_since_activation(), 0U);
}

TEST_F(GenerationControlTest, ThePolicyIsDurable) {
  v1::ReclusterPolicySpec spec;
  spec.set_max_staleness_steps(77);
  ASSERT_TRUE(Open()->SetPolicy(spec).ok());
  auto manager = Open();
  EXPECT_EQ(manager->GetPolicy().policy().max_staleness_steps(), 77U);
  spec.set_min_active_share(2);
  EXPECT_EQ(manager->SetPolicy(spec).status().code(), absl::StatusCode::kInvalidArgument);
}

// Trainers that report on a generation; every identity near the axis (identity + shift) mod groups.
class GenerationPolicyTest : public GenerationControlTest {
 protected:
  GenerationPolicyTest() {
    RunningMeanManager::Options options;
    options.fs = &PosixFileSystem();
    options.clock = &clock_;
    options.directory = directory_.path() + "/live";
    options.catalog_fingerprint = catalog_->fingerprint();
    options.identities = catalog_->num_identities();
    options.half_life = 1;
    options.snapshot_interval = absl::ZeroDuration();
    options.owner_patience = absl::Hours(1000);
    live_ = RunningMeanManager::Open(std::move(options)).value();
  }
  void Report(uint64_t generation, uint64_t step, double active, uint64_t first_shifted = ~uint64_t{0}) {
    v1::ReportStepsRequest request;
    request.set_run("run");
    v1::StepReport& report = *request.add_steps();
    report.set_model_step(step);
    report.set_generation(generation);
    report.set_subspace(-1);
    report.set_active_share(active);
    report.set_dimension(kControlDimension);
    for (uint64_t i = 10; i < 10 + kControlIdentities; ++i) {
      report.add_identities(i);
      report.add_samples(1);
      for (int d = 0; d < kControlDimension; ++d) {
        const float value = SyntheticValue(i >= first_shifted ? i + 1 : i, d, kControlGroups);
        report.mutable_embeddings()->append(reinterpret_cast<const char*>(&value), sizeof value);
      }
    }
    ASSERT_TRUE(live_->Report(request)->accepted());
  }
  void FeedFromLive(GenerationManager& manager) {
    manager.SetTrainingSource([this] {
      TrainingFacts facts;
      const RunningMeanManager::Training training = live_->DescribeTraining();
      facts.model_step = training.model_step;
      facts.active_share = training.active_share;
      facts.generation = training.generation;
      return facts;
    });
  }
};

TEST_F(GenerationPolicyTest, AFallingActiveShareOfThisGenerationMines) {
  auto manager = Open();
  Mine(*manager, 1);
  FeedFromLive(*manager);
  v1::ReclusterPolicySpec spec;
  spec.set_min_active_share(0.1);
  ASSERT_TRUE(manager->SetPolicy(spec).ok());
  clock_.Advance(absl::Hours(1));
  for (uint64_t i = 0; i < RunningMeanManager::kFewestBatches; ++i) {
    EXPECT_LT(manager->GetPolicy().active_share(), 0) << "too few to say";
    Report(1, 800 + i, 0.05);
  }
  EXPECT_NEAR(manager->GetPolicy().active_share(), 0.05, 1e-9);
  WriteModel(model_, "weights-b", kControlDimension, 900);
  manager->Look();
  ASSERT_EQ(manager->ListOperations().size(), 2U);
  EXPECT_THAT(manager->ListOperations().back().policy_reason(), HasSubstr("active"));
  ASSERT_EQ(Finish(*manager, manager->ListOperations().back().id()).state(), v1::Operation::STATE_SUCCEEDED);
  clock_.Advance(absl::Hours(1));
  WriteModel(model_, "weights-c", kControlDimension, 1000);
  EXPECT_LT(manager->GetPolicy().active_share(), 0) << "that was of the generation before";
  manager->Look();
  EXPECT_EQ(manager->ListOperations().size(), 2U);
}

TEST_F(GenerationPolicyTest, ReportedStepsAreStaleness) {
  auto manager = Open();
  Mine(*manager, 1);
  FeedFromLive(*manager);
  v1::ReclusterPolicySpec spec;
  spec.set_max_staleness_steps(100);
  ASSERT_TRUE(manager->SetPolicy(spec).ok());
  clock_.Advance(absl::Hours(1));
  Report(1, 800, 0.5);
  EXPECT_EQ(manager->GetPolicy().staleness_steps(), 100U);
  EXPECT_THAT(manager->GetPolicy().verdict(), HasSubstr("no condition"));
  Report(1, 801, 0.5);
  EXPECT_THAT(manager->GetPolicy().verdict(), HasSubstr("re-cluster: the model is 101 steps ahead"));
}

TEST_F(GenerationPolicyTest, ChurnOfASampleMines) {
  auto manager = Open();
  Mine(*manager, 1);
  FeedFromLive(*manager);
  v1::ReclusterPolicySpec spec;
  spec.set_max_churn(0.3);
  ASSERT_TRUE(manager->SetPolicy(spec).ok());
  clock_.Advance(absl::Hours(1));
  EXPECT_LT(manager->GetPolicy().sampled_churn(), 0) << "nobody was reported";
  Report(1, 750, 0.5);
  EXPECT_LT(manager->GetPolicy().sampled_churn(), 0) << "looked a moment ago";
  clock_.Advance(absl::Seconds(11));
  EXPECT_EQ(manager->GetPolicy().sampled_churn(), 0);
  manager->Look();
  EXPECT_EQ(manager->ListOperations().size(), 1U);
  // Half of them move to the next axis; what was before is forgotten.
  Report(1, 850, 0.5, 10 + kControlIdentities / 2);
  clock_.Advance(absl::Seconds(11));
  EXPECT_NEAR(manager->GetPolicy().sampled_churn(), 0.5, 1e-9);
  manager->Look();
  ASSERT_EQ(manager->ListOperations().size(), 2U);
  EXPECT_THAT(manager->ListOperations().back().policy_reason(), HasSubstr("0.5 of a sample"));
}

TEST_F(GenerationPolicyTest, IntervalAndBudgetHoldIt) {
  auto manager = Open();
  Mine(*manager, 1);
  FeedFromLive(*manager);
  v1::ReclusterPolicySpec spec;
  spec.set_max_staleness_steps(10);
  spec.set_min_interval_seconds(600);
  spec.set_max_per_day(2);
  ASSERT_TRUE(manager->SetPolicy(spec).ok());
  const auto jobs = [&manager] { return manager->ListOperations().size(); };
  for (uint64_t round = 1; round <= 3; ++round) {
    WriteModel(model_, absl::StrCat("weights-", round), kControlDimension,
               static_cast<int>(700 + 100 * round));
    Report(round, 700 + 100 * round, 0.5);
    clock_.Advance(absl::Seconds(300));
    manager->Look();
    EXPECT_EQ(jobs(), round) << "too soon";
    clock_.Advance(absl::Seconds(301));
    manager->Look();
    if (round == 3) break;
    ASSERT_EQ(jobs(), round + 1);
    ASSERT_EQ(Finish(*manager, manager->ListOperations().back().id()).state(),
              v1::Operation::STATE_SUCCEEDED);
  }
  EXPECT_EQ(jobs(), 3U);
  EXPECT_THAT(manager->GetPolicy().verdict(), HasSubstr("budget of 2"));
  clock_.Advance(absl::Hours(24));
  manager->Look();
  EXPECT_EQ(jobs(), 4U);
}

TEST_F(GenerationControlTest, AJobWithoutProgressIsStalledUntilItMoves) {
  stall_after_ = absl::Seconds(30);
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  v1::LeaseRangeRequest lease;  // by now it is waiting for embedders
  while (!manager->LeaseRange(lease)->has_lease()) {
  }
  manager->Look();
  clock_.Advance(absl::Seconds(29));
  manager->Look();
  EXPECT_EQ(manager->StalledOperation(), "");
  clock_.Advance(absl::Seconds(1));
  manager->Look();
  EXPECT_EQ(manager->StalledOperation(), id);
  clock_.Advance(absl::Seconds(5));
  EXPECT_EQ(manager->GetOperation(id)->stalled_seconds(), 35);
  EXPECT_EQ(manager->events().After(0).back().operation().id(), id);
  EXPECT_EQ(manager->GetOperation(id)->state(), v1::Operation::STATE_RUNNING);
  clock_.Advance(absl::Minutes(2));  // the lease that nobody works on goes to another
  EmbedUntilOver(*manager, id, kControlDimension, kControlGroups, 1);
  manager->Look();
  EXPECT_EQ(manager->StalledOperation(), "");
  EXPECT_EQ(manager->GetOperation(id)->stalled_seconds(), 0);
  EXPECT_EQ(Finish(*manager, id).state(), v1::Operation::STATE_SUCCEEDED);
}

TEST_F(GenerationControlTest, AStalledJobCanBeEnded) {
  stall_after_ = absl::Seconds(30);
  stall_cancel_ = true;
  auto manager = Open();
  const std::string id = manager->Recluster(Request())->id();
  v1::LeaseRangeRequest lease;
  while (!manager->LeaseRange(lease)->has_lease()) {
  }
  manager->Look();
  clock_.Advance(absl::Seconds(30));
  manager->Look();
  const v1::Operation ended = *manager->WaitOperation(id, absl::Seconds(60));
  EXPECT_EQ(ended.state(), v1::Operation::STATE_FAILED);
  EXPECT_THAT(ended.error(), HasSubstr("no progress for 30s in phase embed"));
  EXPECT_EQ(manager->StalledOperation(), "");
  Mine(*manager, 1);
}

}  // namespace
}  // namespace doppel
