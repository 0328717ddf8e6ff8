#include "common/io/record_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "common/io/fault_file_system.h"
#include "common/io/memory_file_system.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using Fault = FaultInjectingFileSystem::Fault;

constexpr char kPath[] = "/journal";

class RecordFileTest : public testing::Test {
 protected:
  std::unique_ptr<RecordWriter> Open() {
    auto writer = RecordWriter::Open(fs_, kPath);
    EXPECT_TRUE(writer.ok()) << writer.status();
    return std::move(writer).value();
  }
  void Write(const std::vector<std::string>& records) {
    const std::unique_ptr<RecordWriter> writer = Open();
    for (const std::string& record : records) ASSERT_TRUE(writer->Append(record).ok());
    ASSERT_TRUE(writer->Sync().ok());
  }
  RecordFileContents Read() {
    auto contents = ReadRecordFile(fs_, kPath);
    EXPECT_TRUE(contents.ok()) << contents.status();
    return contents.ok() ? *contents : RecordFileContents();
  }
  std::string Bytes() { return *fs_.ReadFile(kPath); }
  void SetBytes(absl::string_view bytes) {
    auto file = std::move(fs_.Create(kPath)).value();
    ASSERT_TRUE(file->Append(bytes).ok());
  }

  InMemoryFileSystem fs_;
};

TEST_F(RecordFileTest, RoundTrip) {
  const std::vector<std::string> records = {"one", "", std::string(100000, 'x'), std::string("\0\1", 2)};
  Write(records);
  const RecordFileContents contents = Read();
  EXPECT_THAT(contents.records, ElementsAreArray(records));
  EXPECT_FALSE(contents.torn_tail);
  EXPECT_EQ(contents.valid_bytes, Bytes().size());
}

TEST_F(RecordFileTest, LiteralBytes) {
  Write({"a"});
  EXPECT_EQ(Bytes(), std::string("DPLREC01\x01\0\0\0\xF8\x09\xCE\xEE"
                                 "a",
                                 17));
}

TEST_F(RecordFileTest, ReopenAppends) {
  Write({"one"});
  Write({"two"});
  EXPECT_THAT(Read().records, ElementsAre("one", "two"));
}

TEST_F(RecordFileTest, MissingFileIsNotFound) {
  EXPECT_EQ(ReadRecordFile(fs_, kPath).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(RecordFileTest, EmptyFileHasNoRecordsAndCanBeAppendedTo) {
  SetBytes("");
  EXPECT_THAT(Read().records, IsEmpty());
  EXPECT_FALSE(Read().torn_tail);
  Write({"one"});
  EXPECT_THAT(Read().records, ElementsAre("one"));
}

TEST_F(RecordFileTest, ForeignFileIsRefusedAndLeftAlone) {
  SetBytes("not ours at all");
  EXPECT_EQ(ReadRecordFile(fs_, kPath).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(RecordWriter::Open(fs_, kPath).ok());
  EXPECT_EQ(Bytes(), "not ours at all");
}

TEST_F(RecordFileTest, TornTailAtEveryByteLengthIsRepaired) {
  const std::vector<std::string> records = {"first", "", "the third record", std::string(50, '\0')};
  Write(records);
  const std::string whole = Bytes();
  std::vector<size_t> ends = {8};
  for (const std::string& record : records) ends.push_back(ends.back() + 8 + record.size());
  for (size_t length = 0; length <= whole.size(); ++length) {
    SCOPED_TRACE(length);
    SetBytes(whole.substr(0, length));
    std::vector<std::string> expected;
    while (expected.size() < records.size() && ends[expected.size() + 1] <= length) {
      expected.push_back(records[expected.size()]);
    }
    const RecordFileContents contents = Read();
    EXPECT_THAT(contents.records, ElementsAreArray(expected));
    const uint64_t valid = length < 8 ? 0 : ends[expected.size()];
    EXPECT_EQ(contents.valid_bytes, valid);
    EXPECT_EQ(contents.torn_tail, length != valid);
    Write({"new"});
    expected.emplace_back("new");
    EXPECT_THAT(Read().records, ElementsAreArray(expected));
    EXPECT_FALSE(Read().torn_tail);
  }
}

TEST_F(RecordFileTest, DamageOfAnyBitBeforeTheTailIsDataLoss) {
  Write({"first", "second", "third"});
  const std::string whole = Bytes();
  const size_t last = whole.size() - 8 - 5;
  for (size_t bit = 0; bit < last * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    SetBytes(damaged);
    EXPECT_EQ(ReadRecordFile(fs_, kPath).status().code(), absl::StatusCode::kDataLoss) << "bit " << bit;
    EXPECT_FALSE(RecordWriter::Open(fs_, kPath).ok());
    EXPECT_EQ(Bytes(), damaged);
  }
}

TEST_F(RecordFileTest, DamagedPayloadOfTheLastRecordIsDataLoss) {
  Write({"first", "last"});
  std::string damaged = Bytes();
  damaged.back() = '!';
  SetBytes(damaged);
  const absl::Status status = ReadRecordFile(fs_, kPath).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/journal: record 1: damaged record at byte 21"));
}

TEST_F(RecordFileTest, PagesThatWereNeverWrittenAreATornTail) {
  Write({"first"});
  const std::string good = Bytes();
  Write({std::string(10000, 'x')});
  std::string holed = Bytes();
  for (size_t i = 8192; i < holed.size(); ++i) holed[i] = '\0';
  SetBytes(holed);
  EXPECT_TRUE(Read().torn_tail);
  EXPECT_EQ(Read().valid_bytes, good.size());
  SetBytes(good + std::string(300, '\0'));
  EXPECT_TRUE(Read().torn_tail);
  EXPECT_THAT(Read().records, ElementsAre("first"));
}

TEST_F(RecordFileTest, SyncedRecordsSurviveACrash) {
  const std::unique_ptr<RecordWriter> writer = Open();
  ASSERT_TRUE(writer->Append("kept").ok());
  ASSERT_TRUE(writer->Sync().ok());
  ASSERT_TRUE(writer->Append("lost").ok());
  fs_.DropUnsynced();
  EXPECT_THAT(Read().records, ElementsAre("kept"));
}

TEST_F(RecordFileTest, AnEmptyNewFileSurvivesACrash) {
  Open();
  fs_.DropUnsynced();
  EXPECT_THAT(Read().records, IsEmpty());
  EXPECT_EQ(Read().valid_bytes, 8U);
}

TEST_F(RecordFileTest, AfterAFailedAppendTheWriterStaysShut) {
  FaultInjectingFileSystem faulty(fs_);
  auto writer = std::move(RecordWriter::Open(faulty, kPath)).value();
  ASSERT_TRUE(writer->Append("good").ok());
  Fault fault;
  fault.call = faulty.calls();
  fault.error = FaultInjectingFileSystem::Error::kNoSpace;
  fault.short_write = 0.5;
  faulty.Inject(fault);
  EXPECT_EQ(writer->Append("bad").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(writer->Append("worse").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(writer->Sync().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Read().torn_tail);
  Write({"again"});
  EXPECT_THAT(Read().records, ElementsAre("good", "again"));
}

// Whatever call fails for good, and whether or not the machine goes down with it: acknowledged records are
// there.
TEST_F(RecordFileTest, NoFaultLosesAcknowledgedRecords) {
  for (uint64_t call = 0; call < 12; ++call) {
    for (const bool power_cut : {false, true}) {
      SCOPED_TRACE(call);
      InMemoryFileSystem memory;
      FaultInjectingFileSystem faulty(memory);
      Fault fault;
      fault.call = call;
      fault.lasting = FaultInjectingFileSystem::Lasting::kForGood;
      fault.short_write = 0.7;
      faulty.Inject(fault);
      std::vector<std::string> acknowledged;
      auto writer = RecordWriter::Open(faulty, kPath);
      for (int i = 0; writer.ok() && i < 4; ++i) {
        const std::string record = "record " + std::to_string(i);
        if (!(*writer)->Append(record).ok() || !(*writer)->Sync().ok()) break;
        acknowledged.push_back(record);
      }
      if (power_cut) memory.DropUnsynced();
      auto again = RecordWriter::Open(memory, kPath);
      ASSERT_TRUE(again.ok()) << again.status();
      const auto contents = ReadRecordFile(memory, kPath);
      ASSERT_TRUE(contents.ok()) << contents.status();
      ASSERT_GE(contents->records.size(), acknowledged.size());
      for (size_t i = 0; i < acknowledged.size(); ++i) EXPECT_EQ(contents->records[i], acknowledged[i]);
    }
  }
}

TEST_F(RecordFileTest, WorksOnDisk) {
  const std::string path = testing::TempDir() + "/doppel_record_file_test";
  PosixFileSystem().Remove(path).IgnoreError();
  for (const char* record : {"one", "two"}) {
    auto writer = RecordWriter::Open(PosixFileSystem(), path);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->Append(record).ok());
    ASSERT_TRUE((*writer)->Sync().ok());
  }
  EXPECT_THAT(ReadRecordFile(PosixFileSystem(), path)->records, ElementsAre("one", "two"));
  EXPECT_TRUE(PosixFileSystem().Remove(path).ok());
}

}  // namespace
}  // namespace doppel
