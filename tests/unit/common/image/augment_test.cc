#include "common/image/augment.h"

#include <algorithm>
#include <set>

#include "gmock/gmock.h"
#include "tests/unit/common/image/test_images.h"

namespace doppel {
namespace {

std::vector<uint8_t> Augmented(const AugmentOptions& options, uint64_t key, Image image) {
  Augment(options, key, image.height, image.width, image.channels, image.pixels.data());
  return image.pixels;
}

TEST(Augment, NoneLeavesPixelsAlone) {
  EXPECT_TRUE(AugmentOptions().none());
  EXPECT_FALSE(MildAffineAugmentation().none());
  const Image noise = Noise(20, 30, 3);
  EXPECT_EQ(Augmented(AugmentOptions(), 1, noise), noise.pixels);
}

TEST(Augment, SameKeySamePixelsOtherKeyOtherPixels) {
  const Image bar = Bar(48, 48);
  std::set<std::vector<uint8_t>> seen;
  for (uint64_t key = 0; key < 20; ++key) {
    const auto pixels = Augmented(MildAffineAugmentation(), key, bar);
    EXPECT_EQ(pixels, Augmented(MildAffineAugmentation(), key, bar));
    seen.insert(pixels);
  }
  EXPECT_EQ(seen.size(), 20u);
}

TEST(Augment, BlackBorderStaysBlack) {
  AugmentOptions options;
  options.rotate_degrees = 10;
  options.translate = 0.1;
  const auto pixels = Augmented(options, 3, Bar(48, 48));
  for (int i = 0; i < 48; ++i) {
    EXPECT_EQ(pixels[i], 0);
    EXPECT_EQ(pixels[i * 48], 0);
  }
  EXPECT_GT(*std::max_element(pixels.begin(), pixels.end()), 50);
}

TEST(Augment, CertainFlipMirrors) {
  AugmentOptions options;
  options.flip_probability = 1;
  Image row{1, 3, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9}};
  EXPECT_THAT(Augmented(options, 7, row), ::testing::ElementsAre(7, 8, 9, 4, 5, 6, 1, 2, 3));
}

TEST(Augment, CropShowsAWindowOfTheImage) {
  AugmentOptions options;
  options.crop = 1;  // a window of half the side
  Image ramp{64, 64, 1, {}};
  ramp.pixels.reserve(64 * 64);
  for (int i = 0; i < 64 * 64; ++i) ramp.pixels.push_back(static_cast<uint8_t>(2 * (i % 64)));
  std::set<int> lefts;
  for (uint64_t key = 0; key < 20; ++key) {
    const auto pixels = Augmented(options, key, ramp);
    EXPECT_NEAR(pixels[63] - pixels[0], 63, 2);  // half of the slope, over the whole width
    lefts.insert(pixels[0]);
  }
  EXPECT_GT(lefts.size(), 10u);
}

TEST(Augment, ColoursTurnButGreysStay) {
  AugmentOptions options;
  options.hue = 0.5;
  options.saturation = 0.5;
  const Image colours{1, 3, 3, {200, 30, 30, 128, 128, 128, 30, 30, 200}};
  const auto pixels = Augmented(options, 11, colours);
  EXPECT_NE(pixels, colours.pixels);
  for (int i = 3; i < 6; ++i) EXPECT_NEAR(pixels[i], 128, 1);
  const Image grey{1, 2, 1, {3, 250}};
  EXPECT_EQ(Augmented(options, 11, grey), grey.pixels);
}

TEST(Augment, NewKindsDoNotShiftTheDrawsOfOthers) {
  AugmentOptions flip, both;
  flip.flip_probability = both.flip_probability = 0.5;
  both.hue = 0.3;
  const Image row{1, 2, 1, {1, 2}};
  for (uint64_t key = 0; key < 50; ++key) EXPECT_EQ(Augmented(flip, key, row), Augmented(both, key, row));
}

TEST(Augment, HalfOfTheKeysFlip) {
  AugmentOptions options;
  options.flip_probability = 0.5;
  const Image row{1, 2, 1, {1, 2}};
  int flipped = 0;
  for (uint64_t key = 0; key < 1000; ++key) flipped += Augmented(options, key, row)[0] == 2;
  EXPECT_GT(flipped, 430);
  EXPECT_LT(flipped, 570);
}

TEST(Augment, TranslationStaysWithinItsRange) {
  AugmentOptions options;
  options.translate = 0.1;  // ± 2 of 20
  Image dot{20, 20, 1, std::vector<uint8_t>(400, 0)};
  dot.pixels[10 * 20 + 10] = 255;
  bool moved = false;
  for (uint64_t key = 0; key < 50; ++key) {
    const auto pixels = Augmented(options, key, dot);
    for (int i = 0; i < 400; ++i) {
      if (pixels[i] == 0) continue;
      EXPECT_LE(std::abs(i % 20 - 10), 3);
      EXPECT_LE(std::abs(i / 20 - 10), 3);
      moved |= i != 10 * 20 + 10;
    }
  }
  EXPECT_TRUE(moved);
}

TEST(Augment, BrightnessShiftsAllPixelsAlike) {
  AugmentOptions options;
  options.brightness = 0.2;
  const Image flat{2, 2, 1, {100, 100, 110, 110}};
  const auto pixels = Augmented(options, 11, flat);
  EXPECT_EQ(pixels[0], pixels[1]);
  EXPECT_EQ(pixels[2] - pixels[0], 10);
  EXPECT_LE(std::abs(pixels[0] - 100), 51);
}

TEST(Augment, ErasingPaintsOneRectangle) {
  AugmentOptions options;
  options.erase_probability = 1;
  const Image flat{40, 40, 1, std::vector<uint8_t>(1600, 77)};
  for (uint64_t key = 0; key < 20; ++key) {
    const auto pixels = Augmented(options, key, flat);
    const auto changed = 1600 - std::count(pixels.begin(), pixels.end(), 77);
    if (changed == 0) continue;  // painted with the very grey
    EXPECT_GE(changed, 20);
    EXPECT_LE(changed, 340);
  }
}

TEST(Augment, TinyImagesAreFine) {
  AugmentOptions options = MildAffineAugmentation();
  options.erase_probability = 1;
  for (uint64_t key = 0; key < 10; ++key) EXPECT_EQ(Augmented(options, key, Image{1, 1, 1, {9}}).size(), 1u);
}

}  // namespace
}  // namespace doppel
