#include "trainer/stream/prefetcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/image/image.h"
#include "common/io/crc32c.h"
#include "tests/support/catalog_fixture.h"
#include "trainer/stream/reference_reader.h"

namespace doppel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kSide = 24;

std::string TestPng(uint64_t cursor, int sample) {
  return testing::MakeTestImage(static_cast<int>(cursor), sample, kSide);
}

v1::Batch EncodedBatch(uint64_t cursor, int samples = 4) {
  v1::Batch batch;
  batch.set_cursor(cursor);
  batch.set_generation(3);
  batch.set_epoch(cursor / 2);
  batch.set_subspace(5);
  batch.set_identities_per_batch(samples / 2);
  batch.set_samples_per_identity(2);
  batch.set_mean_similarity(0.25);
  batch.set_max_similarity(0.5);
  batch.set_payload(v1::PAYLOAD_KIND_ENCODED);
  for (int i = 0; i < samples; ++i) {
    v1::Sample* sample = batch.add_samples();
    sample->set_identity(10 * cursor + i / 2);
    sample->set_sample(100 * cursor + i);
    sample->set_encoded(TestPng(cursor, i));
  }
  return batch;
}

// Gives out `batches`, then the end. Counts, and can hold back.
class ListSource : public BatchSource {
 public:
  explicit ListSource(std::vector<v1::Batch> batches) : batches_(std::move(batches)) {}
  absl::StatusOr<ReceivedBatch> Next() override {
    absl::MutexLock lock(&mutex_);
    if (stall_at == next_) mutex_.Await(absl::Condition(&cancelled_));
    if (cancelled_) return absl::CancelledError("cancelled");
    if (next_ == batches_.size()) return end;
    return FromProto(batches_[next_++]);
  }
  void Acknowledge(uint64_t cursor) override {
    absl::MutexLock lock(&mutex_);
    acknowledged_ = cursor;
  }
  void Cancel() override {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
  }
  size_t given() const {
    absl::MutexLock lock(&mutex_);
    return next_;
  }
  uint64_t acknowledged() const {
    absl::MutexLock lock(&mutex_);
    return acknowledged_;
  }
  absl::Status end = absl::OutOfRangeError("the end");
  size_t stall_at = SIZE_MAX;

 private:
  const std::vector<v1::Batch> batches_;
  mutable absl::Mutex mutex_;
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t acknowledged_ ABSL_GUARDED_BY(mutex_) = 0;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

std::unique_ptr<ListSource> SourceOf(int batches) {
  std::vector<v1::Batch> list;
  for (int i = 0; i < batches; ++i) list.push_back(EncodedBatch(i));
  return std::make_unique<ListSource>(std::move(list));
}

PrefetchOptions Options(int threads = 1) {
  PrefetchOptions options;
  options.threads = threads;
  options.height = options.width = kSide;
  return options;
}

TEST(PrefetcherTest, DecodesInOrderWithAnyNumberOfThreads) {
  for (int threads : {1, 4}) {
    const auto prefetcher = MakePrefetcher(SourceOf(30), Options(threads));
    for (uint64_t cursor = 0; cursor < 30; ++cursor) {
      const TrainingBatch batch = prefetcher->Next().value();
      ASSERT_EQ(batch.cursor, cursor);
      for (int i = 0; i < 4; ++i) {
        const Image image = DecodeImage(TestPng(cursor, i), 1).value();
        EXPECT_TRUE(
            std::equal(image.pixels.begin(), image.pixels.end(), batch.pixels.begin() + i * kSide * kSide));
      }
    }
    EXPECT_EQ(prefetcher->Next().status().code(), absl::StatusCode::kOutOfRange);
  }
}

TEST(PrefetcherTest, TakesOverWhatTheBatchSays) {
  const auto prefetcher = MakePrefetcher(SourceOf(2), Options());
  prefetcher->Next().value();
  const TrainingBatch batch = prefetcher->Next().value();
  EXPECT_EQ(batch.generation, 3u);
  EXPECT_EQ(batch.subspace, 5);
  EXPECT_FLOAT_EQ(batch.mean_similarity, 0.25);
  EXPECT_FLOAT_EQ(batch.max_similarity, 0.5);
  EXPECT_EQ(batch.identities_per_batch, 2);
  EXPECT_EQ(batch.samples_per_identity, 2);
  EXPECT_EQ(batch.height, kSide);
  EXPECT_EQ(batch.identities, (std::vector<int64_t>{10, 10, 11, 11}));
  EXPECT_EQ(batch.samples, (std::vector<uint64_t>{100, 101, 102, 103}));
}

TEST(PrefetcherTest, RunsNoFurtherAheadThanItsDepth) {
  auto source = SourceOf(20);
  ListSource* list = source.get();
  PrefetchOptions options = Options();
  options.depth = 2;
  const auto prefetcher = MakePrefetcher(std::move(source), options);
  for (size_t consumed = 1; consumed <= 10; ++consumed) {
    prefetcher->Next().value();
    EXPECT_LE(list->given(), consumed + 2);
  }
}

TEST(PrefetcherTest, AugmentationFollowsFromSeedCursorAndPosition) {
  auto run = [](uint64_t seed, int threads) {
    PrefetchOptions options = Options(threads);
    options.augment = MildAffineAugmentation();
    options.augment_seed = seed;
    const auto prefetcher = MakePrefetcher(SourceOf(6), options);
    std::vector<std::vector<uint8_t>> pixels;
    for (int i = 0; i < 6; ++i) pixels.push_back(prefetcher->Next().value().pixels);
    return pixels;
  };
  const auto first = run(1, 1);
  EXPECT_EQ(first, run(1, 3));
  EXPECT_NE(first, run(2, 1));
}

TEST(PrefetcherTest, PositionsOfOneImageAreAugmentedDifferently) {
  v1::Batch batch = EncodedBatch(0);
  for (v1::Sample& sample : *batch.mutable_samples()) sample.set_encoded(TestPng(0, 0));
  PrefetchOptions options = Options();
  options.augment = MildAffineAugmentation();
  const auto prefetcher =
      MakePrefetcher(std::make_unique<ListSource>(std::vector<v1::Batch>{batch}), options);
  const std::vector<uint8_t> pixels = prefetcher->Next().value().pixels;
  const auto image = [&](int i) {
    return std::vector<uint8_t>(pixels.begin() + i * kSide * kSide, pixels.begin() + (i + 1) * kSide * kSide);
  };
  EXPECT_NE(image(0), image(1));
}

TEST(PrefetcherTest, UndecodableSampleIsNamedAtItsPlaceAndTheRestGoesOn) {
  std::vector<v1::Batch> batches = {EncodedBatch(0), EncodedBatch(1), EncodedBatch(2)};
  batches[1].mutable_samples(2)->set_encoded("not an image");
  const auto prefetcher = MakePrefetcher(std::make_unique<ListSource>(batches), Options(2));
  EXPECT_TRUE(prefetcher->Next().ok());
  const absl::Status status = prefetcher->Next().status();
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("sample 102 of identity 11"), HasSubstr("batch 1")));
  EXPECT_EQ(prefetcher->Next().value().cursor, 2u);
}

TEST(PrefetcherTest, SourceErrorsComeAfterTheBatchesBeforeThemAndStay) {
  auto source = SourceOf(2);
  source->end = absl::DataLossError("damaged");
  const auto prefetcher = MakePrefetcher(std::move(source), Options());
  EXPECT_TRUE(prefetcher->Next().ok());
  EXPECT_TRUE(prefetcher->Next().ok());
  EXPECT_EQ(prefetcher->Next().status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(prefetcher->Next().status().code(), absl::StatusCode::kDataLoss);
}

TEST(PrefetcherTest, DestructionCancelsAWaitingSource) {
  auto source = SourceOf(5);
  source->stall_at = 2;
  const auto prefetcher = MakePrefetcher(std::move(source), Options());
  EXPECT_TRUE(prefetcher->Next().ok());
}

TEST(PrefetcherTest, PassesAcknowledgementsOn) {
  auto source = SourceOf(2);
  ListSource* list = source.get();
  const auto prefetcher = MakePrefetcher(std::move(source), Options());
  prefetcher->Acknowledge(41);
  EXPECT_EQ(list->acknowledged(), 41u);
}

v1::Batch DecodedBatch(uint32_t side) {
  v1::Batch batch = EncodedBatch(0);
  batch.set_payload(v1::PAYLOAD_KIND_DECODED);
  batch.mutable_image()->set_height(side);
  batch.mutable_image()->set_width(side);
  batch.mutable_image()->set_channels(1);
  for (v1::Sample& sample : *batch.mutable_samples()) sample.clear_encoded();
  for (uint32_t i = 0; i < 4 * side * side; ++i) batch.mutable_pixels()->push_back(static_cast<char>(i * 7));
  return batch;
}

TEST(PrefetcherTest, DecodedPixelsAreTakenAsTheyAre) {
  const v1::Batch batch = DecodedBatch(kSide);
  const auto prefetcher =
      MakePrefetcher(std::make_unique<ListSource>(std::vector<v1::Batch>{batch}), Options());
  const std::vector<uint8_t> pixels = prefetcher->Next().value().pixels;
  EXPECT_EQ(std::string(pixels.begin(), pixels.end()), batch.pixels());
}

TEST(PrefetcherTest, DecodedPixelsOfAnotherSizeAreRefused) {
  const auto prefetcher = MakePrefetcher(
      std::make_unique<ListSource>(std::vector<v1::Batch>{DecodedBatch(kSide + 1)}), Options());
  const absl::Status status = prefetcher->Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("25x25x1"), HasSubstr("24x24x1")));
}

// Four images one behind the other in one file.
class ReferenceTest : public ::testing::Test {
 protected:
  ReferenceTest() {
    std::string shard;
    batch_ = EncodedBatch(0);
    batch_.set_payload(v1::PAYLOAD_KIND_REFERENCE);
    for (v1::Sample& sample : *batch_.mutable_samples()) {
      sample.set_crc32c(Crc32c(sample.encoded()));
      sample.mutable_reference()->set_path(dir_ / "shard");
      sample.mutable_reference()->set_offset(shard.size());
      sample.mutable_reference()->set_size(sample.encoded().size());
      shard += sample.encoded();
      sample.clear_encoded();
    }
    testing::WriteTestFile(dir_ / "shard", shard);
  }
  testing::TempDir dir_;
  v1::Batch batch_;
};

TEST_F(ReferenceTest, PrefetcherReadsTheFilesItself) {
  const auto by_reference =
      MakePrefetcher(std::make_unique<ListSource>(std::vector<v1::Batch>{batch_}), Options());
  const auto encoded = MakePrefetcher(SourceOf(1), Options());
  EXPECT_EQ(by_reference->Next().value().pixels, encoded->Next().value().pixels);
}

TEST_F(ReferenceTest, ChangedBytesAreDataLoss) {
  batch_.mutable_samples(1)->set_crc32c(1);
  const absl::Status status = ReferenceReader().Read(FromProto(batch_).value(), 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("sample 1 of identity 0"));
}

TEST_F(ReferenceTest, ChecksumsMayBeLeftUnchecked) {
  batch_.mutable_samples(1)->set_crc32c(1);
  EXPECT_TRUE(ReferenceReader(false).Read(FromProto(batch_).value(), 1).ok());
}

TEST_F(ReferenceTest, ShortFileIsDataLoss) {
  v1::Sample& sample = *batch_.mutable_samples(3);
  sample.mutable_reference()->set_size(1 << 20);
  EXPECT_EQ(ReferenceReader().Read(FromProto(batch_).value(), 3).status().code(),
            absl::StatusCode::kDataLoss);
  sample.mutable_reference()->set_offset(UINT64_MAX);
  EXPECT_EQ(ReferenceReader().Read(FromProto(batch_).value(), 3).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(ReferenceTest, MissingFileSaysWhatToAskForInstead) {
  v1::Sample& sample = *batch_.mutable_samples(0);
  sample.mutable_reference()->set_path(dir_ / "gone");
  EXPECT_THAT(std::string(ReferenceReader().Read(FromProto(batch_).value(), 0).status().message()),
              AllOf(HasSubstr("gone"), HasSubstr("ENCODED")));
}

TEST_F(ReferenceTest, MoreFilesThanItKeepsOpenStillRead) {
  ReferenceReader reader(true, 2);
  std::vector<ReferenceReader::Bytes> kept;
  for (int i = 0; i < 5; ++i) {
    testing::WriteTestFile(dir_ / absl::StrCat("file", i), std::string(10, static_cast<char>('a' + i)));
    v1::Batch batch;
    v1::Sample& sample = *batch.add_samples();
    sample.mutable_reference()->set_path(dir_ / absl::StrCat("file", i));
    sample.mutable_reference()->set_size(10);
    sample.set_crc32c(Crc32c(std::string(10, static_cast<char>('a' + i))));
    kept.push_back(reader.Read(FromProto(batch).value(), 0).value());
  }
  for (int i = 0; i < 5; ++i) EXPECT_EQ(kept[i].data[9], 'a' + i);
}

}  // namespace
}  // namespace doppel
