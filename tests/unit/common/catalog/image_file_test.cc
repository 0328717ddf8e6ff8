#include "common/catalog/readers/image_file.h"

#include <gtest/gtest.h>

#include "common/catalog/readers/image_size.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using doppel::testing::MakePpm;
using doppel::testing::MakeTestImage;

std::string Bytes(const std::vector<int>& bytes) {
  std::string text;
  for (const int byte : bytes) text += static_cast<char>(byte);
  return text;
}

void ExpectSize(const std::string& bytes, uint64_t width, uint64_t height) {
  EXPECT_EQ(ReadImageSize(bytes).width, width);
  EXPECT_EQ(ReadImageSize(bytes).height, height);
  for (size_t size = 0; size < bytes.size(); ++size) ReadImageSize(bytes.substr(0, size));  // in bounds
}

TEST(ImageSizeTest, EveryFormat) {
  ExpectSize(MakeTestImage(0, 0, 9), 9, 9);
  ExpectSize(MakePpm(2, 1, "abcdef"), 2, 1);
  ExpectSize("P5 # c\n# d\n30000\t30001 255\n", 30000, 30001);
  // JPEG: APP0 of 4 bytes, then a frame of 258×513.
  ExpectSize(Bytes({0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 1, 2, 0xFF, 0xC0, 0, 11, 8, 2, 1, 1, 2, 1, 1, 0x11, 0}),
             258, 513);
  std::string webp = "RIFF....WEBPVP8X" + Bytes({10, 0, 0, 0, 0, 0, 0, 0, 0x2F, 0x75, 0, 0x30, 0x75, 0});
  ExpectSize(webp, 30000, 30001);
  webp = "RIFF....WEBPVP8L" + Bytes({10, 0, 0, 0, 0x2F, 0x01, 0xC0, 0, 0, 0, 0, 0, 0, 0});
  ExpectSize(webp, 2, 4);
  webp = "RIFF....WEBPVP8 " + Bytes({10, 0, 0, 0, 0, 0, 0, 0x9D, 0x01, 0x2A, 5, 0, 6, 0});
  ExpectSize(webp, 5, 6);
  std::string bmp = "BM" + std::string(12, '\0') + Bytes({40, 0, 0, 0, 7, 0, 0, 0, 0xF8, 0xFF, 0xFF, 0xFF});
  ExpectSize(bmp, 7, 8);  // rows from the top have a negative height
  ExpectSize("neither", 0, 0);
}

TEST(ImageFileTest, LargeImagesAreRefusedByTheirHeader) {
  std::string png = MakeTestImage(0, 0, 8);
  EXPECT_EQ(JudgeImage(png).reason, "");
  png.replace(16, 8, Bytes({0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30}));  // 30 000 × 30 000
  EXPECT_EQ(JudgeImage(png).reason, "image too large");
  EXPECT_EQ(JudgeImage(png).detail, "30000x30000 pixels");
  png.replace(16, 8, Bytes({0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}));
  EXPECT_EQ(JudgeImage(png).reason, "image too large");
  EXPECT_EQ(JudgeImage("").reason, "corrupt image");
  EXPECT_EQ(JudgeImage(MakeTestImage(0, 0, 8).substr(0, 60)).reason, "corrupt image");
}

}  // namespace
}  // namespace doppel
