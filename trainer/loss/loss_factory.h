#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/loss_options.h"

namespace doppel {

// "batch_hard", "batch_ohnm", "id_softmax".
std::vector<std::string> LossNames();
// INVALID_ARGUMENT names the setting that is wrong.
absl::StatusOr<std::unique_ptr<Loss>> MakeLoss(const LossOptions& options);

}  // namespace doppel
