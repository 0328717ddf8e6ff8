#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

// A verification set of InsightFace: images 2i and 2i + 1 are pair i.
struct InsightFaceBin {
  std::vector<absl::string_view> images;  // encoded; views of `owner`
  std::vector<bool> same;                 // [images / 2]
  std::shared_ptr<const void> owner;
};

// Reads the .bin: a Python pickle, protocols 1 to 5, of ([2N byte strings], [N booleans]). Nothing is
// executed: lists, tuples, byte strings, booleans, small numbers and back references are understood, and the
// one call with which Python 3 writes bytes in the old protocols (_codecs.encode(text, 'latin1')); anything
// else is INVALID_ARGUMENT that names the opcode and its place. `data` is viewed, not copied: `owner` keeps
// it alive.
absl::StatusOr<InsightFaceBin> ParseInsightFaceBin(absl::string_view data, const std::string& origin,
                                                   std::shared_ptr<const void> owner);

// The same of a file, mapped.
absl::StatusOr<InsightFaceBin> ReadInsightFaceBin(const std::string& path);

}  // namespace doppel
