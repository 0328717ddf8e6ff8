#include "common/catalog/readers/image_check.h"

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

absl::Status Wrong(absl::string_view what) { return absl::InvalidArgumentError(what); }

uint32_t BigEndian32(absl::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

uint32_t LittleEndian32(absl::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

absl::Status CheckPng(absl::string_view bytes) {
  constexpr size_t kSignature = 8, kChunkOverhead = 12, kIhdr = 13;
  if (bytes.size() < kSignature + kChunkOverhead + kIhdr) return Wrong("PNG cut off in its header");
  if (BigEndian32(bytes, 8) != kIhdr || bytes.substr(12, 4) != "IHDR") return Wrong("PNG without IHDR");
  if (BigEndian32(bytes, 16) == 0 || BigEndian32(bytes, 20) == 0) return Wrong("PNG of size 0");
  bool data = false;
  for (size_t at = kSignature; bytes.size() - at >= kChunkOverhead;) {
    const uint64_t length = BigEndian32(bytes, at);
    if (length > bytes.size() - at - kChunkOverhead) return Wrong("PNG cut off within a chunk");
    const absl::string_view type = bytes.substr(at + 4, 4);
    if (type == "IEND") return data ? absl::OkStatus() : Wrong("PNG without IDAT");
    data = data || type == "IDAT";
    at += length + kChunkOverhead;
  }
  return Wrong("PNG without IEND: cut off");
}

absl::Status CheckJpeg(absl::string_view bytes) {
  constexpr uint8_t kSos = 0xDA, kEoi = 0xD9;
  for (size_t at = 2; at + 4 <= bytes.size();) {
    if (static_cast<uint8_t>(bytes[at]) != 0xFF) return Wrong("JPEG with a broken marker");
    const uint8_t marker = bytes[at + 1];
    if (marker == 0xFF) {  // fill byte
      ++at;
      continue;
    }
    if (marker == kEoi) return Wrong("JPEG without a scan");
    const size_t length = static_cast<uint8_t>(bytes[at + 2]) << 8 | static_cast<uint8_t>(bytes[at + 3]);
    if (length < 2 || length > bytes.size() - at - 2) return Wrong("JPEG cut off in its header");
    at += 2 + length;
    if (marker != kSos) continue;
    // Within a scan every FF is followed by 00 or a restart marker, so this is the real end.
    if (bytes.substr(at).rfind("\xFF\xD9") == absl::string_view::npos)
      return Wrong("JPEG without EOI: cut off");
    return absl::OkStatus();
  }
  return Wrong("JPEG cut off in its header");
}

absl::Status CheckWebp(absl::string_view bytes) {
  if (bytes.size() < 20) return Wrong("WebP cut off in its header");
  if (uint64_t{LittleEndian32(bytes, 4)} + 8 > bytes.size()) return Wrong("WebP cut off");
  return absl::OkStatus();
}

absl::Status CheckBmp(absl::string_view bytes) {
  if (bytes.size() < 26) return Wrong("BMP cut off in its header");
  if (LittleEndian32(bytes, 2) > bytes.size() || LittleEndian32(bytes, 10) >= bytes.size())
    return Wrong("BMP cut off");
  return absl::OkStatus();
}

// One number of a PNM header; comments run from # to the end of the line. -1 if there is none.
int64_t PnmNumber(absl::string_view bytes, size_t* at) {
  while (*at < bytes.size() && (absl::ascii_isspace(bytes[*at]) || bytes[*at] == '#')) {
    if (bytes[*at] == '#') {
      while (*at < bytes.size() && bytes[*at] != '\n') ++*at;
    } else {
      ++*at;
    }
  }
  int64_t value = -1;
  while (*at < bytes.size() && absl::ascii_isdigit(bytes[*at]) && value < (1 << 24)) {
    value = (value < 0 ? 0 : value) * 10 + (bytes[(*at)++] - '0');
  }
  return value;
}

absl::Status CheckPnm(absl::string_view bytes) {
  size_t at = 2;
  const int64_t width = PnmNumber(bytes, &at), height = PnmNumber(bytes, &at), max = PnmNumber(bytes, &at);
  if (width <= 0 || height <= 0 || max <= 0 || max > 65535) return Wrong("PNM with a broken header");
  const uint64_t bytes_per_pixel = (bytes[1] == '6' ? 3 : 1) * (max > 255 ? 2 : 1);
  const uint64_t needed = static_cast<uint64_t>(width) * height * bytes_per_pixel;
  if (bytes.size() < at + 1 + needed) return Wrong("PNM cut off");
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckImage(absl::string_view bytes) {
  if (absl::StartsWith(bytes, "\x89PNG\r\n\x1a\n")) return CheckPng(bytes);
  if (absl::StartsWith(bytes, "\xFF\xD8\xFF")) return CheckJpeg(bytes);
  if (absl::StartsWith(bytes, "RIFF") && bytes.size() >= 12 && bytes.substr(8, 4) == "WEBP")
    return CheckWebp(bytes);
  if (absl::StartsWith(bytes, "BM")) return CheckBmp(bytes);
  if (absl::StartsWith(bytes, "P5") || absl::StartsWith(bytes, "P6")) return CheckPnm(bytes);
  return Wrong("not a PNG, JPEG, WebP, BMP or PNM file");
}

}  // namespace doppel
