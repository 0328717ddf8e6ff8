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
#include "miner/generation/generation_statistics.h"

namespace doppel {
namespace {

constexpr uint64_t kDefaultTargetSize = 10000;
constexpr uint32_t kDefaultIterations = 20;
constexpr uint32_t kMaxIterations = 10000;
constexpr uint32_t kDefaultMinSize = 64;
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
  return Write(std::move(frozen), std::move(clusters));
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
  options.on_iteration = [this](int iteration, int of, double objective) {
    Advance(static_cast<uint64_t>(std::max(0, iteration)));
    return Interruption().ok();
  };
  absl::StatusOr<ClusterResult> clusters = environment_.clusterer->Cluster(rows, options);
  // CANCELLED by on_iteration: say why.
  RETURN_IF_ERROR(Interruption());
  cluster_seconds_ = SecondsInPhase();
  return clusters;
}

v1::GenerationInfo BuildJob::Describe(const ClusterResult& clusters) const {
  v1::GenerationInfo info;
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
  DescribeSubspaces(clusters.centroids, clusters.assignment, clusters.similarity,
                    environment_.cluster_threads, info);
  return info;
}

absl::StatusOr<v1::GenerationInfo> BuildJob::Write(FrozenRepresentations frozen, ClusterResult clusters) {
  Begin("publish", 0, 1);
  GenerationContents contents;
  contents.info = Describe(clusters);
  contents.first_identity = resolved_.split.first_identity;
  contents.assignment = std::move(clusters.assignment);
  contents.centroids = std::move(clusters.centroids);
  contents.representations = std::move(frozen.rows);
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
