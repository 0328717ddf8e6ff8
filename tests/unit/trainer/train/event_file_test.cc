#include "trainer/train/event_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

std::vector<v1::TensorBoardEvent> EventsOf(FileSystem& fs, const std::string& path) {
  const std::string data = fs.ReadFile(path).value();
  std::vector<v1::TensorBoardEvent> events;
  size_t position = 0;
  while (true) {
    const auto record = ReadRecord(data, &position);
    if (!record.ok()) {
      EXPECT_TRUE(absl::IsOutOfRange(record.status())) << record.status();
      return events;
    }
    EXPECT_TRUE(events.emplace_back().ParseFromString(*record));
  }
}

// Steps of all summaries, file by file in the order of their names.
std::vector<int64_t> StepsOf(FileSystem& fs, const std::string& directory) {
  std::vector<int64_t> steps;
  const std::vector<std::string> names = fs.List(directory).value();
  for (const std::string& name : names) {
    for (const auto& event : EventsOf(fs, directory + "/" + name)) {
      if (event.has_summary()) steps.push_back(event.step());
    }
  }
  return steps;
}

void WriteSteps(EventLog& log, uint64_t from, uint64_t to) {
  for (uint64_t step = from; step <= to; ++step) {
    log.AddScalar("loss", 1.0 / static_cast<double>(step));
    ASSERT_TRUE(log.Write(step, kNow).ok());
  }
}

TEST(RecordTest, BytesAreThoseOfTheFormat) {
  // Length 3, masked CRC32C of the eight bytes before, "abc", masked CRC32C of "abc" (0x364b3fb7).
  const std::string record = FrameRecord("abc");
  ASSERT_EQ(record.size(), 19U);
  EXPECT_EQ(record.substr(0, 8), std::string("\x03\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, 3), "abc");
  const uint32_t crc = 0x364b3fb7U;
  const uint32_t masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(static_cast<uint8_t>(record[15 + static_cast<size_t>(i)]), masked >> (8 * i) & 0xff);
  }
}

TEST(RecordTest, RoundTripsAndEnds) {
  const std::string file = FrameRecord("one") + FrameRecord("") + FrameRecord(std::string(100000, 'x'));
  size_t position = 0;
  EXPECT_EQ(ReadRecord(file, &position).value(), "one");
  EXPECT_EQ(ReadRecord(file, &position).value(), "");
  EXPECT_EQ(ReadRecord(file, &position)->size(), 100000U);
  EXPECT_TRUE(absl::IsOutOfRange(ReadRecord(file, &position).status()));
  EXPECT_EQ(position, file.size());
}

TEST(RecordTest, EveryCutAndEveryFlippedBitIsSeen) {
  const std::string whole = FrameRecord("payload");
  for (size_t n = 1; n < whole.size(); ++n) {
    size_t position = 0;
    EXPECT_TRUE(absl::IsDataLoss(ReadRecord(whole.substr(0, n), &position).status())) << n;
    EXPECT_EQ(position, 0U);
  }
  for (size_t i = 0; i < whole.size() * 8; ++i) {
    std::string flipped = whole;
    flipped[i / 8] = static_cast<char>(flipped[i / 8] ^ (1 << (i % 8)));
    size_t position = 0;
    EXPECT_FALSE(ReadRecord(flipped, &position).ok()) << i;
  }
}

TEST(EventLogTest, AFreshFileSaysItsVersionAndThenTheSteps) {
  auto fs = MakeInMemoryFileSystem();
  auto log = EventLog::Open(*fs, "tb", 0, kNow);
  ASSERT_TRUE(log.ok()) << log.status();
  WriteSteps(**log, 1, 2);
  const std::vector<std::string> names = fs->List("tb").value();
  ASSERT_EQ(names.size(), 1U);
  EXPECT_TRUE(absl::StartsWith(names[0], "events.out.tfevents.1700000000."));
  const auto events = EventsOf(*fs, "tb/" + names[0]);
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_EQ(events[1].step(), 1);
  EXPECT_EQ(events[1].wall_time(), 1700000000);
  EXPECT_EQ(events[2].summary().value(0).tag(), "loss");
  EXPECT_EQ(events[2].summary().value(0).simple_value(), 0.5F);
}

TEST(EventLogTest, NothingAddedIsNothingWritten) {
  auto fs = MakeInMemoryFileSystem();
  auto log = EventLog::Open(*fs, "tb", 0, kNow).value();
  ASSERT_TRUE(log->Write(5, kNow).ok());
  EXPECT_TRUE(StepsOf(*fs, "tb").empty());
}

TEST(EventLogTest, AResumedRunHasEveryStepOnceAndTellsReadersToForget) {
  auto fs = MakeInMemoryFileSystem();
  WriteSteps(*EventLog::Open(*fs, "tb", 0, kNow).value(), 1, 9);
  WriteSteps(*EventLog::Open(*fs, "tb", 6, kNow).value(), 6, 8);
  EXPECT_THAT(StepsOf(*fs, "tb"), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  const std::vector<std::string> names = fs->List("tb").value();
  ASSERT_EQ(names.size(), 2U);
  const auto events = EventsOf(*fs, "tb/" + names[1]);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_EQ(events[1].session_log().status(), v1::TensorBoardSessionLog::STATUS_START);
  EXPECT_EQ(events[1].step(), 6);
}

TEST(EventLogTest, AThirdStartCutsTheSecondAndTheFirst) {
  auto fs = MakeInMemoryFileSystem();
  WriteSteps(*EventLog::Open(*fs, "tb", 0, kNow).value(), 1, 9);
  WriteSteps(*EventLog::Open(*fs, "tb", 6, kNow).value(), 6, 12);
  WriteSteps(*EventLog::Open(*fs, "tb", 4, kNow).value(), 4, 5);
  EXPECT_THAT(StepsOf(*fs, "tb"), ElementsAre(1, 2, 3, 4, 5));
}

TEST(EventLogTest, ATornEndIsCutOff) {
  auto fs = MakeInMemoryFileSystem();
  WriteSteps(*EventLog::Open(*fs, "tb", 0, kNow).value(), 1, 3);
  const std::string path = "tb/" + fs->List("tb")->front();
  ASSERT_TRUE(fs->Truncate(path, fs->Size(path).value() - 5).ok());
  WriteSteps(*EventLog::Open(*fs, "tb", 3, kNow).value(), 3, 3);
  EXPECT_THAT(StepsOf(*fs, "tb"), ElementsAre(1, 2, 3));
}

TEST(EventLogTest, NamesSortByAgeEvenIfTheClockGoesBack) {
  auto fs = MakeInMemoryFileSystem();
  WriteSteps(*EventLog::Open(*fs, "tb", 0, kNow).value(), 1, 1);
  WriteSteps(*EventLog::Open(*fs, "tb", 2, kNow - absl::Hours(5)).value(), 2, 2);
  WriteSteps(*EventLog::Open(*fs, "tb", 3, kNow).value(), 3, 3);
  EXPECT_THAT(StepsOf(*fs, "tb"), ElementsAre(1, 2, 3));
}

TEST(EventLogTest, ForeignFilesAreLeftAlone) {
  auto fs = MakeInMemoryFileSystem();
  ASSERT_TRUE(fs->MakeDirectories("tb").ok());
  auto note = fs->Create("tb/note.txt").value();
  ASSERT_TRUE(note->Append("mine").ok());
  ASSERT_TRUE(EventLog::Open(*fs, "tb", 0, kNow).ok());
  EXPECT_EQ(fs->ReadFile("tb/note.txt").value(), "mine");
}

TEST(EventLogTest, HistogramsAndImagesTravelWhole) {
  auto fs = MakeInMemoryFileSystem();
  auto log = EventLog::Open(*fs, "tb", 0, kNow).value();
  const std::vector<float> values = {-1, 0.5, 0.5, 2};
  log->AddHistogram("weights", ComputeHistogram(values));
  log->AddHistogram("none", ComputeHistogram({}));
  log->AddImage("hard", 2, 3, 1, "PNG bytes");
  ASSERT_TRUE(log->Write(7, kNow).ok());
  const auto events = EventsOf(*fs, "tb/" + fs->List("tb")->front());
  ASSERT_EQ(events.size(), 2U);
  const v1::TensorBoardSummary& summary = events[1].summary();
  ASSERT_EQ(summary.value_size(), 2);
  const v1::TensorBoardHistogram& histo = summary.value(0).histo();
  EXPECT_EQ(histo.num(), 4);
  EXPECT_EQ(histo.sum(), 2);
  EXPECT_EQ(histo.bucket_limit_size(), histo.bucket_size());
  EXPECT_EQ(summary.value(1).image().width(), 3);
  EXPECT_EQ(summary.value(1).image().encoded_image_string(), "PNG bytes");
}

TEST(HistogramTest, CountsEveryFiniteValueOnce) {
  const std::vector<float> values = {0, -0.5F, 3, 3, 1e30F, INFINITY, NAN, 1e-20F};
  const Histogram histogram = ComputeHistogram(values);
  EXPECT_EQ(histogram.count, 6U);
  EXPECT_EQ(histogram.min, -0.5);
  EXPECT_EQ(histogram.max, static_cast<double>(1e30F));
  uint64_t counted = 0;
  for (const uint64_t bucket : histogram.buckets) counted += bucket;
  EXPECT_EQ(counted, 6U);
  for (size_t i = 1; i < histogram.limits.size(); ++i) {
    EXPECT_LT(histogram.limits[i - 1], histogram.limits[i]);
  }
}

TEST(HistogramTest, AValueLiesBetweenItsEdges) {
  for (const float value : {-7.0F, -1e-5F, 0.0F, 1e-5F, 0.3F, 1.0F, 123.0F}) {
    const Histogram histogram = ComputeHistogram(absl::MakeConstSpan(&value, 1));
    ASSERT_EQ(histogram.limits.size(), 2U) << value;
    EXPECT_EQ(histogram.buckets[0], 0U);
    EXPECT_EQ(histogram.buckets[1], 1U);
    EXPECT_LT(histogram.limits[0], value);
    EXPECT_GE(histogram.limits[1], value);
  }
}

TEST(HistogramTest, NothingIsNothing) {
  const float nan = NAN;
  EXPECT_EQ(ComputeHistogram({}).count, 0U);
  EXPECT_TRUE(ComputeHistogram(absl::MakeConstSpan(&nan, 1)).limits.empty());
}

}  // namespace
}  // namespace doppel
