#include "common/image/png.h"

#include <libdeflate.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

constexpr absl::string_view kSignature("\x89PNG\r\n\x1a\n", 8);
constexpr size_t kHeaderEnd = 8 + 12 + 13;
// Deflate cannot expand by more than this.
constexpr uint64_t kMaxExpansion = 1032;

uint32_t Read32(absl::string_view data, size_t at) {
  auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(data[at + i])); };
  return byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
}

void Append32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

absl::Status Bad(absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat("PNG: ", what)); }

int FileChannels(int color_type) {
  switch (color_type) {
    case 0:
      return 1;
    case 2:
      return 3;
    case 4:
      return 2;
    case 6:
      return 4;
    default:
      return 0;
  }
}

// The compressed pixels of a file: a view of it where there is one IDAT, joined in `joined` where there are
// more.
absl::StatusOr<absl::string_view> CollectIdat(absl::string_view encoded, std::string& joined) {
  absl::string_view data;
  int parts = 0;
  for (size_t at = 8; at + 12 <= encoded.size();) {
    const uint32_t length = Read32(encoded, at);
    if (length > encoded.size() - at - 12) return Bad("truncated inside a chunk");
    const absl::string_view body = encoded.substr(at + 4, 4 + length);
    if (libdeflate_crc32(0, body.data(), body.size()) != Read32(encoded, at + 8 + length)) {
      return Bad("checksum of a chunk is wrong");
    }
    const absl::string_view type = body.substr(0, 4);
    if (type == "IDAT") {
      if (parts == 1) joined.assign(data.data(), data.size());
      data = body.substr(4);
      if (++parts > 1) joined.append(data.data(), data.size());
    } else if (type == "IEND") {
      if (parts == 0) return Bad("holds no pixels");
      return parts == 1 ? data : absl::string_view(joined);
    }
    at += 12 + length;
  }
  return Bad("truncated: no end chunk");
}

uint8_t Paeth(int a, int b, int c) {
  const int pa = std::abs(b - c), pb = std::abs(a - c), pc = std::abs(a + b - 2 * c);
  return static_cast<uint8_t>(pa <= pb && pa <= pc ? a : pb <= pc ? b : c);
}

// Undoes the row's filter in place. `above` is the row before, or zeros. False if the filter is unknown.
bool Unfilter(int filter, uint8_t* row, const uint8_t* above, size_t bytes, size_t bpp) {
  const size_t first = std::min(bpp, bytes);
  switch (filter) {
    case 0:
      return true;
    case 1:
      for (size_t i = bpp; i < bytes; ++i) row[i] = static_cast<uint8_t>(row[i] + row[i - bpp]);
      return true;
    case 2:
      for (size_t i = 0; i < bytes; ++i) row[i] = static_cast<uint8_t>(row[i] + above[i]);
      return true;
    case 3:
      for (size_t i = 0; i < first; ++i) row[i] = static_cast<uint8_t>(row[i] + above[i] / 2);
      for (size_t i = bpp; i < bytes; ++i)
        row[i] = static_cast<uint8_t>(row[i] + (row[i - bpp] + above[i]) / 2);
      return true;
    case 4:
      for (size_t i = 0; i < first; ++i) row[i] = static_cast<uint8_t>(row[i] + above[i]);
      for (size_t i = bpp; i < bytes; ++i) {
        row[i] = static_cast<uint8_t>(row[i] + Paeth(row[i - bpp], above[i], above[i - bpp]));
      }
      return true;
    default:
      return false;
  }
}

void ConvertRow(const uint8_t* row, size_t width, int from, int to, uint8_t* out) {
  const bool grey = from <= 2;
  if (from == to) {
    std::memcpy(out, row, width * from);
  } else if (to == 1) {
    for (size_t x = 0; x < width; ++x, row += from) out[x] = grey ? row[0] : GreyOf(row[0], row[1], row[2]);
  } else {
    for (size_t x = 0; x < width; ++x, row += from, out += 3) {
      out[0] = row[0];
      out[1] = row[grey ? 0 : 1];
      out[2] = row[grey ? 0 : 2];
    }
  }
}

void AppendChunk(std::string& out, absl::string_view type, absl::string_view body) {
  Append32(out, static_cast<uint32_t>(body.size()));
  const size_t start = out.size();
  absl::StrAppend(&out, type, body);
  Append32(out, libdeflate_crc32(0, out.data() + start, out.size() - start));
}

}  // namespace

bool IsPng(absl::string_view encoded) { return encoded.substr(0, 8) == kSignature; }

absl::StatusOr<PngHeader> ReadPngHeader(absl::string_view encoded) {
  if (!IsPng(encoded)) return Bad("signature missing");
  if (encoded.size() < kHeaderEnd) return Bad("truncated inside the header");
  if (Read32(encoded, 8) != 13 || encoded.substr(12, 4) != "IHDR") return Bad("header chunk missing");
  PngHeader header;
  header.width = Read32(encoded, 16);
  header.height = Read32(encoded, 20);
  header.bit_depth = static_cast<uint8_t>(encoded[24]);
  header.color_type = static_cast<uint8_t>(encoded[25]);
  header.interlaced = encoded[28] != 0;
  if (header.width == 0 || header.height == 0) return Bad("has no size");
  return header;
}

bool IsPlainPng(const PngHeader& header) {
  return header.bit_depth == 8 && FileChannels(header.color_type) != 0 && !header.interlaced;
}

absl::Status DecodePlainPng(absl::string_view encoded, const PngHeader& header, int channels, uint8_t* out) {
  if (!IsPlainPng(header)) return Bad("not of the plain kind");
  std::string joined;
  absl::StatusOr<absl::string_view> idat = CollectIdat(encoded, joined);
  if (!idat.ok()) return idat.status();

  const size_t bpp = FileChannels(header.color_type);
  const size_t stride = header.width * bpp;
  const uint64_t most = (idat->size() + 1) * kMaxExpansion;
  if (stride + 1 > most / header.height) return Bad("fewer pixels than the header promises");
  const uint64_t raw_size = header.height * (stride + 1);
  std::unique_ptr<uint8_t[]> raw(new uint8_t[raw_size]);
  std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)> decompressor(
      libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
  if (decompressor == nullptr) return absl::ResourceExhaustedError("PNG: out of memory");
  const libdeflate_result result = libdeflate_zlib_decompress(decompressor.get(), idat->data(), idat->size(),
                                                              raw.get(), raw_size, nullptr);
  if (result != LIBDEFLATE_SUCCESS) return Bad("compressed pixels are damaged");

  const std::vector<uint8_t> zeros(stride, 0);
  const uint8_t* above = zeros.data();
  for (uint32_t y = 0; y < header.height; ++y) {
    uint8_t* row = raw.get() + y * (stride + 1);
    if (!Unfilter(row[0], row + 1, above, stride, bpp)) return Bad("unknown row filter");
    above = row + 1;
    ConvertRow(above, header.width, static_cast<int>(bpp), channels,
               out + uint64_t{y} * header.width * channels);
  }
  return absl::OkStatus();
}

struct PngEncoder::Impl {
  explicit Impl(int compression)
      : compressor(libdeflate_alloc_compressor(std::clamp(compression, 0, 12)), libdeflate_free_compressor) {}
  std::unique_ptr<libdeflate_compressor, decltype(&libdeflate_free_compressor)> compressor;
  std::string raw;
  std::string idat;
};

PngEncoder::PngEncoder(int compression) : impl_(std::make_unique<Impl>(compression)) {}
PngEncoder::~PngEncoder() = default;

std::string PngEncoder::Encode(int height, int width, int channels, const uint8_t* pixels) {
  const size_t stride = static_cast<size_t>(width) * channels;
  std::string& raw = impl_->raw;
  raw.clear();
  for (int y = 0; y < height; ++y) {
    raw.push_back(0);
    raw.append(reinterpret_cast<const char*>(pixels) + y * stride, stride);
  }
  std::string& idat = impl_->idat;
  idat.resize(libdeflate_zlib_compress_bound(impl_->compressor.get(), raw.size()));
  idat.resize(
      libdeflate_zlib_compress(impl_->compressor.get(), raw.data(), raw.size(), idat.data(), idat.size()));

  std::string header;
  Append32(header, static_cast<uint32_t>(width));
  Append32(header, static_cast<uint32_t>(height));
  header += {8, static_cast<char>(channels == 1 ? 0 : 2), 0, 0, 0};
  std::string out(kSignature.data(), kSignature.size());
  out.reserve(idat.size() + 64);
  AppendChunk(out, "IHDR", header);
  AppendChunk(out, "IDAT", idat);
  AppendChunk(out, "IEND", "");
  return out;
}

}  // namespace doppel
