#include "common/image/jpeg.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "common/image/image.h"
#include "common/image/opencv.h"
#include "gtest/gtest.h"
#include "tests/unit/common/image/fixtures.h"
#include "tests/unit/common/image/test_images.h"
// After cstdio: it does not include what it needs.
#include <jpeglib.h>

namespace doppel {
namespace {

struct JpegKind {
  const char* name;
  int height = 45;
  int width = 61;
  J_COLOR_SPACE file = JCS_YCbCr;
  int subsampling = 2;  // of the colours: 1 = 4:4:4, 2 = 4:2:0
  bool progressive = false;
  int orientation = 0;  // by EXIF; 0: no EXIF
  bool little = true;   // its byte order
};

std::ostream& operator<<(std::ostream& out, const JpegKind& kind) { return out << kind.name; }

// Something smooth with an edge and different colours, so that turned or swapped ones are seen.
std::vector<uint8_t> Picture(int height, int width, int channels) {
  std::vector<uint8_t> pixels;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) {
        const double wave = 90 * std::sin(x * (0.11 + 0.05 * c)) * std::cos(y * 0.07 * (c + 1));
        pixels.push_back(static_cast<uint8_t>(120 + wave + (x > width / 3 && y < height / 2 ? 30 : 0)));
      }
    }
  }
  return pixels;
}

std::string ExifWith(int orientation, bool little) {
  const auto number = [&](uint32_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * (little ? i : bytes - 1 - i));
    return text;
  };
  return std::string("Exif\0\0", 6) + (little ? "II" : "MM") + number(42, 2) + number(8, 4) + number(1, 2) +
         number(0x0112, 2) + number(3, 2) + number(1, 4) + number(orientation, 2) + number(0, 2) +
         number(0, 4);
}

std::string WriteJpeg(const JpegKind& kind) {
  const J_COLOR_SPACE from = kind.file == JCS_YCbCr ? JCS_RGB : kind.file;
  const int channels = from == JCS_GRAYSCALE ? 1 : from == JCS_CMYK ? 4 : 3;
  std::vector<uint8_t> pixels = Picture(kind.height, kind.width, channels);
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &memory, &size);
  info.image_width = kind.width;
  info.image_height = kind.height;
  info.input_components = channels;
  info.in_color_space = from;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, kind.file);
  jpeg_set_quality(&info, 88, TRUE);
  if (kind.file == JCS_YCbCr) {
    info.comp_info[0].h_samp_factor = kind.subsampling;
    info.comp_info[0].v_samp_factor = kind.subsampling;
  }
  if (kind.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  if (kind.orientation != 0) {
    const std::string exif = ExifWith(kind.orientation, kind.little);
    jpeg_write_marker(&info, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(exif.data()), exif.size());
  }
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = pixels.data() + size_t{info.next_scanline} * kind.width * channels;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string file(reinterpret_cast<char*>(memory), size);
  std::free(memory);
  return file;
}

// The pixels of DecodePlainJpeg; an empty image if it says false.
Image Decoded(absl::string_view file, const JpegWish& wish) {
  Image image;
  const bool plain = DecodePlainJpeg(file, wish, [&](int height, int width) {
    image = {height, width, wish.channels, std::vector<uint8_t>(size_t(height) * width * wish.channels)};
    return image.pixels.data();
  });
  return plain ? image : Image{};
}

Image ByOpenCv(absl::string_view file, int channels) {
  const absl::StatusOr<cv::Mat> mat = OpenCvDecode(file, channels);
  EXPECT_TRUE(mat.ok()) << mat.status();
  return {mat->rows, mat->cols, channels, {mat->datastart, mat->dataend}};
}

class PlainJpeg : public ::testing::TestWithParam<JpegKind> {};

TEST_P(PlainJpeg, HasThePixelsOfTheGeneralReader) {
  const std::string file = WriteJpeg(GetParam());
  for (const int channels : {1, 3}) {
    const Image image = Decoded(file, {channels, 0, 0});
    ASSERT_EQ(image.height, GetParam().height);
    ASSERT_EQ(image.width, GetParam().width);
    EXPECT_EQ(image.pixels, ByOpenCv(file, channels).pixels) << channels << " channels";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, PlainJpeg,
    ::testing::Values(JpegKind{"colour"}, JpegKind{"colours_whole", 45, 61, JCS_YCbCr, 1},
                      JpegKind{"grey", 45, 61, JCS_GRAYSCALE}, JpegKind{"small", 1, 1},
                      JpegKind{"progressive", 45, 61, JCS_YCbCr, 2, true},
                      JpegKind{"upright_by_exif", 45, 61, JCS_YCbCr, 2, false, 1},
                      JpegKind{"upright_by_exif_of_motorola", 45, 61, JCS_YCbCr, 2, false, 1, false}),
    [](const auto& info) { return std::string(info.param.name); });

class OtherJpeg : public ::testing::TestWithParam<JpegKind> {};

TEST_P(OtherJpeg, IsLeftToTheGeneralReader) {
  const std::string file = WriteJpeg(GetParam());
  EXPECT_EQ(Decoded(file, {3, 0, 0}).height, 0);
  const absl::StatusOr<Image> image = DecodeImage(file, 3);
  ASSERT_TRUE(image.ok()) << image.status();
  const Image expected = ByOpenCv(file, 3);
  EXPECT_EQ(image->height, expected.height);
  EXPECT_EQ(image->pixels, expected.pixels);
  if (GetParam().orientation > 4) {
    EXPECT_EQ(image->height, GetParam().width);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, OtherJpeg,
    ::testing::Values(JpegKind{"cmyk", 45, 61, JCS_CMYK}, JpegKind{"rgb", 45, 61, JCS_RGB},
                      JpegKind{"turned", 45, 61, JCS_YCbCr, 2, false, 6},
                      JpegKind{"turned_big_endian", 45, 61, JCS_YCbCr, 2, false, 8, false},
                      JpegKind{"upside_down", 45, 61, JCS_YCbCr, 2, false, 3}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(DecodePlainJpeg, DamagedFilesAreLeftToTheGeneralReader) {
  const std::string file = WriteJpeg({"colour"});
  for (size_t size = 0; size < file.size(); size += 7) {
    EXPECT_EQ(Decoded(file.substr(0, size), {3, 0, 0}).height, 0) << "cut off after " << size;
  }
  std::string garbled = file;
  // An invalid marker in the middle of the pixels.
  garbled[file.size() / 2] = '\xFF';
  garbled[file.size() / 2 + 1] = '\xC4';
  EXPECT_EQ(Decoded(garbled, {3, 0, 0}).height, 0);
  EXPECT_EQ(Decoded("", {3, 0, 0}).height, 0);
  EXPECT_EQ(Decoded("not an image", {3, 0, 0}).height, 0);
}

TEST(DecodePlainJpeg, ExifThatCannotBeReadIsLeftToTheGeneralReader) {
  const std::string file = WriteJpeg({"", 45, 61, JCS_YCbCr, 2, false, 1});
  std::string far = file;
  far[far.find("II") + 4] = '\x7F';  // where its directory lies
  EXPECT_EQ(Decoded(far, {3, 0, 0}).height, 0);
  std::string long_directory = file;
  const size_t entries = file.find("II") + 8;
  long_directory[entries] = 9;
  long_directory[entries + 2] = 0;  // so that its one real entry is another
  EXPECT_EQ(Decoded(long_directory, {3, 0, 0}).height, 0);
}

TEST(DecodePlainJpeg, ShrinksWhereThatCostsNothing) {
  const std::string file = WriteJpeg({"", 448, 480});
  const auto size = [&](int height, int width) {
    const Image image = Decoded(file, {3, height, width});
    return std::pair(image.height, image.width);
  };
  EXPECT_EQ(size(0, 0), std::pair(448, 480));
  EXPECT_EQ(size(448, 480), std::pair(448, 480));
  EXPECT_EQ(size(224, 240), std::pair(224, 240)) << "exactly a half";
  EXPECT_EQ(size(56, 60), std::pair(56, 60)) << "exactly an eighth";
  EXPECT_EQ(size(200, 200), std::pair(448, 480)) << "a half is less than twice of it";
  EXPECT_EQ(size(112, 100), std::pair(224, 240));
  EXPECT_EQ(size(50, 112), std::pair(224, 240)) << "the wider one decides";
  EXPECT_EQ(size(28, 28), std::pair(56, 60));
  EXPECT_EQ(size(1, 1), std::pair(56, 60)) << "an eighth is the least";
  EXPECT_EQ(size(600, 700), std::pair(448, 480)) << "never grows";
}

TEST(DecodeImageInto, ShrunkWhileDecodedLooksLikeShrunkAfterwards) {
  const std::string file = WriteJpeg({"", 448, 448});
  for (const int side : {224, 112, 96, 30}) {
    std::vector<uint8_t> quick(size_t(side) * side * 3), slow(quick.size());
    ASSERT_TRUE(DecodeImageInto(file, side, side, 3, quick.data()).ok());
    ASSERT_TRUE(ResizeImage(Decoded(file, {3, 0, 0}), side, side, slow.data()).ok());
    double squares = 0;
    for (size_t i = 0; i < quick.size(); ++i) squares += std::pow(double(quick[i]) - slow[i], 2);
    EXPECT_LT(std::sqrt(squares / quick.size()), 3) << side;
  }
}

}  // namespace
}  // namespace doppel
