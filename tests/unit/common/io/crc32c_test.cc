#include "common/io/crc32c.h"

#include <gtest/gtest.h>

#include <string>

namespace doppel {
namespace {

// RFC 3720, B.4, and the check value of the CRC catalogue.
TEST(Crc32cTest, KnownAnswers) {
  EXPECT_EQ(Crc32c(""), 0U);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending.push_back(c);
  EXPECT_EQ(Crc32c(ascending), 0x46dd794eU);
  EXPECT_EQ(Crc32c(std::string(ascending.rbegin(), ascending.rend())), 0x113fdb5cU);
}

TEST(Crc32cTest, PortableKnownAnswers) {
  EXPECT_EQ(ExtendCrc32cPortable(0, "123456789"), 0xe3069283U);
  EXPECT_EQ(ExtendCrc32cPortable(0, std::string(32, '\0')), 0x8a9136aaU);
}

TEST(Crc32cTest, BothWaysAgreeAtEveryLengthAndOffset) {
  std::string data;
  for (int i = 0; i < 300; ++i) data.push_back(static_cast<char>(i * 37 + i / 7));
  for (size_t offset = 0; offset < 9; ++offset) {
    for (size_t n = 0; n + offset <= data.size(); ++n) {
      const absl::string_view part(data.data() + offset, n);
      ASSERT_EQ(ExtendCrc32c(123, part), ExtendCrc32cPortable(123, part)) << offset << " " << n;
    }
  }
}

TEST(Crc32cTest, ExtendEqualsTheWholeAtEverySplit) {
  const std::string data = "the quick brown fox jumps over the lazy dog";
  for (size_t i = 0; i <= data.size(); ++i) {
    EXPECT_EQ(ExtendCrc32c(Crc32c(data.substr(0, i)), data.substr(i)), Crc32c(data));
  }
}

TEST(Crc32cTest, EverySingleBitFlipIsSeen) {
  const std::string data = "some record";
  for (size_t bit = 0; bit < data.size() * 8; ++bit) {
    std::string flipped = data;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_NE(Crc32c(flipped), Crc32c(data));
  }
}

}  // namespace
}  // namespace doppel
