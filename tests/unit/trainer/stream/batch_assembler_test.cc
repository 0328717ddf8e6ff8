#include "trainer/stream/batch_assembler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/io/crc32c.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

// P = 4, K = 1; the part holds the samples [first, first + count).
v1::Batch Part(uint64_t cursor, uint32_t index, uint32_t parts, uint64_t first, uint64_t count) {
  v1::Batch batch;
  batch.set_cursor(cursor);
  batch.set_part_index(index);
  batch.set_part_count(parts);
  batch.set_identities_per_batch(4);
  batch.set_samples_per_identity(1);
  batch.set_payload(v1::PAYLOAD_KIND_DECODED);
  batch.mutable_image()->set_height(1);
  batch.mutable_image()->set_width(1);
  batch.mutable_image()->set_channels(1);
  for (uint64_t i = first; i < first + count; ++i) {
    batch.add_samples()->set_sample(i);
    batch.mutable_pixels()->push_back(static_cast<char>('a' + i));
  }
  return batch;
}

ReceivedBatch ReceivedPart(uint64_t cursor, uint32_t index, uint32_t parts, uint64_t first, uint64_t count) {
  return FromProto(Part(cursor, index, parts, first, count)).value();
}

TEST(BatchAssemblerTest, OnePartIsAWholeBatch) {
  BatchAssembler assembler(7);
  const auto batch = assembler.Add(ReceivedPart(7, 0, 1, 0, 4)).value();
  ASSERT_TRUE(batch.has_value());
  EXPECT_EQ(ToProto(*batch).SerializeAsString(), Part(7, 0, 1, 0, 4).SerializeAsString());
  EXPECT_EQ(assembler.next_cursor(), 8u);
}

TEST(BatchAssemblerTest, PartsAreJoinedInOrder) {
  BatchAssembler assembler(0);
  EXPECT_FALSE(assembler.Add(ReceivedPart(0, 0, 3, 0, 1)).value().has_value());
  EXPECT_FALSE(assembler.Add(ReceivedPart(0, 1, 3, 1, 2)).value().has_value());
  EXPECT_EQ(assembler.next_cursor(), 0u);
  const auto batch = assembler.Add(ReceivedPart(0, 2, 3, 3, 1)).value();
  ASSERT_TRUE(batch.has_value());
  EXPECT_EQ(ToProto(*batch).pixels(), "abcd");
  EXPECT_EQ(ToProto(*batch).SerializeAsString(), Part(0, 0, 1, 0, 4).SerializeAsString());
}

TEST(BatchAssemblerTest, BatchesFollowOneAnother) {
  BatchAssembler assembler(3);
  EXPECT_TRUE(assembler.Add(ReceivedPart(3, 0, 1, 0, 4)).value().has_value());
  EXPECT_TRUE(assembler.Add(ReceivedPart(4, 0, 1, 0, 4)).value().has_value());
}

TEST(BatchAssemblerTest, RefusesWhatDoesNotFollow) {
  const std::vector<std::vector<v1::Batch>> streams = {
      {Part(1, 0, 1, 0, 4)},                       // cursor too high
      {Part(0, 1, 2, 0, 4)},                       // part missing at the start
      {Part(0, 0, 3, 0, 1), Part(0, 2, 3, 1, 3)},  // part missing inside
      {Part(0, 0, 2, 0, 2), Part(0, 0, 2, 0, 2)},  // part twice
      {Part(0, 0, 2, 0, 2), Part(1, 0, 1, 0, 4)},  // batch left unfinished
      {Part(0, 0, 2, 0, 2), Part(0, 1, 3, 2, 2)},  // number of parts changed
      {Part(0, 0, 0, 0, 4)},                       // no parts at all
      {Part(0, 0, 1, 0, 3)},                       // a sample short
      {Part(0, 0, 1, 0, 4), Part(0, 0, 1, 0, 4)},  // batch twice
  };
  for (size_t i = 0; i < streams.size(); ++i) {
    BatchAssembler assembler(0);
    absl::Status status;
    for (const v1::Batch& part : streams[i]) status = assembler.Add(FromProto(part).value()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << i;
  }
}

TEST(BatchAssemblerTest, RefusesAGenerationThatChangesInside) {
  BatchAssembler assembler(0);
  ASSERT_TRUE(assembler.Add(ReceivedPart(0, 0, 2, 0, 2)).ok());
  v1::Batch second = Part(0, 1, 2, 2, 2);
  second.set_generation(5);
  EXPECT_THAT(std::string(assembler.Add(FromProto(second).value()).status().message()),
              HasSubstr("generation"));
}

TEST(BatchAssemblerTest, KeepsToItsStride) {
  BatchAssembler assembler(3, 4);
  EXPECT_TRUE(assembler.Add(ReceivedPart(3, 0, 1, 0, 4)).value().has_value());
  EXPECT_TRUE(assembler.Add(ReceivedPart(7, 0, 1, 0, 4)).value().has_value());
  EXPECT_FALSE(assembler.Add(ReceivedPart(8, 0, 1, 0, 4)).ok());
}

TEST(BatchAssemblerTest, TakesAnyCursorWhereTheServerChooses) {
  BatchAssembler assembler(0, 0);
  EXPECT_TRUE(assembler.Add(ReceivedPart(9, 0, 1, 0, 4)).value().has_value());
  EXPECT_FALSE(assembler.Add(ReceivedPart(2, 0, 2, 0, 2)).value().has_value());
  EXPECT_FALSE(assembler.Add(ReceivedPart(3, 1, 2, 2, 2)).ok());  // a part of another batch
}

}  // namespace
}  // namespace doppel
