#include "miner/planning/hardness.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "common/base/permutation.h"
#include "common/base/philox.h"

namespace doppel {
namespace {

using testing::HasSubstr;

HardnessController Controller(const HardnessOptions& options, std::vector<v1::HardnessDecision> past = {}) {
  return HardnessController::Make(options, std::move(past)).value();
}

double ShareAt(const HardnessController& controller, const HardnessOptions& options, uint64_t cursor) {
  double share = options.first_share;
  for (const v1::HardnessDecision& decision : controller.decisions()) {
    if (decision.from_cursor() <= cursor) share = decision.hard_share();
  }
  return share;
}

// Trains `batches` batches on a world whose active share follows from the hard share in force. Returns the
// active shares.
std::vector<double> Simulate(HardnessController* controller, const HardnessOptions& options, uint64_t batches,
                             const std::function<double(uint64_t cursor, double share)>& active) {
  std::vector<double> shares;
  for (uint64_t cursor = 0; cursor < batches; ++cursor) {
    shares.push_back(active(cursor, ShareAt(*controller, options, cursor)));
    controller->Report(cursor, shares.back());
  }
  return shares;
}

double MeanOf(const std::vector<double>& values, size_t begin, size_t end) {
  double sum = 0;
  for (size_t i = begin; i < end; ++i) sum += values[i];
  return sum / static_cast<double>(end - begin);
}

TEST(Hardness, StaysPutWithinTheBand) {
  const HardnessOptions options;
  EXPECT_EQ(NextHardShare(options, 0.5, 0.05), 0.5);
  EXPECT_EQ(NextHardShare(options, 0.5, 0.1), 0.5);
  EXPECT_EQ(NextHardShare(options, 0.5, 0.15), 0.5);
  EXPECT_GT(NextHardShare(options, 0.5, 0.049), 0.5);
  EXPECT_LT(NextHardShare(options, 0.5, 0.151), 0.5);
}

TEST(Hardness, KeepsToItsLimits) {
  HardnessOptions options;
  options.least_share = 0.2;
  options.most_share = 0.6;
  EXPECT_EQ(NextHardShare(options, 0.55, 0), 0.6);
  EXPECT_EQ(NextHardShare(options, 0.25, 1), 0.2);
  EXPECT_NEAR(NextHardShare(options, 0.4, 0), 0.5, 1e-12);  // most_step
}

TEST(Hardness, BringsTheActiveShareIntoTheBandAndHoldsIt) {
  for (const double hard_active : {0.1, 0.2, 0.4}) {
    HardnessOptions options;
    options.active_low = 0.06;
    options.active_high = 0.09;
    options.first_share = 0;
    HardnessController controller = Controller(options);
    const Philox noise(7);
    const auto shares = Simulate(&controller, options, 6000, [&](uint64_t cursor, double share) {
      const double mean = 0.01 * (1 - share) + hard_active * share;
      return mean * (0.5 + noise.Uniform(cursor));
    });
    EXPECT_LT(MeanOf(shares, 0, 100), options.active_low);
    for (size_t begin = 4000; begin < 6000; begin += 500) {
      EXPECT_GE(MeanOf(shares, begin, begin + 500), options.active_low * 0.95) << hard_active;
      EXPECT_LE(MeanOf(shares, begin, begin + 500), options.active_high * 1.05) << hard_active;
    }
  }
}

TEST(Hardness, FollowsAModelThatGetsBetter) {
  HardnessOptions options;
  options.first_share = 0.1;
  HardnessController controller = Controller(options);
  const auto shares = Simulate(&controller, options, 20000, [](uint64_t cursor, double share) {
    const double skill = std::exp(-static_cast<double>(cursor) / 10000);
    return (0.02 + 0.5 * share) * skill;
  });
  EXPECT_GT(controller.hard_share(), 0.3);
  EXPECT_GE(MeanOf(shares, 18000, 20000), options.active_low * 0.9);
  EXPECT_LE(MeanOf(shares, 18000, 20000), options.active_high);
}

TEST(Hardness, OrderAndRepetitionOfReportsDoNotMatter) {
  HardnessOptions options;
  options.window = 40;
  HardnessController in_order = Controller(options), shuffled = Controller(options);
  const auto active = [](uint64_t cursor) { return cursor < 400 ? 0.01 : 0.5; };
  for (uint64_t window = 0; window < 20; ++window) {
    const KeyedPermutation order(40, window);
    for (uint64_t i = 0; i < 40; ++i) {
      in_order.Report(window * 40 + i, active(window * 40 + i));
      shuffled.Report(window * 40 + order(i), active(window * 40 + i));
      shuffled.Report(window * 40 + order(i), 0.9);  // too late
    }
  }
  ASSERT_EQ(in_order.decisions().size(), shuffled.decisions().size());
  ASSERT_GT(in_order.decisions().size(), 3u);
  for (size_t i = 0; i < in_order.decisions().size(); ++i) {
    EXPECT_EQ(in_order.decisions()[i].SerializeAsString(), shuffled.decisions()[i].SerializeAsString());
  }
}

TEST(Hardness, DecisionsHoldOnlyFromCursorsThatNobodyHasReported) {
  HardnessOptions options;
  options.window = 10;
  options.lead = 25;
  HardnessController controller = Controller(options);
  for (uint64_t cursor = 0; cursor < 500; ++cursor) {
    const auto decision = controller.Report(cursor, 0);
    if (!decision.has_value()) continue;
    EXPECT_GT(decision->from_cursor(), cursor + 24);
  }
  uint64_t before = 0;
  for (const v1::HardnessDecision& decision : controller.decisions()) {
    EXPECT_GT(decision.from_cursor(), before);
    EXPECT_EQ(decision.active_share(), 0);
    before = decision.from_cursor();
  }
}

TEST(Hardness, LooksOnlyAtWhatCameAfterTheLastDecision) {
  HardnessOptions options;
  options.window = 10;
  options.lead = 15;
  HardnessController controller = Controller(options);
  // Window 0 leads to a decision from 25 on; windows 1 and 2 begin before it.
  std::vector<uint64_t> judged_at;
  for (uint64_t cursor = 0; cursor < 60; ++cursor) {
    if (controller.Report(cursor, 0).has_value()) judged_at.push_back(cursor);
  }
  EXPECT_EQ(judged_at, (std::vector<uint64_t>{9, 39}));
}

TEST(Hardness, MissingReportsDoNotHoldItUp) {
  HardnessOptions options;
  options.window = 10;
  HardnessController controller = Controller(options);
  for (uint64_t cursor = 0; cursor < 9; ++cursor) EXPECT_FALSE(controller.Report(cursor, 0).has_value());
  EXPECT_FALSE(controller.Report(10, 0).has_value());
  const auto decision = controller.Report(20, 0);  // two windows on: nine of ten are enough
  ASSERT_TRUE(decision.has_value());
  EXPECT_EQ(decision->from_cursor(), 21 + options.lead);  // not for what has been trained on
  HardnessController sparse = Controller(options);
  for (uint64_t cursor = 0; cursor < 400; cursor += 4) EXPECT_FALSE(sparse.Report(cursor, 0).has_value());
}

TEST(Hardness, GoesOnFromItsDecisions) {
  HardnessOptions options;
  HardnessController whole = Controller(options);
  for (uint64_t cursor = 0; cursor < 2000; ++cursor) whole.Report(cursor, 0.01);
  HardnessController first = Controller(options);
  for (uint64_t cursor = 0; cursor < 1000; ++cursor) first.Report(cursor, 0.01);
  HardnessController second = Controller(options, first.decisions());
  EXPECT_EQ(second.hard_share(), first.hard_share());
  for (uint64_t cursor = 0; cursor < 2000; ++cursor) second.Report(cursor, 0.01);
  ASSERT_EQ(second.decisions().size(), whole.decisions().size());
  EXPECT_EQ(second.decisions().back().SerializeAsString(), whole.decisions().back().SerializeAsString());
}

TEST(Hardness, IgnoresWhatIsNoShare) {
  HardnessOptions options;
  options.window = 1;
  HardnessController controller = Controller(options);
  EXPECT_FALSE(controller.Report(0, std::nan("")).has_value());
  EXPECT_FALSE(controller.Report(0, -1).has_value());
  EXPECT_FALSE(controller.Report(0, 2).has_value());
  EXPECT_TRUE(controller.Report(0, 0).has_value());
}

TEST(Hardness, RefusesOptionsThatMakeNoSense) {
  const auto error = [](const std::function<void(HardnessOptions*)>& change) {
    HardnessOptions options;
    change(&options);
    const absl::Status status = HardnessController::Make(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(error([](HardnessOptions* o) { o->active_low = 0; }), HasSubstr("active_low"));
  EXPECT_THAT(error([](HardnessOptions* o) { o->active_high = 0.01; }), HasSubstr("active_high"));
  EXPECT_THAT(error([](HardnessOptions* o) { o->least_share = 0.9; }), HasSubstr("least_share"));
  EXPECT_THAT(error([](HardnessOptions* o) { o->most_share = 1.1; }), HasSubstr("most_share"));
  EXPECT_THAT(error([](HardnessOptions* o) { o->first_share = 0.9; }), HasSubstr("first_share"));
  EXPECT_THAT(error([](HardnessOptions* o) { o->most_step = 0; }), HasSubstr("most_step"));
  EXPECT_THAT(error([](HardnessOptions* o) { o->window = 0; }), HasSubstr("window"));
}

}  // namespace
}  // namespace doppel
