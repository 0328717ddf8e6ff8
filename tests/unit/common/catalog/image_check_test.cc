#include "common/catalog/readers/image_check.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using doppel::testing::MakePpm;
using doppel::testing::MakeTestImage;

// SOI, APP0 that holds an EOI of a thumbnail, SOS, scan with a stuffed FF and a restart marker, EOI.
std::string Jpeg() {
  const char bytes[] =
      "\xFF\xD8\xFF\xE0\x00\x06\xFF\xD9\x01\x02\xFF\xFF\xDA\x00\x04\x01\x02\x55\xFF\x00\xFF\xD0\x66\xFF\xD9";
  return {bytes, sizeof(bytes) - 1};
}

std::string Riff(uint32_t size) {
  std::string webp = "RIFF....WEBPVP8 abcd";
  for (int i = 0; i < 4; ++i) webp[4 + i] = static_cast<char>(size >> (8 * i));
  return webp;
}

TEST(ImageCheckTest, GoodImagesPass) {
  EXPECT_TRUE(CheckImage(MakeTestImage(1, 2, 48)).ok());
  EXPECT_TRUE(CheckImage(MakePpm(2, 1, "abcdef")).ok());
  EXPECT_TRUE(CheckImage(Jpeg()).ok());
  EXPECT_TRUE(CheckImage(Riff(12)).ok());
  EXPECT_TRUE(CheckImage("P5 # comment\n2 # another\n2\n255\nabcd").ok());
}

TEST(ImageCheckTest, PngCutAnywhereIsCorrupt) {
  const std::string png = MakeTestImage(1, 2, 8);
  for (size_t size = 0; size < png.size(); ++size) {
    EXPECT_EQ(CheckImage(png.substr(0, size)).code(), absl::StatusCode::kInvalidArgument) << size;
  }
}

TEST(ImageCheckTest, JpegCutAnywhereIsCorruptThoughItsThumbnailEnds) {
  const std::string jpeg = Jpeg();
  for (size_t size = 0; size < jpeg.size(); ++size)
    EXPECT_FALSE(CheckImage(jpeg.substr(0, size)).ok()) << size;
}

TEST(ImageCheckTest, BytesBehindTheEndAreAllowed) {
  EXPECT_TRUE(CheckImage(MakeTestImage(1, 2, 8) + "trailer").ok());
  EXPECT_TRUE(CheckImage(Jpeg() + "trailer").ok());
}

TEST(ImageCheckTest, PnmCutAnywhereIsCorrupt) {
  const std::string ppm = MakePpm(2, 2, "abcdefghijkl");
  for (size_t size = 0; size < ppm.size(); ++size) EXPECT_FALSE(CheckImage(ppm.substr(0, size)).ok()) << size;
}

TEST(ImageCheckTest, WebpShorterThanItSaysIsCorrupt) { EXPECT_FALSE(CheckImage(Riff(13)).ok()); }

TEST(ImageCheckTest, PngOfSizeZeroIsCorrupt) {
  std::string png = MakeTestImage(1, 2, 8);
  png.replace(16, 4, 4, '\0');
  EXPECT_FALSE(CheckImage(png).ok());
}

TEST(ImageCheckTest, OtherFilesAreNoImages) {
  EXPECT_FALSE(CheckImage("").ok());
  EXPECT_FALSE(CheckImage("<html>").ok());
  EXPECT_FALSE(CheckImage("P6").ok());
  EXPECT_FALSE(CheckImage("P5\n-1 4\n255\n").ok());
  EXPECT_FALSE(CheckImage("P5 99999999999999999999 2 255\n").ok());
}

}  // namespace
}  // namespace doppel
