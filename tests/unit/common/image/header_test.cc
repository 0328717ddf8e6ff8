#include "common/image/header.h"

#include "gmock/gmock.h"
#include "tests/unit/common/image/fixtures.h"
#include "tests/unit/common/image/test_images.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

TEST(ImageHeader, ReadsSizesOfEveryFormat) {
  for (const char* file : {fixtures::kRgbPng, fixtures::kGreyJpeg, fixtures::kRedJpeg, fixtures::kRedWebp}) {
    auto header = ReadImageHeader(FromBase64(file));
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->width, 16u);
    EXPECT_EQ(header->height, 8u);
  }
  auto bmp = ReadImageHeader(FromBase64(fixtures::kRedBmp));
  ASSERT_TRUE(bmp.ok()) << bmp.status();
  EXPECT_EQ(bmp->width, 4u);
  EXPECT_EQ(bmp->format, ImageFormat::kBmp);
}

TEST(ImageHeader, EveryTruncationOfAJpegIsAnError) {
  const std::string file = FromBase64(fixtures::kRedJpeg);
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(ReadImageHeader(file.substr(0, size)).ok()) << size << " of " << file.size();
  }
}

TEST(ImageHeader, ShortWebpAndBmpAreErrors) {
  EXPECT_FALSE(ReadImageHeader(FromBase64(fixtures::kRedWebp).substr(0, 20)).ok());
  EXPECT_FALSE(ReadImageHeader(FromBase64(fixtures::kRedBmp).substr(0, 20)).ok());
}

TEST(ImageHeader, ManyPixelsAreRefused) {
  std::string png = FromBase64(fixtures::kRgbPng);
  png[16] = 0x00, png[17] = 0x01;  // 65 552 wide
  EXPECT_TRUE(ReadImageHeader(png).ok());
  png[21] = 0x01;  // and 65 544 high
  EXPECT_THAT(ReadImageHeader(png).status().message(), HasSubstr("more than 67108864"));

  std::string bmp = FromBase64(fixtures::kRedBmp);
  bmp[21] = 0x7F, bmp[25] = 0x7F;
  EXPECT_THAT(ReadImageHeader(bmp).status().message(), HasSubstr("more than"));
}

TEST(ImageHeader, JpegOfTwoFramesIsRefused) {
  const std::string file = FromBase64(fixtures::kRedJpeg);
  const size_t frame = file.find("\xFF\xC0");
  const size_t size = 2 + 256 * static_cast<uint8_t>(file[frame + 2]) + static_cast<uint8_t>(file[frame + 3]);
  const std::string two = file.substr(0, frame + size) + file.substr(frame);
  EXPECT_THAT(ReadImageHeader(two).status().message(), HasSubstr("two frame headers"));
}

TEST(ImageHeader, JpegOfThousandsOfScansIsRefused) {
  const std::string file = FromBase64(fixtures::kRedJpeg);
  const size_t scan = file.find("\xFF\xDA"), end = file.rfind("\xFF\xD9");
  const auto with_scans = [&](int scans) {
    std::string many = file.substr(0, scan);
    for (int i = 0; i < scans; ++i) many += file.substr(scan, end - scan);
    return many + file.substr(end);
  };
  EXPECT_TRUE(ReadImageHeader(with_scans(100)).ok());
  EXPECT_THAT(ReadImageHeader(with_scans(101)).status().message(), HasSubstr("scans"));
}

TEST(ImageHeader, JpegOf65535SquaredIsRefused) {
  std::string jpeg = FromBase64(fixtures::kRedJpeg);
  const size_t frame = jpeg.find("\xFF\xC0");
  ASSERT_NE(frame, std::string::npos);
  for (int i = 5; i < 9; ++i) jpeg[frame + i] = '\xFF';
  EXPECT_THAT(ReadImageHeader(jpeg).status().message(), HasSubstr("65535x65535"));
}

TEST(ImageHeader, TextSaysWhatItIsNot) {
  EXPECT_THAT(ReadImageHeader("<html>not found</html>").status().message(),
              HasSubstr("not an image: 22 bytes"));
  EXPECT_FALSE(ReadImageHeader("").ok());
}

}  // namespace
}  // namespace doppel
