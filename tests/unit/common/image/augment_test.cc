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
