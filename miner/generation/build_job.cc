#include "miner/generation/build_job.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"
#include "miner/clustering/alignment.h"
#include "miner/generation/generation_diff.h"
#include "miner/generation/generation_statistics.h"

namespace doppel {
namespace {

constexpr uint64_t kDefaultTargetSize = 10000;
constexpr uint32_t kDefaultIterations = 20;
constexpr uint32_t kMaxIterations = 10000;
constexpr uint32_t kDefaultMinSize = 64;
constexpr uint32_t kDefaultNeighbours = 64;
constexpr int32_t kMaxNeighbours = 4096;
// Above it the exact search, quadratic in the identities, takes longer than everything else.
constexpr int64_t kExactNeighbours = int64_t{1} << 18;
// Above it neighbours are only found for those who ask: they take 512 bytes per identity.
constexpr uint64_t kNeighboursByDefault = uint64_t{1} << 24;
constexpr double kDefaultTolerance = 1e-4;
constexpr int kFailuresLogged = 3;
constexpr double kDefaultCoverage = 0.9;
constexpr uint32_t kDefaultSampled = 2;
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

absl::Status ResolveShape(v1::ReclusterRequest& request) {
  if (request.max_size() > 0 && request.max_size() < 2 * uint64_t{request.min_size()}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_size: ", request.max_size(), " is less than twice the ", request.min_size(), " of min_size"));
  }
  if (request.max_size() > uint64_t{std::numeric_limits<uint32_t>::max()}) {
    return absl::InvalidArgumentError(absl::StrCat("max_size: ", request.max_size(), " is beyond 2^32 - 1"));
  }
  if (request.balance() != 0 && !(request.balance() >= 1 && request.balance() <= 1e9)) {
    return absl::InvalidArgumentError(
        absl::StrCat("balance: ", request.balance(), " is neither 0 nor at least 1"));
  }
  if (std::isnan(request.tolerance())) return absl::InvalidArgumentError("tolerance: is not a number");
  if (request.tolerance() == 0) request.set_tolerance(kDefaultTolerance);
  return absl::OkStatus();
}

absl::Status ResolveNeighbours(uint64_t identities, v1::ReclusterRequest& request) {
  if (request.neighbours() < -1 || request.neighbours() > kMaxNeighbours) {
    return absl::InvalidArgumentError(absl::StrCat("neighbours: ", request.neighbours(),
                                                   " is not within 1 … ", kMaxNeighbours,
                                                   ", 0 (the default) or -1 (none)"));
  }
  if (request.neighbours() == 0) {
    request.set_neighbours(identities <= kNeighboursByDefault ? int32_t{kDefaultNeighbours} : -1);
  }
  // There are no more others.
  const auto others = static_cast<int64_t>(identities) - 1;
  if (request.neighbours() > others) request.set_neighbours(others == 0 ? -1 : static_cast<int32_t>(others));
  return absl::OkStatus();
}

// Whether k-means for `request` may start from the subspaces of `previous`.
bool CanStartFrom(const Generation* previous, const v1::ReclusterRequest& request) {
  if (previous == nullptr || request.cold_start()) return false;
  const uint32_t asked = previous->info().requested_subspaces();
  return request.subspaces() == (asked > 0 ? asked : previous->num_subspaces());
}

// [count]: the subspaces that the identities from `first` on have there; -1: it does not cover them.
std::vector<int32_t> SubspacesIn(const Generation& generation, uint64_t first, int64_t count) {
  std::vector<int32_t> subspaces(static_cast<size_t>(count), -1);
  const uint64_t begin = generation.first_identity();
  for (size_t i = 0; i < subspaces.size(); ++i) {
    if (first + i < begin || first + i - begin >= generation.num_identities()) continue;
    subspaces[i] = static_cast<int32_t>(generation.SubspaceOf(first + i));
  }
  return subspaces;
}

std::string CreationTime(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%SZ", time, absl::UTCTimeZone());
}

// The "weights" behind live representations: which run's, and how far it was.
std::string LiveFingerprint(const std::string& run, uint64_t step) {
  return absl::StrCat("live:", run, "@", step);
}

// Fills in what representation_source leaves open.
absl::Status ResolveSource(v1::ReclusterRequest* request) {
  v1::RepresentationSource& source = *request->mutable_representation_source();
  switch (source.kind()) {
    case v1::RepresentationSource::KIND_LIVE:
      if (source.max_age_steps() > 0) {
        return absl::InvalidArgumentError(
            "representation_source.max_age_steps: a live source embeds nothing; ask for full or sampled");
      }
      if (source.min_coverage() == 0) source.set_min_coverage(kDefaultCoverage);
      if (!(source.min_coverage() <= 1)) {
        return absl::InvalidArgumentError(absl::StrCat(
            "representation_source.min_coverage: ", source.min_coverage(), " is a share, at most 1"));
      }
      return absl::OkStatus();
    case v1::RepresentationSource::KIND_FULL:
      if (request->samples_per_identity() > 0) {
        return absl::InvalidArgumentError(
            "samples_per_identity: a full pass embeds all samples; leave it out, or ask for sampled");
      }
      return absl::OkStatus();
    case v1::RepresentationSource::KIND_SAMPLED:
      if (request->samples_per_identity() == 0) request->set_samples_per_identity(kDefaultSampled);
      return absl::OkStatus();
    default:
      source.set_kind(request->samples_per_identity() > 0 ? v1::RepresentationSource::KIND_SAMPLED
                                                          : v1::RepresentationSource::KIND_FULL);
      return absl::OkStatus();
  }
}

}  // namespace

absl::StatusOr<ResolvedRequest> ResolveRequest(const v1::ReclusterRequest& request, const Catalog& catalog,
                                               FileSystem& fs) {
  const bool live = request.representation_source().kind() == v1::RepresentationSource::KIND_LIVE;
  if (request.model_path().empty() && !live)
    return absl::InvalidArgumentError("model_path: empty; name a model directory");
  ResolvedRequest resolved;
  resolved.request = request;
  ASSIGN_OR_RETURN(resolved.split, catalog.Split(request.split()));
  resolved.request.set_split(resolved.split.name);
  const uint64_t n = resolved.split.identities;
  if (n == 0) {
    return absl::InvalidArgumentError(absl::StrCat("split: \"", resolved.split.name, "\" has no identities"));
  }
  if (resolved.split.first_identity + n > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("split: a generation holds identities below 2^32, \"",
                                                   resolved.split.name, "\" ends at ",
                                                   resolved.split.first_identity + n));
  }
  if (request.target_size() == 0) resolved.request.set_target_size(kDefaultTargetSize);
  if (request.subspaces() == 0) {
    const double wanted = static_cast<double>(n) / static_cast<double>(resolved.request.target_size());
    resolved.request.set_subspaces(static_cast<uint32_t>(std::max<int64_t>(1, std::llround(wanted))));
  }
  if (resolved.request.subspaces() > n ||
      resolved.request.subspaces() > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("subspaces: ", resolved.request.subspaces(),
                                                   " are more than the ", n, " identities of split \"",
                                                   resolved.split.name, "\""));
  }
  if (request.iterations() == 0) resolved.request.set_iterations(kDefaultIterations);
  if (request.iterations() > kMaxIterations) {
    return absl::InvalidArgumentError(
        absl::StrCat("iterations: ", request.iterations(), ", at most ", kMaxIterations));
  }
  if (request.min_size() == 0) resolved.request.set_min_size(kDefaultMinSize);
  RETURN_IF_ERROR(ResolveNeighbours(n, resolved.request));
  RETURN_IF_ERROR(ResolveShape(resolved.request));
  RETURN_IF_ERROR(ResolveSource(&resolved.request));
  // What the live means are of is known when they are frozen.
  if (live) return resolved;
  ASSIGN_OR_RETURN(resolved.model, ReadModelInfo(fs, request.model_path()));
  return resolved;
}

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
  contents.first_identity = resolved_.split.first_identity;
  if (environment_.find_neighbours && resolved_.request.neighbours() > 0) {
    ASSIGN_OR_RETURN(IdentityNeighbours found, SearchNeighbours(frozen.rows));
    contents.info.set_neighbours(static_cast<uint32_t>(found.neighbours));
    contents.neighbours = std::move(found.rows);
    contents.similarities = std::move(found.similarities);
    for (uint32_t& row : contents.neighbours) row += static_cast<uint32_t>(contents.first_identity);
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

absl::StatusOr<v1::RepresentationPass> BuildJob::PlanPass() {
  v1::RepresentationPass pass;
  pass.set_catalog_fingerprint(environment_.catalog->fingerprint());
  pass.set_model_fingerprint(resolved_.model.fingerprint);
  pass.set_model_step(resolved_.model.step);
  pass.set_samples_per_identity(resolved_.request.samples_per_identity());
  pass.set_seed(resolved_.request.seed());
  pass.set_first_identity(resolved_.split.first_identity);
  pass.set_identities(resolved_.split.identities);
  pass.set_dimension(static_cast<uint32_t>(resolved_.model.dimension));
  const uint64_t max_age = resolved_.request.representation_source().max_age_steps();
  if (max_age == 0) return pass;
  if (environment_.live == nullptr)
    return absl::FailedPreconditionError("max_age_steps: this miner keeps no live representations");
  RunningMeanManager::Stale stale =
      environment_.live->FindStale({resolved_.split.first_identity, resolved_.split.identities}, max_age);
  if (stale.run.empty() || stale.identities.size() == resolved_.split.identities) return pass;
  if (stale.dimension != resolved_.model.dimension) {
    return absl::FailedPreconditionError(absl::StrCat("max_age_steps: the live representations of run ",
                                                      stale.run, " are of dimension ", stale.dimension,
                                                      ", the model's of ", resolved_.model.dimension));
  }
  // A pass has at least one identity.
  if (stale.identities.empty()) stale.identities.push_back(resolved_.split.first_identity);
  chosen_ = std::move(stale.identities);
  live_run_ = std::move(stale.run);
  const uint32_t list = Crc32c(
      absl::string_view(reinterpret_cast<const char*>(chosen_.data()), chosen_.size() * sizeof(chosen_[0])));
  pass.set_model_fingerprint(absl::StrCat(resolved_.model.fingerprint, "/", absl::Hex(list)));
  pass.set_first_identity(0);
  pass.set_identities(chosen_.size());
  DOPPEL_LOG(kInfo, started_.id(), ": embedding ", chosen_.size(), " of ", resolved_.split.identities,
             " identities, the others were reported by run ", live_run_, " within ", max_age, " steps");
  return pass;
}

absl::StatusOr<FrozenRepresentations> BuildJob::MergeWithLive(const FrozenRepresentations& embedded) const {
  ASSIGN_OR_RETURN(
      RunningMeanManager::Frozen live,
      environment_.live->Freeze({resolved_.split.first_identity, resolved_.split.identities}, -1, nullptr));
  if (live.run != live_run_) {
    return absl::AbortedError(absl::StrCat("max_age_steps: run ", live.run,
                                           " took the live representations of ", live_run_,
                                           " over during the pass; recluster again"));
  }
  FrozenRepresentations merged = std::move(live.representations);
  for (size_t i = 0; i < chosen_.size(); ++i) {
    const uint64_t row = chosen_[i] - resolved_.split.first_identity;
    std::copy_n(embedded.rows.row(static_cast<int64_t>(i)), merged.rows.dimension,
                merged.rows.row(static_cast<int64_t>(row)));
    merged.samples[row] = embedded.samples[i];
  }
  merged.failed_samples = embedded.failed_samples;
  return merged;
}

absl::StatusOr<FrozenRepresentations> BuildJob::Embed() {
  ASSIGN_OR_RETURN(const v1::RepresentationPass pass, PlanPass());
  ASSIGN_OR_RETURN(representations_,
                   OpenRepresentationPass(*environment_.fs, environment_.representations_directory,
                                          started_.generation(), pass));
  const IdentityRanges committed = representations_->Committed();
  Begin("embed", committed.size(), pass.identities());
  {
    absl::MutexLock lock(&mutex_);
    leases_ = std::make_unique<EmbeddingLeases>(
        representations_->all(), committed,
        EmbeddingLeases::Options{environment_.lease_identities, environment_.lease_duration},
        *environment_.clock);
    const auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return leases_->done() || !interruption_.ok();
    };
    mutex_.Await(absl::Condition(&ended));
    RETURN_IF_ERROR(interruption_);
  }
  ASSIGN_OR_RETURN(FrozenRepresentations frozen, representations_->Freeze());
  if (!chosen_.empty()) {
    ASSIGN_OR_RETURN(frozen, MergeWithLive(frozen));
  }
  embed_seconds_ = SecondsInPhase();
  if (frozen.failed_samples > 0) {
    DOPPEL_LOG(kWarning, started_.id(), ": ", frozen.failed_samples, " samples could not be decoded");
  }
  if (std::all_of(frozen.samples.begin(), frozen.samples.end(), [](uint32_t count) { return count == 0; })) {
    return absl::FailedPreconditionError(absl::StrCat(
        "split \"", resolved_.split.name, "\": not one sample could be embedded; see the embedder's log"));
  }
  return frozen;
}

absl::StatusOr<FrozenRepresentations> BuildJob::FreezeLive() {
  if (environment_.live == nullptr)
    return absl::FailedPreconditionError("live: this miner keeps no live representations");
  const IdentityRange all = {resolved_.split.first_identity, resolved_.split.identities};
  Begin("embed", 0, all.count);
  const std::shared_ptr<const Generation> active = environment_.active ? environment_.active() : nullptr;
  const auto fallback = [&active](uint64_t identity) -> absl::Span<const float> {
    if (active == nullptr || identity < active->first_identity()) return {};
    if (identity - active->first_identity() >= active->num_identities()) return {};
    return active->Representation(identity);
  };
  ASSIGN_OR_RETURN(
      RunningMeanManager::Frozen frozen,
      environment_.live->Freeze(all, resolved_.request.representation_source().min_coverage(), fallback));
  resolved_.model.fingerprint = LiveFingerprint(frozen.run, frozen.model_step);
  resolved_.model.step = frozen.model_step;
  resolved_.model.dimension = frozen.representations.rows.dimension;
  Advance(all.count);
  embed_seconds_ = SecondsInPhase();
  DOPPEL_LOG(kInfo, started_.id(), ": live representations of run ", frozen.run, " at step ",
             frozen.model_step, ", ", frozen.seen, " of ", all.count, " identities seen",
             frozen.seen < all.count && active != nullptr
                 ? absl::StrCat(", the others as in generation ", active->number())
                 : "");
  return std::move(frozen.representations);
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
  if (previous_ != nullptr) before = SubspacesIn(*previous_, resolved_.split.first_identity, rows.rows);
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
