#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace doppel {

struct ImageSize {
  uint64_t width = 0;
  uint64_t height = 0;
};

// Larger ones are never decoded (common/image refuses them by the same limit), so they are left out at
// import.
inline constexpr uint64_t kMaxImagePixels = uint64_t{64} << 20;

// What the header promises, nothing decoded; zeros if it cannot be told.
ImageSize ReadImageSize(absl::string_view bytes);

}  // namespace doppel
