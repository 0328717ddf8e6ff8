#include "miner/representation/running_mean.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/io/fault_file_system.h"
#include "common/io/memory_file_system.h"
#include "miner/representation/running_mean_manager.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;

constexpr uint64_t kIdentities = 10;

// ---- the means themselves

TEST(RunningMeanTest, FirstReportIsTheMean) {
  RunningMean means(4, 2, 100);
  const float x[] = {0.6F, 0.8F};
  EXPECT_FALSE(means.seen(2));
  means.Add(2, x, 3, 50);
  EXPECT_TRUE(means.seen(2));
  EXPECT_EQ(means.num_seen(), 1u);
  EXPECT_FLOAT_EQ(means.mean(2)[0], 0.6F);
  EXPECT_FLOAT_EQ(means.mean(2)[1], 0.8F);
  EXPECT_EQ(means.step(2), 50u);
  EXPECT_EQ(means.samples(2), 3u);
}

TEST(RunningMeanTest, WithoutForgettingItIsThePlainMeanOverImages) {
  RunningMean means(1, 2, 0);
  const float a[] = {1, 0}, b[] = {0, 1};
  means.Add(0, a, 3, 0);
  means.Add(0, b, 1, 100000);
  EXPECT_FLOAT_EQ(means.mean(0)[0], 0.75F);
  EXPECT_FLOAT_EQ(means.mean(0)[1], 0.25F);
}

TEST(RunningMeanTest, AReportOneHalfLifeOldCountsHalf) {
  RunningMean means(1, 2, 100);
  const float a[] = {1, 0}, b[] = {0, 1};
  means.Add(0, a, 2, 0);
  means.Add(0, b, 2, 100);
  EXPECT_FLOAT_EQ(means.mean(0)[0], 1.0F / 3);
  EXPECT_FLOAT_EQ(means.mean(0)[1], 2.0F / 3);
}

TEST(RunningMeanTest, OrderDoesNotMatter) {
  const float x[][2] = {{1, 0}, {0, 1}, {0.6F, 0.8F}};
  const uint64_t steps[] = {10, 250, 90};
  RunningMean forward(1, 2, 100), backward(1, 2, 100);
  for (int i : {0, 1, 2}) forward.Add(0, x[i], 2, steps[i]);
  for (int i : {2, 1, 0}) backward.Add(0, x[i], 2, steps[i]);
  for (int d : {0, 1}) EXPECT_NEAR(forward.mean(0)[d], backward.mean(0)[d], 1e-6);
  EXPECT_EQ(forward.step(0), 250u);
  EXPECT_EQ(backward.step(0), 250u);
}

TEST(RunningMeanTest, IsTheWeightedAverageByAge) {
  RunningMean means(1, 1, 64);
  double weighted = 0, weights = 0;
  for (uint64_t step = 0; step <= 500; step += 25) {
    const float x = std::sin(static_cast<float>(step));
    means.Add(0, &x, 4, step);
    const double weight = 4 * std::exp2(-static_cast<double>(500 - step) / 64);
    weighted += weight * x;
    weights += weight;
  }
  EXPECT_NEAR(means.mean(0)[0], weighted / weights, 1e-5);
  EXPECT_NEAR(means.weight(0), weights, 1e-3);
}

TEST(RunningMeanTest, VeryOldReportsVanishWithoutNaN) {
  RunningMean means(1, 1, 1);
  const float a = 1, b = -1;
  means.Add(0, &a, 1, 1000000);
  means.Add(0, &b, 1, 0);
  EXPECT_FLOAT_EQ(means.mean(0)[0], 1);
  means.Add(0, &b, 1, 2000000);
  EXPECT_FLOAT_EQ(means.mean(0)[0], -1);
}

// ---- hardness

TEST(SubspaceHardnessTableTest, BeginsAsAPlainMeanAndThenForgets) {
  SubspaceHardnessTable table;
  table.Add(1, 7, 1.0, 3, 10);
  table.Add(1, 7, 0.5, 1, 12);
  EXPECT_DOUBLE_EQ(table.List(1).subspaces(0).active_share(), 0.75);
  EXPECT_DOUBLE_EQ(table.List(1).subspaces(0).loss(), 2);
  for (int i = 0; i < 100; ++i) table.Add(1, 7, 0.1, 0.5, 20);
  EXPECT_NEAR(table.List(1).subspaces(0).active_share(), 0.1, 1e-3);
  EXPECT_EQ(table.List(1).subspaces(0).batches(), 102u);
  EXPECT_EQ(table.List(1).subspaces(0).model_step(), 20u);
}

TEST(SubspaceHardnessTableTest, KeepsTheTwoNewestGenerations) {
  SubspaceHardnessTable table;
  for (uint64_t generation : {1, 2, 3, 1}) table.Add(generation, 0, 0.5, 1, 1);
  EXPECT_EQ(table.List(0).generation(), 3u);
  EXPECT_EQ(table.List(2).subspaces_size(), 1);
  EXPECT_EQ(table.List(1).subspaces_size(), 0) << "a late report must not push a newer generation out";
}

// ---- the manager

class RunningMeanManagerTest : public testing::Test {
 protected:
  void SetUp() override { Reopen(); }

  RunningMeanManager::Options Options(FileSystem& fs) {
    RunningMeanManager::Options options;
    options.fs = &fs;
    options.clock = &clock_;
    options.directory = "/live";
    options.catalog_fingerprint = catalog_;
    options.identities = kIdentities;
    options.half_life = 100;
    options.snapshot_interval = absl::ZeroDuration();
    options.owner_patience = absl::Seconds(60);
    return options;
  }
  void Reopen() {
    manager_.reset();
    auto manager = RunningMeanManager::Open(Options(fs_));
    ASSERT_TRUE(manager.ok()) << manager.status();
    manager_ = *std::move(manager);
  }

  static v1::StepReport Step(uint64_t step, const std::vector<uint64_t>& identities, float x = 1, float y = 0,
                             int subspace = -1) {
    v1::StepReport report;
    report.set_model_step(step);
    report.set_generation(3);
    report.set_subspace(subspace);
    report.set_loss(0.5);
    report.set_active_share(0.25);
    report.set_dimension(2);
    for (uint64_t identity : identities) {
      report.add_identities(identity);
      report.add_samples(4);
      for (float value : {x, y})
        report.mutable_embeddings()->append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    return report;
  }
  absl::StatusOr<v1::ReportStepsResponse> Report(const v1::StepReport& step, const std::string& run = "a") {
    v1::ReportStepsRequest request;
    request.set_run(run);
    *request.add_steps() = step;
    return manager_->Report(request);
  }
  v1::DescribeRepresentationsResponse Describe(const std::vector<uint64_t>& identities = {}) {
    return manager_->Describe({0, kIdentities}, identities);
  }
  void FlipByte(const std::string& path, size_t at) {
    std::string bytes = *fs_.ReadFile(path);
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    auto file = *fs_.Create(path);
    ASSERT_TRUE(file->Append(bytes).ok() && file->Sync().ok());
  }

  InMemoryFileSystem fs_;
  ManualClock clock_;
  std::string catalog_ = "catalog";
  std::unique_ptr<RunningMeanManager> manager_;
};

TEST_F(RunningMeanManagerTest, DescribesStaleness) {
  ASSERT_TRUE(Report(Step(100, {0, 1, 2, 3, 4, 5, 6, 7})).ok());
  ASSERT_TRUE(Report(Step(150, {0})).ok());
  ASSERT_TRUE(Report(Step(250, {1})).ok());
  const auto described = Describe({1, 2, 9, 12345});
  EXPECT_EQ(described.run(), "a");
  EXPECT_EQ(described.model_step(), 250u);
  EXPECT_EQ(described.seen(), 8u);
  EXPECT_EQ(described.identities(), kIdentities);
  EXPECT_EQ(described.staleness().p50(), 150u);
  EXPECT_EQ(described.staleness().max(), 150u);
  EXPECT_DOUBLE_EQ(described.staleness().mean(), (6 * 150 + 100 + 0) / 8.0);
  ASSERT_EQ(described.identity_size(), 4);
  EXPECT_EQ(described.identity(0).staleness(), 0u);
  EXPECT_EQ(described.identity(0).samples(), 8u);
  EXPECT_EQ(described.identity(1).staleness(), 150u);
  EXPECT_FALSE(described.identity(2).seen());
  EXPECT_FALSE(described.identity(3).seen());
}

TEST_F(RunningMeanManagerTest, NobodyHasReportedYet) {
  const auto described = Describe({1});
  EXPECT_EQ(described.run(), "");
  EXPECT_EQ(described.seen(), 0u);
  EXPECT_LT(described.snapshot_age_seconds(), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(manager_->Freeze({0, 10}, -1, nullptr).status()));
  EXPECT_TRUE(manager_->Snapshot().ok());
  EXPECT_EQ(manager_->Hardness(0).subspaces_size(), 0);
}

TEST_F(RunningMeanManagerTest, ReportsThatDoNotAddUpAreRefusedWhole) {
  const auto refused = [this](const v1::StepReport& bad, const std::string& word) {
    v1::ReportStepsRequest request;
    request.set_run("a");
    *request.add_steps() = Step(1, {0});
    *request.add_steps() = bad;
    const auto response = manager_->Report(request);
    EXPECT_TRUE(absl::IsInvalidArgument(response.status())) << response.status();
    EXPECT_THAT(std::string(response.status().message()), HasSubstr(word));
  };
  refused(Step(1, {kIdentities}), "identity 10");
  refused(Step(1, {1}, 3, 0), "unit length");
  refused(Step(1, {1}, std::nanf(""), 0), "unit length");
  v1::StepReport bad = Step(1, {1});
  bad.mutable_embeddings()->pop_back();
  refused(bad, "embeddings");
  bad = Step(1, {1});
  bad.clear_samples();
  refused(bad, "samples");
  bad = Step(1, {1});
  bad.set_dimension(0);
  refused(bad, "dimension");
  bad = Step(1, {1});
  bad.set_loss(std::nan(""));
  refused(bad, "finite");
  EXPECT_TRUE(absl::IsInvalidArgument(Report(Step(1, {1}), "").status()));
  EXPECT_EQ(Describe().seen(), 0u);
}

TEST_F(RunningMeanManagerTest, AnotherRunWaitsUntilTheOwnerIsSilent) {
  ASSERT_TRUE(Report(Step(100, {0, 1})).ok());
  clock_.Advance(absl::Seconds(59));
  const auto refused = Report(Step(7, {2}), "b");
  ASSERT_TRUE(refused.ok());
  EXPECT_FALSE(refused->accepted());
  EXPECT_THAT(refused->reason(), HasSubstr("run a"));
  EXPECT_EQ(Describe().refused_reports(), 1u);
  EXPECT_EQ(Describe().seen(), 2u);
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(Report(Step(7, {2}), "b")->accepted());
  EXPECT_EQ(Describe().run(), "b");
  EXPECT_EQ(Describe().seen(), 1u) << "means of two models must not meet";
  EXPECT_EQ(Describe().model_step(), 7u);
}

TEST_F(RunningMeanManagerTest, FreezesUnitRowsAndFallsBackForTheRest) {
  ASSERT_TRUE(Report(Step(10, {2, 3}, 0.3F, 0.4F)).ok());
  const std::vector<float> other = {0, 2}, wrong = {1, 2, 3};
  const auto frozen = manager_->Freeze({2, 4}, 0.5, [&](uint64_t identity) -> absl::Span<const float> {
    if (identity == 4) return other;
    return wrong;
  });
  ASSERT_TRUE(frozen.ok()) << frozen.status();
  EXPECT_EQ(frozen->seen, 2u);
  EXPECT_EQ(frozen->model_step, 10u);
  EXPECT_EQ(frozen->run, "a");
  EXPECT_THAT(frozen->representations.rows.values,
              testing::Pointwise(testing::FloatEq(), std::vector<float>{0.6F, 0.8F, 0.6F, 0.8F, 0, 1, 0, 0}));
  EXPECT_THAT(frozen->representations.samples, ElementsAre(4, 4, 0, 0));
}

TEST_F(RunningMeanManagerTest, RefusesToFreezeBelowTheCoverageAskedFor) {
  ASSERT_TRUE(Report(Step(10, {2, 3})).ok());
  const auto frozen = manager_->Freeze({0, kIdentities}, 0.9, nullptr);
  EXPECT_TRUE(absl::IsFailedPrecondition(frozen.status()));
  EXPECT_THAT(std::string(frozen.status().message()), HasSubstr("2 of 10 identities (20.0 %)"));
  EXPECT_TRUE(manager_->CheckCoverage({0, kIdentities}, 0.2).ok());
  EXPECT_TRUE(manager_->CheckCoverage({2, 2}, 1).ok());
}

TEST_F(RunningMeanManagerTest, StaleAreThoseNotReportedLately) {
  EXPECT_EQ(manager_->FindStale({0, 10}, 100).run, "");
  EXPECT_EQ(manager_->FindStale({0, 10}, 100).identities.size(), 10u);
  ASSERT_TRUE(Report(Step(100, {1, 2, 3, 6})).ok());
  ASSERT_TRUE(Report(Step(200, {3, 7, 8})).ok());
  EXPECT_THAT(manager_->FindStale({0, 10}, 0).identities, ElementsAre(0, 1, 2, 4, 5, 6, 9));
  EXPECT_THAT(manager_->FindStale({0, 10}, 100).identities, ElementsAre(0, 4, 5, 9));
  EXPECT_THAT(manager_->FindStale({2, 5}, 100).identities, ElementsAre(4, 5));
  EXPECT_EQ(manager_->FindStale({2, 5}, 100).run, "a");
  EXPECT_EQ(manager_->FindStale({2, 5}, 100).dimension, 2);
}

TEST_F(RunningMeanManagerTest, ASnapshotSurvivesARestart) {
  ASSERT_TRUE(Report(Step(100, {1, 2}, 0.6F, 0.8F, /*subspace=*/5)).ok());
  ASSERT_TRUE(manager_->Snapshot().ok());
  ASSERT_TRUE(Report(Step(120, {3})).ok());
  const auto before = manager_->Freeze({1, 2}, 1, nullptr);
  fs_.DropUnsynced();
  Reopen();
  EXPECT_EQ(Describe().seen(), 2u) << "what came after the snapshot is lost";
  EXPECT_EQ(Describe().model_step(), 100u);
  EXPECT_EQ(Describe().run(), "a");
  EXPECT_EQ(manager_->Freeze({1, 2}, 1, nullptr)->representations.rows.values,
            before->representations.rows.values);
  ASSERT_EQ(manager_->Hardness(3).subspaces_size(), 1);
  EXPECT_EQ(manager_->Hardness(3).subspaces(0).subspace(), 5u);
  EXPECT_TRUE(Report(Step(130, {4}))->accepted());
}

TEST_F(RunningMeanManagerTest, ADamagedSnapshotHasAnotherBehindIt) {
  for (uint64_t step : {100, 200, 300}) {
    ASSERT_TRUE(Report(Step(step, {step / 100})).ok());
    ASSERT_TRUE(manager_->Snapshot().ok());
  }
  EXPECT_FALSE(fs_.Exists("/live/0000000001")) << "two are kept";
  FlipByte("/live/0000000003/rows-000000.rec", 30);
  Reopen();
  EXPECT_EQ(Describe().model_step(), 200u);
  FlipByte("/live/0000000002/DONE", 20);
  Reopen();
  EXPECT_EQ(Describe().seen(), 0u);
}

TEST_F(RunningMeanManagerTest, SnapshotsOfAnotherCatalogAreNotTaken) {
  ASSERT_TRUE(Report(Step(100, {1})).ok());
  ASSERT_TRUE(manager_->Snapshot().ok());
  catalog_ = "another";
  Reopen();
  EXPECT_EQ(Describe().seen(), 0u);
}

TEST_F(RunningMeanManagerTest, AFaultAnywhereLeavesTheSnapshotBefore) {
  ASSERT_TRUE(Report(Step(100, {1})).ok());
  ASSERT_TRUE(manager_->Snapshot().ok());
  for (uint64_t call = 0; call < 60; ++call) {
    manager_.reset();
    FaultInjectingFileSystem faulty(fs_);
    faulty.Inject(
        {call, FaultInjectingFileSystem::Error::kNoSpace, FaultInjectingFileSystem::Lasting::kForGood});
    auto manager = RunningMeanManager::Open(Options(faulty));
    ASSERT_TRUE(manager.ok()) << "opening writes nothing";
    manager_ = *std::move(manager);
    ASSERT_TRUE(Report(Step(200, {2})).ok());
    const bool saved = manager_->Snapshot().ok();
    fs_.DropUnsynced();
    Reopen();
    EXPECT_TRUE(Describe({1}).identity(0).seen()) << call;
    if (saved) {
      EXPECT_EQ(Describe().model_step(), 200u);
      return;
    }
  }
  FAIL() << "never got through";
}

TEST_F(RunningMeanManagerTest, ReportsFreezesAndSnapshotsMeet) {
  ASSERT_TRUE(Report(Step(1, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9})).ok());
  std::thread reporter([this] {
    for (uint64_t step = 2; step < 300; ++step) {
      EXPECT_TRUE(Report(Step(step, {step % kIdentities}, 0.6F, 0.8F, 1))->accepted());
    }
  });
  std::thread saver([this] {
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(manager_->Snapshot().ok());
  });
  for (int i = 0; i < 50; ++i) {
    const auto frozen = manager_->Freeze({0, kIdentities}, 1, nullptr);
    ASSERT_TRUE(frozen.ok());
    for (int64_t row = 0; row < frozen->representations.rows.rows; ++row) {
      const float* x = frozen->representations.rows.row(row);
      EXPECT_NEAR(x[0] * x[0] + x[1] * x[1], 1, 1e-5);
    }
  }
  reporter.join();
  saver.join();
  EXPECT_EQ(Describe().model_step(), 299u);
}

TEST_F(RunningMeanManagerTest, TheThreadSavesWhenItIsStopped) {
  RunningMeanManager::Options options = Options(fs_);
  options.snapshot_interval = absl::Hours(1);
  manager_ = *RunningMeanManager::Open(options);
  ASSERT_TRUE(Report(Step(100, {1})).ok());
  Reopen();
  EXPECT_EQ(Describe().seen(), 1u);
}

TEST_F(RunningMeanManagerTest, TellsWhatIsTrained) {
  EXPECT_FALSE(manager_->DescribeTraining().model_step.has_value());
  v1::StepReport unknown = Step(5, {1});
  unknown.clear_active_share();
  for (uint64_t i = 0; i < RunningMeanManager::kFewestBatches; ++i) ASSERT_TRUE(Report(unknown).ok());
  EXPECT_EQ(manager_->DescribeTraining().model_step, 5U);
  EXPECT_FALSE(manager_->DescribeTraining().active_share.has_value());
  for (uint64_t i = 0; i < RunningMeanManager::kFewestBatches; ++i) {
    EXPECT_FALSE(manager_->DescribeTraining().active_share.has_value());
    ASSERT_TRUE(Report(Step(10 + i, {1})).ok());
  }
  EXPECT_DOUBLE_EQ(manager_->DescribeTraining().active_share.value(), 0.25);
  EXPECT_EQ(manager_->DescribeTraining().generation, 3U);
  v1::StepReport late = Step(50, {1});
  late.set_generation(2);
  late.set_active_share(1);
  ASSERT_TRUE(Report(late).ok());
  EXPECT_DOUBLE_EQ(manager_->DescribeTraining().active_share.value(), 0.25) << "of a generation that is gone";
  v1::StepReport next = Step(60, {1});
  next.set_generation(4);
  ASSERT_TRUE(Report(next).ok());
  EXPECT_EQ(manager_->DescribeTraining().generation, 4U);
  EXPECT_FALSE(manager_->DescribeTraining().active_share.has_value()) << "begins anew";
  clock_.Advance(absl::Seconds(61));
  EXPECT_FALSE(manager_->DescribeTraining().model_step.has_value()) << "nobody trains any more";
}

TEST_F(RunningMeanManagerTest, FindsThoseThatWereSeen) {
  std::vector<uint64_t> seen;
  EXPECT_EQ(manager_->Find({1, 2}, &seen).rows, 0);
  ASSERT_TRUE(Report(Step(10, {2, 5}, 0.3F, 0.4F)).ok());
  const Matrix rows = manager_->Find({5, 1, 2, 99}, &seen);
  EXPECT_THAT(seen, ElementsAre(5, 2));
  ASSERT_EQ(rows.rows, 2);
  EXPECT_FLOAT_EQ(rows.row(0)[0], 0.6F);
  EXPECT_FLOAT_EQ(rows.row(1)[1], 0.8F);
}

}  // namespace
}  // namespace doppel
