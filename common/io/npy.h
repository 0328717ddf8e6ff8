#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/io/file_system.h"

namespace doppel {

// NumPy's .npy, version 1.0, C order, little endian.
struct NpyArray {
  std::string dtype;  // "<f4", "<f8", "<i8", "|u1", …
  std::vector<int64_t> shape;
  std::string data;
  int64_t size() const;  // product of shape
};
absl::StatusOr<NpyArray> ReadNpy(FileSystem& fs, const std::string& path);
// Converts f4/f8 to float; anything else is INVALID_ARGUMENT.
absl::StatusOr<std::vector<float>> NpyToFloats(const NpyArray& array);
// Converts i1..i8, u1..u8 to int64; anything else is INVALID_ARGUMENT.
absl::StatusOr<std::vector<int64_t>> NpyToInts(const NpyArray& array);
absl::Status WriteNpy(FileSystem& fs, const std::string& path, absl::Span<const int64_t> shape,
                      absl::Span<const float> values);
absl::Status WriteNpy(FileSystem& fs, const std::string& path, absl::Span<const int64_t> shape,
                      absl::Span<const double> values);
absl::Status WriteNpy(FileSystem& fs, const std::string& path, absl::Span<const int64_t> shape,
                      absl::Span<const int64_t> values);

}  // namespace doppel
