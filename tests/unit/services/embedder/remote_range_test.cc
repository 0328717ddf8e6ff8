#include "services/embedder/remote_range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/catalog/sample_selection.h"
#include "common/io/crc32c.h"
#include "services/embedder/embed_range.h"
#include "tests/unit/services/embedder/fakes.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

// Serves ranges of a catalog, a few samples per message; breaks off as often as told.
class FakeRangeSource : public RangeSource {
 public:
  explicit FakeRangeSource(const Catalog& catalog) : catalog_(catalog) {}

  std::unique_ptr<RangeReader> Fetch(const v1::FetchRangeRequest& request) override {
    ++fetches;
    auto reader = std::make_unique<Reader>();
    if (!refuse.ok()) {
      reader->end = refuse;
      return reader;
    }
    v1::FetchRangeResponse& first = reader->responses.emplace_back();
    uint64_t skip = request.skip();
    v1::FetchRangeResponse message;
    for (uint64_t i = 0; i < request.identity_count(); ++i) {
      const uint64_t identity = request.identities_size() > 0 ? request.identities(static_cast<int>(i))
                                                              : request.first_identity() + i;
      const IdentitySamples samples = catalog_.Samples(identity);
      first.mutable_table()->add_samples(samples.count);
      first.mutable_table()->add_first_samples(samples.first);
      first.mutable_table()->add_names(std::string(catalog_.IdentityName(identity)));
      for (uint64_t k = 0; k < SelectedSamples(samples.count, request.samples_per_identity()); ++k) {
        if (skip > 0) {
          --skip;
          continue;
        }
        const uint64_t sample = samples.first + SelectedSample(samples.count, request.samples_per_identity(),
                                                               request.seed(), identity, k);
        v1::RangeSample* one = message.add_samples();
        one->set_sample(sample);
        one->set_key(std::string(catalog_.SampleKey(sample)));
        if (sample == unreadable) {
          one->set_error("the disk of the miner is broken");
          continue;
        }
        one->set_encoded(std::string(catalog_.Read(sample)->data));
        one->set_crc32c(Crc32c(one->encoded()) + (sample == flipped ? 1 : 0));
        if (message.samples_size() == 3) {
          reader->responses.push_back(message);
          message.Clear();
        }
      }
    }
    if (message.samples_size() > 0) reader->responses.push_back(message);
    if (breaks > 0) {
      --breaks;
      // The table and one message get through.
      while (reader->responses.size() > 2) reader->responses.pop_back();
      reader->end = absl::UnavailableError("connection reset");
    }
    return reader;
  }

  std::atomic<int> fetches{0};
  int breaks = 0;
  absl::Status refuse;
  uint64_t unreadable = 1 << 20;
  uint64_t flipped = 1 << 20;

 private:
  struct Reader : RangeReader {
    bool Read(v1::FetchRangeResponse* response) override {
      if (cancelled || responses.empty()) return false;
      *response = std::move(responses.front());
      responses.pop_front();
      return true;
    }
    absl::Status Finish() override { return cancelled ? absl::CancelledError("cancelled") : end; }
    void Cancel() override { cancelled = true; }
    std::deque<v1::FetchRangeResponse> responses;
    absl::Status end;
    std::atomic<bool> cancelled{false};
  };
  const Catalog& catalog_;
};

class RemoteRangeTest : public ::testing::Test {
 protected:
  RemoteRangeTest()
      : catalog_(std::make_shared<FakeCatalog>(std::vector<uint32_t>{3, 7, 1, 12, 5, 9})),
        source_(*catalog_) {
    options_.first_backoff = absl::Milliseconds(1);
    options_.buffer_bytes = 200;
  }
  v1::EmbeddingLease Lease(uint32_t samples_per_identity = 0) {
    v1::EmbeddingLease lease;
    lease.set_catalog_path("/elsewhere");
    lease.set_catalog_fingerprint(catalog_->fingerprint());
    lease.set_first_identity(1);
    lease.set_identity_count(4);
    lease.set_samples_per_identity(samples_per_identity);
    lease.set_seed(3);
    return lease;
  }
  absl::StatusOr<Representations> Embed(std::shared_ptr<const Catalog> catalog, uint32_t samples_per_identity,
                                        int threads) {
    std::vector<std::unique_ptr<EmbeddingModel>> models;
    for (int i = 0; i < threads; ++i) models.push_back(std::make_unique<FakeModel>(/*sees_batch=*/true));
    return EmbedRange(std::move(catalog), std::move(models), {1, 4, samples_per_identity, 3}, 4);
  }
  void ExpectSame(uint32_t samples_per_identity, int threads) {
    auto range = OpenRemoteRange(source_, Lease(samples_per_identity), options_);
    ASSERT_TRUE(range.ok()) << range.status();
    const auto remote = Embed(range->catalog, samples_per_identity, threads);
    const auto local = Embed(catalog_, samples_per_identity, threads);
    ASSERT_TRUE(remote.ok()) << remote.status();
    EXPECT_EQ(remote->values, local->values);
    EXPECT_EQ(remote->samples, local->samples);
    EXPECT_EQ(remote->failed_samples, local->failed_samples);
  }

  std::shared_ptr<FakeCatalog> catalog_;
  FakeRangeSource source_;
  RemoteRangeOptions options_;
};

TEST_F(RemoteRangeTest, EmbedsAsTheCatalogItselfWould) {
  ExpectSame(0, 1);
  ExpectSame(0, 3);
}

TEST_F(RemoteRangeTest, EmbedsTheSameSelection) { ExpectSame(2, 2); }

TEST_F(RemoteRangeTest, AListOfIdentitiesGivesTheirRows) {
  v1::EmbeddingLease lease = Lease();
  for (uint64_t identity : {5, 0, 3, 2}) lease.add_identities(identity);
  auto range = OpenRemoteRange(source_, lease, options_);
  ASSERT_TRUE(range.ok()) << range.status();
  const EmbedRangeSpec spec = {1, 4, 0, 3, {5, 0, 3, 2}};
  const auto embed = [&spec](std::shared_ptr<const Catalog> catalog) {
    std::vector<std::unique_ptr<EmbeddingModel>> models;
    models.push_back(std::make_unique<FakeModel>());
    return EmbedRange(std::move(catalog), std::move(models), spec, 4);
  };
  const auto remote = embed(range->catalog);
  const auto local = embed(catalog_);
  ASSERT_TRUE(remote.ok()) << remote.status();
  EXPECT_EQ(remote->values, local->values);
  EXPECT_THAT(local->samples, ::testing::ElementsAre(9, 3, 12, 1));
}

TEST_F(RemoteRangeTest, GoesOnWhereABrokenStreamStopped) {
  source_.breaks = 4;
  ExpectSame(0, 2);
  EXPECT_EQ(source_.fetches, 5);
}

TEST_F(RemoteRangeTest, BrokenImagesAreLeftOutAsTheyWouldBeThere) {
  catalog_->Break(12);
  ExpectSame(0, 2);
}

TEST_F(RemoteRangeTest, SamplesThatTheMinerCannotReadAreNamed) {
  source_.unreadable = 12;
  source_.flipped = 13;
  auto range = OpenRemoteRange(source_, Lease(), options_);
  const auto embedded = Embed(range->catalog, 0, 2);
  ASSERT_TRUE(embedded.ok()) << embedded.status();
  EXPECT_EQ(embedded->failed_samples, 2u);
  ASSERT_EQ(embedded->failures.size(), 2u);
  EXPECT_THAT(embedded->failures[0], HasSubstr("the disk of the miner is broken"));
  EXPECT_THAT(embedded->failures[1], HasSubstr("checksum"));
}

TEST_F(RemoteRangeTest, WhatCannotBeFetchedFailsTheRangeAndNoSample) {
  source_.breaks = 1 << 20;
  options_.patience = absl::ZeroDuration();
  auto range = OpenRemoteRange(source_, Lease(), options_);
  ASSERT_TRUE(range.ok());
  EXPECT_TRUE(absl::IsUnavailable(Embed(range->catalog, 0, 2).status()));
}

TEST_F(RemoteRangeTest, ARefusalIsTheMiners) {
  source_.refuse = absl::FailedPreconditionError("another catalog");
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenRemoteRange(source_, Lease(), options_).status()));
}

TEST_F(RemoteRangeTest, ClosingWakesThoseWhoWait) {
  options_.buffer_bytes = 1;  // the stream stands still after the first message
  auto range = OpenRemoteRange(source_, Lease(), options_);
  ASSERT_TRUE(range.ok());
  std::thread reader([&range] {
    // The last sample: it cannot come before the others are read.
    EXPECT_TRUE(absl::IsUnavailable(range->catalog->ReadChecked(27).status()));
  });
  range->close();
  reader.join();
}

TEST_F(RemoteRangeTest, OtherIdentitiesAreEmpty) {
  auto range = OpenRemoteRange(source_, Lease(), options_);
  EXPECT_EQ(range->catalog->Samples(0).count, 0u);
  EXPECT_EQ(range->catalog->Samples(5).count, 0u);
  EXPECT_EQ(range->catalog->Samples(3).first, catalog_->Samples(3).first);
  EXPECT_EQ(range->catalog->IdentityName(3), "id3");
}

}  // namespace
}  // namespace doppel
