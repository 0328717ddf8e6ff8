#include "common/image/jpeg.h"

#include <csetjmp>
#include <cstdio>
// After cstdio: it does not include what it needs.
#include <jpeglib.h>

namespace doppel {
namespace {

constexpr int kRowsAtOnce = 16;
constexpr int kExif = JPEG_APP0 + 1;
constexpr uint16_t kOrientation = 0x0112;

// The library leaves by longjmp: so nothing with a destructor lives in a frame between.
struct Reader {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jmp_buf failed;
};

[[noreturn]] void Fail(j_common_ptr info) { longjmp(static_cast<Reader*>(info->client_data)->failed, 1); }

void CountWarning(j_common_ptr info, int level) {
  if (level < 0) ++info->err->num_warnings;
}

void PrintNothing(j_common_ptr) {}

// Of one TIFF header and its first directory; 1 (upright) where none is said, 0 where it cannot be read.
int ExifOrientation(const uint8_t* data, size_t size) {
  if (size < 14) return 0;
  const uint8_t* tiff = data + 6;
  size -= 6;
  const bool little = tiff[0] == 'I';
  const auto read16 = [&](size_t at) {
    return little ? tiff[at] | tiff[at + 1] << 8 : tiff[at] << 8 | tiff[at + 1];
  };
  const auto read32 = [&](size_t at) {
    const auto first = static_cast<uint32_t>(read16(at));
    const auto second = static_cast<uint32_t>(read16(at + 2));
    return little ? second << 16 | first : first << 16 | second;
  };
  const size_t directory = read32(4);
  if (directory > size || size - directory < 2) return 0;
  const size_t entries = read16(directory);
  for (size_t i = 0; i < entries; ++i) {
    const size_t at = directory + 2 + 12 * i;
    if (at + 12 > size) return 0;
    if (read16(at) == kOrientation) return read16(at + 8);
  }
  return 1;
}

bool IsUpright(const jpeg_decompress_struct& info) {
  for (const jpeg_marker_struct* marker = info.marker_list; marker != nullptr; marker = marker->next) {
    const absl::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (data.substr(0, 6) == absl::string_view("Exif\0\0", 6) &&
        ExifOrientation(marker->data, data.size()) != 1) {
      return false;
    }
  }
  return true;
}

int Denominator(const jpeg_decompress_struct& info, const JpegWish& wish) {
  if (wish.height <= 0 || wish.width <= 0) return 1;
  const auto height = static_cast<JDIMENSION>(wish.height), width = static_cast<JDIMENSION>(wish.width);
  for (const JDIMENSION by : {8u, 4u, 2u}) {
    const JDIMENSION rows = (info.image_height + by - 1) / by, columns = (info.image_width + by - 1) / by;
    if (rows == height && columns == width) return static_cast<int>(by);
    if (rows / 2 >= height && columns / 2 >= width) return static_cast<int>(by);
  }
  return 1;
}

bool ReadPixels(jpeg_decompress_struct& info, uint8_t* out) {
  const size_t stride = size_t{info.output_width} * info.output_components;
  while (info.output_scanline < info.output_height) {
    JSAMPROW rows[kRowsAtOnce];
    int count = 0;
    for (; count < kRowsAtOnce && info.output_scanline + count < info.output_height; ++count) {
      rows[count] = out + (info.output_scanline + count) * stride;
    }
    if (jpeg_read_scanlines(&info, rows, count) == 0) return false;
  }
  return jpeg_finish_decompress(&info) == TRUE && info.err->num_warnings == 0;
}

bool Decode(Reader& reader, absl::string_view encoded, const JpegWish& wish,
            absl::FunctionRef<uint8_t*(int, int)> place) {
  jpeg_decompress_struct& info = reader.info;
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(encoded.data()), encoded.size());
  jpeg_save_markers(&info, kExif, 0xFFFF);
  if (jpeg_read_header(&info, TRUE) != JPEG_HEADER_OK || !IsUpright(info)) return false;
  if (info.jpeg_color_space != JCS_GRAYSCALE && info.jpeg_color_space != JCS_YCbCr) return false;
  info.out_color_space = wish.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  info.scale_num = 1;
  info.scale_denom = Denominator(info, wish);
  if (jpeg_start_decompress(&info) != TRUE || info.output_components != wish.channels) return false;
  return ReadPixels(info, place(static_cast<int>(info.output_height), static_cast<int>(info.output_width)));
}

}  // namespace

bool DecodePlainJpeg(absl::string_view encoded, const JpegWish& wish,
                     absl::FunctionRef<uint8_t*(int height, int width)> place) {
  Reader reader;
  reader.info.err = jpeg_std_error(&reader.errors);
  reader.errors.error_exit = Fail;
  reader.errors.emit_message = CountWarning;
  reader.errors.output_message = PrintNothing;
  reader.info.client_data = &reader;
  // So that destroying it is harmless when creating it fails.
  reader.info.mem = nullptr;
  if (setjmp(reader.failed) != 0) {
    jpeg_destroy_decompress(&reader.info);
    return false;
  }
  jpeg_create_decompress(&reader.info);
  const bool good = Decode(reader, encoded, wish, place);
  jpeg_destroy_decompress(&reader.info);
  return good;
}

}  // namespace doppel
