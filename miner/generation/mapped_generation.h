#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "doppel/v1/storage.pb.h"
#include "miner/generation/generation.h"

namespace doppel {

// Maps the array files of a generation directory after checking all their bytes against the manifest, and
// their content against itself. DATA_LOSS names the damaged file. The directory lies on the real file system.
absl::StatusOr<std::shared_ptr<const Generation>> MapGeneration(const std::string& directory,
                                                                const v1::GenerationManifest& manifest);

}  // namespace doppel
