#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/permutation.h"
#include "miner/planning/plan.h"
#include "tests/conformance/plan_conformance.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"

namespace doppel {

inline v1::PlanSpec NamedSpec(const std::string& name, uint32_t p, uint32_t k) {
  v1::PlanSpec spec;
  spec.set_name(name);
  spec.set_identities_per_batch(p);
  spec.set_samples_per_identity(k);
  return spec;
}

// A generation of the split with k random neighbours for everyone.
inline std::shared_ptr<FakeGeneration> NeighbourGeneration(const Catalog& catalog, const std::string& split,
                                                           uint32_t subspaces, int k, int dimension = 0) {
  const CatalogSplitInfo range = catalog.Split(split).value();
  const Philox philox(4);
  std::vector<uint32_t> assignment(range.identities);
  for (uint64_t i = 0; i < range.identities; ++i) {
    assignment[i] = static_cast<uint32_t>(philox.Below(subspaces, i));
  }
  auto generation =
      std::make_shared<FakeGeneration>(3, range.first_identity, std::move(assignment), subspaces, dimension);
  generation->mutable_info().set_catalog_fingerprint(catalog.fingerprint());
  generation->mutable_info().set_split(range.name);
  if (k > 0) generation->SetRandomNeighbours(k, 8);
  return generation;
}

// Guards every identity i below `identities` against `step` later ones, and drops every fifth sample and all
// samples of identities 11, 22, 33, …
inline GuardList GuardSome(const Catalog& catalog, uint32_t identities, const std::vector<uint32_t>& steps) {
  std::vector<GuardList::Pair> pairs;
  for (uint32_t i = 0; i < identities; i += 7) {
    for (uint32_t step : steps) {
      if (i + step < catalog.num_identities()) pairs.push_back({i, i + step});
    }
  }
  std::vector<uint64_t> samples;
  for (uint64_t i = 0; i < catalog.num_identities(); ++i) {
    const IdentitySamples own = catalog.Samples(i);
    for (uint64_t s = own.first; s < own.first + own.count; ++s) {
      if ((s % 5 == 0 && own.count > 2) || (i % 11 == 0 && i > 0)) samples.push_back(s);
    }
  }
  return GuardList::Make(std::move(pairs), std::move(samples)).value();
}

// Whether GuardSome leaves it no sample.
inline bool AllDropped(uint64_t identity) { return identity % 11 == 0 && identity > 0; }

inline std::function<int64_t(uint64_t)> CoveredBy(const std::shared_ptr<const Generation>& generation) {
  return [generation](uint64_t i) -> int64_t {
    const bool inside =
        i >= generation->first_identity() && i - generation->first_identity() < generation->num_identities();
    return inside && !(generation->guard_list().samples().size() > 0 && AllDropped(i)) ? 0 : -1;
  };
}

inline std::string PlanError(const v1::PlanSpec& spec, const std::shared_ptr<const Catalog>& catalog,
                             const std::shared_ptr<const Generation>& generation) {
  const absl::Status status = MakePlan(spec, 1, catalog, generation).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

}  // namespace doppel
