#include "services/embedder/remote_range.h"

#include <algorithm>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

// Errors that asking again does not mend.
bool IsFinal(const absl::Status& status) {
  return !(absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsCancelled(status) ||
           absl::IsResourceExhausted(status) || absl::IsInternal(status));
}

class RemoteRangeCatalog final : public Catalog {
 public:
  RemoteRangeCatalog(RangeSource& source, const v1::EmbeddingLease& lease, const RemoteRangeOptions& options)
      : source_(source), lease_(lease), options_(options) {
    request_.set_catalog_fingerprint(lease.catalog_fingerprint());
    request_.set_first_identity(lease.first_identity());
    request_.set_identity_count(lease.identity_count());
    request_.set_samples_per_identity(lease.samples_per_identity());
    request_.set_seed(lease.seed());
    *request_.mutable_identities() = lease.identities();
  }
  ~RemoteRangeCatalog() override {
    Close();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Open() {
    std::shared_ptr<RangeReader> reader = Ask();
    v1::FetchRangeResponse response;
    if (!reader->Read(&response)) {
      const absl::Status status = reader->Finish();
      return status.ok() ? absl::UnavailableError("the miner sent no table of the range") : status;
    }
    const v1::RangeTable& table = response.table();
    if (static_cast<uint64_t>(table.samples_size()) != lease_.identity_count() ||
        table.names_size() != table.samples_size() || table.first_samples_size() != table.samples_size()) {
      reader->Cancel();
      (void)reader->Finish();
      return absl::InternalError(absl::StrCat("the miner's table has ", table.samples_size(),
                                              " identities for a range of ", lease_.identity_count()));
    }
    names_.assign(table.names().begin(), table.names().end());
    samples_.reserve(lease_.identity_count());
    uint64_t total = 0;
    for (int i = 0; i < table.samples_size(); ++i) {
      samples_.push_back({table.first_samples(i), table.samples(i)});
      total += table.samples(i);
      end_sample_ = std::max(end_sample_, table.first_samples(i) + table.samples(i));
      const uint64_t identity = lease_.identities_size() > 0
                                    ? lease_.identities(i)
                                    : lease_.first_identity() + static_cast<uint64_t>(i);
      rows_[identity] = static_cast<size_t>(i);
      end_identity_ = std::max(end_identity_, identity + 1);
    }
    absl::Status taken = TakeScattered(table);
    if (!taken.ok()) {
      reader->Cancel();
      (void)reader->Finish();
      return taken;
    }
    CatalogSplitInfo split;
    split.name = "range";
    split.first_identity = lease_.first_identity();
    split.identities = lease_.identity_count();
    split.samples = total;
    splits_.push_back(split);
    thread_ = std::thread([this, reader = std::move(reader)]() mutable { Run(std::move(reader)); });
    return absl::OkStatus();
  }

  void Close() { Fail(absl::UnavailableError("the range was dropped")); }

  absl::Status TakeScattered(const v1::RangeTable& table) {
    scattered_.reserve(static_cast<size_t>(table.scattered_size()));
    for (const v1::ScatteredSamples& scattered : table.scattered()) {
      if (scattered.row() >= samples_.size() || scattered.numbers().empty() ||
          samples_[scattered.row()].count != static_cast<uint32_t>(scattered.numbers_size())) {
        return absl::InternalError("the miner's table contradicts itself");
      }
      const std::vector<uint64_t>& numbers =
          scattered_.emplace_back(scattered.numbers().begin(), scattered.numbers().end());
      samples_[scattered.row()].numbers = numbers.data();
      end_sample_ = std::max(end_sample_, numbers.back() + 1);
    }
    return absl::OkStatus();
  }

  uint64_t num_identities() const override { return end_identity_; }
  uint64_t num_samples() const override { return end_sample_; }
  const std::string& fingerprint() const override { return lease_.catalog_fingerprint(); }
  const std::string& directory() const override { return lease_.catalog_path(); }
  const std::vector<CatalogSplitInfo>& splits() const override { return splits_; }
  absl::StatusOr<CatalogSplitInfo> Split(absl::string_view name) const override { return splits_[0]; }
  absl::string_view IdentityName(uint64_t identity) const override {
    const auto row = rows_.find(identity);
    return row == rows_.end() ? "" : absl::string_view(names_[row->second]);
  }
  IdentitySamples Samples(uint64_t identity) const override {
    const auto row = rows_.find(identity);
    return row == rows_.end() ? IdentitySamples() : samples_[row->second];
  }
  SampleRecord Sample(uint64_t sample) const override { return {}; }
  absl::string_view SampleKey(uint64_t sample) const override {
    absl::MutexLock lock(&mutex_);
    const auto it = keys_.find(sample);
    return it == keys_.end() ? "" : absl::string_view(it->second);
  }
  std::string SamplePath(uint64_t sample) const override {
    return absl::StrCat("sample ", sample, " of the miner's ", lease_.catalog_path());
  }
  absl::StatusOr<uint64_t> FindIdentity(absl::string_view name) const override {
    for (const auto& [identity, row] : rows_) {
      if (names_[row] == name) return identity;
    }
    return absl::NotFoundError(absl::StrCat(name, " is not in this range"));
  }

  absl::StatusOr<SampleBytes> Read(uint64_t sample) const override {
    v1::RangeSample arrived;
    {
      absl::MutexLock lock(&mutex_);
      const auto ready = [this, sample]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return !failure_.ok() || arrived_.count(sample) > 0 || complete_;
      };
      mutex_.Await(absl::Condition(&ready));
      const auto it = arrived_.find(sample);
      if (it == arrived_.end()) {
        RETURN_IF_ERROR(failure_);
        return absl::UnavailableError(absl::StrCat("sample ", sample, " did not come from the miner"));
      }
      arrived = std::move(it->second);
      arrived_.erase(it);
      waiting_bytes_ -= arrived.encoded().size();
      // For the message, should it not be decodable. Bounded by the range.
      keys_[sample] = arrived.key();
    }
    if (!arrived.error().empty()) return absl::DataLossError(arrived.error());
    if (Crc32c(arrived.encoded()) != arrived.crc32c())
      return absl::DataLossError(absl::StrCat(SamplePath(sample), ": its checksum is wrong"));
    auto owner = std::make_shared<std::string>(std::move(*arrived.mutable_encoded()));
    return SampleBytes{*owner, owner};
  }
  absl::StatusOr<SampleBytes> ReadChecked(uint64_t sample) const override { return Read(sample); }
  absl::Status Verify() const override { return absl::OkStatus(); }

 private:
  std::shared_ptr<RangeReader> Ask() {
    request_.set_skip(taken_);
    std::shared_ptr<RangeReader> reader = source_.Fetch(request_);
    absl::MutexLock lock(&mutex_);
    reader_ = reader;
    if (!failure_.ok()) reader->Cancel();
    return reader;
  }

  void Fail(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (failure_.ok() && !complete_) failure_ = status;
    if (reader_ != nullptr) reader_->Cancel();
  }

  // False: it is over.
  bool Store(v1::FetchRangeResponse& response) {
    const auto room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return !failure_.ok() || waiting_bytes_ < options_.buffer_bytes;
    };
    absl::MutexLock lock(&mutex_, absl::Condition(&room));
    if (!failure_.ok()) return false;
    for (v1::RangeSample& sample : *response.mutable_samples()) {
      waiting_bytes_ += sample.encoded().size();
      ++taken_;
      const uint64_t number = sample.sample();
      arrived_[number] = std::move(sample);
    }
    return true;
  }

  // Reads one answer to its end.
  absl::Status Drain(RangeReader& reader) {
    v1::FetchRangeResponse response;
    while (reader.Read(&response)) {
      last_byte_ = absl::Now();
      backoff_ = options_.first_backoff;
      if (!Store(response)) reader.Cancel();
      response.Clear();
    }
    return reader.Finish();
  }

  void Run(std::shared_ptr<RangeReader> reader) {
    last_byte_ = absl::Now();
    while (true) {
      const absl::Status status = Drain(*reader);
      {
        absl::MutexLock lock(&mutex_);
        reader_ = nullptr;
        if (!failure_.ok()) return;
        complete_ = status.ok();
        if (complete_) return;
      }
      if (IsFinal(status) || absl::Now() - last_byte_ > options_.patience) {
        return Fail(absl::UnavailableError(
            absl::StrCat("the range's samples cannot be fetched: ", std::string(status.message()))));
      }
      {
        absl::MutexLock lock(&mutex_);
        const auto failed = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !failure_.ok(); };
        if (mutex_.AwaitWithTimeout(absl::Condition(&failed), backoff_)) return;
      }
      backoff_ = std::min(2 * backoff_, options_.last_backoff);
      reader = Ask();
    }
  }

  RangeSource& source_;
  const v1::EmbeddingLease lease_;
  const RemoteRangeOptions options_;

  // Constant after Open.
  std::vector<IdentitySamples> samples_;
  std::vector<std::vector<uint64_t>> scattered_;  // what samples_ points to
  std::vector<std::string> names_;
  std::vector<CatalogSplitInfo> splits_;
  std::unordered_map<uint64_t, size_t> rows_;  // by identity
  uint64_t end_sample_ = 0;
  uint64_t end_identity_ = 0;

  // Used by Open, then by the thread.
  v1::FetchRangeRequest request_;
  uint64_t taken_ = 0;
  absl::Time last_byte_;
  absl::Duration backoff_ = options_.first_backoff;

  mutable absl::Mutex mutex_;
  mutable std::unordered_map<uint64_t, v1::RangeSample> arrived_ ABSL_GUARDED_BY(mutex_);
  mutable std::unordered_map<uint64_t, std::string> keys_ ABSL_GUARDED_BY(mutex_);
  mutable uint64_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool complete_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<RangeReader> reader_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace

absl::StatusOr<RemoteRange> OpenRemoteRange(RangeSource& source, const v1::EmbeddingLease& lease,
                                            const RemoteRangeOptions& options) {
  auto catalog = std::make_shared<RemoteRangeCatalog>(source, lease, options);
  RETURN_IF_ERROR(catalog->Open());
  RemoteRange range;
  range.catalog = catalog;
  range.close = [catalog] { catalog->Close(); };
  return range;
}

}  // namespace doppel
