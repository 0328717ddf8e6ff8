#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/loss_options.h"

namespace doppel {

// "triplet", "batch_hard", "batch_ohnm", "semi_hard", "semi_hard_random", "batch_all", "batch_all_nonzero",
// "msml", "ohnm", "softmax_sampled".
std::vector<std::string> TripletFamilyNames();

// INVALID_ARGUMENT names the setting that is wrong, or the name if it is none of the above.
absl::StatusOr<std::unique_ptr<Loss>> MakeTripletFamilyLoss(const LossOptions& options);

}  // namespace doppel
