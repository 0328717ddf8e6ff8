#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/catalog/catalog.h"
#include "common/model/embedding_model.h"
#include "services/embedder/embed_range.h"
#include "services/embedder/lease_service.h"
#include "services/embedder/remote_range.h"

namespace doppel {

struct EmbedWorkerOptions {
  std::string name = "embedder";
  int threads = 2;
  int batch_size = 192;
  // Leases held at once: one being worked on and the next, so that no thread waits for the miner.
  int leases = 2;
  // After Stop: time to finish and commit what is leased.
  absl::Duration grace = absl::Seconds(5);
  // Waits between attempts to reach the miner double from the first to the last.
  absl::Duration first_backoff = absl::Milliseconds(100);
  absl::Duration last_backoff = absl::Seconds(5);
  std::function<absl::StatusOr<std::shared_ptr<const Catalog>>(const std::string& path)> open_catalog;
  std::function<absl::StatusOr<std::unique_ptr<EmbeddingModel>>(const std::string& path)> open_model;
  // For what cannot be opened here by its path; unset: then the lease is dropped.
  std::function<absl::StatusOr<RemoteRange>(const v1::EmbeddingLease& lease)> fetch_range;
  // The directory where the model lies now. `keep_alive` is to be called now and then.
  std::function<absl::StatusOr<std::string>(const v1::EmbeddingLease& lease,
                                            const std::function<absl::Status()>& keep_alive)>
      fetch_model;
  // Fetch both, whatever lies here.
  bool remote = false;
};

// Leases ranges, embeds them and commits, until Stop. Renews leases at half time; drops a range when the
// miner does not know the lease any more; waits for a miner that is away, with its finished work kept for it.
class EmbedWorker {
 public:
  // `service` must outlive the worker.
  EmbedWorker(EmbedWorkerOptions options, LeaseService& service, const Clock& clock = Clock::Real());
  ~EmbedWorker();

  // Blocks until Stop. An error means that the miner will never give this process work.
  absl::Status Run();
  // Thread-safe. Not from a signal handler.
  void Stop();

  struct Counters {
    uint64_t committed_ranges = 0;
    uint64_t committed_samples = 0;
    uint64_t failed_samples = 0;
    uint64_t dropped_ranges = 0;
  };
  Counters counters() const;

 private:
  struct Held {
    v1::EmbeddingLease lease;
    absl::Time renew_at;
    std::shared_ptr<EmbedJob> job;                   // null while another model's work is still running
    std::unique_ptr<v1::CommitRangeRequest> commit;  // set when the job is done
    std::function<void()> close;                     // of a range that is being fetched
    bool failed = false;
    absl::Time commit_at;
    absl::Duration commit_backoff;
  };

  absl::Status AskForWork(absl::Time now);
  // Starts held leases whose model is, or may become, the pool's.
  void StartJobs(absl::Time now);
  absl::Status Start(Held& held);
  absl::Status OpenCatalog(const v1::EmbeddingLease& lease);
  // Its catalog: the one here, or the range alone, fetched.
  absl::StatusOr<std::shared_ptr<const Catalog>> CatalogOf(Held& held);
  absl::Status PreparePool(Held& held);
  absl::StatusOr<std::unique_ptr<EmbeddingModel>> OpenModel(Held& held);
  absl::Status KeepAlive(Held& held);
  void CommitDone(absl::Time now);
  void TakeResult(Held& held);
  // True when the range is off our hands.
  bool Commit(Held& held, absl::Time now);
  void RenewDue(absl::Time now);
  void Drop(Held& held, const std::string& why);
  // Sleeps until something may be done, Stop, or a job's end.
  void Sleep(absl::Time now);
  bool Stopping(absl::Time* deadline) const;
  void Wake();

  const EmbedWorkerOptions options_;
  LeaseService& service_;
  const Clock& clock_;

  // Used by Run's thread alone.
  std::deque<std::unique_ptr<Held>> held_;
  absl::Time ask_at_ = absl::InfinitePast();
  absl::Duration backoff_ = absl::ZeroDuration();
  std::string catalog_path_;
  std::shared_ptr<const Catalog> catalog_;
  std::string pool_model_;  // path and fingerprint

  mutable absl::Mutex mutex_;
  bool wake_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time stop_deadline_ ABSL_GUARDED_BY(mutex_);
  Counters counters_ ABSL_GUARDED_BY(mutex_);

  // Last: its threads call Wake.
  std::unique_ptr<EmbedPool> pool_;
};

}  // namespace doppel
