#include "miner/generation/build_job.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "miner/clustering/alignment.h"
#include "miner/generation/generation_diff.h"
#include "miner/generation/generation_statistics.h"

namespace doppel {
namespace {

// Above it the exact search, quadratic in the identities, takes longer than everything else.
constexpr int64_t kExactNeighbours = int64_t{1} << 18;
constexpr int kFailuresLogged = 3;
// How long a commit waits for a job that has just been taken up and still reads its ranges.
constexpr absl::Duration kStartPatience = absl::Seconds(10);

std::string CanonicalJson(const v1::ReclusterRequest& request) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(request, &json, options);
  return json;
}

// Whether k-means for `request` may start from the subspaces of `previous`.
bool CanStartFrom(const Generation* previous, const v1::ReclusterRequest& request) {
  if (previous == nullptr || request.cold_start()) return false;
  const uint32_t asked = previous->info().requested_subspaces();
  return request.subspaces() == (asked > 0 ? asked : previous->num_subspaces());
}

// The subspaces that `identities` have there; -1: it does not cover them.
std::vector<int32_t> SubspacesIn(const Generation& generation, const IdentityRows& identities) {
  std::vector<int32_t> subspaces(identities.size(), -1);
  for (size_t i = 0; i < subspaces.size(); ++i) {
    const uint64_t identity = identities.Identity(i);
    if (generation.Covers(identity)) subspaces[i] = static_cast<int32_t>(generation.SubspaceOf(identity));
  }
  return subspaces;
}

std::string CreationTime(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%SZ", time, absl::UTCTimeZone());
}

}  // namespace

BuildJob::BuildJob(BuildEnvironment environment, v1::OperationStarted started)
    : environment_(std::move(environment)), started_(std::move(started)) {
  phase_began_ = environment_.clock->Now();
  progress_.phase = "embed";
}

absl::StatusOr<v1::GenerationInfo> BuildJob::Run() {
  ASSIGN_OR_RETURN(resolved_, ResolveRequest(started_.request(), *environment_.catalog, *environment_.fs));
  const bool live = resolved_.request.representation_source().kind() == v1::RepresentationSource::KIND_LIVE;
  ASSIGN_OR_RETURN(FrozenRepresentations frozen, live ? FreezeLive() : Embed());
  ASSIGN_OR_RETURN(ClusterResult clusters, ClusterRows(frozen.rows));
  GenerationContents contents;
  contents.covered = resolved_.split.rows();
  contents.first_identity = contents.covered.first();
  if (environment_.find_neighbours && resolved_.request.neighbours() > 0) {
    ASSIGN_OR_RETURN(IdentityNeighbours found, SearchNeighbours(frozen.rows));
    contents.info.set_neighbours(static_cast<uint32_t>(found.neighbours));
    contents.neighbours = std::move(found.rows);
    contents.similarities = std::move(found.similarities);
    for (uint32_t& row : contents.neighbours) row = static_cast<uint32_t>(contents.covered.Identity(row));
  }
  Describe(clusters, contents.info);
  contents.assignment = std::move(clusters.assignment);
  contents.centroids = std::move(clusters.centroids);
  contents.representations = std::move(frozen.rows);
  if (const auto active = environment_.active()) contents.guard_list = active->guard_list();
  DescribeGuardList(contents.guard_list, contents.info);
  DescribeNeighbours(contents, contents.info);
  if (previous_ != nullptr) DescribeMoves(*previous_, contents, contents.info);
  if (resolved_.request.dry_run()) return std::move(contents.info);
  return Write(std::move(contents));
}

void BuildJob::Interrupt(absl::Status why) {
  absl::MutexLock lock(&mutex_);
  if (interruption_.ok()) interruption_ = std::move(why);
}

absl::Status BuildJob::Interruption() const {
  absl::MutexLock lock(&mutex_);
  return interruption_;
}

absl::StatusOr<ClusterResult> BuildJob::ClusterRows(const Matrix& rows) {
  const v1::ReclusterRequest& request = resolved_.request;
  Begin("cluster", 0, request.iterations());
  ClusterOptions options;
  options.subspaces = static_cast<int>(request.subspaces());
  options.iterations = static_cast<int>(request.iterations());
  options.seed = request.seed();
  options.threads = environment_.cluster_threads;
  options.min_size = request.min_size();
  options.max_size = static_cast<int64_t>(request.max_size());
  options.balance = request.balance();
  options.tolerance = std::max(0.0, request.tolerance());
  previous_ = environment_.active();
  std::vector<int32_t> before;
  if (previous_ != nullptr) before = SubspacesIn(*previous_, resolved_.split.rows());
  if (CanStartFrom(previous_.get(), request) &&
      std::any_of(before.begin(), before.end(), [](int32_t subspace) { return subspace >= 0; })) {
    // As many as merging and splitting have made of the same M, so that a subspace keeps its number.
    options.subspaces = static_cast<int>(previous_->num_subspaces());
    options.initial_assignment = &before;
    warm_start_ = previous_->number();
  }
  options.on_iteration = [this](int iteration, int of, double objective) {
    Advance(static_cast<uint64_t>(std::max(0, iteration)));
    return Interruption().ok();
  };
  absl::StatusOr<ClusterResult> clusters = environment_.clusterer->Cluster(rows, options);
  // CANCELLED by on_iteration: say why.
  RETURN_IF_ERROR(Interruption());
  if (clusters.ok() && previous_ != nullptr) {
    Renumber(AlignSubspaces(before, static_cast<int32_t>(previous_->num_subspaces()), clusters->assignment,
                            static_cast<int32_t>(clusters->centroids.rows)),
             *clusters);
  }
  cluster_seconds_ = SecondsInPhase();
  return clusters;
}

absl::StatusOr<IdentityNeighbours> BuildJob::SearchNeighbours(const Matrix& rows) {
  Begin("neighbours", 0, static_cast<uint64_t>(rows.rows));
  NeighbourOptions options;
  options.neighbours = resolved_.request.neighbours();
  options.threads = environment_.cluster_threads;
  options.approximate = rows.rows > kExactNeighbours;
  options.seed = resolved_.request.seed();
  options.on_progress = [this](int64_t done, int64_t) {
    Advance(static_cast<uint64_t>(done));
    return Interruption().ok();
  };
  absl::StatusOr<IdentityNeighbours> found = environment_.find_neighbours(rows, options);
  RETURN_IF_ERROR(Interruption());
  neighbours_seconds_ = SecondsInPhase();
  return found;
}

void BuildJob::Describe(const ClusterResult& clusters, v1::GenerationInfo& info) const {
  info.set_generation(started_.generation());
  info.set_created_at(CreationTime(environment_.clock->Now()));
  info.set_catalog_fingerprint(environment_.catalog->fingerprint());
  info.set_model_fingerprint(resolved_.model.fingerprint);
  info.set_model_step(resolved_.model.step);
  info.set_split(resolved_.split.name);
  const IdentityRows covered = resolved_.split.rows();
  for (const IdentityRows::Range& range : covered.ranges()) {
    if (covered.ranges().size() == 1) break;
    v1::IdentitySpan* span = info.add_covered();
    span->set_first(range.first);
    span->set_count(range.count);
  }
  info.set_provenance(CanonicalJson(resolved_.request));
  for (double objective : clusters.objective) info.add_objective(objective);
  info.set_embed_seconds(embed_seconds_);
  info.set_cluster_seconds(cluster_seconds_);
  info.set_neighbours_seconds(neighbours_seconds_);
  info.set_requested_subspaces(resolved_.request.subspaces());
  info.set_merged_subspaces(static_cast<uint32_t>(clusters.merged));
  info.set_split_subspaces(static_cast<uint32_t>(clusters.split));
  info.set_warm_start(warm_start_);
  DescribeSubspaces(clusters.centroids, clusters.assignment, clusters.similarity,
                    environment_.cluster_threads, info);
}

absl::StatusOr<v1::GenerationInfo> BuildJob::Write(GenerationContents contents) {
  Begin("publish", 0, 1);
  v1::GenerationInfo written;
  GenerationStore::WriteHooks hooks;
  hooks.keep_going = [this] { return Interruption().ok(); };
  hooks.before_manifest = [this, &written](v1::GenerationInfo& info) {
    info.set_publish_seconds(SecondsInPhase());
    written = info;
  };
  const absl::Status status = environment_.store->Write(contents, hooks);
  RETURN_IF_ERROR(Interruption());
  RETURN_IF_ERROR(status);
  return written;
}

void BuildJob::Begin(const char* phase, uint64_t done, uint64_t total) {
  absl::MutexLock lock(&mutex_);
  progress_.phase = phase;
  progress_.done = done;
  progress_.total = total;
  phase_began_with_ = done;
  phase_began_ = environment_.clock->Now();
}

void BuildJob::Advance(uint64_t done) {
  absl::MutexLock lock(&mutex_);
  progress_.done = done;
}

double BuildJob::SecondsInPhase() const {
  absl::MutexLock lock(&mutex_);
  return absl::ToDoubleSeconds(environment_.clock->Now() - phase_began_);
}

BuildJob::Progress BuildJob::progress() const {
  absl::MutexLock lock(&mutex_);
  Progress progress = progress_;
  if (progress.done > phase_began_with_ && progress.total > progress.done) {
    const double seconds = absl::ToDoubleSeconds(environment_.clock->Now() - phase_began_);
    progress.eta_seconds = seconds * static_cast<double>(progress.total - progress.done) /
                           static_cast<double>(progress.done - phase_began_with_);
  }
  return progress;
}

void BuildJob::CheckModelUnchanged(const ModelInfo& model) {
  const absl::StatusOr<ModelInfo> now = ReadModelInfo(*environment_.fs, started_.request().model_path());
  // A directory that is just being replaced may be away for a moment.
  if (!now.ok() || now->fingerprint == model.fingerprint) return;
  Interrupt(absl::FailedPreconditionError(absl::StrCat(
      started_.request().model_path(), ": the weights changed while they were in use, from ",
      model.fingerprint, " to ", now->fingerprint, "; recluster again, from a directory that stays")));
}

std::optional<v1::EmbeddingLease> BuildJob::LeaseRange(const std::string& worker) {
  {
    absl::MutexLock lock(&mutex_);
    if (leases_ == nullptr || leases_->done() || !interruption_.ok()) return std::nullopt;
  }
  CheckModelUnchanged(resolved_.model);
  absl::MutexLock lock(&mutex_);
  if (!interruption_.ok()) return std::nullopt;
  const std::optional<EmbeddingLeases::Lease> lease = leases_->Acquire(worker);
  if (!lease) return std::nullopt;
  v1::EmbeddingLease message;
  message.set_lease(lease->id);
  message.set_operation(started_.id());
  message.set_catalog_path(environment_.catalog->directory());
  message.set_catalog_fingerprint(environment_.catalog->fingerprint());
  message.set_model_path(started_.request().model_path());
  message.set_model_fingerprint(resolved_.model.fingerprint);
  message.set_first_identity(lease->range.first);
  message.set_identity_count(lease->range.count);
  if (!chosen_.empty()) {
    const auto first = chosen_.begin() + static_cast<std::ptrdiff_t>(lease->range.first);
    message.mutable_identities()->Add(first, first + static_cast<std::ptrdiff_t>(lease->range.count));
  }
  message.set_samples_per_identity(resolved_.request.samples_per_identity());
  message.set_seed(resolved_.request.seed());
  message.set_lease_seconds(absl::ToDoubleSeconds(environment_.lease_duration));
  return message;
}

absl::StatusOr<v1::RenewLeaseResponse> BuildJob::RenewLease(uint64_t lease) {
  absl::MutexLock lock(&mutex_);
  if (leases_ == nullptr || !interruption_.ok()) {
    return absl::NotFoundError(absl::StrCat("lease ", lease, " is of an earlier run; drop its work"));
  }
  RETURN_IF_ERROR(leases_->Renew(lease));
  v1::RenewLeaseResponse response;
  response.set_lease_seconds(absl::ToDoubleSeconds(environment_.lease_duration));
  return response;
}

absl::StatusOr<v1::CommitRangeResponse> BuildJob::CommitRange(const v1::CommitRangeRequest& request) {
  {
    absl::MutexLock lock(&mutex_);
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return leases_ != nullptr || !interruption_.ok();
    };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&ready), kStartPatience)) {
      return absl::UnavailableError(absl::StrCat(started_.id(), " is still reading its ranges; try again"));
    }
    if (!interruption_.ok()) {
      return absl::NotFoundError(absl::StrCat(started_.id(), " is ending (",
                                              std::string(interruption_.message()), "); drop the range"));
    }
  }
  if (request.model_fingerprint() != resolved_.model.fingerprint) {
    CheckModelUnchanged(resolved_.model);
    return absl::FailedPreconditionError(absl::StrCat(
        "model_fingerprint: embedded by ", request.model_fingerprint(), ", ", started_.id(), " needs ",
        resolved_.model.fingerprint, "; load ", started_.request().model_path(), " again"));
  }
  v1::RepresentationRange range;
  range.set_first_identity(request.first_identity());
  range.set_identity_count(request.identity_count());
  range.set_dimension(request.dimension());
  range.set_representations(request.representations());
  *range.mutable_samples() = request.samples();
  range.set_failed_samples(request.failed_samples());
  const absl::StatusOr<bool> accepted = representations_->Commit(range);
  if (!accepted.ok()) {
    // A full or broken disk fails the job: embedders would only try for ever.
    if (!absl::IsInvalidArgument(accepted.status())) Interrupt(accepted.status());
    return accepted.status();
  }
  for (int i = 0; i < std::min(kFailuresLogged, request.failures_size()); ++i) {
    DOPPEL_LOG(kWarning, started_.id(), ": ", request.failures(i));
  }
  absl::MutexLock lock(&mutex_);
  leases_->Commit({request.first_identity(), request.identity_count()});
  // The phase may be over: then this repeats a commit.
  if (progress_.phase == "embed") progress_.done = leases_->committed();
  v1::CommitRangeResponse response;
  response.set_accepted(*accepted);
  return response;
}

}  // namespace doppel
