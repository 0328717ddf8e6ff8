#include "trainer/loss/memory_bank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include "trainer/loss/loss_factory.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

torch::Tensor Row(std::vector<double> values) {
  return torch::tensor(values, torch::kFloat64).view({static_cast<int64_t>(values.size()), 1});
}

std::vector<int64_t> Ids(const MemoryBank& bank) {
  return {bank.identities().begin(), bank.identities().end()};
}

TEST(MemoryBankTest, KeepsTheLastRows) {
  MemoryBank bank(5);
  EXPECT_FALSE(bank.embeddings().defined());
  bank.Add(Row({1, 2}), std::vector<int64_t>{1, 2});
  bank.Add(Row({3, 4}), std::vector<int64_t>{3, 4});
  EXPECT_EQ(bank.size(), 4);
  bank.Add(Row({5, 6, 7}), std::vector<int64_t>{5, 6, 7});
  EXPECT_THAT(Ids(bank), ElementsAre(6, 7, 3, 4, 5));
  EXPECT_TRUE(bank.embeddings().equal(Row({6, 7, 3, 4, 5})));
}

TEST(MemoryBankTest, OfABatchLargerThanItselfTheEndStays) {
  MemoryBank bank(3);
  bank.Add(Row({9}), std::vector<int64_t>{9});
  bank.Add(Row({1, 2, 3, 4, 5}), std::vector<int64_t>{1, 2, 3, 4, 5});
  EXPECT_THAT(Ids(bank), ::testing::UnorderedElementsAre(3, 4, 5));
}

TEST(MemoryBankTest, KeepsNoGradientAndNoAlias) {
  MemoryBank bank(4);
  torch::Tensor x = Row({1, 2}).requires_grad_(true);
  bank.Add(x * 1, std::vector<int64_t>{1, 2});
  EXPECT_FALSE(bank.embeddings().requires_grad());
  bank.Add(torch::ones({1, 3}), std::vector<int64_t>{5});  // another width: starts anew
  EXPECT_THAT(Ids(bank), ElementsAre(5));
}

TEST(MemoryBankTest, StateRoundTripsInTheMiddleOfARound) {
  MemoryBank a(3), b(3), smaller(2);
  a.Add(Row({1, 2, 3, 4}), std::vector<int64_t>{1, 2, 3, 4});
  a.Add(Row({5}), std::vector<int64_t>{5});
  ASSERT_TRUE(b.LoadState(a.State()).ok());
  for (MemoryBank* bank : {&a, &b}) bank->Add(Row({6}), std::vector<int64_t>{6});
  EXPECT_TRUE(a.embeddings().equal(b.embeddings()));
  EXPECT_EQ(Ids(a), Ids(b));
  EXPECT_FALSE(smaller.LoadState(a.State()).ok());
  EXPECT_FALSE(b.LoadState({}).ok());
  MemoryBank empty(3);
  ASSERT_TRUE(b.LoadState(empty.State()).ok());
  EXPECT_EQ(b.size(), 0);
}

// Writes down what it was given.
class WatchingLoss : public Loss {
 public:
  absl::StatusOr<LossResult> Compute(const LossInput& input) override {
    seen.emplace_back(input.memory_identities.begin(), input.memory_identities.end());
    if (fails) return absl::InvalidArgumentError("refused");
    LossResult result;
    result.loss = input.embeddings.sum();
    return result;
  }
  std::vector<std::vector<int64_t>> seen;
  bool fails = false;
};

struct WatchedMemory {
  WatchingLoss* watch;
  std::unique_ptr<MemoryLoss> loss;
};

WatchedMemory MakeWatched(int64_t rows, uint64_t start) {
  auto inner = std::make_unique<WatchingLoss>();
  WatchingLoss* watch = inner.get();
  MemoryOptions options;
  options.rows = rows;
  options.start_step = start;
  return {watch, MemoryLoss::Create(std::move(inner), options).value()};
}

absl::Status Step(Loss& loss, int64_t identity, uint64_t step, uint64_t generation = 1) {
  const std::vector<int64_t> identities = {identity};
  LossInput input(Row({static_cast<double>(identity)}), identities);
  input.step = step;
  input.generation = generation;
  return loss.Compute(input).status();
}

TEST(MemoryLossTest, ServesEarlierBatchesNotThisOne) {
  WatchedMemory m = MakeWatched(2, 0);
  for (int64_t i = 1; i <= 4; ++i) ASSERT_TRUE(Step(*m.loss, i, static_cast<uint64_t>(i)).ok());
  EXPECT_THAT(m.watch->seen,
              ElementsAre(ElementsAre(), ElementsAre(1), ElementsAre(1, 2), ElementsAre(3, 2)));
}

TEST(MemoryLossTest, FillsButWaitsUntilTheStartStep) {
  WatchedMemory m = MakeWatched(8, 2);
  for (int64_t i = 0; i < 4; ++i) ASSERT_TRUE(Step(*m.loss, i, static_cast<uint64_t>(i)).ok());
  EXPECT_THAT(m.watch->seen,
              ElementsAre(ElementsAre(), ElementsAre(), ElementsAre(0, 1), ElementsAre(0, 1, 2)));
}

TEST(MemoryLossTest, AnotherGenerationStartsAnew) {
  WatchedMemory m = MakeWatched(8, 0);
  ASSERT_TRUE(Step(*m.loss, 1, 0, 5).ok());
  ASSERT_TRUE(Step(*m.loss, 2, 1, 5).ok());
  ASSERT_TRUE(Step(*m.loss, 3, 2, 6).ok());
  ASSERT_TRUE(Step(*m.loss, 4, 3, 6).ok());
  EXPECT_THAT(m.watch->seen, ElementsAre(ElementsAre(), ElementsAre(1), ElementsAre(), ElementsAre(3)));
}

TEST(MemoryLossTest, AFailedBatchLeavesNoTrace) {
  WatchedMemory m = MakeWatched(8, 0);
  m.watch->fails = true;
  EXPECT_FALSE(Step(*m.loss, 1, 0).ok());
  EXPECT_EQ(m.loss->bank().size(), 0);
}

TEST(MemoryLossTest, StateCarriesBankAndGeneration) {
  WatchedMemory a = MakeWatched(3, 0), b = MakeWatched(3, 0);
  for (int64_t i = 1; i <= 4; ++i) ASSERT_TRUE(Step(*a.loss, i, 0, 7).ok());
  ASSERT_TRUE(b.loss->LoadState(a.loss->State()).ok());
  ASSERT_TRUE(Step(*b.loss, 9, 0, 7).ok());  // the same generation: nothing is lost
  EXPECT_THAT(b.watch->seen.back(), ElementsAre(4, 2, 3));
  EXPECT_FALSE(b.loss->LoadState({}).ok());
}

TEST(MemoryLossTest, EqualsALossOfTheSameRowsByHand) {
  for (const char* name : {"batch_hard", "batch_ohnm", "batch_all", "contrastive", "lmnn", "improved_triplet",
                           "lifted", "lifted_pxk", "adaptive_weights"}) {
    LossOptions options;
    options.name = name;
    options.margin = "0.5";
    auto plain = MakeLoss(options).value();
    options.memory = 100;
    auto with_memory = MakeLoss(options).value();
    torch::manual_seed(4);
    const torch::Tensor first = torch::randn({6, 3}), second = torch::randn({6, 3});
    const std::vector<int64_t> before = {1, 1, 2, 2, 3, 3}, now = {1, 1, 3, 3, 4, 4};
    ASSERT_TRUE(with_memory->Compute({first, before}).ok());
    LossInput input(second, now);
    const auto result = with_memory->Compute(input);
    ASSERT_TRUE(result.ok()) << name << result.status();
    input.memory = first;
    input.memory_identities = before;
    EXPECT_EQ(result->statistics.loss, plain->Compute(input)->statistics.loss) << name;
    EXPECT_NE(result->statistics.loss, plain->Compute({second, now})->statistics.loss) << name;
  }
}

TEST(MemoryLossTest, LossesWithoutUseForItAreRefusedWhenMade) {
  for (const char* name : {"quadruplet", "id_softmax", "verification"}) {
    LossOptions options;
    options.name = name;
    options.classes = 10;
    options.memory = 100;
    EXPECT_THAT(MakeLoss(options).status().ToString(), HasSubstr("cannot use a cross-batch memory")) << name;
  }
  LossOptions joint;
  joint.name = "joint";
  joint.classes = 10;
  joint.memory = 100;
  EXPECT_TRUE(MakeLoss(joint).ok());
}

}  // namespace
}  // namespace doppel
