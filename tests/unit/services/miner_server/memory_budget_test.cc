#include "services/miner_server/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace doppel {
namespace {

using ::testing::ElementsAre;

class Holder : public MemoryHolder {
 public:
  void MakeRoom() override {
    ++asked;
    if (gives_up) hold = nullptr;
  }
  MemoryBudget::Granted Keep() {
    return [this](MemoryBudget::Hold granted) { hold = std::move(granted); };
  }

  MemoryBudget::Hold hold;
  int asked = 0;
  bool gives_up = false;
};

// Four rooms of 256 bytes: up to 2, up to 32 … of 1 024.
constexpr uint64_t kLimit = 1024;

TEST(MemoryBudgetTest, CountsUntilTheLastCopyIsGone) {
  MemoryBudget budget(kLimit);
  const auto holder = std::make_shared<Holder>();
  budget.Take(100, holder, holder->Keep());
  EXPECT_EQ(budget.held(), 100u);
  const MemoryBudget::Hold copy = holder->hold;
  holder->hold = nullptr;
  EXPECT_EQ(budget.held(), 100u);
}

TEST(MemoryBudgetTest, NeverHoldsMoreThanItsLimit) {
  MemoryBudget budget(kLimit);
  std::vector<std::shared_ptr<Holder>> holders;
  for (int i = 0; i < 1000; ++i) {
    holders.push_back(std::make_shared<Holder>());
    budget.Take(i % 64 + 1, holders.back(), holders.back()->Keep());
    EXPECT_LE(budget.held(), kLimit);
  }
  // Whoever lets go lets the next ones in, until nobody waits.
  for (const auto& holder : holders) {
    ASSERT_NE(holder->hold, nullptr);
    holder->hold = nullptr;
    EXPECT_LE(budget.held(), kLimit);
  }
  EXPECT_EQ(budget.held(), 0u);
}

TEST(MemoryBudgetTest, FirstComeFirstServed) {
  MemoryBudget budget(kLimit);
  std::vector<int> order;
  std::vector<MemoryBudget::Hold> holds(4);
  const auto holder = std::make_shared<Holder>();
  const auto take = [&](int name, uint64_t bytes) {
    budget.Take(bytes, holder, [&order, &holds, name](MemoryBudget::Hold hold) {
      order.push_back(name);
      holds[name] = std::move(hold);
    });
  };
  take(1, 150);
  take(2, 250);
  take(3, 60);  // would fit, but 2 was there before
  EXPECT_THAT(order, ElementsAre(1));
  holds[1] = nullptr;
  EXPECT_THAT(order, ElementsAre(1, 2));
  holds[2] = nullptr;
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST(MemoryBudgetTest, LargeOnesDoNotStandInTheWayOfSmallOnes) {
  MemoryBudget budget(kLimit);
  std::vector<std::shared_ptr<Holder>> large;
  for (int i = 0; i < 50; ++i) {
    large.push_back(std::make_shared<Holder>());
    budget.Take(200, large.back(), large.back()->Keep());
  }
  EXPECT_EQ(budget.held(), 200u);
  EXPECT_TRUE(budget.IsTight(200));
  EXPECT_FALSE(budget.IsTight(20));
  const auto small = std::make_shared<Holder>();
  budget.Take(20, small, small->Keep());
  EXPECT_NE(small->hold, nullptr);
}

TEST(MemoryBudgetTest, WhatIsLargerThanItsRoomGoesAlone) {
  MemoryBudget budget(kLimit);
  const auto first = std::make_shared<Holder>(), second = std::make_shared<Holder>();
  budget.Take(5000, first, first->Keep());
  ASSERT_NE(first->hold, nullptr);
  budget.Take(5000, second, second->Keep());
  EXPECT_EQ(second->hold, nullptr);
  first->hold = nullptr;
  EXPECT_NE(second->hold, nullptr);
}

TEST(MemoryBudgetTest, AsksThoseWhoHoldWhatOthersWaitFor) {
  MemoryBudget budget(kLimit);
  const auto small = std::make_shared<Holder>(), large = std::make_shared<Holder>(),
             waiting = std::make_shared<Holder>();
  budget.Take(10, small, small->Keep());
  budget.Take(200, large, large->Keep());
  budget.AskForRoom();
  EXPECT_EQ(large->asked, 0) << "nobody waits";
  budget.Take(100, waiting, waiting->Keep());
  large->gives_up = true;
  budget.AskForRoom();
  EXPECT_EQ(large->asked, 1);
  EXPECT_EQ(small->asked, 0);
  EXPECT_NE(waiting->hold, nullptr);
}

TEST(MemoryBudgetTest, ForgetsWhoIsGone) {
  MemoryBudget budget(kLimit);
  const auto first = std::make_shared<Holder>(), last = std::make_shared<Holder>();
  budget.Take(200, first, first->Keep());
  bool called = false;
  budget.Take(200, std::make_shared<Holder>(), [&called](const MemoryBudget::Hold&) { called = true; });
  budget.Take(50, last, last->Keep());
  EXPECT_EQ(last->hold, nullptr) << "behind the one that is gone";
  budget.AskForRoom();
  EXPECT_NE(last->hold, nullptr);
  EXPECT_FALSE(called);
}

TEST(MemoryBudgetTest, NobodyWaitsForWhatIsClosed) {
  MemoryBudget budget(kLimit);
  const auto first = std::make_shared<Holder>(), second = std::make_shared<Holder>();
  budget.Take(200, first, first->Keep());
  budget.Take(200, second, second->Keep());
  budget.Close();
  first->hold = nullptr;
  EXPECT_EQ(second->hold, nullptr);
  EXPECT_EQ(budget.held(), 0u);
}

TEST(MemoryBudgetTest, WithoutALimitEverythingFits) {
  MemoryBudget budget(0);
  std::vector<std::shared_ptr<Holder>> holders;
  for (int i = 0; i < 10; ++i) {
    holders.push_back(std::make_shared<Holder>());
    budget.Take(uint64_t{1} << 40, holders.back(), holders.back()->Keep());
    EXPECT_NE(holders.back()->hold, nullptr);
  }
  EXPECT_FALSE(budget.IsTight(uint64_t{1} << 50));
}

TEST(MemoryBudgetTest, ManyThreadsTakeAndLetGo) {
  MemoryBudget budget(kLimit);
  const auto holder = std::make_shared<Holder>();
  std::atomic<int> granted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 1000; ++i) {
        // Let go at once; waiting ones are granted by whichever thread makes room.
        budget.Take(100 + t, holder, [&granted](const MemoryBudget::Hold& hold) {
          EXPECT_NE(hold, nullptr);
          ++granted;
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(granted, 4000);
  EXPECT_EQ(budget.held(), 0u);
}

}  // namespace
}  // namespace doppel
