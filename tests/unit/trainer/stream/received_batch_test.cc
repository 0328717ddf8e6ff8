#include "trainer/stream/received_batch.h"

#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include "tests/unit/trainer/stream/fake_batch_service.h"
#include "trainer/stream/acknowledgements.h"
#include "trainer/stream/batch_verifier.h"

namespace doppel {
namespace {

v1::Batch WireTestBatch(v1::PayloadKind payload) {
  v1::Batch batch = MakeTestBatch(77);
  batch.set_subspace(-1);
  batch.set_mean_similarity(0.5);
  batch.set_payload(payload);
  for (v1::Sample& sample : *batch.mutable_samples()) {
    if (payload != v1::PAYLOAD_KIND_ENCODED) sample.clear_encoded();
    if (payload == v1::PAYLOAD_KIND_REFERENCE) {
      sample.mutable_reference()->set_path("/data/a long enough path.tar");
      sample.mutable_reference()->set_offset(uint64_t{1} << 40);
      sample.mutable_reference()->set_size(300);
    }
    if (payload == v1::PAYLOAD_KIND_DECODED) {
      const std::string pixels(6, static_cast<char>(sample.sample()));
      sample.set_pixels_crc32c(Crc32c(pixels));
      batch.mutable_pixels()->append(pixels);
    }
  }
  if (payload == v1::PAYLOAD_KIND_DECODED) {
    batch.mutable_image()->set_height(2);
    batch.mutable_image()->set_width(1);
    batch.mutable_image()->set_channels(3);
  }
  return batch;
}

// The same bytes in pieces of `size`.
MessageBytes Cut(const std::string& bytes, size_t size) {
  auto owner = std::make_shared<const std::string>(bytes);
  MessageBytes message;
  for (size_t i = 0; i < bytes.size(); i += size) {
    message.pieces.push_back(absl::string_view(*owner).substr(i, size));
  }
  message.owner = owner;
  return message;
}

class ReceivedBatchTest : public ::testing::TestWithParam<v1::PayloadKind> {};

TEST_P(ReceivedBatchTest, SaysWhatProtobufSaysHoweverItIsCut) {
  const v1::Batch batch = WireTestBatch(GetParam());
  const std::string bytes = batch.SerializeAsString();
  for (size_t size = 1; size <= bytes.size(); ++size) {
    const auto received = ParseBatch(Cut(bytes, size), {0, 0, bytes.size()});
    ASSERT_TRUE(received.ok()) << size;
    EXPECT_EQ(ToProto(*received).SerializeAsString(), bytes) << size;
    EXPECT_TRUE(DamagedSamples(*received).empty());
  }
}

TEST_P(ReceivedBatchTest, TruncatedOrFlippedBytesNeverLeadOutside) {
  const google::protobuf::LogSilencer silence;  // a flipped bit may make a string that is not UTF-8
  const std::string bytes = WireTestBatch(GetParam()).SerializeAsString();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto received = ParseBatch(Cut(bytes.substr(0, size), 7), {0, 0, size});
    if (received.ok()) ToProto(*received);
  }
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const auto received = ParseBatch(Cut(flipped, 11), {0, 0, bytes.size()});
    if (received.ok()) DamagedSamples(*received);
  }
}
INSTANTIATE_TEST_SUITE_P(Payloads, ReceivedBatchTest,
                         ::testing::Values(v1::PAYLOAD_KIND_ENCODED, v1::PAYLOAD_KIND_REFERENCE,
                                           v1::PAYLOAD_KIND_DECODED));

TEST(ReceivedBatchFieldsTest, UnknownFieldsArePassedOver) {
  std::string bytes = MakeTestBatch(5).SerializeAsString();
  bytes += std::string("\x92\x03\x02hi", 5) + std::string("\x98\x03\x07", 3);  // fields 50 and 51
  EXPECT_EQ(ToProto(ParseBatch(MessageOf(bytes), {0, 0, bytes.size()}).value()).samples_size(), 2);
}

TEST(ReceivedBatchFieldsTest, RoomIsForWhatTheHeaderSaysAndNeverForNonsense) {
  v1::Batch batch = MakeTestBatch(5);
  batch.set_identities_per_batch(1);
  batch.set_samples_per_identity(static_cast<uint32_t>(batch.samples_size()));
  batch.set_part_count(1);
  EXPECT_EQ(FromProto(batch)->samples.capacity(), static_cast<size_t>(batch.samples_size()));
  for (const uint32_t nonsense : {uint32_t{1000}, UINT32_MAX}) {
    batch.set_identities_per_batch(nonsense);
    batch.set_samples_per_identity(nonsense);
    batch.set_part_count(nonsense);
    EXPECT_LE(FromProto(batch)->samples.capacity(), size_t{1} << 16);
    batch.set_part_index(nonsense);
    EXPECT_LE(FromProto(batch)->samples.capacity(), batch.ByteSizeLong());
    batch.clear_part_index();
  }
}

TEST(ReceivedBatchFieldsTest, WholeSamplesAreViewsOfTheMessage) {
  const std::string bytes = MakeTestBatch(5).SerializeAsString();
  const MessageBytes message = MessageOf(bytes);
  const char* const begin = message.pieces[0].data();
  const ReceivedBatch batch = ParseBatch(message, {0, 0, bytes.size()}).value();
  std::string scratch;
  const absl::string_view encoded = batch.Encoded(1, &scratch);
  EXPECT_GE(encoded.data(), begin);
  EXPECT_LE(encoded.data() + encoded.size(), begin + bytes.size());
}

TEST(ReceivedBatchFieldsTest, PixelsOfTheWrongSizeAreRefused) {
  v1::Batch batch = WireTestBatch(v1::PAYLOAD_KIND_DECODED);
  batch.mutable_pixels()->pop_back();
  EXPECT_EQ(FromProto(batch).status().code(), absl::StatusCode::kDataLoss);
}

TEST(DamagedSamplesTest, AreNamedByPosition) {
  v1::Batch encoded = WireTestBatch(v1::PAYLOAD_KIND_ENCODED);
  (*encoded.mutable_samples(1)->mutable_encoded())[3] ^= 4;
  EXPECT_EQ(DamagedSamples(FromProto(encoded).value()), std::vector<size_t>{1});
  v1::Batch decoded = WireTestBatch(v1::PAYLOAD_KIND_DECODED);
  (*decoded.mutable_pixels())[0] ^= 1;
  EXPECT_EQ(DamagedSamples(FromProto(decoded).value()), std::vector<size_t>{0});
}

TEST(BatchVerifierTest, TakesTheFirstWholeBatch) {
  v1::Batch damaged = MakeTestBatch(3);
  damaged.mutable_samples(0)->set_encoded("other");
  int fetched = 0;
  const BatchVerifier verifier(
      [&](const v1::Batch&, v1::PayloadKind payload) -> absl::StatusOr<ReceivedBatch> {
        if (payload == v1::PAYLOAD_KIND_REFERENCE) return absl::UnimplementedError("no references");
        return FromProto(++fetched < 2 ? damaged : MakeTestBatch(3));
      },
      3);
  uint64_t samples = 0, fetches = 0;
  EXPECT_TRUE(verifier.Verify(FromProto(damaged).value(), &samples, &fetches).ok());
  EXPECT_EQ(samples, 2u);
  EXPECT_EQ(fetches, 2u);
}

TEST(AcknowledgementsTest, OnlyTheHighestCountsInOrder) {
  Acknowledgements acknowledgements(false);
  acknowledgements.Acknowledge(3);
  acknowledgements.Acknowledge(9);
  ASSERT_TRUE(acknowledgements.HasNext());
  EXPECT_EQ(acknowledgements.TakeNext(), 9u);
  EXPECT_FALSE(acknowledgements.HasNext());
  EXPECT_TRUE(acknowledgements.all_confirmed());
}

TEST(AcknowledgementsTest, DynamicOnesGoOneByOneUntilConfirmed) {
  Acknowledgements acknowledgements(true);
  for (const uint64_t cursor : {5, 2, 8}) {
    EXPECT_TRUE(acknowledgements.Receive(cursor));
    acknowledgements.Deliver(cursor);
  }
  EXPECT_FALSE(acknowledgements.Receive(2));
  acknowledgements.Acknowledge(2);
  EXPECT_EQ(acknowledgements.TakeNext(), 5u);
  EXPECT_EQ(acknowledgements.TakeNext(), 2u);
  EXPECT_FALSE(acknowledgements.HasNext());
  acknowledgements.Confirm(5);
  acknowledgements.StartStream();
  EXPECT_EQ(acknowledgements.TakeNext(), 2u);
  acknowledgements.Confirm(2);
  EXPECT_TRUE(acknowledgements.all_confirmed());
  EXPECT_TRUE(acknowledgements.Receive(2));
  acknowledgements.Acknowledge(77);  // never delivered
  EXPECT_FALSE(acknowledgements.HasNext());
}

}  // namespace
}  // namespace doppel
