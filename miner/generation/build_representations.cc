// BuildJob: where its representations come from.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_version.h"
#include "common/io/crc32c.h"
#include "miner/generation/build_job.h"

namespace doppel {
namespace {

// A pass over all of a split. Where its identities are not consecutive it counts their rows.
v1::RepresentationPass FullPass(const ResolvedRequest& resolved, const std::string& catalog_fingerprint,
                                const IdentityRows& rows) {
  v1::RepresentationPass pass;
  pass.set_catalog_fingerprint(catalog_fingerprint);
  pass.set_model_fingerprint(resolved.model.fingerprint);
  pass.set_model_step(resolved.model.step);
  pass.set_samples_per_identity(resolved.request.samples_per_identity());
  pass.set_seed(resolved.request.seed());
  pass.set_identities(rows.size());
  pass.set_dimension(static_cast<uint32_t>(resolved.model.dimension));
  if (rows.ranges().size() == 1) {
    pass.set_first_identity(rows.first());
  } else {
    pass.set_model_fingerprint(absl::StrCat(resolved.model.fingerprint, "/", resolved.split.name));
  }
  return pass;
}

// The "weights" behind live representations: which run's, and how far it was.
std::string LiveFingerprint(const std::string& run, uint64_t step) {
  return absl::StrCat("live:", run, "@", step);
}

}  // namespace

absl::StatusOr<v1::RepresentationPass> BuildJob::PlanPass() {
  const IdentityRows rows = resolved_.split.rows();
  v1::RepresentationPass pass = FullPass(resolved_, environment_.catalog->fingerprint(), rows);
  chosen_.clear();
  if (rows.ranges().size() > 1) {
    chosen_.reserve(rows.size());
    for (uint64_t row = 0; row < rows.size(); ++row) chosen_.push_back(rows.Identity(row));
  }
  const uint64_t max_age = resolved_.request.representation_source().max_age_steps();
  if (max_age == 0) return pass;
  if (environment_.live == nullptr)
    return absl::FailedPreconditionError("max_age_steps: this miner keeps no live representations");
  RunningMeanManager::Stale stale = environment_.live->FindStale(rows, max_age);
  if (stale.run.empty() || stale.identities.size() == resolved_.split.identities) return pass;
  if (stale.dimension != resolved_.model.dimension) {
    return absl::FailedPreconditionError(absl::StrCat("max_age_steps: the live representations of run ",
                                                      stale.run, " are of dimension ", stale.dimension,
                                                      ", the model's of ", resolved_.model.dimension));
  }
  // What was reported of these may be of their old samples alone.
  const std::vector<uint64_t> extended = ExtendedIdentities();
  if (!extended.empty()) {
    std::vector<uint64_t> both;
    both.reserve(stale.identities.size() + extended.size());
    std::set_union(stale.identities.begin(), stale.identities.end(), extended.begin(), extended.end(),
                   std::back_inserter(both));
    stale.identities = std::move(both);
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
  const IdentityRows split = resolved_.split.rows();
  ASSIGN_OR_RETURN(RunningMeanManager::Frozen live, environment_.live->Freeze(split, -1, nullptr));
  if (live.run != live_run_) {
    return absl::AbortedError(absl::StrCat("max_age_steps: run ", live.run,
                                           " took the live representations of ", live_run_,
                                           " over during the pass; recluster again"));
  }
  FrozenRepresentations merged = std::move(live.representations);
  for (size_t i = 0; i < chosen_.size(); ++i) {
    const uint64_t row = split.Row(chosen_[i]);
    std::copy_n(embedded.rows.row(static_cast<int64_t>(i)), merged.rows.dimension,
                merged.rows.row(static_cast<int64_t>(row)));
    merged.samples[row] = embedded.samples[i];
  }
  merged.failed_samples = embedded.failed_samples;
  return merged;
}

std::vector<uint64_t> BuildJob::ExtendedIdentities() const {
  std::vector<uint64_t> extended;
  const std::shared_ptr<const Catalog>& catalog = environment_.catalog;
  const std::shared_ptr<const Generation> active = environment_.active();
  if (active == nullptr) return extended;
  const absl::StatusOr<std::shared_ptr<const Catalog>> then =
      CatalogAtVersion(catalog, active->info().catalog_fingerprint());
  if (!then.ok() || *then == catalog) return extended;
  const IdentityRows rows = resolved_.split.rows();
  for (uint64_t row = 0; row < rows.size(); ++row) {
    const uint64_t i = rows.Identity(row);
    if (i >= (*then)->num_identities()) break;
    if ((*then)->Samples(i).count != catalog->Samples(i).count) extended.push_back(i);
  }
  return extended;
}

void BuildJob::TakeOverEarlierPass(const v1::RepresentationPass& pass) {
  const std::shared_ptr<const Catalog>& catalog = environment_.catalog;
  const std::vector<CatalogVersionInfo>& earlier = catalog->earlier_versions();
  for (auto version = earlier.rbegin(); version != earlier.rend(); ++version) {
    if (representations_->Missing().empty()) return;
    const absl::StatusOr<std::shared_ptr<const Catalog>> then =
        CatalogAtVersion(catalog, version->fingerprint);
    if (!then.ok()) continue;
    const absl::StatusOr<CatalogSplitInfo> split = (*then)->Split(resolved_.split.name);
    if (!split.ok()) continue;
    const IdentityRows rows = resolved_.split.rows(), old_rows = split->rows();
    const v1::RepresentationPass from = FullPass(resolved_, version->fingerprint, old_rows);
    // Both passes count identities from their first one on, or rows.
    const uint64_t old_first = from.first_identity(), first = pass.first_identity();
    const auto same = [&](uint64_t number) {
      const uint64_t identity = old_rows.Identity(number - old_first);
      const bool kept = (*then)->Samples(identity).count == catalog->Samples(identity).count;
      return kept && rows.Contains(identity) ? first + rows.Row(identity) : IdentityRows::kNone;
    };
    const absl::StatusOr<uint64_t> taken =
        TakeOverPass(*environment_.fs, environment_.representations_directory, from, same, *representations_);
    if (!taken.ok()) {
      DOPPEL_LOG(kWarning, started_.id(),
                 ": not all of an earlier pass can be used: ", taken.status().ToString());
    } else if (*taken > 0) {
      DOPPEL_LOG(kInfo, started_.id(), ": ", *taken, " of ", pass.identities(),
                 " identities as they were embedded before the catalog was appended to");
    }
  }
}

absl::StatusOr<FrozenRepresentations> BuildJob::Embed() {
  ASSIGN_OR_RETURN(const v1::RepresentationPass pass, PlanPass());
  ASSIGN_OR_RETURN(representations_,
                   OpenRepresentationPass(*environment_.fs, environment_.representations_directory,
                                          started_.generation(), pass));
  if (live_run_.empty()) TakeOverEarlierPass(pass);
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
  if (!live_run_.empty()) {
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
  const IdentityRows all = resolved_.split.rows();
  Begin("embed", 0, all.size());
  const std::shared_ptr<const Generation> active = environment_.active ? environment_.active() : nullptr;
  const auto fallback = [&active](uint64_t identity) -> absl::Span<const float> {
    if (active == nullptr || !active->Covers(identity)) return {};
    return active->Representation(identity);
  };
  ASSIGN_OR_RETURN(
      RunningMeanManager::Frozen frozen,
      environment_.live->Freeze(all, resolved_.request.representation_source().min_coverage(), fallback));
  resolved_.model.fingerprint = LiveFingerprint(frozen.run, frozen.model_step);
  resolved_.model.step = frozen.model_step;
  resolved_.model.dimension = frozen.representations.rows.dimension;
  Advance(all.size());
  embed_seconds_ = SecondsInPhase();
  DOPPEL_LOG(kInfo, started_.id(), ": live representations of run ", frozen.run, " at step ",
             frozen.model_step, ", ", frozen.seen, " of ", all.size(), " identities seen",
             frozen.seen < all.size() && active != nullptr
                 ? absl::StrCat(", the others as in generation ", active->number())
                 : "");
  return std::move(frozen.representations);
}

}  // namespace doppel
