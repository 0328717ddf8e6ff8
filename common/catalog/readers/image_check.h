#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace doppel {

// A cheap look at an encoded image, without decoding: is it one, and is its end there? Goes by the bytes, not
// by a name. PNG: signature, IHDR with a size, chunks up to IEND. JPEG: markers up to the scan, EOI behind
// it. WebP, BMP, PNM: header and the length that it promises. INVALID_ARGUMENT says what is wrong, in a few
// words.
absl::Status CheckImage(absl::string_view bytes);

}  // namespace doppel
