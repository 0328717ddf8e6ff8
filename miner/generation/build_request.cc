// What a mining request leaves open, and what it may not ask for.
#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "miner/generation/build_job.h"

namespace doppel {
namespace {

constexpr uint64_t kDefaultTargetSize = 10000;
constexpr uint32_t kDefaultIterations = 20;
constexpr uint32_t kMaxIterations = 10000;
constexpr uint32_t kDefaultMinSize = 64;
constexpr uint32_t kDefaultNeighbours = 64;
constexpr int32_t kMaxNeighbours = 4096;
// Above it neighbours are only found for those who ask: they take 512 bytes per identity.
constexpr uint64_t kNeighboursByDefault = uint64_t{1} << 24;
constexpr double kDefaultTolerance = 1e-4;
constexpr double kDefaultCoverage = 0.9;
constexpr uint32_t kDefaultSampled = 2;

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
  if (resolved.split.rows().end() > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("split: a generation holds identities below 2^32, \"",
                                                   resolved.split.name, "\" ends at ",
                                                   resolved.split.rows().end()));
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

}  // namespace doppel
