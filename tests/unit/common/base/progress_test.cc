#include "common/base/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class ProgressTest : public testing::Test {
 protected:
  ProgressTest() : out_(std::tmpfile()) {}
  ~ProgressTest() override { std::fclose(out_); }

  Progress::Options Options(uint64_t total) {
    Progress::Options options;
    options.label = "import";
    options.unit = "samples";
    options.total = total;
    options.out = out_;
    return options;
  }

  std::vector<std::string> Lines() {
    std::fflush(out_);
    std::rewind(out_);
    std::string text;
    for (int c = std::fgetc(out_); c != EOF; c = std::fgetc(out_)) text.push_back(static_cast<char>(c));
    return absl::StrSplit(text, '\n', absl::SkipEmpty());
  }

  ManualClock clock_;
  std::FILE* out_;
};

TEST_F(ProgressTest, SaysNothingOfShortWork) {
  {
    Progress progress(Options(10), clock_);
    progress.Add(5);
    clock_.Advance(absl::Seconds(1));
    progress.Add(5);
  }
  EXPECT_THAT(Lines(), IsEmpty());
}

TEST_F(ProgressTest, ShowsShareRateAndTimeLeft) {
  Progress progress(Options(100000), clock_);
  clock_.Advance(absl::Seconds(10));
  progress.Add(20000);
  EXPECT_THAT(Lines(), ElementsAre("import  20% 20 000/100 000 samples, 2 000/s, ETA 40s"));
}

TEST_F(ProgressTest, PlainLinesComeAtMostEveryFiveSeconds) {
  Progress progress(Options(1000), clock_);
  for (int second = 0; second < 20; ++second) {
    progress.Add(1);
    clock_.Advance(absl::Seconds(1));
  }
  EXPECT_THAT(Lines(), SizeIs(4));  // at 2, 7, 12 and 17 s
}

TEST_F(ProgressTest, FinishWritesALastLineOnce) {
  Progress progress(Options(10), clock_);
  clock_.Advance(absl::Seconds(65));
  progress.Add(10);
  progress.Finish();
  progress.Finish();
  const std::vector<std::string> lines = Lines();
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_THAT(lines.back(), HasSubstr("100% 10/10 samples"));
  EXPECT_THAT(lines.back(), HasSubstr("1m05s"));
  EXPECT_THAT(lines.back(), Not(HasSubstr("ETA")));
}

TEST_F(ProgressTest, UnknownTotalShowsCountAlone) {
  Progress progress(Options(0), clock_);
  clock_.Advance(absl::Seconds(4));
  progress.Set(10);
  EXPECT_THAT(Lines(), ElementsAre("import 10 samples, 2.5/s, 4s"));
}

TEST_F(ProgressTest, NoteStandsBehindTheNumbers) {
  Progress progress(Options(0), clock_);
  progress.SetNote("loss 0.41");
  clock_.Advance(absl::Seconds(4));
  progress.Set(40);
  EXPECT_THAT(Lines(), ElementsAre(testing::EndsWith(", loss 0.41")));
}

TEST_F(ProgressTest, QuietSaysNothing) {
  Progress::Options options = Options(10);
  options.quiet = true;
  {
    Progress progress(options, clock_);
    clock_.Advance(absl::Seconds(100));
    progress.Add(10);
  }
  EXPECT_THAT(Lines(), IsEmpty());
}

TEST_F(ProgressTest, MoreThanTheTotalIsStillAtMostHundredPercent) {
  Progress progress(Options(10), clock_);
  clock_.Advance(absl::Seconds(5));
  progress.Add(20);
  EXPECT_THAT(Lines(), ElementsAre(HasSubstr("100% 20/10")));
}

TEST_F(ProgressTest, SetTotalCountsFromThenOn) {
  Progress progress(Options(0), clock_);
  progress.SetTotal(40);
  clock_.Advance(absl::Seconds(5));
  progress.Add(10);
  EXPECT_THAT(Lines(), ElementsAre(HasSubstr("25% 10/40")));
}

TEST_F(ProgressTest, ThreadsAddUp) {
  Progress progress(Options(4000), clock_);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) progress.Add(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  clock_.Advance(absl::Seconds(10));
  progress.Finish();
  EXPECT_THAT(Lines(), ElementsAre(HasSubstr("4 000/4 000")));
}

TEST(FormatTest, Durations) {
  EXPECT_EQ(doppel::FormatDuration(absl::ZeroDuration()), "0s");
  EXPECT_EQ(doppel::FormatDuration(absl::Milliseconds(12999)), "12s");
  EXPECT_EQ(doppel::FormatDuration(absl::Seconds(200)), "3m20s");
  EXPECT_EQ(doppel::FormatDuration(absl::Minutes(62)), "1h02m");
  EXPECT_EQ(doppel::FormatDuration(absl::Hours(51)), "2d03h");
  EXPECT_EQ(doppel::FormatDuration(absl::Seconds(-3)), "0s");
  EXPECT_EQ(doppel::FormatDuration(absl::InfiniteDuration()), "-");
}

TEST(FormatTest, Bytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "1.0 kB");
  EXPECT_EQ(FormatBytes(1200000000), "1.2 GB");
  EXPECT_EQ(FormatBytes(999999), "1.0 MB");
  EXPECT_EQ(FormatBytes(~uint64_t{0}), "18.4 EB");
}

TEST(FormatTest, Counts) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(101740), "101 740");
  EXPECT_EQ(FormatCount(1000000), "1 000 000");
}

}  // namespace
}  // namespace doppel
