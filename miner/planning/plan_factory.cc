#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "miner/planning/plan.h"
#include "miner/planning/random_plan.h"
#include "miner/planning/subspace_plan.h"

namespace doppel {
namespace {

// A batch is built whole in memory, on request of a client.
constexpr uint64_t kMaxSamplesPerBatch = uint64_t{1} << 20;

absl::Status CheckBatchShape(const v1::PlanSpec& spec) {
  if (spec.identities_per_batch() == 0) {
    return absl::InvalidArgumentError("identities_per_batch is 0: give P, at least 1");
  }
  if (spec.samples_per_identity() == 0) {
    return absl::InvalidArgumentError("samples_per_identity is 0: give K, at least 1");
  }
  const uint64_t samples = uint64_t{spec.identities_per_batch()} * spec.samples_per_identity();
  if (samples > kMaxSamplesPerBatch) {
    return absl::InvalidArgumentError(absl::StrCat("identities_per_batch * samples_per_identity is ", samples,
                                                   ", at most ", kMaxSamplesPerBatch, " are allowed"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Plan>> MakePlan(const v1::PlanSpec& spec, uint64_t seed,
                                                     std::shared_ptr<const Catalog> catalog,
                                                     std::shared_ptr<const Generation> generation) {
  if (catalog == nullptr) return absl::InvalidArgumentError("catalog is null: a plan draws from one");
  RETURN_IF_ERROR(CheckBatchShape(spec));
  if (spec.name() == "random") return MakeRandomPlan(spec, seed, std::move(catalog));
  if (spec.name() == "subspace")
    return MakeSubspacePlan(spec, seed, std::move(catalog), std::move(generation));
  return absl::InvalidArgumentError(
      absl::StrCat("name \"", spec.name(), "\": unknown plan; there are random and subspace"));
}

}  // namespace doppel
