#pragma once

#include <string>

#include "absl/strings/escaping.h"
#include "common/image/image.h"

namespace doppel {

inline std::string FromBase64(const char* text) {
  std::string bytes;
  absl::Base64Unescape(text, &bytes);
  return bytes;
}

// A grey bar on black, so that shifts and turns are seen.
inline Image Bar(int height, int width) {
  Image image{height, width, 1, {}};
  image.pixels.assign(static_cast<size_t>(height) * width, 0);
  for (int y = height / 4; y < height * 3 / 4; ++y) {
    for (int x = width / 3; x < width / 2; ++x) image.pixels[y * width + x] = static_cast<uint8_t>(100 + y);
  }
  return image;
}

// Reproducible noise.
inline Image Noise(int height, int width, int channels) {
  Image image{height, width, channels, {}};
  uint32_t state = 12345;
  image.pixels.resize(static_cast<size_t>(height) * width * channels);
  for (uint8_t& pixel : image.pixels) {
    state = state * 1664525u + 1013904223u;
    pixel = static_cast<uint8_t>(state >> 24);
  }
  return image;
}

}  // namespace doppel
