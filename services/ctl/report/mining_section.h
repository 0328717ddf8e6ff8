#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "doppel/v1/types.pb.h"

namespace doppel::report {

// From GenerationInfo as JSON. Errors name the file.
absl::StatusOr<std::vector<v1::GenerationInfo>> ReadGenerations(const std::vector<std::string>& files);

// Table of the generations; subspace sizes and k-means objective of each of the last three.
std::string MiningSection(const std::vector<v1::GenerationInfo>& generations);

}  // namespace doppel::report
