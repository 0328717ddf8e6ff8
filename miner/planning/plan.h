#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/catalog/catalog.h"
#include "doppel/v1/types.pb.h"
#include "miner/generation/generation.h"

namespace doppel {

// Which samples one batch holds.
struct PlannedBatch {
  uint64_t cursor = 0;
  uint64_t epoch = 0;
  int32_t subspace = -1;             // -1: not restricted to one
  std::vector<uint64_t> identities;  // [P], distinct
  std::vector<uint64_t> samples;     // [P * K], identity-major
};

struct PlanCoverage {
  uint64_t identities = 0;  // that the plan draws from
  uint64_t batches_per_epoch = 0;
  uint64_t left_out = 0;  // identities it never draws, and why
  std::string left_out_reason;
};

// A pure function from cursor to batch for one (catalog, generation, spec, seed). Immutable, thread-safe; At
// is O(P*K). Over one epoch every covered identity appears exactly once, except for the remainder: what is
// left of a subspace (or of the whole, for `random`) after its last full batch, fewer than P identities, sits
// that epoch out; which ones is drawn anew every epoch. An identity's images rotate through a permutation of
// their own: with n >= K images epoch e takes positions (e*K + j) mod n of it, so all are seen after ceil(n /
// K) epochs; with n < K all n are taken and then again from the start of the permutation.
class Plan {
 public:
  virtual ~Plan() = default;
  virtual PlannedBatch At(uint64_t cursor) const = 0;
  virtual const PlanCoverage& coverage() const = 0;
};

// Keeps shared ownership of catalog and generation. generation may be null for `random`. INVALID_ARGUMENT
// names the field: unknown plan, P or K of 0, P larger than every subspace, …
absl::StatusOr<std::shared_ptr<const Plan>> MakePlan(const v1::PlanSpec& spec, uint64_t seed,
                                                     std::shared_ptr<const Catalog> catalog,
                                                     std::shared_ptr<const Generation> generation);

}  // namespace doppel
