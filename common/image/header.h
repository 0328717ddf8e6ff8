#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

enum class ImageFormat { kPng, kJpeg, kBmp, kWebp, kPnm };

struct ImageHeader {
  ImageFormat format = ImageFormat::kPng;
  uint64_t width = 0;
  uint64_t height = 0;
};

// Largest image that is decoded, in pixels.
inline constexpr uint64_t kMaxPixels = uint64_t{64} << 20;

// Format and size from the first bytes alone, nothing allocated. INVALID_ARGUMENT: not one of the formats,
// cut off before the end of the header (a PNM: of the pixels), a JPEG without its end marker (a reader would
// fill the rest with grey), more than kMaxPixels, or a JPEG of so many scans that decoding would take for
// ever.
absl::StatusOr<ImageHeader> ReadImageHeader(absl::string_view encoded);

}  // namespace doppel
