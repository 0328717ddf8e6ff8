#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "doppel/v1/types.pb.h"

namespace doppel {

// Settings of a plan beyond P, K and run length, as "key=value": see docs/plans.md. Keys are PlanSpec's
// fields: groups, group_size, pool, skip, similarity_max, similarity_min, overlap, category_separator,
// images=other_camera, subspace_weight=W,W,…, schedule=hardness, steering_window, and any number of
// part=NAME:WEIGHT, stage=CURSOR:W,W,… and hardness=CURSOR:SHARE. INVALID_ARGUMENT names the option.
absl::Status ApplyPlanOptions(const std::vector<std::string>& options, v1::PlanSpec* spec);

}  // namespace doppel
