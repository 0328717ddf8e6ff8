#include "common/image/header.h"

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/image/png.h"

namespace doppel {
namespace {

uint32_t Byte(absl::string_view data, size_t at) { return static_cast<uint8_t>(data[at]); }
uint32_t Little16(absl::string_view data, size_t at) { return Byte(data, at) | Byte(data, at + 1) << 8; }
uint32_t Little24(absl::string_view data, size_t at) { return Little16(data, at) | Byte(data, at + 2) << 16; }
uint32_t Little32(absl::string_view data, size_t at) {
  return Little16(data, at) | Little16(data, at + 2) << 16;
}
uint32_t Big16(absl::string_view data, size_t at) { return Byte(data, at) << 8 | Byte(data, at + 1); }

absl::Status Bad(absl::string_view what) { return absl::InvalidArgumentError(what); }

bool IsStartOfFrame(uint32_t marker) {
  return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

// A decoder goes over the whole image for each scan, and a scan may have a hundred bytes: one megabyte,
// minutes. Those of real progressive files are about ten.
constexpr int kMostScans = 100;
bool HasTooManyScans(absl::string_view data) {
  int scans = 0;
  for (size_t at = data.find("\xFF\xDA"); at != absl::string_view::npos; at = data.find("\xFF\xDA", at + 2)) {
    if (++scans > kMostScans) return true;
  }
  return false;
}

absl::StatusOr<ImageHeader> ReadJpeg(absl::string_view data) {
  ImageHeader header;
  header.format = ImageFormat::kJpeg;
  size_t at = 2;
  while (at + 4 <= data.size()) {
    if (Byte(data, at) != 0xFF) return Bad("JPEG: marker expected");
    const uint32_t marker = Byte(data, at + 1);
    if (marker == 0xFF || marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) {
      at += marker == 0xFF ? 1 : 2;
      continue;
    }
    const size_t length = Big16(data, at + 2);
    if (length < 2 || at + 2 + length > data.size()) return Bad("JPEG: truncated inside a segment");
    if (IsStartOfFrame(marker)) {
      if (length < 8) return Bad("JPEG: frame header too short");
      if (header.width != 0) return Bad("JPEG: two frame headers");
      header.height = Big16(data, at + 5);
      header.width = Big16(data, at + 7);
    } else if (marker == 0xDA) {
      if (header.width == 0) return Bad("JPEG: scan without a frame header");
      const size_t end = data.rfind("\xFF\xD9");
      if (end == absl::string_view::npos || end < at + 2 + length)
        return Bad("JPEG: truncated, no end marker");
      if (HasTooManyScans(data.substr(at))) {
        return Bad(absl::StrCat("JPEG: more than ", kMostScans, " scans: too much work for what it shows"));
      }
      return header;
    }
    at += 2 + length;
  }
  return Bad("JPEG: truncated before the pixels");
}

absl::StatusOr<ImageHeader> ReadBmp(absl::string_view data) {
  if (data.size() < 26) return Bad("BMP: truncated inside the header");
  ImageHeader header;
  header.format = ImageFormat::kBmp;
  if (Little32(data, 14) == 12) {
    header.width = Little16(data, 18);
    header.height = Little16(data, 20);
  } else {
    header.width = std::llabs(static_cast<int32_t>(Little32(data, 18)));
    header.height = std::llabs(static_cast<int32_t>(Little32(data, 22)));
  }
  return header;
}

absl::StatusOr<ImageHeader> ReadWebp(absl::string_view data) {
  if (data.size() < 30) return Bad("WebP: truncated inside the header");
  ImageHeader header;
  header.format = ImageFormat::kWebp;
  const absl::string_view kind = data.substr(12, 4);
  if (kind == "VP8 ") {
    header.width = Little16(data, 26) & 0x3FFF;
    header.height = Little16(data, 28) & 0x3FFF;
  } else if (kind == "VP8L") {
    const uint32_t bits = Little32(data, 21);
    header.width = (bits & 0x3FFF) + 1;
    header.height = (bits >> 14 & 0x3FFF) + 1;
  } else if (kind == "VP8X") {
    header.width = Little24(data, 24) + 1;
    header.height = Little24(data, 27) + 1;
  } else {
    return Bad("WebP: unknown kind");
  }
  return header;
}

// Binary PNM, 8 bits: numbers apart by blanks, comments from # to the end of the line.
absl::StatusOr<ImageHeader> ReadPnm(absl::string_view data) {
  ImageHeader header;
  header.format = ImageFormat::kPnm;
  uint64_t maximum = 0;
  size_t at = 2;
  for (uint64_t* number : {&header.width, &header.height, &maximum}) {
    bool comment = false;
    for (; at < data.size() && (comment || absl::ascii_isspace(data[at]) || data[at] == '#'); ++at)
      comment = data[at] != '\n' && (comment || data[at] == '#');
    for (; at < data.size() && absl::ascii_isdigit(data[at]) && *number < kMaxPixels; ++at)
      *number = *number * 10 + static_cast<uint64_t>(data[at] - '0');
  }
  if (maximum == 0 || maximum > 255) return Bad("PNM: a broken header, or more than 8 bits");
  const uint64_t pixel = data[1] == '6' ? 3 : 1;
  if (header.width <= kMaxPixels && header.height <= kMaxPixels &&
      (data.size() < at + 1 || header.width * header.height > (data.size() - at - 1) / pixel)) {
    return Bad("PNM: truncated");
  }
  return header;
}

absl::StatusOr<ImageHeader> ReadAny(absl::string_view data) {
  if (IsPng(data)) {
    ASSIGN_OR_RETURN(const PngHeader png, ReadPngHeader(data));
    return ImageHeader{ImageFormat::kPng, png.width, png.height};
  }
  if (data.substr(0, 3) == "\xFF\xD8\xFF") return ReadJpeg(data);
  if (data.substr(0, 2) == "BM") return ReadBmp(data);
  if (data.substr(0, 4) == "RIFF" && data.size() >= 12 && data.substr(8, 4) == "WEBP") return ReadWebp(data);
  if (data.substr(0, 2) == "P5" || data.substr(0, 2) == "P6") return ReadPnm(data);
  return Bad(
      absl::StrCat("not an image: ", data.size(), " bytes that start like no PNG, JPEG, WebP, BMP or PNM"));
}

}  // namespace

absl::StatusOr<ImageHeader> ReadImageHeader(absl::string_view encoded) {
  ASSIGN_OR_RETURN(const ImageHeader header, ReadAny(encoded));
  if (header.width == 0 || header.height == 0) return Bad("image without a size");
  if (header.width > kMaxPixels / header.height) {
    return Bad(
        absl::StrCat("image of ", header.width, "x", header.height, " pixels: more than ", kMaxPixels));
  }
  return header;
}

}  // namespace doppel
