#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>

#include "miner/planning/plan.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"

namespace doppel {
namespace {

using testing::HasSubstr;

v1::PlanSpec Spec(const std::string& name, uint32_t p, uint32_t k) {
  v1::PlanSpec spec;
  spec.set_name(name);
  spec.set_identities_per_batch(p);
  spec.set_samples_per_identity(k);
  return spec;
}

std::string Error(const v1::PlanSpec& spec) {
  auto catalog = MakeFakeCatalog(100, 1, 3, 1);
  const absl::Status status = MakePlan(spec, 1, catalog, MakeFakeGeneration(*catalog, "", 2, 1)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(PlanFactory, MakesThePlansByName) {
  auto catalog = MakeFakeCatalog(100, 1, 3, 1);
  auto generation = MakeFakeGeneration(*catalog, "", 2, 1);
  EXPECT_EQ(MakePlan(Spec("random", 8, 2), 1, catalog, generation).value()->At(0).subspace, -1);
  EXPECT_GE(MakePlan(Spec("subspace", 8, 2), 1, catalog, generation).value()->At(0).subspace, 0);
}

TEST(PlanFactory, UnknownPlanNamesThoseThereAre) {
  EXPECT_THAT(Error(Spec("hardest", 8, 2)), HasSubstr("\"hardest\""));
  EXPECT_THAT(Error(Spec("", 8, 2)), HasSubstr("random, subspace"));
}

TEST(PlanFactory, RefusesAZeroP) {
  EXPECT_THAT(Error(Spec("random", 0, 2)), HasSubstr("identities_per_batch"));
  EXPECT_THAT(Error(Spec("subspace", 0, 2)), HasSubstr("identities_per_batch"));
}

TEST(PlanFactory, RefusesAZeroK) {
  EXPECT_THAT(Error(Spec("random", 8, 0)), HasSubstr("samples_per_identity"));
}

TEST(PlanFactory, RefusesABatchThatWouldNotFitInMemory) {
  EXPECT_THAT(Error(Spec("random", 4294967295u, 4294967295u)), HasSubstr("at most"));
}

TEST(PlanFactory, RefusesANullCatalog) {
  EXPECT_EQ(MakePlan(Spec("random", 1, 1), 1, nullptr, nullptr).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace doppel
