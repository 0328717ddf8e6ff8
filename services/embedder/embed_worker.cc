#include "services/embedder/embed_worker.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_version.h"

namespace doppel {
namespace {

// Errors that no waiting mends.
bool IsPermanent(const absl::Status& status) {
  return absl::IsUnimplemented(status) || absl::IsPermissionDenied(status) ||
         absl::IsUnauthenticated(status) || absl::IsInvalidArgument(status);
}

std::string ModelKey(const v1::EmbeddingLease& lease) {
  return absl::StrCat(lease.model_path(), "\n", lease.model_fingerprint());
}

std::string RangeName(const v1::EmbeddingLease& lease) {
  return absl::StrCat("identities [", lease.first_identity(), ", ",
                      lease.first_identity() + lease.identity_count(), ") of ", lease.operation());
}

}  // namespace

EmbedWorker::EmbedWorker(EmbedWorkerOptions options, LeaseService& service, const Clock& clock)
    : options_(std::move(options)), service_(service), clock_(clock) {}

EmbedWorker::~EmbedWorker() = default;

absl::Status EmbedWorker::Run() {
  while (true) {
    const absl::Time now = clock_.Now();
    absl::Time deadline;
    const bool stopping = Stopping(&deadline);
    if (stopping && (held_.empty() || now >= deadline)) break;
    RenewDue(now);
    CommitDone(now);
    StartJobs(now);
    if (!stopping && static_cast<int>(held_.size()) < options_.leases && now >= ask_at_) {
      RETURN_IF_ERROR(AskForWork(now));
      continue;
    }
    if (!stopping || !held_.empty()) Sleep(now);
  }
  for (auto& held : held_) Drop(*held, "stopping");
  held_.clear();
  pool_.reset();
  return absl::OkStatus();
}

void EmbedWorker::Stop() {
  absl::MutexLock lock(&mutex_);
  if (!stopping_) stop_deadline_ = clock_.Now() + options_.grace;
  stopping_ = true;
  wake_ = true;
}

EmbedWorker::Counters EmbedWorker::counters() const {
  absl::MutexLock lock(&mutex_);
  return counters_;
}

absl::Status EmbedWorker::AskForWork(absl::Time now) {
  v1::LeaseRangeRequest request;
  request.set_worker(options_.name);
  absl::StatusOr<v1::LeaseRangeResponse> response = service_.Lease(request);
  if (!response.ok()) {
    if (IsPermanent(response.status())) return response.status();
    if (backoff_ == absl::ZeroDuration())
      DOPPEL_LOG(kWarning, "waiting for the miner: ", response.status().message());
    backoff_ = std::clamp(backoff_ * 2, options_.first_backoff, options_.last_backoff);
    ask_at_ = clock_.Now() + backoff_;
    return absl::OkStatus();
  }
  if (backoff_ != absl::ZeroDuration()) DOPPEL_LOG(kInfo, "the miner answers again");
  backoff_ = absl::ZeroDuration();
  if (!response->has_lease()) {
    ask_at_ = now + absl::Seconds(std::clamp(response->retry_after_seconds(), 0.02, 60.0));
    return absl::OkStatus();
  }
  auto held = std::make_unique<Held>();
  held->lease = std::move(*response->mutable_lease());
  held->renew_at = now + absl::Seconds(held->lease.lease_seconds() / 2);
  held->commit_at = absl::InfinitePast();
  held_.push_back(std::move(held));
  return absl::OkStatus();
}

void EmbedWorker::StartJobs(absl::Time now) {
  for (size_t i = 0; i < held_.size(); ++i) {
    Held& held = *held_[i];
    if (held.job || held.commit) continue;
    // The pool's threads hold one model: let the other model's ranges end first.
    const bool busy =
        std::any_of(held_.begin(), held_.end(), [](const auto& other) { return other->job != nullptr; });
    if (busy && ModelKey(held.lease) != pool_model_) return;
    const absl::Status status = Start(held);
    if (status.ok()) continue;
    DOPPEL_LOG(kError, RangeName(held.lease), ": ", status.message());
    Drop(held, "it cannot be embedded here");
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
    ask_at_ = now + options_.last_backoff;  // the miner will offer it again: do not spin on it
    return;
  }
}

absl::Status EmbedWorker::OpenCatalog(const v1::EmbeddingLease& lease) {
  if (catalog_ != nullptr && catalog_path_ == lease.catalog_path() &&
      catalog_->fingerprint() == lease.catalog_fingerprint()) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(catalog_, options_.open_catalog(lease.catalog_path()));
  catalog_path_ = lease.catalog_path();
  if (HasVersion(*catalog_, lease.catalog_fingerprint())) {
    ASSIGN_OR_RETURN(catalog_, CatalogAtVersion(catalog_, lease.catalog_fingerprint()));
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(lease.catalog_path(), ": the miner's catalog has fingerprint ",
                   lease.catalog_fingerprint(), ", the one here ", catalog_->fingerprint()));
}

absl::StatusOr<std::shared_ptr<const Catalog>> EmbedWorker::CatalogOf(Held& held) {
  const v1::EmbeddingLease& lease = held.lease;
  absl::Status here = absl::UnavailableError("not looked for");
  if (!options_.remote) here = OpenCatalog(lease);
  if (here.ok()) return catalog_;
  if (!options_.fetch_range) return here;
  ASSIGN_OR_RETURN(RemoteRange range, options_.fetch_range(lease));
  held.close = std::move(range.close);
  return std::move(range.catalog);
}

absl::Status EmbedWorker::Start(Held& held) {
  const v1::EmbeddingLease& lease = held.lease;
  RETURN_IF_ERROR(PreparePool(held));
  ASSIGN_OR_RETURN(std::shared_ptr<const Catalog> catalog, CatalogOf(held));
  EmbedRangeSpec range;
  range.first_identity = lease.first_identity();
  range.identity_count = lease.identity_count();
  range.samples_per_identity = lease.samples_per_identity();
  range.seed = lease.seed();
  range.identities.assign(lease.identities().begin(), lease.identities().end());
  ASSIGN_OR_RETURN(held.job, pool_->Submit(std::move(catalog), range, [this] { Wake(); }));
  return absl::OkStatus();
}

absl::Status EmbedWorker::KeepAlive(Held& held) {
  const absl::Time now = clock_.Now();
  if (now < held.renew_at) return absl::OkStatus();
  v1::RenewLeaseRequest request;
  request.set_lease(held.lease.lease());
  const absl::StatusOr<v1::RenewLeaseResponse> response = service_.Renew(request);
  if (absl::IsNotFound(response.status())) return response.status();
  if (response.ok()) held.renew_at = now + absl::Seconds(response->lease_seconds() / 2);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<EmbeddingModel>> EmbedWorker::OpenModel(Held& held) {
  const v1::EmbeddingLease& lease = held.lease;
  absl::StatusOr<std::unique_ptr<EmbeddingModel>> model = absl::UnavailableError("not looked for");
  if (!options_.remote) model = options_.open_model(lease.model_path());
  if (model.ok() && (*model)->spec().fingerprint == lease.model_fingerprint()) return model;
  if (options_.fetch_model) {
    ASSIGN_OR_RETURN(const std::string path,
                     options_.fetch_model(lease, [this, &held] { return KeepAlive(held); }));
    return options_.open_model(path);
  }
  RETURN_IF_ERROR(model.status());
  return absl::FailedPreconditionError(
      absl::StrCat(lease.model_path(), ": the miner wants the model with fingerprint ",
                   lease.model_fingerprint(), ", the one here has ", (*model)->spec().fingerprint));
}

absl::Status EmbedWorker::PreparePool(Held& held) {
  const v1::EmbeddingLease& lease = held.lease;
  if (pool_ && pool_model_ == ModelKey(lease)) return absl::OkStatus();
  pool_.reset();
  ASSIGN_OR_RETURN(std::unique_ptr<EmbeddingModel> model, OpenModel(held));
  const int dimension = model->spec().dimension;
  std::vector<std::unique_ptr<EmbeddingModel>> models;
  for (int i = 1; i < options_.threads; ++i) {
    ASSIGN_OR_RETURN(models.emplace_back(), model->Clone());
  }
  models.push_back(std::move(model));
  pool_ = std::make_unique<EmbedPool>(std::move(models), options_.batch_size);
  pool_model_ = ModelKey(lease);
  DOPPEL_LOG(kInfo, "embedding with ", lease.model_path(), ", D = ", dimension, ", ", options_.threads,
             " threads, batches of ", options_.batch_size);
  return absl::OkStatus();
}

void EmbedWorker::CommitDone(absl::Time now) {
  for (auto it = held_.begin(); it != held_.end();) {
    Held& held = **it;
    if (held.job && held.job->Done()) TakeResult(held);
    if (held.failed || (held.commit && now >= held.commit_at && Commit(held, now))) {
      it = held_.erase(it);
    } else {
      ++it;
    }
  }
}

void EmbedWorker::TakeResult(Held& held) {
  absl::StatusOr<Representations> result = held.job->Take();
  held.job.reset();
  if (!result.ok()) {
    DOPPEL_LOG(kError, RangeName(held.lease), ": ", result.status().message());
    Drop(held, "embedding failed");
    held.failed = true;
    ask_at_ = clock_.Now() + options_.last_backoff;
    return;
  }
  held.commit = std::make_unique<v1::CommitRangeRequest>();
  v1::CommitRangeRequest& commit = *held.commit;
  commit.set_lease(held.lease.lease());
  commit.set_operation(held.lease.operation());
  commit.set_model_fingerprint(held.lease.model_fingerprint());
  commit.set_first_identity(held.lease.first_identity());
  commit.set_identity_count(held.lease.identity_count());
  commit.set_dimension(static_cast<uint32_t>(result->dimension));
  commit.set_representations(result->values.data(), result->values.size() * sizeof(float));
  commit.mutable_samples()->Add(result->samples.begin(), result->samples.end());
  commit.set_failed_samples(result->failed_samples);
  for (std::string& failure : result->failures) commit.add_failures(std::move(failure));
}

bool EmbedWorker::Commit(Held& held, absl::Time now) {
  absl::StatusOr<v1::CommitRangeResponse> response = service_.Commit(*held.commit);
  if (response.ok()) {
    absl::MutexLock lock(&mutex_);
    ++counters_.committed_ranges;
    counters_.failed_samples += held.commit->failed_samples();
    for (uint32_t samples : held.commit->samples()) counters_.committed_samples += samples;
    return true;
  }
  if (absl::IsUnavailable(response.status()) || absl::IsDeadlineExceeded(response.status()) ||
      absl::IsCancelled(response.status()) || absl::IsResourceExhausted(response.status())) {
    held.commit_backoff = std::clamp(held.commit_backoff * 2, options_.first_backoff, options_.last_backoff);
    held.commit_at = now + held.commit_backoff;
    return false;
  }
  Drop(held, std::string(response.status().message()));
  return true;
}

void EmbedWorker::RenewDue(absl::Time now) {
  for (auto it = held_.begin(); it != held_.end();) {
    Held& held = **it;
    if (now < held.renew_at) {
      ++it;
      continue;
    }
    v1::RenewLeaseRequest request;
    request.set_lease(held.lease.lease());
    absl::StatusOr<v1::RenewLeaseResponse> response = service_.Renew(request);
    if (response.ok()) {
      held.renew_at = now + absl::Seconds(response->lease_seconds() / 2);
    } else if (absl::IsNotFound(response.status())) {
      Drop(held, std::string(response.status().message()));
      it = held_.erase(it);
      continue;
    } else {
      held.renew_at = now + std::max(options_.first_backoff, absl::Seconds(held.lease.lease_seconds() / 10));
    }
    ++it;
  }
}

void EmbedWorker::Drop(Held& held, const std::string& why) {
  if (held.job) held.job->Cancel();
  // Its threads must not wait for samples any more.
  if (held.close) held.close();
  DOPPEL_LOG(kWarning, "dropped ", RangeName(held.lease), ": ", why);
  absl::MutexLock lock(&mutex_);
  ++counters_.dropped_ranges;
}

void EmbedWorker::Sleep(absl::Time now) {
  absl::Time until = now + absl::Seconds(60);
  for (const auto& held : held_) {
    until = std::min(until, held->renew_at);
    if (held->commit) until = std::min(until, held->commit_at);
  }
  absl::MutexLock lock(&mutex_);
  if (stopping_) {
    until = std::min(until, stop_deadline_);
  } else if (static_cast<int>(held_.size()) < options_.leases) {
    until = std::min(until, ask_at_);
  }
  mutex_.AwaitWithTimeout(absl::Condition(&wake_), std::max(until - clock_.Now(), absl::ZeroDuration()));
  wake_ = false;
}

bool EmbedWorker::Stopping(absl::Time* deadline) const {
  absl::MutexLock lock(&mutex_);
  *deadline = stop_deadline_;
  return stopping_;
}

void EmbedWorker::Wake() {
  absl::MutexLock lock(&mutex_);
  wake_ = true;
}

}  // namespace doppel
