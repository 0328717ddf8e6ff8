#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

// PNG on top of libdeflate: for small images several times faster than a general reader (48×48 grey: about 4
// µs against 18 µs with OpenCV's). Pure functions, thread-safe.

struct PngHeader {
  uint32_t width = 0;
  uint32_t height = 0;
  int bit_depth = 0;
  int color_type = 0;  // 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA
  bool interlaced = false;
};

// True if `encoded` starts with PNG's signature.
bool IsPng(absl::string_view encoded);

// The first chunk alone. INVALID_ARGUMENT if it is no whole IHDR.
absl::StatusOr<PngHeader> ReadPngHeader(absl::string_view encoded);

// What DecodePlainPng takes: 8 bits per channel, no palette, not interlaced.
bool IsPlainPng(const PngHeader& header);

// Decodes a plain PNG to out[header.height * header.width * channels], channels 1 or 3; alpha is dropped.
// `out` is not owned. Checks every CRC and the checksum of the pixels: INVALID_ARGUMENT says what is wrong
// with the file.
absl::Status DecodePlainPng(absl::string_view encoded, const PngHeader& header, int channels, uint8_t* out);

// Writes plain PNGs: the same bytes for the same pixels. compression 0–12; rows are not filtered, which suits
// drawings (smaller) and decodes fastest. Keep one for many images. Not thread-safe.
class PngEncoder {
 public:
  explicit PngEncoder(int compression);
  ~PngEncoder();
  PngEncoder(const PngEncoder&) = delete;
  PngEncoder& operator=(const PngEncoder&) = delete;

  // uint8 [height, width, channels], channels 1 or 3.
  std::string Encode(int height, int width, int channels, const uint8_t* pixels);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The grey of a colour (ITU-R BT.601, fixed point).
inline uint8_t GreyOf(uint8_t red, uint8_t green, uint8_t blue) {
  return static_cast<uint8_t>((4899u * red + 9617u * green + 1868u * blue + 8192u) >> 14);
}

}  // namespace doppel
