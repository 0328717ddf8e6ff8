#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/loss_options.h"

namespace doppel {

// The losses over embeddings: the triplet family, "contrastive", "lmnn", "improved_triplet", "quadruplet",
// "lifted", "lifted_pxk", "adaptive_weights".
std::vector<std::string> MetricLossNames();
// These, "id_softmax", "attribute", "verification" and "joint".
std::vector<std::string> LossNames();
// INVALID_ARGUMENT names the setting that is wrong. `fs` holds the table of attributes, if there is one.
absl::StatusOr<std::unique_ptr<Loss>> MakeLoss(const LossOptions& options,
                                               FileSystem& fs = PosixFileSystem());

}  // namespace doppel
