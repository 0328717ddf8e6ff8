#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "miner/planning/mixture_plan.h"
#include "miner/planning/neighbour_plan.h"
#include "miner/planning/plan.h"
#include "miner/planning/plan_inputs.h"
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

// What auto means with this generation.
void Resolve(const Generation* generation, v1::PlanSpec* spec) {
  if (spec->name() == "mixture" && spec->part().empty()) spec->set_name("look_alikes");
  if (spec->name() != "auto") return;
  const uint32_t p = spec->identities_per_batch();
  if (generation == nullptr || p < 2) {
    spec->set_name("random");
  } else if (generation->num_neighbours() > 0) {
    spec->set_name("look_alikes");
  } else {
    uint64_t batches = 0;
    for (uint32_t s = 0; s < generation->num_subspaces(); ++s) batches += generation->Members(s).size() / p;
    spec->set_name(batches > 0 ? "mixture" : "random");
    for (const char* part : {"random", "subspace"}) {
      if (batches == 0) break;
      v1::PlanPart& added = *spec->add_part();
      added.mutable_plan()->set_name(part);
      added.set_weight(1);
    }
  }
  // There is nothing hard to have a share of.
  if (spec->name() == "random") spec->clear_hardness();
}

absl::StatusOr<std::shared_ptr<const Plan>> MakeResolved(PlanInputs inputs) {
  const std::string& name = inputs.spec.name();
  const std::vector<std::string> known = PlanNames();
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("name \"", name, "\": unknown plan; there are ", absl::StrJoin(known, ", ")));
  }
  RETURN_IF_ERROR(CheckFields(inputs.spec));
  if (name == "random") return MakeRandomPlan(std::move(inputs));
  if (name == "subspace" || name == "subspace_overlap" || name == "category") {
    return MakeSubspacePlan(std::move(inputs));
  }
  if (name == "mixture") {
    return MakeMixturePlan(inputs, [&inputs](const v1::PlanSpec& part) {
      PlanInputs own = inputs;
      own.spec = part;
      return MakeResolved(std::move(own));
    });
  }
  return MakeNeighbourPlan(std::move(inputs));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Plan>> MakePlan(const v1::PlanSpec& spec, uint64_t seed,
                                                     std::shared_ptr<const Catalog> catalog,
                                                     std::shared_ptr<const Generation> generation) {
  if (catalog == nullptr) return absl::InvalidArgumentError("catalog is null: a plan draws from one");
  RETURN_IF_ERROR(CheckBatchShape(spec));
  PlanInputs inputs{spec, seed, std::move(catalog), std::move(generation)};
  if (spec.name() == "auto") RETURN_IF_ERROR(CheckFields(spec));
  Resolve(inputs.generation.get(), &inputs.spec);
  return MakeResolved(std::move(inputs));
}

bool PlanNeedsGeneration(const v1::PlanSpec& spec) {
  if (spec.name() == "random" || spec.name() == "auto" || spec.name() == "category") return false;
  if (spec.name() != "mixture" || spec.part().empty()) return true;
  return std::any_of(spec.part().begin(), spec.part().end(),
                     [](const v1::PlanPart& part) { return PlanNeedsGeneration(part.plan()); });
}

std::vector<std::string> PlanNames() {
  return {"auto",         "random",           "subspace", "subspace_overlap", "nearest_identities",
          "doppelganger", "offline_triplets", "category", "look_alikes",      "mixture"};
}

}  // namespace doppel
