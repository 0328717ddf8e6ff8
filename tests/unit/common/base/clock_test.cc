#include "common/base/clock.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {

TEST(ClockTest, RealTimeDoesNotRunBackwards) {
  const absl::Time first = Clock::Real().Now();
  EXPECT_GE(Clock::Real().Now(), first);
  EXPECT_GT(first, absl::FromUnixSeconds(1577836800));  // 2020
}

TEST(ClockTest, ThereIsOneRealClock) { EXPECT_EQ(&Clock::Real(), &Clock::Real()); }

TEST(ClockTest, SteadyTimeGoesOn) {
  const absl::Time first = Clock::Steady().Now();
  absl::Time later = Clock::Steady().Now();
  while (later == first) later = Clock::Steady().Now();
  EXPECT_GT(later, first);
}

TEST(ClockTest, ManualClockStandsUntilTold) {
  ManualClock clock(absl::FromUnixSeconds(10));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(10));
  clock.Advance(absl::Seconds(5));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(15));
}

}  // namespace
}  // namespace doppel
