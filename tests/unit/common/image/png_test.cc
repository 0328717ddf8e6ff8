#include "common/image/png.h"

#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/common/image/fixtures.h"
#include "tests/unit/common/image/test_images.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::vector<uint8_t>> Decode(const std::string& file, int channels) {
  auto header = ReadPngHeader(file);
  if (!header.ok()) return header.status();
  std::vector<uint8_t> out(uint64_t{header->width} * header->height * channels);
  auto status = DecodePlainPng(file, *header, channels, out.data());
  if (!status.ok()) return status;
  return out;
}

uint8_t Red(int x, int y) { return static_cast<uint8_t>(x * 16); }
uint8_t Green(int x, int y) { return static_cast<uint8_t>(x * y * 5); }
uint8_t Blue(int x, int y) { return static_cast<uint8_t>(255 - y * 30); }

void ExpectRgb(const std::vector<uint8_t>& pixels) {
  for (int y = 0; y < 8; ++y) {
    for (int x = 0; x < 16; ++x) {
      const uint8_t* p = &pixels[(y * 16 + x) * 3];
      ASSERT_EQ(p[0], Red(x, y)) << x << "," << y;
      ASSERT_EQ(p[1], Green(x, y)) << x << "," << y;
      ASSERT_EQ(p[2], Blue(x, y)) << x << "," << y;
    }
  }
}

TEST(Png, ReadsRgbWithEveryRowFilter) {
  auto pixels = Decode(FromBase64(fixtures::kRgbPng), 3);
  ASSERT_TRUE(pixels.ok()) << pixels.status();
  ExpectRgb(*pixels);
}

TEST(Png, DropsAlpha) {
  auto pixels = Decode(FromBase64(fixtures::kRgbaPng), 3);
  ASSERT_TRUE(pixels.ok()) << pixels.status();
  ExpectRgb(*pixels);
}

TEST(Png, ReadsGreySplitOverSeveralChunks) {
  auto pixels = Decode(FromBase64(fixtures::kGreyPng), 1);
  ASSERT_TRUE(pixels.ok()) << pixels.status();
  for (int i = 0; i < 16 * 8; ++i) ASSERT_EQ((*pixels)[i], Red(i % 16, i / 16)) << i;
}

TEST(Png, ReadsGreyWithAlphaAsRgb) {
  auto pixels = Decode(FromBase64(fixtures::kGreyAlphaPng), 3);
  ASSERT_TRUE(pixels.ok()) << pixels.status();
  for (int i = 0; i < 16 * 8 * 3; ++i) ASSERT_EQ((*pixels)[i], Red(i / 3 % 16, 0)) << i;
}

TEST(Png, RgbToGreyFollowsBt601) {
  EXPECT_EQ(GreyOf(255, 255, 255), 255);
  EXPECT_EQ(GreyOf(255, 0, 0), 76);
  EXPECT_EQ(GreyOf(0, 255, 0), 150);
  EXPECT_EQ(GreyOf(0, 0, 255), 29);
  auto pixels = Decode(FromBase64(fixtures::kRgbPng), 1);
  ASSERT_TRUE(pixels.ok()) << pixels.status();
  EXPECT_EQ((*pixels)[37], GreyOf(Red(5, 2), Green(5, 2), Blue(5, 2)));
}

TEST(Png, RoundTripsGreyAndRgbAtEveryLevel) {
  for (int channels : {1, 3}) {
    const Image image = Noise(17, 31, channels);
    for (int level : {0, 1, 6, 12}) {
      auto pixels = Decode(PngEncoder(level).Encode(17, 31, channels, image.pixels.data()), channels);
      ASSERT_TRUE(pixels.ok()) << pixels.status();
      EXPECT_EQ(*pixels, image.pixels) << "level " << level;
    }
  }
}

TEST(Png, EncodesTheSameBytesAgain) {
  const Image image = Bar(48, 48);
  EXPECT_EQ(PngEncoder(6).Encode(48, 48, 1, image.pixels.data()),
            PngEncoder(6).Encode(48, 48, 1, image.pixels.data()));
}

TEST(Png, EveryTruncationIsAnError) {
  const Image image = Bar(48, 48);
  const std::string file = PngEncoder(6).Encode(48, 48, 1, image.pixels.data());
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(Decode(file.substr(0, size), 1).ok()) << size << " of " << file.size();
  }
}

TEST(Png, EveryFlippedByteIsAnErrorOrAnotherHeader) {
  const Image image = Bar(16, 16);
  const std::string file = PngEncoder(6).Encode(16, 16, 1, image.pixels.data());
  for (size_t i = 0; i < file.size(); ++i) {
    std::string damaged = file;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    auto header = ReadPngHeader(damaged);
    if (!header.ok() || header->width > 1000 || header->height > 1000) continue;
    EXPECT_FALSE(Decode(damaged, 1).ok()) << "byte " << i;
  }
}

TEST(Png, HugeHeaderIsRefusedBeforeAllocation) {
  const Image image = Bar(16, 16);
  const std::string file = PngEncoder(6).Encode(16, 16, 1, image.pixels.data());
  PngHeader header = *ReadPngHeader(file);
  header.width = header.height = 0xFFFFFFFF;
  uint8_t out = 0;
  EXPECT_THAT(DecodePlainPng(file, header, 1, &out).message(), HasSubstr("fewer pixels"));
}

TEST(Png, PixelsBeyondTheHeaderAreAnError) {
  const Image image = Bar(16, 16);
  const std::string file = PngEncoder(6).Encode(16, 16, 1, image.pixels.data());
  PngHeader header = *ReadPngHeader(file);
  header.height = 8;
  std::vector<uint8_t> out(16 * 8);
  EXPECT_FALSE(DecodePlainPng(file, header, 1, out.data()).ok());
}

TEST(Png, PaletteAnd16BitAreNotPlain) {
  EXPECT_FALSE(IsPlainPng(*ReadPngHeader(FromBase64(fixtures::kPalettePng))));
  EXPECT_FALSE(IsPlainPng(*ReadPngHeader(FromBase64(fixtures::kGrey16Png))));
  EXPECT_TRUE(IsPlainPng(*ReadPngHeader(FromBase64(fixtures::kRgbaPng))));
}

}  // namespace
}  // namespace doppel
