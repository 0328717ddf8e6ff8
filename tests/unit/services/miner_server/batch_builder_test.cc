#include "services/miner_server/batch_builder.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "services/miner_server/similarity.h"
#include "services/miner_server/similarity_kernel.h"
#include "services/miner_server/stream_messages.h"
#include "services/miner_server/wire_message.h"
#include "tests/support/catalog_fixture.h"
#include "tests/support/fake_generation.h"
#include "tests/unit/services/miner_server/blob_catalog.h"

namespace doppel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string BytesOf(grpc::ByteBuffer buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices)
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

v1::StreamSpec MakeSpec(v1::PayloadKind payload, uint32_t p, uint32_t k) {
  v1::StreamSpec spec;
  spec.mutable_plan()->set_name("random");
  spec.mutable_plan()->set_identities_per_batch(p);
  spec.mutable_plan()->set_samples_per_identity(k);
  spec.set_seed(0x8000000000000001);
  spec.set_payload(payload);
  return spec;
}

// Identities 0 … p-1, samples 0 … k-1 of each.
PlannedBatch MakePlanned(const Catalog& catalog, uint32_t p, uint32_t k) {
  PlannedBatch planned;
  planned.cursor = 300;
  planned.epoch = 2;
  for (uint64_t i = 0; i < p; ++i) {
    planned.identities.push_back(i);
    for (uint64_t j = 0; j < k; ++j) planned.samples.push_back(catalog.Samples(i).first + j);
  }
  return planned;
}

// The same files under another name, and with numbers of every length.
class LongPathCatalog : public FakeCatalog {
 public:
  LongPathCatalog(std::shared_ptr<const Catalog> files, std::string path)
      : FakeCatalog(std::vector<uint32_t>(40, 2)), files_(std::move(files)), path_(std::move(path)) {}
  SampleRecord Sample(uint64_t sample) const override {
    const uint64_t size = Source(0)->bytes.size();
    SampleRecord record;
    record.identity = sample < 2 ? 0 : static_cast<uint32_t>(0xFFFFFFFF >> sample % 32);
    record.crc32c = sample % 3 == 0 ? 0 : 77;
    record.size = static_cast<uint32_t>(sample);
    record.offset = (size - sample) >> sample % 20;
    return record;
  }
  std::string SamplePath(uint64_t) const override { return path_; }
  uint32_t num_sources() const override { return 1; }
  absl::StatusOr<MappedSource> Source(uint32_t) const override {
    MappedSource source = files_->Source(0).value();
    source.path = path_;
    return source;
  }

 private:
  const std::shared_ptr<const Catalog> files_;
  const std::string path_;
};

v1::Batch ParseStream(const grpc::ByteBuffer& part) {
  v1::StreamBatchesResponse response;
  EXPECT_TRUE(response.ParseFromString(BytesOf(part)));
  EXPECT_TRUE(response.has_batch());
  return response.batch();
}

TEST(VarintSizeTest, MatchesProtobufAtTheBorders) {
  EXPECT_EQ(VarintSize(0), 1u);
  EXPECT_EQ(VarintSize(127), 1u);
  EXPECT_EQ(VarintSize(128), 2u);
  EXPECT_EQ(VarintSize(16383), 2u);
  EXPECT_EQ(VarintSize(16384), 3u);
  EXPECT_EQ(VarintSize(UINT64_MAX), 10u);
}

TEST(WriteVarintAtOnceTest, WritesWhatTheLoopWrites) {
  std::vector<uint64_t> values = {0, UINT64_MAX};
  for (int bit = 0; bit < 64; ++bit) {
    const uint64_t power = uint64_t{1} << bit;
    values.insert(values.end(), {power - 1, power, power + 1, power | 0x123456789 % power});
  }
  for (const uint64_t value : values) {
    char loop[16] = {}, at_once[16] = {};
    const auto size = WriteVarint(value, loop) - loop;
    ASSERT_EQ(WriteVarintAtOnce(value, at_once) - at_once, size) << value;
    EXPECT_EQ(std::string(at_once, size), std::string(loop, size)) << value;
    EXPECT_EQ(VarintSize(value), static_cast<size_t>(size)) << value;
  }
}

grpc::Slice StaticSlice(const char* text) {
  return grpc::Slice(text, std::strlen(text), grpc::Slice::STATIC_SLICE);
}

TEST(WireMessageTest, KeepsTheOrderOfCopiedAndBorrowed) {
  const auto pool = BufferPool::Create();
  WireMessage message(*pool, 8);
  message.Borrow(StaticSlice("first"));
  message.Append("ab");
  message.Borrow(StaticSlice("BORROWED"));
  message.Borrow(StaticSlice("|"));
  message.AppendVarint(300);
  EXPECT_EQ(BytesOf(message.Finish()), "firstabBORROWED|\xac\x02");
}

TEST(WireMessageTest, FrontCanBeDropped) {
  const auto pool = BufferPool::Create();
  WireMessage copied(*pool, 8);
  copied.Append("12345678");
  copied.DropFront(3);
  EXPECT_EQ(BytesOf(copied.Finish()), "45678");
  WireMessage mixed(*pool, 8);
  mixed.Append("1234");
  mixed.Borrow(StaticSlice("|"));
  mixed.Append("5");
  mixed.DropFront(3);
  EXPECT_EQ(BytesOf(mixed.Finish()), "4|5");
}

TEST(WireMessageTest, EmptyMessageHasNoBytes) {
  EXPECT_EQ(BytesOf(WireMessage(*BufferPool::Create(), 0).Finish()), "");
}

TEST(BufferPoolTest, GivesTheSameMemoryAgainOnceItIsFree) {
  const auto pool = BufferPool::Create();
  auto first = pool->Take(100000);
  const char* const data = first->data();
  const auto second = pool->Take(100000);
  EXPECT_NE(second->data(), data);
  first.reset();
  EXPECT_GT(pool->idle_bytes(), 100000u);
  EXPECT_EQ(pool->Take(100001)->data(), data);
}

TEST(BufferPoolTest, KeepsNoMoreThanItsLimit) {
  const auto pool = BufferPool::Create(300000);
  { const auto a = pool->Take(100000), b = pool->Take(100000), c = pool->Take(100000); }
  EXPECT_GT(pool->idle_bytes(), 0u);
  EXPECT_LE(pool->idle_bytes(), 300000u);
  pool->Take(1000000).reset();
  EXPECT_LE(pool->idle_bytes(), 300000u);
}

TEST(BufferPoolTest, MessagesOutliveThePool) {
  auto pool = BufferPool::Create();
  WireMessage message(*pool, 3);
  message.Append("abc");
  const grpc::ByteBuffer buffer = message.Finish();
  pool.reset();
  EXPECT_EQ(BytesOf(buffer), "abc");
}

absl::StatusOr<WireBatch> BuildBatch(const Catalog& catalog, const Generation* generation,
                                     const v1::StreamSpec& spec, const PlannedBatch& planned,
                                     const BuildOptions& options) {
  BatchBuilder builder(std::shared_ptr<const Catalog>(std::shared_ptr<void>(), &catalog));
  return builder.Build(generation, spec, planned, options);
}

// The envelope must be what protobuf itself writes for the same message: parse it and write it again.
class EnvelopeTest : public ::testing::TestWithParam<size_t> {};

TEST_P(EnvelopeTest, IsByteForByteWhatProtobufWrites) {
  BlobCatalog catalog(4, 3, {GetParam(), 5, GetParam() + 1, 0, 4095, 4096});
  const v1::StreamSpec spec = MakeSpec(v1::PAYLOAD_KIND_ENCODED, 4, 3);
  BuildOptions options;
  options.part_bytes = 0;
  const WireBatch batch = BuildBatch(catalog, nullptr, spec, MakePlanned(catalog, 4, 3), options).value();
  ASSERT_EQ(batch.parts.size(), 1u);
  const std::string bytes = BytesOf(batch.parts[0]);
  EXPECT_EQ(bytes.size(), batch.bytes);
  v1::StreamBatchesResponse response;
  ASSERT_TRUE(response.ParseFromString(bytes));
  EXPECT_EQ(response.SerializeAsString(), bytes);
}
INSTANTIATE_TEST_SUITE_P(SampleSizes, EnvelopeTest,
                         ::testing::Values(0, 1, 127, 128, 4000, 16384, 70000, 2100000));

TEST(BatchBuilderTest, EncodedCarriesTheBytesAndTheirChecksums) {
  BlobCatalog catalog(3, 2, {10, 9000});
  const WireBatch built = BuildBatch(catalog, nullptr, MakeSpec(v1::PAYLOAD_KIND_ENCODED, 3, 2),
                                     MakePlanned(catalog, 3, 2), BuildOptions())
                              .value();
  const v1::Batch batch = ParseStream(built.parts[0]);
  ASSERT_EQ(batch.samples_size(), 6);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(batch.samples(i).identity(), static_cast<uint64_t>(i / 2));
    EXPECT_EQ(batch.samples(i).sample(), static_cast<uint64_t>(i));
    EXPECT_EQ(batch.samples(i).encoded(), catalog.blob(i));
    EXPECT_EQ(batch.samples(i).crc32c(), Crc32c(catalog.blob(i)));
  }
}

TEST(BatchBuilderTest, HeaderSaysWhereTheBatchIsFrom) {
  BlobCatalog catalog(3, 2, {10});
  PlannedBatch planned = MakePlanned(catalog, 3, 2);
  planned.subspace = -1;
  const WireBatch built =
      BuildBatch(catalog, nullptr, MakeSpec(v1::PAYLOAD_KIND_ENCODED, 3, 2), planned, BuildOptions()).value();
  const v1::Batch batch = ParseStream(built.parts[0]);
  EXPECT_EQ(batch.generation(), 0u);
  EXPECT_EQ(batch.seed(), 0x8000000000000001);
  EXPECT_EQ(batch.cursor(), 300u);
  EXPECT_EQ(batch.epoch(), 2u);
  EXPECT_EQ(batch.plan(), "random");
  EXPECT_EQ(batch.subspace(), -1);
  EXPECT_EQ(batch.identities_per_batch(), 3u);
  EXPECT_EQ(batch.samples_per_identity(), 2u);
  EXPECT_EQ(batch.part_index(), 0u);
  EXPECT_EQ(batch.part_count(), 1u);
  EXPECT_EQ(batch.payload(), v1::PAYLOAD_KIND_ENCODED);
  EXPECT_FALSE(batch.has_image());
}

TEST(BatchBuilderTest, BorrowsBigSamplesAndCopiesSmallOnes) {
  BlobCatalog catalog(2, 1, {4095, 4096});
  BuildOptions options;
  options.borrow_bytes = 4096;
  WireBatch built = BuildBatch(catalog, nullptr, MakeSpec(v1::PAYLOAD_KIND_ENCODED, 2, 1),
                               MakePlanned(catalog, 2, 1), options)
                        .value();
  EXPECT_EQ(catalog.holders(0), 0);
  EXPECT_EQ(catalog.holders(1), 1);
  built = WireBatch();
  EXPECT_EQ(catalog.holders(1), 0);
}

TEST(BatchBuilderTest, BorrowedSlicesPointIntoTheCatalog) {
  BlobCatalog catalog(1, 1, {100000});
  const WireBatch built = BuildBatch(catalog, nullptr, MakeSpec(v1::PAYLOAD_KIND_ENCODED, 1, 1),
                                     MakePlanned(catalog, 1, 1), BuildOptions())
                              .value();
  grpc::ByteBuffer buffer = built.parts[0];
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(buffer.Dump(&slices).ok());
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(static_cast<const void*>(slices[1].begin()), static_cast<const void*>(catalog.blob(0).data()));
}

TEST(BatchBuilderTest, PartsConcatenateToTheWholeAndKeepToTheirSize) {
  BlobCatalog catalog(10, 2, {3000, 700, 5000});
  const v1::StreamSpec spec = MakeSpec(v1::PAYLOAD_KIND_ENCODED, 10, 2);
  BuildOptions options;
  options.part_bytes = 10000;
  const WireBatch built = BuildBatch(catalog, nullptr, spec, MakePlanned(catalog, 10, 2), options).value();
  ASSERT_GT(built.parts.size(), 3u);
  int samples = 0;
  for (size_t part = 0; part < built.parts.size(); ++part) {
    EXPECT_LE(built.parts[part].Length(), 10000u);
    const v1::Batch batch = ParseStream(built.parts[part]);
    EXPECT_EQ(batch.part_index(), part);
    EXPECT_EQ(batch.part_count(), built.parts.size());
    for (const v1::Sample& sample : batch.samples()) {
      EXPECT_EQ(sample.sample(), static_cast<uint64_t>(samples));
      EXPECT_EQ(sample.encoded(), catalog.blob(samples++));
    }
  }
  EXPECT_EQ(samples, 20);
}

TEST(BatchBuilderTest, SampleAboveThePartSizeTravelsAlone) {
  BlobCatalog catalog(3, 1, {50000});
  BuildOptions options;
  options.part_bytes = 10000;
  const WireBatch built = BuildBatch(catalog, nullptr, MakeSpec(v1::PAYLOAD_KIND_ENCODED, 3, 1),
                                     MakePlanned(catalog, 3, 1), options)
                              .value();
  ASSERT_EQ(built.parts.size(), 3u);
  for (const auto& part : built.parts) EXPECT_EQ(ParseStream(part).samples_size(), 1);
}

TEST(BatchBuilderTest, ReferencesPointAtTheSource) {
  BlobCatalog catalog(2, 2, {10});
  const WireBatch built = BuildBatch(catalog, nullptr, MakeSpec(v1::PAYLOAD_KIND_REFERENCE, 2, 2),
                                     MakePlanned(catalog, 2, 2), BuildOptions())
                              .value();
  const v1::Batch batch = ParseStream(built.parts[0]);
  EXPECT_EQ(batch.samples(3).reference().path(), catalog.SamplePath(3));
  EXPECT_EQ(batch.samples(3).reference().offset(), 3000u);
  EXPECT_EQ(batch.samples(3).reference().size(), 10u);
  EXPECT_TRUE(batch.samples(3).encoded().empty());
}

TEST(BatchBuilderTest, GetBatchEnvelopeHoldsTheSameBatch) {
  BlobCatalog catalog(2, 2, {10, 6000});
  BuildOptions options;
  options.envelope = BatchEnvelope::kGetBatch;
  const v1::StreamSpec spec = MakeSpec(v1::PAYLOAD_KIND_ENCODED, 2, 2);
  const PlannedBatch planned = MakePlanned(catalog, 2, 2);
  v1::GetBatchResponse response;
  ASSERT_TRUE(response.ParseFromString(
      BytesOf(BuildBatch(catalog, nullptr, spec, planned, options).value().parts[0])));
  options.envelope = BatchEnvelope::kStreamBatches;
  const v1::Batch streamed =
      ParseStream(BuildBatch(catalog, nullptr, spec, planned, options).value().parts[0]);
  EXPECT_EQ(response.batch().SerializeAsString(), streamed.SerializeAsString());
}

TEST(BatchBuilderTest, DecodedPixelsAreTheImagesOwnAndIndependentOfThreads) {
  testing::CatalogFixtureOptions fixture_options;
  fixture_options.identities = 20;
  const testing::CatalogFixture fixture(fixture_options);
  v1::StreamSpec spec = MakeSpec(v1::PAYLOAD_KIND_DECODED, 20, 3);
  spec.mutable_image()->set_height(24);
  spec.mutable_image()->set_width(20);
  spec.mutable_image()->set_channels(3);
  const PlannedBatch planned = MakePlanned(*fixture.catalog(), 20, 3);
  BuildOptions options;
  const WireBatch one = BuildBatch(*fixture.catalog(), nullptr, spec, planned, options).value();
  options.decode_threads = 3;
  const WireBatch three = BuildBatch(*fixture.catalog(), nullptr, spec, planned, options).value();
  EXPECT_EQ(BytesOf(one.parts[0]), BytesOf(three.parts[0]));
  const v1::Batch batch = ParseStream(one.parts[0]);
  EXPECT_EQ(batch.pixels().size(), 60u * 24 * 20 * 3);
  EXPECT_EQ(batch.image().width(), 20u);
  EXPECT_EQ(batch.SerializeAsString().size(), batch.ByteSizeLong());
}

TEST(BatchBuilderTest, MappedShardsGiveTheBytesThatReadingGives) {
  testing::CatalogFixtureOptions fixture_options;
  fixture_options.identities = 12;
  const testing::CatalogFixture fixture(fixture_options);
  const Catalog& catalog = *fixture.catalog();
  for (const uint64_t borrow : {uint64_t{1}, uint64_t{1} << 30}) {
    BuildOptions options;
    options.borrow_bytes = borrow;
    const WireBatch built = BuildBatch(catalog, nullptr, MakeSpec(v1::PAYLOAD_KIND_ENCODED, 12, 2),
                                       MakePlanned(catalog, 12, 2), options)
                                .value();
    const std::string bytes = BytesOf(built.parts[0]);
    v1::StreamBatchesResponse response;
    ASSERT_TRUE(response.ParseFromString(bytes));
    EXPECT_EQ(response.SerializeAsString(), bytes);
    for (const v1::Sample& sample : response.batch().samples()) {
      EXPECT_EQ(sample.encoded(), std::string(catalog.Read(sample.sample()).value().data));
    }
  }
}

TEST(BatchBuilderTest, MappedReferencesArePlacesInTheShard) {
  testing::CatalogFixtureOptions fixture_options;
  fixture_options.identities = 5;
  const testing::CatalogFixture fixture(fixture_options);
  const Catalog& catalog = *fixture.catalog();
  const WireBatch built = BuildBatch(catalog, nullptr, MakeSpec(v1::PAYLOAD_KIND_REFERENCE, 5, 2),
                                     MakePlanned(catalog, 5, 2), BuildOptions())
                              .value();
  const std::string bytes = BytesOf(built.parts[0]);
  const v1::Batch batch = ParseStream(built.parts[0]);
  for (const v1::Sample& sample : batch.samples()) {
    EXPECT_EQ(sample.reference().path(), catalog.SamplePath(sample.sample()));
    EXPECT_EQ(sample.reference().offset(), catalog.Sample(sample.sample()).offset);
    EXPECT_EQ(sample.reference().size(), catalog.Sample(sample.sample()).size);
  }
}

// Also where they are not written in one pass: cut into parts, or with a path that is too long for it.
TEST(BatchBuilderTest, ReferencesAreByteForByteWhatProtobufWrites) {
  for (const size_t folder_bytes : {1, 20, 90, 200}) {
    testing::CatalogFixtureOptions fixture_options;
    fixture_options.identities = 40;
    const testing::CatalogFixture fixture(fixture_options);
    const LongPathCatalog catalog(fixture.catalog(), std::string(folder_bytes, 'p'));
    const v1::StreamSpec spec = MakeSpec(v1::PAYLOAD_KIND_REFERENCE, 40, 2);
    const PlannedBatch planned = MakePlanned(catalog, 40, 2);
    std::vector<std::string> samples[2];
    for (const uint64_t part_bytes : {0, 700}) {
      BuildOptions options;
      options.part_bytes = part_bytes;
      const WireBatch built = BuildBatch(catalog, nullptr, spec, planned, options).value();
      EXPECT_EQ(built.samples, 80u);
      uint64_t bytes_of_all = 0;
      for (const grpc::ByteBuffer& part : built.parts) {
        const std::string bytes = BytesOf(part);
        bytes_of_all += bytes.size();
        v1::StreamBatchesResponse response;
        ASSERT_TRUE(response.ParseFromString(bytes));
        ASSERT_EQ(response.SerializeAsString(), bytes);
        for (const v1::Sample& sample : response.batch().samples()) {
          samples[part_bytes > 0].push_back(sample.SerializeAsString());
          EXPECT_EQ(sample.reference().path(), catalog.SamplePath(sample.sample()));
          EXPECT_EQ(sample.reference().offset(), catalog.Sample(sample.sample()).offset);
        }
      }
      EXPECT_EQ(bytes_of_all, built.bytes);
      EXPECT_EQ(built.parts.size() > 1, part_bytes > 0);
    }
    EXPECT_EQ(samples[0].size(), 80u);
    EXPECT_EQ(samples[0], samples[1]);
  }
}

TEST(BatchBuilderTest, AugmentedPixelsFollowFromSeedCursorAndPosition) {
  testing::CatalogFixtureOptions fixture_options;
  fixture_options.identities = 4;
  const testing::CatalogFixture fixture(fixture_options);
  v1::StreamSpec spec = MakeSpec(v1::PAYLOAD_KIND_DECODED, 4, 2);
  spec.mutable_image()->set_height(32);
  spec.mutable_image()->set_width(32);
  spec.mutable_image()->set_channels(3);
  const auto pixels = [&](uint64_t cursor, int threads) {
    PlannedBatch planned = MakePlanned(*fixture.catalog(), 4, 2);
    planned.cursor = cursor;
    BuildOptions options;
    options.decode_threads = threads;
    return ParseStream(BuildBatch(*fixture.catalog(), nullptr, spec, planned, options).value().parts[0])
        .pixels();
  };
  const std::string plain = pixels(1, 1);
  spec.mutable_augmentation()->set_crop(0.3);
  spec.mutable_augmentation()->set_hue(0.2);
  spec.mutable_augmentation()->set_flip_probability(0.5);
  const std::string one = pixels(1, 1);
  EXPECT_NE(one, plain);
  EXPECT_EQ(one, pixels(1, 3));
  EXPECT_NE(one, pixels(2, 1));
  spec.mutable_augmentation()->set_seed(5);
  EXPECT_NE(one, pixels(1, 1));
}

TEST(BatchBuilderTest, DecodedSamplesCarryTheChecksumOfTheirPixels) {
  testing::CatalogFixtureOptions fixture_options;
  fixture_options.identities = 3;
  const testing::CatalogFixture fixture(fixture_options);
  v1::StreamSpec spec = MakeSpec(v1::PAYLOAD_KIND_DECODED, 3, 2);
  spec.mutable_image()->set_height(16);
  spec.mutable_image()->set_width(16);
  spec.mutable_image()->set_channels(1);
  const v1::Batch batch = ParseStream(
      BuildBatch(*fixture.catalog(), nullptr, spec, MakePlanned(*fixture.catalog(), 3, 2), BuildOptions())
          .value()
          .parts[0]);
  for (int i = 0; i < 6; ++i) {
    const std::string pixels = batch.pixels().substr(i * 256, 256);
    EXPECT_EQ(batch.samples(i).pixels_crc32c(), Crc32c(pixels)) << i;
  }
}

TEST(BatchBuilderTest, ReadingAheadTakesAnyBatch) {
  const testing::CatalogFixture fixture;
  BatchBuilder builder(fixture.catalog());
  builder.ReadAhead(MakePlanned(*fixture.catalog(), 4, 2));
  BatchBuilder(std::make_shared<BlobCatalog>(2, 2, std::vector<size_t>{10}))
      .ReadAhead(MakePlanned(BlobCatalog(2, 2, {10}), 2, 2));
}

TEST(BatchBuilderTest, DecodedPartsHoldTheirOwnPixels) {
  testing::CatalogFixtureOptions fixture_options;
  fixture_options.identities = 4;
  const testing::CatalogFixture fixture(fixture_options);
  v1::StreamSpec spec = MakeSpec(v1::PAYLOAD_KIND_DECODED, 4, 2);
  spec.mutable_image()->set_height(48);
  spec.mutable_image()->set_width(48);
  spec.mutable_image()->set_channels(1);
  const PlannedBatch planned = MakePlanned(*fixture.catalog(), 4, 2);
  BuildOptions options;
  const std::string whole =
      ParseStream(BuildBatch(*fixture.catalog(), nullptr, spec, planned, options).value().parts[0]).pixels();
  options.part_bytes = 3 * (48 * 48 + 100);
  const WireBatch cut = BuildBatch(*fixture.catalog(), nullptr, spec, planned, options).value();
  EXPECT_GT(cut.parts.size(), 1u);
  std::string joined;
  for (const auto& part : cut.parts) {
    const v1::Batch batch = ParseStream(part);
    EXPECT_EQ(batch.pixels().size(), batch.samples_size() * 48u * 48);
    joined += batch.pixels();
  }
  EXPECT_EQ(joined, whole);
}

TEST(BatchBuilderTest, UnreadableSampleIsNamed) {
  BlobCatalog catalog(3, 2, {10});
  catalog.unreadable = 3;
  const auto built = BuildBatch(catalog, nullptr, MakeSpec(v1::PAYLOAD_KIND_ENCODED, 3, 2),
                                MakePlanned(catalog, 3, 2), BuildOptions());
  EXPECT_EQ(built.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(built.status().message()),
              AllOf(HasSubstr("sample 3"), HasSubstr("identity 1"), HasSubstr("shard.tar")));
}

TEST(BatchBuilderTest, SampleThatIsNoImageIsNamedTheFirstInOrder) {
  BlobCatalog catalog(20, 2, {100});
  v1::StreamSpec spec = MakeSpec(v1::PAYLOAD_KIND_DECODED, 20, 2);
  spec.mutable_image()->set_height(8);
  spec.mutable_image()->set_width(8);
  spec.mutable_image()->set_channels(1);
  BuildOptions options;
  options.decode_threads = 4;
  const auto built = BuildBatch(catalog, nullptr, spec, MakePlanned(catalog, 20, 2), options);
  EXPECT_EQ(built.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(built.status().message()), HasSubstr("sample 0 "));
}

TEST(AheadPolicyTest, TwoLargeBatchesOrManySmallOnes) {
  EXPECT_EQ(AheadPolicy::Forwarding(0).limit(), 2u);
  EXPECT_EQ(AheadPolicy::Forwarding(3000000).limit(), 2u);
  EXPECT_EQ(AheadPolicy::Forwarding(60000).limit(), 4u);
  EXPECT_EQ(AheadPolicy::Forwarding(100).limit(), 8u);
  EXPECT_EQ(AheadPolicy::Leasing().limit(), 2u);
  EXPECT_EQ(AheadPolicy::Decoding(3).limit(), 4u);
}

TEST(AheadPolicyTest, SmallOnesAreStartedTogether) {
  const AheadPolicy small = AheadPolicy::Forwarding(100);
  EXPECT_EQ(small.ToStart(0, 100), 8u);
  EXPECT_EQ(small.ToStart(4, 100), 4u);
  EXPECT_EQ(small.ToStart(5, 100), 0u);
  const AheadPolicy decoding = AheadPolicy::Decoding(7);
  EXPECT_EQ(decoding.ToStart(7, 100), 1u);
}

TEST(AheadPolicyTest, NeverMoreThanAllowed) {
  const AheadPolicy small = AheadPolicy::Forwarding(100);
  EXPECT_EQ(small.ToStart(0, 0), 0u);
  EXPECT_EQ(small.ToStart(0, 1), 1u);
  EXPECT_EQ(small.ToStart(1, 1), 0u);
  EXPECT_EQ(small.ToStart(1, 3), 2u);
  EXPECT_EQ(small.ToStart(9, 3), 0u);
}

TEST(SimilarityTest, IsZeroWithoutGenerationOrRepresentations) {
  const std::vector<uint64_t> identities = {0, 1};
  EXPECT_EQ(BatchSimilarity(nullptr, identities).mean, 0);
  const FakeGeneration bare(1, 0, {0, 0, 0}, 1);
  EXPECT_EQ(BatchSimilarity(&bare, identities).max, 0);
}

TEST(SimilarityTest, IsTheMeanAndMaximumOverAllPairs) {
  const FakeGeneration generation(1, 0, std::vector<uint32_t>(10, 0), 1, 19);
  const std::vector<uint64_t> identities = {1, 4, 7};
  auto dot = [&](uint64_t a, uint64_t b) {
    double sum = 0;
    for (int i = 0; i < 19; ++i)
      sum += double{generation.Representation(a)[i]} * generation.Representation(b)[i];
    return sum;
  };
  const SimilarityStatistics statistics = BatchSimilarity(&generation, identities);
  EXPECT_NEAR(statistics.mean, (dot(1, 4) + dot(1, 7) + dot(4, 7)) / 3, 1e-6);
  EXPECT_NEAR(statistics.max, std::max({dot(1, 4), dot(1, 7), dot(4, 7)}), 1e-6);
}

TEST(SimilarityTest, IsTheMaximumOfManyAsWell) {
  for (const size_t identities : {8, 31, 32, 33, 70, 129}) {
    for (const int dimension : {1, 2, 7, 128}) {
      const FakeGeneration generation(1, 0, std::vector<uint32_t>(200, 0), 1, dimension);
      std::vector<uint64_t> batch(identities);
      for (size_t i = 0; i < identities; ++i) batch[i] = (i * 77) % 200;
      double sum = 0, max = -1;
      for (size_t i = 0; i < identities; ++i) {
        for (size_t j = i + 1; j < identities; ++j) {
          double dot = 0;
          for (int d = 0; d < dimension; ++d) {
            dot += double{generation.Representation(batch[i])[d]} * generation.Representation(batch[j])[d];
          }
          sum += dot;
          max = std::max(max, dot);
        }
      }
      const SimilarityStatistics statistics = BatchSimilarity(&generation, batch);
      const double pairs = 0.5 * static_cast<double>(identities * (identities - 1));
      EXPECT_NEAR(statistics.mean, sum / pairs, 1e-5) << identities << " x " << dimension;
      EXPECT_NEAR(statistics.max, max, 1e-4) << identities << " x " << dimension;
    }
  }
}

TEST(SimilarityTest, EveryProcessorScoresAlike) {
  constexpr size_t kPairs = 5;
  std::vector<uint32_t> panel(kPairs * kSimilarityWidth);
  for (size_t i = 0; i < panel.size(); ++i) panel[i] = static_cast<uint32_t>(i * 2654435761U) & 0x1FFF1FFF;
  std::vector<int32_t> expected(kSimilarityRows * kSimilarityWidth), found(expected.size());
  PortableSimilarityKernel(&panel[8], panel.data(), kPairs, 0, expected.data());
  const int32_t most = *std::max_element(expected.begin(), expected.end());
  for (const SimilarityKernel kernel : {PortableSimilarityKernel, SimilarityKernelOfThisProcessor()}) {
    EXPECT_TRUE(kernel(&panel[8], panel.data(), kPairs, most, found.data()));
    EXPECT_FALSE(kernel(&panel[8], panel.data(), kPairs, most + 1, found.data()));
  }
  EXPECT_EQ(found, expected);
}

TEST(SimilarityTest, FixedPointIsRoundedAndLimited) {
  const std::vector<float> row = {
      0.0F, 1.0F, -1.0F, 1.6F / kSimilarityFixedPoint, -1.6F / kSimilarityFixedPoint, 99.0F, -99.0F};
  std::vector<int16_t> fixed(row.size());
  ToFixedPoint(row.data(), row.size(), fixed.data());
  EXPECT_EQ(fixed, (std::vector<int16_t>{0, 16384, -16384, 2, -2, 32767, -32767}));
}

TEST(SimilarityTest, LeavesOutWhatTheGenerationDoesNotCover) {
  const FakeGeneration generation(1, 5, std::vector<uint32_t>(3, 0), 1, 8);
  const std::vector<uint64_t> inside = {5, 7}, mixed = {0, 5, 7, 8, 100}, outside = {0, 5};
  EXPECT_EQ(BatchSimilarity(&generation, mixed).mean, BatchSimilarity(&generation, inside).mean);
  EXPECT_EQ(BatchSimilarity(&generation, outside).mean, 0);
}

}  // namespace
}  // namespace doppel
