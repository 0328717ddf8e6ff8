#include "common/catalog/readers/image_size.h"

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace doppel {
namespace {

// Little or big endian numbers that may lie beyond the end: 0 then.
uint64_t Little(absl::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) {
    if (at + i < bytes.size()) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  }
  return value;
}

uint64_t Big(absl::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count && at + i < bytes.size(); ++i)
    value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

ImageSize JpegSize(absl::string_view bytes) {
  for (size_t at = 2; at + 9 <= bytes.size();) {
    const uint64_t marker = Big(bytes, at + 1, 1);
    if (Big(bytes, at, 1) != 0xFF) return {};
    // Filling, and markers that stand alone.
    if (marker == 0xFF || marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) {
      at += marker == 0xFF ? 1 : 2;
      continue;
    }
    const bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (frame) return {Big(bytes, at + 7, 2), Big(bytes, at + 5, 2)};
    if (marker == 0xDA) return {};
    at += 2 + Big(bytes, at + 2, 2);
  }
  return {};
}

ImageSize WebpSize(absl::string_view bytes) {
  const absl::string_view chunk = bytes.substr(12, 4);
  if (chunk == "VP8X") return {Little(bytes, 24, 3) + 1, Little(bytes, 27, 3) + 1};
  if (chunk == "VP8L") {
    const uint64_t bits = Little(bytes, 21, 4);
    return {(bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1};
  }
  if (chunk == "VP8 ") return {Little(bytes, 26, 2) & 0x3FFF, Little(bytes, 28, 2) & 0x3FFF};
  return {};
}

ImageSize BmpSize(absl::string_view bytes) {
  if (Little(bytes, 14, 4) == 12) return {Little(bytes, 18, 2), Little(bytes, 20, 2)};
  const auto side = [&](size_t at) {
    return static_cast<uint64_t>(std::llabs(static_cast<int32_t>(Little(bytes, at, 4))));
  };
  return {side(18), side(22)};
}

// Numbers apart by blanks; comments run from # to the end of the line.
ImageSize PnmSize(absl::string_view bytes) {
  ImageSize size;
  size_t at = 2;
  for (uint64_t* number : {&size.width, &size.height}) {
    while (at < bytes.size() && (absl::ascii_isspace(bytes[at]) || bytes[at] == '#')) {
      if (bytes[at] == '#') {
        while (at < bytes.size() && bytes[at] != '\n') ++at;
      } else {
        ++at;
      }
    }
    for (; at < bytes.size() && absl::ascii_isdigit(bytes[at]) && *number < (1 << 24); ++at)
      *number = *number * 10 + static_cast<uint64_t>(bytes[at] - '0');
  }
  return size;
}

}  // namespace

ImageSize ReadImageSize(absl::string_view bytes) {
  if (absl::StartsWith(bytes, "\x89PNG\r\n\x1a\n")) return {Big(bytes, 16, 4), Big(bytes, 20, 4)};
  if (absl::StartsWith(bytes, "\xFF\xD8\xFF")) return JpegSize(bytes);
  if (absl::StartsWith(bytes, "RIFF") && bytes.size() >= 30) return WebpSize(bytes);
  if (absl::StartsWith(bytes, "BM") && bytes.size() >= 26) return BmpSize(bytes);
  if (absl::StartsWith(bytes, "P5") || absl::StartsWith(bytes, "P6")) return PnmSize(bytes);
  return {};
}

}  // namespace doppel
