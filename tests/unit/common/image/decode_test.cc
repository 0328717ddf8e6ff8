#include <thread>

#include "common/image/image.h"
#include "gmock/gmock.h"
#include "tests/unit/common/image/fixtures.h"
#include "tests/unit/common/image/test_images.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

TEST(DecodeImage, JpegGreyGradient) {
  auto image = DecodeImage(FromBase64(fixtures::kGreyJpeg), 1);
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_EQ(image->height, 8);
  ASSERT_EQ(image->width, 16);
  for (int x = 0; x < 16; ++x) EXPECT_NEAR(image->pixels[3 * 16 + x], 16 * x, 4) << x;
}

TEST(DecodeImage, ColourOrderIsRgb) {
  for (const char* file : {fixtures::kRedJpeg, fixtures::kRedWebp, fixtures::kRedBmp}) {
    auto image = DecodeImage(FromBase64(file), 3);
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_NEAR(image->pixels[0], 250, 8);
    EXPECT_NEAR(image->pixels[1], 0, 8);
    EXPECT_NEAR(image->pixels[2], 0, 8);
  }
}

TEST(DecodeImage, PalettePngGoesTheLongWay) {
  auto image = DecodeImage(FromBase64(fixtures::kPalettePng), 3);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->pixels[0], 0);
  EXPECT_EQ(image->pixels[15 * 3], 255);
  EXPECT_EQ(image->pixels[15 * 3 + 1], 0);
}

TEST(DecodeImage, SixteenBitPngIsScaledTo8) {
  auto image = DecodeImage(FromBase64(fixtures::kGrey16Png), 1);
  ASSERT_TRUE(image.ok()) << image.status();
  for (int x = 0; x < 16; ++x) EXPECT_EQ(image->pixels[x], 16 * x);
}

TEST(DecodeImage, GreyFileAsRgbRepeatsTheChannel) {
  auto image = DecodeImage(FromBase64(fixtures::kGreyPng), 3);
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_EQ(image->pixels.size(), 16u * 8 * 3);
  for (size_t i = 0; i < image->pixels.size(); i += 3) {
    EXPECT_EQ(image->pixels[i], image->pixels[i + 1]);
    EXPECT_EQ(image->pixels[i], image->pixels[i + 2]);
  }
}

TEST(DecodeImage, OtherChannelCountsAreRefused) {
  EXPECT_THAT(DecodeImage(FromBase64(fixtures::kGreyPng), 2).status().message(),
              HasSubstr("expected 1 or 3"));
}

TEST(DecodeImage, NonsenseIsInvalidArgument) {
  EXPECT_EQ(DecodeImage("GIF89a....", 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DecodeImage("", 1).status().code(), absl::StatusCode::kInvalidArgument);
  std::string webp = FromBase64(fixtures::kRedWebp);
  webp.resize(webp.size() - 6);
  EXPECT_EQ(DecodeImage(webp, 3).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(DecodeImageInto, SameSizeEqualsDecodeImage) {
  const Image bar = Bar(48, 48);
  const std::string file = *EncodePng(bar);
  std::vector<uint8_t> out(48 * 48);
  ASSERT_TRUE(DecodeImageInto(file, 48, 48, 1, out.data()).ok());
  EXPECT_EQ(out, bar.pixels);
}

TEST(DecodeImageInto, ShrinkingAverages) {
  Image board{4, 4, 1, {}};
  for (int i = 0; i < 16; ++i) board.pixels.push_back((i + i / 4) % 2 ? 200 : 100);
  std::vector<uint8_t> out(4);
  ASSERT_TRUE(DecodeImageInto(*EncodePng(board), 2, 2, 1, out.data()).ok());
  EXPECT_THAT(out, ::testing::Each(150));
}

TEST(DecodeImageInto, GrowingKeepsFlatColour) {
  Image flat{3, 3, 3, {}};
  for (int i = 0; i < 9; ++i) flat.pixels.insert(flat.pixels.end(), {10, 20, 30});
  std::vector<uint8_t> out(7 * 5 * 3);
  ASSERT_TRUE(DecodeImageInto(*EncodePng(flat), 7, 5, 3, out.data()).ok());
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], 10 * (i % 3 + 1));
}

TEST(DecodeImageInto, JpegIsResized) {
  std::vector<uint8_t> out(4 * 8);
  ASSERT_TRUE(DecodeImageInto(FromBase64(fixtures::kGreyJpeg), 4, 8, 1, out.data()).ok());
  for (int x = 0; x < 8; ++x) EXPECT_NEAR(out[x], 32 * x + 8, 5);
}

TEST(DecodeImageInto, NoSizeIsRefused) {
  uint8_t out = 0;
  EXPECT_FALSE(DecodeImageInto(FromBase64(fixtures::kGreyPng), 0, 5, 1, &out).ok());
  EXPECT_FALSE(DecodeImageInto(FromBase64(fixtures::kGreyPng), 5, -1, 1, &out).ok());
}

TEST(DecodeImageInto, ManyThreadsGetTheSamePixels) {
  const std::string jpeg = FromBase64(fixtures::kRedJpeg);
  std::vector<uint8_t> expected(20 * 20 * 3);
  ASSERT_TRUE(DecodeImageInto(jpeg, 20, 20, 3, expected.data()).ok());
  std::vector<std::thread> threads;
  std::vector<std::vector<uint8_t>> got(4, std::vector<uint8_t>(expected.size()));
  for (auto& out : got) {
    threads.emplace_back([&out, &jpeg] {
      for (int i = 0; i < 20; ++i) EXPECT_TRUE(DecodeImageInto(jpeg, 20, 20, 3, out.data()).ok());
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& out : got) EXPECT_EQ(out, expected);
}

TEST(EncodePng, RefusesAnImageThatHoldsLessThanItSays) {
  Image image{4, 4, 1, {1, 2, 3}};
  EXPECT_THAT(EncodePng(image).status().message(), HasSubstr("holds 3 bytes"));
}

TEST(ResizeImage, SameSizeCopies) {
  const Image noise = Noise(5, 6, 3);
  std::vector<uint8_t> out(noise.pixels.size());
  ASSERT_TRUE(ResizeImage(noise, 5, 6, out.data()).ok());
  EXPECT_EQ(out, noise.pixels);
}

}  // namespace
}  // namespace doppel
