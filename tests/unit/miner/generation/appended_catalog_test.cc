// New versions of the catalog under a manager: what earlier generations say stays, the next one covers all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_format.h"
#include "common/catalog/catalog_appender.h"
#include "common/catalog/catalog_version.h"
#include "miner/generation/generation_diff.h"
#include "miner/generation/generation_manager.h"
#include "miner/planning/plan.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/miner/generation/mining_fixture.h"

namespace doppel {
namespace {

using doppel::testing::MakeTar;
using doppel::testing::MakeTestImage;
using doppel::testing::WriteTestFile;

class AppendedCatalogTest : public ::testing::Test {
 protected:
  static constexpr int kDim = 8;
  static constexpr int kAxes = 4;

  AppendedCatalogTest() {
    WriteModel(model_, "weights-a", kDim);
    // Numbers: train 0 … 39, test 40 … 49; then train 50 … 69 and three samples more of train 3 and 7.
    Shard("old", 0, 40, "train", "a");
    Shard("old", 40, 50, "test", "a");
    Shard("new", 50, 70, "train", "a");
    Shard("new", 3, 4, "train", "b");
    Shard("new", 7, 8, "train", "b");
    const auto dataset = OpenDataset("webdataset", directory_.path() + "/old");
    EXPECT_TRUE(BuildCatalog(**dataset, path_, {}).ok());
    catalog_ = *Catalog::Open(path_);
  }
  // Identities [first, end) with three samples each.
  void Shard(const std::string& folder, int first, int end, const std::string& split,
             const std::string& batch) {
    std::vector<std::pair<std::string, std::string>> members;
    for (int i = first; i < end; ++i) {
      for (int s = 0; s < 3; ++s) {
        const std::string key = absl::StrCat(i, batch, s);
        members.emplace_back(key + ".png", MakeTestImage(i, s, 8));
        members.emplace_back(key + ".json",
                             absl::StrFormat(R"({"identity":"id%03d","split":"%s"})", i, split));
      }
    }
    WriteTestFile(absl::StrCat(directory_.path(), "/", folder, "/", first, split, ".tar"), MakeTar(members));
  }
  void Append() {
    const auto dataset = OpenDataset("webdataset", directory_.path() + "/new");
    const auto summary = AppendToCatalog(**dataset, path_, {});
    ASSERT_TRUE(summary.ok()) << summary.status();
    ASSERT_EQ(summary->new_identities, 20);
    ASSERT_EQ(summary->extended_identities, 2);
  }
  absl::StatusOr<std::unique_ptr<GenerationManager>> TryOpen(std::shared_ptr<const Catalog> catalog) {
    GenerationManager::Options options;
    options.catalog = std::move(catalog);
    options.reopen_catalog = [this] { return Catalog::Open(path_); };
    options.state_directory = directory_.path() + "/state";
    options.fs = &PosixFileSystem();
    options.clock = &clock_;
    options.clusterer = std::make_unique<AxisClusterer>();
    options.lease_identities = 16;
    options.lease_duration = absl::Seconds(60);
    return GenerationManager::Open(std::move(options));
  }
  // Mines, and returns the identities that were embedded.
  std::set<uint64_t> Mine(GenerationManager& manager) {
    v1::ReclusterRequest request;
    request.set_model_path(model_);
    request.set_subspaces(kAxes);
    request.set_iterations(1);
    request.set_min_size(1);
    const auto started = manager.Recluster(request);
    EXPECT_TRUE(started.ok()) << started.status();
    std::set<uint64_t> embedded;
    while (true) {
      const auto lease = manager.LeaseRange({});
      if (lease.ok() && lease->has_lease()) {
        const v1::EmbeddingLease& range = lease->lease();
        for (uint64_t i = 0; i < range.identity_count(); ++i) {
          embedded.insert(range.identities_size() > 0 ? range.identities(static_cast<int>(i))
                                                      : range.first_identity() + i);
        }
        EXPECT_TRUE(manager.CommitRange(Embed(range, kDim, kAxes)).ok());
        continue;
      }
      const auto end = manager.WaitOperation(started->id(), absl::Milliseconds(2));
      if (end->state() == v1::Operation::STATE_RUNNING) continue;
      EXPECT_EQ(end->state(), v1::Operation::STATE_SUCCEEDED) << end->error();
      return embedded;
    }
  }
  // Samples of the first batches of an epoch.
  static std::vector<uint64_t> Samples(const std::shared_ptr<const Catalog>& newest,
                                       const std::shared_ptr<const Generation>& generation,
                                       const std::string& name) {
    v1::PlanSpec spec;
    spec.set_name(name);
    spec.set_identities_per_batch(4);
    spec.set_samples_per_identity(2);
    const auto catalog = CatalogAtVersion(newest, generation->info().catalog_fingerprint());
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    const auto plan = MakePlan(spec, 5, *catalog, generation);
    EXPECT_TRUE(plan.ok()) << plan.status();
    std::vector<uint64_t> samples;
    for (uint64_t cursor = 0; cursor < 20; ++cursor) {
      const PlannedBatch batch = (*plan)->At(cursor);
      samples.insert(samples.end(), batch.samples.begin(), batch.samples.end());
    }
    return samples;
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/catalog";
  const std::string model_ = directory_.path() + "/model";
  ManualClock clock_{absl::FromUnixSeconds(1700000000)};
  std::shared_ptr<const Catalog> catalog_;
};

TEST_F(AppendedCatalogTest, TheNextGenerationCoversWhatWasAppended) {
  auto manager = *TryOpen(catalog_);
  EXPECT_EQ(Mine(*manager).size(), 40);
  const auto first = manager->ActiveGeneration();
  Append();
  EXPECT_EQ(manager->catalog()->num_identities(), 50);
  // Embedded are the new ones, and those with new samples.
  std::set<uint64_t> expected = {3, 7};
  for (uint64_t i = 50; i < 70; ++i) expected.insert(i);
  EXPECT_EQ(Mine(*manager), expected);
  EXPECT_EQ(manager->catalog()->num_identities(), 70);
  const auto second = manager->ActiveGeneration();
  EXPECT_EQ(second->num_identities(), 60);
  EXPECT_EQ(second->info().covered_size(), 2);
  EXPECT_NE(second->info().catalog_fingerprint(), first->info().catalog_fingerprint());
  for (uint64_t i = 0; i < 70; ++i) {
    EXPECT_EQ(second->Covers(i), i < 40 || i >= 50);
    EXPECT_EQ(first->Covers(i), i < 40);
    if (second->Covers(i)) {
      EXPECT_EQ(second->SubspaceOf(i), i % kAxes);
    }
  }
  const auto diff = DiffGenerations(*first, *second, *manager->catalog(), 10);
  EXPECT_EQ(diff.common(), 40);
  EXPECT_EQ(diff.only_to(), 20);
  EXPECT_EQ(diff.moved(), 0);
}

TEST_F(AppendedCatalogTest, OldGenerationsGiveTheSameBatches) {
  auto manager = *TryOpen(catalog_);
  Mine(*manager);
  const auto first = manager->ActiveGeneration();
  const std::vector<uint64_t> random = Samples(catalog_, first, "random");
  const std::vector<uint64_t> subspace = Samples(catalog_, first, "subspace");
  Append();
  Mine(*manager);
  EXPECT_EQ(Samples(manager->catalog(), *manager->GetGeneration(1), "random"), random);
  EXPECT_EQ(Samples(manager->catalog(), *manager->GetGeneration(1), "subspace"), subspace);
  // The new one draws new samples, and never one of the split between.
  std::set<uint64_t> identities;
  for (const uint64_t sample : Samples(manager->catalog(), manager->ActiveGeneration(), "subspace"))
    identities.insert(manager->catalog()->Sample(sample).identity);
  EXPECT_GT(*identities.rbegin(), 50);
  for (uint64_t i = 40; i < 50; ++i) EXPECT_EQ(identities.count(i), 0) << i;
}

TEST_F(AppendedCatalogTest, ARestartTakesTheNewVersionUp) {
  {
    auto manager = *TryOpen(catalog_);
    Mine(*manager);
  }
  Append();
  const auto newest = *Catalog::Open(path_);
  {
    auto manager = TryOpen(newest);
    ASSERT_TRUE(manager.ok()) << manager.status();
    ASSERT_NE((*manager)->ActiveGeneration(), nullptr);
    EXPECT_EQ((*manager)->ActiveGeneration()->info().catalog_fingerprint(), catalog_->fingerprint());
    EXPECT_EQ(Mine(**manager).size(), 22);
    EXPECT_TRUE((*manager)->Activate(1).ok());
  }
  // The way back would lose what generations say.
  const auto back = TryOpen(catalog_);
  EXPECT_TRUE(absl::IsFailedPrecondition(back.status())) << back.status();
}

TEST_F(AppendedCatalogTest, AnotherCatalogInItsPlaceIsNotTakenUp) {
  auto manager = *TryOpen(catalog_);
  Mine(*manager);
  const auto dataset = OpenDataset("webdataset", directory_.path() + "/new");
  CatalogBuildOptions options;
  options.force = true;
  ASSERT_TRUE(BuildCatalog(**dataset, path_, options).ok());
  EXPECT_EQ(Mine(*manager).size(), 0);  // the pass is there
  EXPECT_EQ(manager->catalog(), catalog_);
  EXPECT_EQ(manager->ActiveGeneration()->num_identities(), 40);
}

}  // namespace
}  // namespace doppel
