#include "miner/miner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "tests/support/fake_catalog.h"
#include "tests/unit/miner/generation/mining_fixture.h"

namespace doppel {
namespace {

constexpr int kDimension = 16;
constexpr int kGroups = 6;
constexpr uint64_t kIdentities = 3000;
const absl::Duration kPatience = absl::Seconds(60);

class MinerTest : public testing::Test {
 protected:
  MinerTest() { WriteModel(model_, "weights-a", kDimension); }
  std::unique_ptr<Miner> Open() {
    MinerOptions options;
    options.catalog = catalog_;
    options.state_directory = directory_.path() + "/state";
    options.cluster_threads = 1;
    options.lease_identities = 100;
    auto miner = Miner::Open(std::move(options));
    EXPECT_TRUE(miner.ok()) << miner.status();
    return *std::move(miner);
  }
  v1::ReclusterRequest Request() const {
    v1::ReclusterRequest request;
    request.set_model_path(model_);
    request.set_subspaces(kGroups);
    request.set_seed(3);
    return request;
  }
  TemporaryDirectory directory_;
  const std::string model_ = directory_.path() + "/model";
  std::shared_ptr<const Catalog> catalog_ = MakeFakeCatalog(kIdentities, 2, 5, 1);
};

TEST_F(MinerTest, NeedsACatalog) {
  EXPECT_EQ(Miner::Open({}).status().code(), absl::StatusCode::kInvalidArgument);
  MinerOptions options;
  options.catalog = catalog_;
  EXPECT_EQ(Miner::Open(std::move(options)).status().code(), absl::StatusCode::kInvalidArgument)
      << "no state";
}

TEST_F(MinerTest, MinesAcrossARestart) {
  std::string id;
  std::set<uint64_t> committed;
  {
    auto miner = Open();
    id = miner->Recluster(Request())->id();
    for (const auto& commit : EmbedUntilOver(*miner, id, kDimension, kGroups, 10)) {
      committed.insert(commit.first_identity());
    }
    EXPECT_EQ(miner->ActiveGeneration(), nullptr);
  }
  auto miner = Open();
  size_t further = 0;
  for (const auto& commit : EmbedUntilOver(*miner, id, kDimension, kGroups)) {
    EXPECT_EQ(committed.count(commit.first_identity()), 0U);
    ++further;
  }
  EXPECT_EQ(committed.size() + further, kIdentities / 100);
  const v1::Operation operation = *miner->WaitOperation(id, kPatience);
  ASSERT_EQ(operation.state(), v1::Operation::STATE_SUCCEEDED) << operation.error();

  const auto generation = miner->ActiveGeneration();
  ASSERT_NE(generation, nullptr);
  EXPECT_EQ(generation->num_identities(), kIdentities);
  uint64_t members = 0;
  for (uint32_t m = 0; m < generation->num_subspaces(); ++m) {
    members += generation->Members(m).size();
    for (uint32_t identity : generation->Members(m)) ASSERT_EQ(generation->SubspaceOf(identity), m);
  }
  EXPECT_EQ(members, kIdentities);
  // Everybody is with the centroid that resembles them most.
  const auto similarity = [&](uint64_t identity, uint32_t subspace) {
    const auto a = generation->Representation(identity);
    const auto b = generation->Centroid(subspace);
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  };
  for (uint64_t i = 0; i < kIdentities; ++i) {
    const double own = similarity(i, generation->SubspaceOf(i));
    for (uint32_t m = 0; m < generation->num_subspaces(); ++m) ASSERT_GE(own, similarity(i, m) - 1e-3) << i;
  }
  EXPECT_EQ(miner->ListGenerations().size(), 1U);
  EXPECT_EQ(miner->ListOperations().size(), 1U);
}

TEST_F(MinerTest, TheSameRequestGivesTheSameSubspaces) {
  auto miner = Open();
  for (int i = 0; i < 2; ++i) {
    const std::string id = miner->Recluster(Request())->id();
    EmbedUntilOver(*miner, id, kDimension, kGroups);
    ASSERT_EQ(miner->WaitOperation(id, kPatience)->state(), v1::Operation::STATE_SUCCEEDED);
  }
  const auto a = *miner->GetGeneration(1);
  const auto b = *miner->GetGeneration(2);
  for (uint64_t i = 0; i < kIdentities; ++i) ASSERT_EQ(a->SubspaceOf(i), b->SubspaceOf(i));
}

TEST_F(MinerTest, TheFacadePassesEverythingOn) {
  auto miner = Open();
  EXPECT_EQ(miner->catalog(), catalog_);
  EXPECT_EQ(miner->LeaseRange({})->retry_after_seconds(), 0.5);
  EXPECT_EQ(miner->RenewLease({}).status().code(), absl::StatusCode::kNotFound);
  const std::string id = miner->Recluster(Request())->id();
  EXPECT_EQ(miner->GetOperation(id)->state(), v1::Operation::STATE_RUNNING);
  ASSERT_TRUE(miner->CancelOperation(id).ok());
  EXPECT_EQ(miner->WaitOperation(id, kPatience)->state(), v1::Operation::STATE_CANCELLED);
  EXPECT_EQ(miner->Activate(1).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace doppel
