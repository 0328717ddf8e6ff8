#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
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
  std::string drawn_by;              // the plan that drew it; of a mixture, the part
  double hard_share = 0;             // of the identities that came as look-alikes
  // Of PlanSpec.subspace_stage: from_cursor of the one in force, and its subspace's share of the visits.
  std::optional<uint64_t> subspace_stage;
  double subspace_share = 0;
  std::optional<v1::HardnessDecision> decision;  // in force; set by whoever knows of decisions
};

struct PlanCoverage {
  uint64_t identities = 0;  // that the plan draws from
  uint64_t batches_per_epoch = 0;
  uint64_t left_out = 0;  // identities it never draws, and why
  std::string left_out_reason;
};

// A pure function from cursor to batch for one (catalog, generation, spec, seed). Immutable, thread-safe; At
// is O(P*K), whatever the number of identities. Every batch has P distinct identities, no two of which the
// generation's guard list keeps apart, and K samples of each, none that it drops.
//
// Turns: over one epoch every covered identity has its turn exactly once, except for the remainder: what is
// left of a subspace (or of the whole) after its last full batch sits that epoch out; which ones is drawn
// anew every epoch. In random, subspace and category all P of a batch come by their turn; in
// subspace_overlap they have r turns, one in each of their subspaces; in plans of neighbours a part does, and
// the neighbours come with them. Whose turn puts it beside one that it is guarded against (earlier in the
// batch) gives its place to one drawn at random from the same subspace (or the whole), and sits that epoch
// out.
//
// An identity's images rotate through a permutation of their own: with n >= K images epoch e takes positions
// (e*K + j) mod n of it, so all are seen after ceil(n / K) epochs; with n < K all n are taken and then again
// from the start of the permutation. Who comes without a turn shows K that follow one another in the
// permutation, from a random place on.
class Plan {
 public:
  virtual ~Plan() = default;
  virtual PlannedBatch At(uint64_t cursor) const = 0;
  virtual const PlanCoverage& coverage() const = 0;
};

// Keeps shared ownership of catalog and generation. generation may be null for `random` and `auto`.
// INVALID_ARGUMENT names the field: unknown plan, P or K of 0, P larger than every subspace, …
absl::StatusOr<std::shared_ptr<const Plan>> MakePlan(const v1::PlanSpec& spec, uint64_t seed,
                                                     std::shared_ptr<const Catalog> catalog,
                                                     std::shared_ptr<const Generation> generation);

// Whether MakePlan would refuse it for want of a generation alone.
bool PlanNeedsGeneration(const v1::PlanSpec& spec);

// The names there are, the recommended one first.
std::vector<std::string> PlanNames();

}  // namespace doppel
