#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/catalog/catalog.h"
#include "common/io/file_system.h"
#include "doppel/v1/embedding.pb.h"
#include "doppel/v1/storage.pb.h"
#include "miner/clustering/clusterer.h"
#include "miner/generation/generation.h"
#include "miner/generation/generation_store.h"
#include "miner/generation/model_info.h"
#include "miner/neighbours/identity_neighbours.h"
#include "miner/representation/embedding_leases.h"
#include "miner/representation/representation_store.h"
#include "miner/representation/running_mean_manager.h"

namespace doppel {

// FindIdentityNeighbours, or a stand-in for it.
using NeighbourSearch =
    std::function<absl::StatusOr<IdentityNeighbours>(const Matrix&, const NeighbourOptions&)>;

// What the jobs of one miner share. Pointers are not owned.
struct BuildEnvironment {
  FileSystem* fs = nullptr;
  const Clock* clock = nullptr;
  std::shared_ptr<const Catalog> catalog;
  Clusterer* clusterer = nullptr;
  GenerationStore* store = nullptr;
  std::string representations_directory;
  int cluster_threads = 0;
  uint64_t lease_identities = 1024;
  absl::Duration lease_duration = absl::Seconds(60);
  // Null: generations have no neighbours.
  NeighbourSearch find_neighbours;
  // For LIVE; null: there are none.
  const RunningMeanManager* live = nullptr;
  // The one to start from and to compare with, and whose rows stand in for identities that nobody has
  // reported; may give null.
  std::function<std::shared_ptr<const Generation>()> active = [] { return nullptr; };
};

// A request with its zeros replaced by what they mean for this catalog and model.
struct ResolvedRequest {
  v1::ReclusterRequest request;
  CatalogSplitInfo split;
  ModelInfo model;
};
// Reads the model directory. INVALID_ARGUMENT and NOT_FOUND name the field.
absl::StatusOr<ResolvedRequest> ResolveRequest(const v1::ReclusterRequest& request, const Catalog& catalog,
                                               FileSystem& fs);

// One mining run: embed (by others, over leases), cluster, find neighbours, write the generation (a dry run
// does not). What was committed survives it: a job of the same operation that is run again goes on from
// there. Thread-safe.
class BuildJob {
 public:
  struct Progress {
    std::string phase;  // "embed", "cluster", "neighbours", "publish"
    uint64_t done = 0;
    uint64_t total = 0;
    double eta_seconds = 0;
  };

  BuildJob(BuildEnvironment environment, v1::OperationStarted started);

  // Blocks until the generation is written and renamed into place (a dry run: described), or the job failed
  // or was interrupted. To be called once.
  absl::StatusOr<v1::GenerationInfo> Run() ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes Run return `why` soon, from any phase. The first one counts.
  void Interrupt(absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);
  // OK, or what Interrupt was given first.
  absl::Status Interruption() const ABSL_LOCKS_EXCLUDED(mutex_);
  Progress progress() const ABSL_LOCKS_EXCLUDED(mutex_);
  const v1::OperationStarted& started() const { return started_; }

  // nullopt: nothing to lease now.
  std::optional<v1::EmbeddingLease> LeaseRange(const std::string& worker) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<v1::RenewLeaseResponse> RenewLease(uint64_t lease) ABSL_LOCKS_EXCLUDED(mutex_);
  // FAILED_PRECONDITION: embedded by other weights than the job's.
  absl::StatusOr<v1::CommitRangeResponse> CommitRange(const v1::CommitRangeRequest& request)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::StatusOr<FrozenRepresentations> Embed();
  // What to embed, and how the pass is called; with max_age_steps, chosen_ alone.
  absl::StatusOr<v1::RepresentationPass> PlanPass();
  // Takes what a pass over an earlier version of the catalog has of identities that have no new samples.
  void TakeOverEarlierPass(const v1::RepresentationPass& pass);
  // Those of the split that have other samples than in the active generation's version of the catalog.
  std::vector<uint64_t> ExtendedIdentities() const;
  // The running means, with the rows of chosen_ as the pass has them.
  absl::StatusOr<FrozenRepresentations> MergeWithLive(const FrozenRepresentations& embedded) const;
  // LIVE: the running means, instead of a pass.
  absl::StatusOr<FrozenRepresentations> FreezeLive();
  absl::StatusOr<ClusterResult> ClusterRows(const Matrix& rows);
  absl::StatusOr<IdentityNeighbours> SearchNeighbours(const Matrix& rows);
  absl::StatusOr<v1::GenerationInfo> Write(GenerationContents contents);
  void Describe(const ClusterResult& clusters, v1::GenerationInfo& info) const;
  void Begin(const char* phase, uint64_t done, uint64_t total) ABSL_LOCKS_EXCLUDED(mutex_);
  void Advance(uint64_t done) ABSL_LOCKS_EXCLUDED(mutex_);
  double SecondsInPhase() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Interrupts the job if the weights in the model directory are no longer the ones it began with.
  void CheckModelUnchanged(const ModelInfo& model) ABSL_LOCKS_EXCLUDED(mutex_);

  const BuildEnvironment environment_;
  const v1::OperationStarted started_;

  // Set by Run before the embed phase; read afterwards only.
  ResolvedRequest resolved_;
  std::unique_ptr<RepresentationStore> representations_;
  // Not empty: the identities to embed, ascending. The pass and its leases count positions in it.
  std::vector<uint64_t> chosen_;
  std::string live_run_;  // whose means the others are taken from

  // Used by Run alone.
  double embed_seconds_ = 0;
  double cluster_seconds_ = 0;
  double neighbours_seconds_ = 0;
  // As it was when clustering began; may be null.
  std::shared_ptr<const Generation> previous_;
  uint64_t warm_start_ = 0;

  mutable absl::Mutex mutex_;
  absl::Status interruption_ ABSL_GUARDED_BY(mutex_);
  // Null before the embed phase.
  std::unique_ptr<EmbeddingLeases> leases_ ABSL_GUARDED_BY(mutex_);
  Progress progress_ ABSL_GUARDED_BY(mutex_);
  uint64_t phase_began_with_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time phase_began_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
