#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

// uint8 pixels, [height, width, channels] row-major, channels 1 (grey) or 3 (RGB).
struct Image {
  int height = 0;
  int width = 0;
  int channels = 0;
  std::vector<uint8_t> pixels;
};

// Decodes PNG, JPEG, WebP, BMP or binary PNM to `channels` (1 or 3) at the file's own size (turned as EXIF
// says); alpha is dropped. Errors: INVALID_ARGUMENT (not an image, damaged, cut off). Refuses, by header,
// images above 64 M pixels before allocating. Thread-safe.
absl::StatusOr<Image> DecodeImage(absl::string_view encoded, int channels);

// Decodes and resizes (area when shrinking, bilinear when growing) straight into out[height * width *
// channels]. `out` is not owned; its content is undefined after an error. Thread-safe. Fast when the file has
// that size already.
absl::Status DecodeImageInto(absl::string_view encoded, int height, int width, int channels, uint8_t* out);

// Resizes in the same way into out[height * width * image.channels]. Thread-safe.
absl::Status ResizeImage(const Image& image, int height, int width, uint8_t* out);

// compression 0–12. The same bytes for the same pixels.
absl::StatusOr<std::string> EncodePng(const Image& image, int compression = 3);

}  // namespace doppel
