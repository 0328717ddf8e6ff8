#include "trainer/train/collapse_detector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace doppel {
namespace {

using ::testing::HasSubstr;

CollapseOptions Options() {
  CollapseOptions options;
  options.collapsed_loss = 0.693;
  options.patience = 3;
  options.repeat = 2;
  return options;
}

LossStatistics Collapsed() {
  LossStatistics s;
  s.loss = 0.6931;
  s.triplets = 100;
  s.d_ap.p100 = 0.001;
  s.d_an.p100 = 0.002;
  s.norm.p100 = 1;
  return s;
}

TEST(CollapseDetectorTest, WarnsAfterItsPatienceAndSaysWhatToDo) {
  CollapseDetector detector(Options());
  EXPECT_FALSE(detector.Observe(Collapsed()).has_value());
  EXPECT_FALSE(detector.Observe(Collapsed()).has_value());
  const auto warning = detector.Observe(Collapsed());
  ASSERT_TRUE(warning.has_value());
  EXPECT_THAT(*warning, HasSubstr("learning rate"));
  EXPECT_THAT(*warning, HasSubstr("warm-up"));
}

TEST(CollapseDetectorTest, RepeatsNowAndThen) {
  CollapseDetector detector(Options());
  int warnings = 0;
  for (int i = 0; i < 7; ++i) warnings += detector.Observe(Collapsed()).has_value();
  EXPECT_EQ(warnings, 3);  // at steps 3, 5, 7
}

TEST(CollapseDetectorTest, OneGoodStepStartsTheCountAnew) {
  CollapseDetector detector(Options());
  LossStatistics good = Collapsed();
  good.d_an.p100 = 0.8;
  for (const LossStatistics& s : {Collapsed(), Collapsed(), good, Collapsed(), Collapsed()}) {
    EXPECT_FALSE(detector.Observe(s).has_value());
  }
  EXPECT_TRUE(detector.Observe(Collapsed()).has_value());
}

TEST(CollapseDetectorTest, TheSameLossWithWideDistancesIsNoCollapse) {
  CollapseDetector detector(Options());
  LossStatistics s = Collapsed();
  s.d_ap.p100 = 1.2;
  s.d_an.p100 = 1.2;
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(detector.Observe(s).has_value());
}

TEST(CollapseDetectorTest, LossesThatCannotCollapseAreLeftInPeace) {
  CollapseOptions options = Options();
  options.collapsed_loss.reset();
  CollapseDetector detector(options);
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(detector.Observe(Collapsed()).has_value());
}

TEST(CollapseDetectorTest, MeasuresDistancesAgainstTheNorm) {
  CollapseDetector detector(Options());
  LossStatistics s = Collapsed();
  s.norm.p100 = 100;
  s.d_ap.p100 = s.d_an.p100 = 1.5;  // 1.5 % of the norm
  EXPECT_FALSE(detector.Observe(s).has_value());
  EXPECT_FALSE(detector.Observe(s).has_value());
  EXPECT_TRUE(detector.Observe(s).has_value());
}

}  // namespace
}  // namespace doppel
