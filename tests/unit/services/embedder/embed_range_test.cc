#include "services/embedder/embed_range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "common/base/permutation.h"
#include "common/base/philox.h"
#include "tests/unit/services/embedder/fakes.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<FakeCatalog> SomeCatalog() {
  return std::make_shared<FakeCatalog>(std::vector<uint32_t>{3, 1, 7, 0, 2, 20, 4, 1, 1, 5});
}

EmbedRangeSpec Range(uint64_t first, uint64_t count, uint32_t samples = 0, uint64_t seed = 0) {
  EmbedRangeSpec range;
  range.first_identity = first;
  range.identity_count = count;
  range.samples_per_identity = samples;
  range.seed = seed;
  return range;
}

Representations Embed(std::shared_ptr<const Catalog> catalog, const EmbedRangeSpec& range, int threads,
                      int batch_size, const FakeModel& model = FakeModel()) {
  auto result = EmbedRange(std::move(catalog), Models(threads, model), range, batch_size);
  EXPECT_TRUE(result.ok()) << result.status();
  return std::move(result).value();
}

std::vector<uint64_t> AllSamples(const Catalog& catalog, uint64_t identity) {
  std::vector<uint64_t> samples;
  const IdentitySamples all = catalog.Samples(identity);
  for (uint64_t k = 0; k < all.count; ++k) samples.push_back(all.first + k);
  return samples;
}

void ExpectRow(const Representations& result, uint64_t row, const std::vector<double>& expected) {
  for (int d = 0; d < kFakeDimension; ++d) {
    EXPECT_NEAR(result.values[row * kFakeDimension + d], expected[d], 1e-6) << "row " << row;
  }
}

TEST(EmbedRange, AgreesWithANaiveLoopAtEveryBatchSize) {
  auto catalog = SomeCatalog();
  for (int batch_size : {1, 2, 3, 5, 8, 44, 192}) {
    const Representations result = Embed(catalog, Range(0, 10), 2, batch_size);
    ASSERT_EQ(result.dimension, kFakeDimension);
    ASSERT_EQ(result.values.size(), 10 * kFakeDimension);
    for (uint64_t i = 0; i < 10; ++i) {
      ExpectRow(result, i, NaiveMean(*catalog, AllSamples(*catalog, i)));
      EXPECT_EQ(result.samples[i], catalog->Samples(i).count);
    }
    EXPECT_EQ(result.failed_samples, 0);
  }
}

TEST(EmbedRange, RowsAreThoseOfTheRange) {
  auto catalog = SomeCatalog();
  const Representations result = Embed(catalog, Range(4, 3), 1, 4);
  ASSERT_EQ(result.samples.size(), 3);
  for (uint64_t row = 0; row < 3; ++row)
    ExpectRow(result, row, NaiveMean(*catalog, AllSamples(*catalog, 4 + row)));
}

TEST(EmbedRange, MeanIsNotNormalisedAgain) {
  auto catalog = SomeCatalog();
  const Representations result = Embed(catalog, Range(5, 1), 1, 8);
  double square = 0;
  for (float x : result.values) square += static_cast<double>(x) * x;
  EXPECT_LT(square, 0.999);
}

TEST(EmbedRange, ResultDoesNotDependOnThreads) {
  auto catalog = SomeCatalog();
  catalog->Break(9);
  const Representations one = Embed(catalog, Range(0, 10), 1, 4, FakeModel(/*sees_batch=*/true));
  for (int threads : {2, 3, 8}) {
    const Representations many = Embed(catalog, Range(0, 10), threads, 4, FakeModel(/*sees_batch=*/true));
    EXPECT_EQ(one.values, many.values);
    EXPECT_EQ(one.samples, many.samples);
    EXPECT_EQ(one.failures, many.failures);
  }
}

TEST(EmbedRange, SamplesAreDrawnByTheKeyedPermutation) {
  auto catalog = SomeCatalog();
  const uint64_t seed = 42;
  const Representations result = Embed(catalog, Range(0, 10, 3, seed), 2, 4);
  for (uint64_t i = 0; i < 10; ++i) {
    const IdentitySamples all = catalog->Samples(i);
    std::vector<uint64_t> chosen = AllSamples(*catalog, i);
    if (all.count > 3) {
      const KeyedPermutation permutation(all.count, MixKey(seed, i));
      chosen = {all.first + permutation(0), all.first + permutation(1), all.first + permutation(2)};
    }
    EXPECT_EQ(result.samples[i], chosen.size());
    ExpectRow(result, i, NaiveMean(*catalog, chosen));
  }
}

TEST(EmbedRange, OtherSeedsDrawOtherSamples) {
  auto catalog = SomeCatalog();
  EXPECT_NE(Embed(catalog, Range(5, 1, 3, 1), 1, 4).values, Embed(catalog, Range(5, 1, 3, 2), 1, 4).values);
}

TEST(EmbedRange, UndecodableSamplesAreNamedAndLeftOut) {
  auto catalog = SomeCatalog();
  catalog->Break(5);   // identity 2
  catalog->Break(11);  // identity 4
  const Representations result = Embed(catalog, Range(0, 10), 2, 4);
  EXPECT_EQ(result.failed_samples, 2);
  ASSERT_EQ(result.failures.size(), 2);
  EXPECT_THAT(result.failures[0], HasSubstr("id2/k1 (memory)"));
  EXPECT_THAT(result.failures[1], HasSubstr("id4/k0 (memory)"));
  EXPECT_EQ(result.samples[2], 6);
  ExpectRow(result, 2, NaiveMean(*catalog, {4, 6, 7, 8, 9, 10}));
}

TEST(EmbedRange, IdentityWithoutGoodSamplesIsZero) {
  auto catalog = SomeCatalog();
  catalog->Break(11);
  catalog->Break(12);
  const Representations result =
      Embed(catalog, Range(3, 2), 1, 4);  // one without samples, one with broken ones
  EXPECT_EQ(result.samples, (std::vector<uint32_t>{0, 0}));
  EXPECT_EQ(result.values, std::vector<float>(2 * kFakeDimension));
  EXPECT_EQ(result.failed_samples, 2);
}

TEST(EmbedRange, AWholeBatchMayFail) {
  auto catalog = std::make_shared<FakeCatalog>(std::vector<uint32_t>{4, 4});
  for (uint64_t sample = 0; sample < 4; ++sample) catalog->Break(sample);
  const Representations result = Embed(catalog, Range(0, 2), 1, 4);
  EXPECT_EQ(result.samples, (std::vector<uint32_t>{0, 4}));
}

TEST(EmbedRange, FailuresAreCountedInFullAndNamedUpToAHundred) {
  auto catalog = std::make_shared<FakeCatalog>(std::vector<uint32_t>{150});
  for (uint64_t sample = 0; sample < 130; ++sample) catalog->Break(sample);
  const Representations result = Embed(catalog, Range(0, 1), 2, 16);
  EXPECT_EQ(result.failed_samples, 130);
  EXPECT_EQ(result.failures.size(), 100);
  EXPECT_EQ(result.samples[0], 20);
}

TEST(EmbedRange, EmbeddingsThatAreNotFiniteAreLeftOut) {
  FakeModel model;
  model.set_not_finite(true);
  const Representations result = Embed(SomeCatalog(), Range(0, 2), 1, 4, model);
  EXPECT_EQ(result.failed_samples, 4);
  EXPECT_THAT(result.failures[0], HasSubstr("not finite"));
  EXPECT_EQ(result.values, std::vector<float>(2 * kFakeDimension));
}

TEST(EmbedRange, ErrorsOfTheNetEndTheRange) {
  FakeModel model;
  model.set_fail(true);
  const auto result = EmbedRange(SomeCatalog(), Models(2, model), Range(0, 10), 2);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal);
}

TEST(EmbedRange, EmptyRangeGivesNothing) {
  const Representations result = Embed(SomeCatalog(), Range(10, 0), 1, 4);
  EXPECT_TRUE(result.values.empty());
  EXPECT_TRUE(result.samples.empty());
}

TEST(EmbedRange, RangeOutsideTheCatalogIsRefused) {
  EXPECT_EQ(EmbedRange(SomeCatalog(), Models(1), Range(5, 6), 4).status().code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(EmbedRange(SomeCatalog(), Models(1), Range(11, 0), 4).status().code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(EmbedRange(SomeCatalog(), Models(1), Range(1, ~uint64_t{0}), 4).status().code(),
            absl::StatusCode::kOutOfRange);
}

TEST(EmbedRange, NoModelIsRefused) {
  EXPECT_EQ(EmbedRange(SomeCatalog(), {}, Range(0, 1), 4).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(EmbedPool, SeveralJobsAtOnceGiveWhatEachGivesAlone) {
  auto catalog = SomeCatalog();
  EmbedPool pool(Models(3), 4);
  std::atomic<int> ended = 0;
  std::vector<std::shared_ptr<EmbedJob>> jobs;
  for (uint64_t first = 0; first < 10; ++first) {
    auto job = pool.Submit(catalog, Range(first, 1), [&] { ++ended; });
    ASSERT_TRUE(job.ok());
    jobs.push_back(*job);
  }
  for (uint64_t first = 0; first < 10; ++first) {
    const auto result = jobs[first]->Take();
    ASSERT_TRUE(result.ok());
    EXPECT_TRUE(jobs[first]->Done());
    EXPECT_EQ(result->values, Embed(catalog, Range(first, 1), 1, 4).values);
  }
  jobs.clear();
}

TEST(EmbedPool, CancelledJobEndsAsCancelled) {
  auto catalog = std::make_shared<FakeCatalog>(std::vector<uint32_t>(200, 3));
  EmbedPool pool(Models(1), 1);
  const auto first = pool.Submit(catalog, Range(0, 200));
  const auto second = pool.Submit(catalog, Range(0, 200));
  (*second)->Cancel();
  EXPECT_EQ((*second)->Take().status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE((*first)->Take().ok());
}

TEST(EmbedPool, DestructionEndsWhatIsQueued) {
  auto catalog = std::make_shared<FakeCatalog>(std::vector<uint32_t>(200, 3));
  std::shared_ptr<EmbedJob> job;
  {
    EmbedPool pool(Models(1), 1);
    ASSERT_TRUE(pool.Submit(catalog, Range(0, 200)).ok());
    job = *pool.Submit(catalog, Range(0, 200));
  }
  EXPECT_TRUE(job->Done());
}

}  // namespace
}  // namespace doppel
