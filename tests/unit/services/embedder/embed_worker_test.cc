#include "services/embedder/embed_worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <thread>
#include <utility>

#include "tests/unit/services/embedder/fakes.h"

namespace doppel {
namespace {

// A miner with ranges to hand out, in one process. Thread-safe.
class FakeMiner : public LeaseService {
 public:
  void Offer(uint64_t first, uint64_t count, const std::string& model = "model") {
    absl::MutexLock lock(&mutex_);
    v1::EmbeddingLease lease;
    lease.set_lease(++leases_);
    lease.set_operation("operations/1");
    lease.set_catalog_path("catalog");
    lease.set_catalog_fingerprint("catalog-fingerprint");
    lease.set_model_path(model);
    lease.set_model_fingerprint(model + "-fingerprint");
    lease.set_first_identity(first);
    lease.set_identity_count(count);
    lease.set_lease_seconds(lease_seconds_);
    offers_.push_back(lease);
  }

  absl::StatusOr<v1::LeaseRangeResponse> Lease(const v1::LeaseRangeRequest& request) override {
    absl::MutexLock lock(&mutex_);
    ++asked_;
    worker_ = request.worker();
    if (away_ > 0) {
      --away_;
      return absl::UnavailableError("connection refused");
    }
    if (!lease_error_.ok()) return lease_error_;
    v1::LeaseRangeResponse response;
    if (offers_.empty()) {
      response.set_retry_after_seconds(0.02);
      return response;
    }
    *response.mutable_lease() = offers_.front();
    offers_.pop_front();
    return response;
  }
  absl::StatusOr<v1::RenewLeaseResponse> Renew(const v1::RenewLeaseRequest& request) override {
    absl::MutexLock lock(&mutex_);
    ++renewed_[request.lease()];
    if (unknown_.count(request.lease()) > 0) return absl::NotFoundError("the lease has expired");
    v1::RenewLeaseResponse response;
    response.set_lease_seconds(lease_seconds_);
    return response;
  }
  absl::StatusOr<v1::CommitRangeResponse> Commit(const v1::CommitRangeRequest& request) override {
    absl::MutexLock lock(&mutex_);
    ++commit_calls_;
    if (commit_away_ > 0) {
      --commit_away_;
      return absl::UnavailableError("connection reset");
    }
    if (unknown_.count(request.lease()) > 0) return absl::NotFoundError("the lease has expired");
    commits_.push_back(request);
    v1::CommitRangeResponse response;
    response.set_accepted(true);
    return response;
  }

  // False after ten seconds.
  template <typename Condition>
  bool WaitFor(Condition condition) {
    absl::MutexLock lock(&mutex_);
    auto holds = [&] { return condition(*this); };
    return mutex_.AwaitWithTimeout(absl::Condition(&holds), absl::Seconds(10));
  }

  absl::Mutex mutex_;
  double lease_seconds_ = 60;
  uint64_t leases_ = 0;
  int asked_ = 0;
  int away_ = 0;
  int commit_away_ = 0;
  int commit_calls_ = 0;
  absl::Status lease_error_;
  std::string worker_;
  std::deque<v1::EmbeddingLease> offers_;
  std::set<uint64_t> unknown_;
  std::map<uint64_t, int> renewed_;
  std::vector<v1::CommitRangeRequest> commits_;
};

// Holds every Embed until opened.
class GatedModel : public FakeModel {
 public:
  explicit GatedModel(std::shared_ptr<std::atomic<bool>> open) : open_(std::move(open)) {}
  absl::Status Embed(absl::Span<const uint8_t> images, int64_t n, float* out) override {
    while (!*open_) std::this_thread::yield();
    return FakeModel::Embed(images, n, out);
  }
  absl::StatusOr<std::unique_ptr<EmbeddingModel>> Clone() const override {
    return std::unique_ptr<EmbeddingModel>(std::make_unique<GatedModel>(*this));
  }

 private:
  std::shared_ptr<std::atomic<bool>> open_;
};

class EmbedWorkerTest : public ::testing::Test {
 protected:
  EmbedWorkerTest() {
    options_.name = "tester";
    options_.batch_size = 4;
    options_.first_backoff = absl::Milliseconds(1);
    options_.last_backoff = absl::Milliseconds(5);
    options_.open_catalog =
        [this](const std::string& path) -> absl::StatusOr<std::shared_ptr<const Catalog>> {
      if (path != "catalog") return absl::NotFoundError(path);
      return std::shared_ptr<const Catalog>(catalog_);
    };
    options_.open_model = [this](const std::string& path) -> absl::StatusOr<std::unique_ptr<EmbeddingModel>> {
      ++models_opened_;
      if (path == "broken") return absl::DataLossError("broken");
      auto model = gate_ ? std::make_unique<GatedModel>(gate_) : std::make_unique<FakeModel>();
      model->set_fingerprint(path + "-fingerprint");
      return std::unique_ptr<EmbeddingModel>(std::move(model));
    };
  }
  ~EmbedWorkerTest() override { Finish(); }

  void Start() {
    worker_ = std::make_unique<EmbedWorker>(options_, miner_);
    thread_ = std::thread([this] { status_ = worker_->Run(); });
  }
  void Finish() {
    if (!thread_.joinable()) return;
    worker_->Stop();
    thread_.join();
    EXPECT_TRUE(status_.ok()) << status_;
  }
  static auto Committed(size_t count) {
    return [count](const FakeMiner& miner) { return miner.commits_.size() >= count; };
  }

  std::shared_ptr<FakeCatalog> catalog_ = std::make_shared<FakeCatalog>(std::vector<uint32_t>(40, 3));
  std::shared_ptr<std::atomic<bool>> gate_;
  std::atomic<int> models_opened_ = 0;
  FakeMiner miner_;
  EmbedWorkerOptions options_;
  std::unique_ptr<EmbedWorker> worker_;
  std::thread thread_;
  absl::Status status_;
};

TEST_F(EmbedWorkerTest, CommitsWhatEmbedRangeGives) {
  for (uint64_t first = 0; first < 40; first += 10) miner_.Offer(first, 10);
  Start();
  ASSERT_TRUE(miner_.WaitFor(Committed(4)));
  Finish();
  std::set<uint64_t> firsts;
  for (const v1::CommitRangeRequest& commit : miner_.commits_) {
    firsts.insert(commit.first_identity());
    EmbedRangeSpec range;
    range.first_identity = commit.first_identity();
    range.identity_count = commit.identity_count();
    const auto expected = EmbedRange(catalog_, Models(1), range, 4);
    ASSERT_TRUE(expected.ok());
    EXPECT_EQ(commit.representations(), std::string(reinterpret_cast<const char*>(expected->values.data()),
                                                    expected->values.size() * sizeof(float)));
    EXPECT_THAT(commit.samples(), ::testing::ElementsAreArray(expected->samples));
    EXPECT_EQ(commit.dimension(), kFakeDimension);
    EXPECT_EQ(commit.operation(), "operations/1");
    EXPECT_EQ(commit.model_fingerprint(), "model-fingerprint");
  }
  EXPECT_EQ(firsts, (std::set<uint64_t>{0, 10, 20, 30}));
  EXPECT_EQ(miner_.worker_, "tester");
  EXPECT_EQ(models_opened_, 1);
  EXPECT_EQ(worker_->counters().committed_ranges, 4);
  EXPECT_EQ(worker_->counters().committed_samples, 120);
}

TEST_F(EmbedWorkerTest, LeasesAheadWhileItWorks) {
  gate_ = std::make_shared<std::atomic<bool>>(false);
  for (uint64_t first = 0; first < 30; first += 10) miner_.Offer(first, 10);
  Start();
  EXPECT_TRUE(miner_.WaitFor([](const FakeMiner& m) { return m.offers_.size() == 1; }));
  *gate_ = true;
  EXPECT_TRUE(miner_.WaitFor(Committed(3)));
}

TEST_F(EmbedWorkerTest, FailuresTravelWithTheCommit) {
  catalog_->Break(4);
  miner_.Offer(0, 10);
  Start();
  ASSERT_TRUE(miner_.WaitFor(Committed(1)));
  Finish();
  EXPECT_EQ(miner_.commits_[0].failed_samples(), 1);
  ASSERT_EQ(miner_.commits_[0].failures_size(), 1);
  EXPECT_THAT(miner_.commits_[0].failures(0), ::testing::HasSubstr("id1/k1"));
}

TEST_F(EmbedWorkerTest, AsksAgainWhenThereIsNothingToDo) {
  Start();
  ASSERT_TRUE(miner_.WaitFor([](const FakeMiner& m) { return m.asked_ >= 2; }));
  miner_.Offer(0, 10);
  EXPECT_TRUE(miner_.WaitFor(Committed(1)));
}

TEST_F(EmbedWorkerTest, WaitsForAMinerThatIsAway) {
  miner_.away_ = 5;
  miner_.Offer(0, 10);
  Start();
  EXPECT_TRUE(miner_.WaitFor(Committed(1)));
}

TEST_F(EmbedWorkerTest, KeepsFinishedWorkForAMinerThatGoesAway) {
  miner_.commit_away_ = 3;
  miner_.Offer(0, 10);
  Start();
  ASSERT_TRUE(miner_.WaitFor(Committed(1)));
  EXPECT_EQ(miner_.commit_calls_, 4);
  EXPECT_EQ(miner_.commits_.size(), 1);
}

TEST_F(EmbedWorkerTest, PermanentErrorsEndTheRun) {
  miner_.lease_error_ = absl::PermissionDeniedError("not you");
  Start();
  thread_.join();
  EXPECT_EQ(status_.code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(EmbedWorkerTest, RenewsLeasesOfLongWork) {
  gate_ = std::make_shared<std::atomic<bool>>(false);
  miner_.lease_seconds_ = 0.05;
  miner_.Offer(0, 10);
  Start();
  EXPECT_TRUE(
      miner_.WaitFor([](const FakeMiner& m) { return m.renewed_.count(1) > 0 && m.renewed_.at(1) >= 3; }));
  *gate_ = true;
  EXPECT_TRUE(miner_.WaitFor(Committed(1)));
}

TEST_F(EmbedWorkerTest, DropsWorkWhoseLeaseIsUnknownAndGoesOn) {
  gate_ = std::make_shared<std::atomic<bool>>(false);
  miner_.lease_seconds_ = 0.05;
  miner_.unknown_ = {1};
  miner_.Offer(0, 40);
  miner_.Offer(0, 10);
  Start();
  EXPECT_TRUE(miner_.WaitFor([](const FakeMiner& m) { return m.renewed_.count(1) > 0; }));
  *gate_ = true;
  ASSERT_TRUE(miner_.WaitFor(Committed(1)));
  Finish();
  EXPECT_EQ(miner_.commits_[0].lease(), 2);
  EXPECT_EQ(worker_->counters().dropped_ranges, 1);
}

TEST_F(EmbedWorkerTest, CommitToAnUnknownLeaseIsDropped) {
  miner_.unknown_ = {1};
  miner_.Offer(0, 10);
  miner_.Offer(10, 10);
  Start();
  ASSERT_TRUE(miner_.WaitFor(Committed(1)));
  Finish();
  EXPECT_EQ(miner_.commits_[0].lease(), 2);
}

TEST_F(EmbedWorkerTest, ChangesTheModelBetweenRanges) {
  miner_.Offer(0, 10, "model");
  miner_.Offer(10, 10, "other");
  miner_.Offer(20, 10, "model");
  Start();
  ASSERT_TRUE(miner_.WaitFor(Committed(3)));
  Finish();
  std::map<uint64_t, std::string> models;
  for (const auto& commit : miner_.commits_) models[commit.first_identity()] = commit.model_fingerprint();
  EXPECT_EQ(models[0], "model-fingerprint");
  EXPECT_EQ(models[10], "other-fingerprint");
  EXPECT_EQ(models[20], "model-fingerprint");
}

TEST_F(EmbedWorkerTest, ModelsThatCannotBeOpenedDoNotStopTheRest) {
  miner_.Offer(0, 10, "broken");
  miner_.Offer(10, 10);
  Start();
  ASSERT_TRUE(miner_.WaitFor(Committed(1)));
  Finish();
  EXPECT_EQ(miner_.commits_[0].first_identity(), 10);
  EXPECT_EQ(worker_->counters().dropped_ranges, 1);
}

TEST_F(EmbedWorkerTest, StopFinishesWhatIsLeased) {
  gate_ = std::make_shared<std::atomic<bool>>(false);
  options_.leases = 1;
  options_.grace = absl::Hours(1);  // and does not wait for its end
  miner_.Offer(0, 10);
  miner_.Offer(10, 10);
  Start();
  ASSERT_TRUE(miner_.WaitFor([](const FakeMiner& m) { return m.offers_.size() == 1; }));
  worker_->Stop();
  *gate_ = true;
  Finish();
  ASSERT_EQ(miner_.commits_.size(), 1);
  EXPECT_EQ(miner_.commits_[0].first_identity(), 0);
}

TEST_F(EmbedWorkerTest, StopWithoutGraceDropsTheWork) {
  options_.grace = absl::ZeroDuration();
  miner_.commit_away_ = 1000000;
  miner_.Offer(0, 10);
  Start();
  ASSERT_TRUE(miner_.WaitFor([](const FakeMiner& m) { return m.commit_calls_ >= 1; }));
  Finish();
  EXPECT_TRUE(miner_.commits_.empty());
  EXPECT_EQ(worker_->counters().dropped_ranges, 1);
}

TEST_F(EmbedWorkerTest, StopWhileIdleEndsAtOnce) {
  Start();
  ASSERT_TRUE(miner_.WaitFor([](const FakeMiner& m) { return m.asked_ >= 1; }));
  Finish();
}

}  // namespace
}  // namespace doppel
