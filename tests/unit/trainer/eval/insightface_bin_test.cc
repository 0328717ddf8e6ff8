#include "trainer/eval/insightface_bin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// Literals with zeros in them.
template <size_t N>
std::string Bytes(const char (&text)[N]) {
  return std::string(text, N - 1);
}

std::string BinError(const std::string& pickle) {
  const absl::Status status = ParseInsightFaceBin(pickle, "x.bin", nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(InsightFaceBinTest, EveryProtocolOfPython3) {
  for (int protocol = 1; protocol <= 5; ++protocol) {
    const auto bin =
        ReadInsightFaceBin(absl::StrCat(DOPPEL_GOLDEN_EVAL, "/pairs_protocol", protocol, ".bin"));
    ASSERT_TRUE(bin.ok()) << protocol << ": " << bin.status();
    ASSERT_THAT(bin->images, SizeIs(6));
    for (int i = 0; i < 6; ++i) {
      const std::string expected = std::string(5 + 60 * i, static_cast<char>(i)) + Bytes("\xc3\xff\0");
      EXPECT_EQ(bin->images[i], expected) << "protocol " << protocol << ", image " << i;
    }
    EXPECT_THAT(bin->same, ElementsAre(true, false, true));
  }
}

TEST(InsightFaceBinTest, StringsOfPython2AndBackReferences) {
  // ([A, 'longer'], [True]) as Python 2's protocol 2 has it, then the same with one image given twice.
  const std::string plain = Bytes(
      "\x80\x02]q\x00(U\x01"
      "Aq\x01T\x06\x00\x00\x00longerq\x02"
      "e]q\x03\x88"
      "a\x86q\x04.");
  const auto bin = ParseInsightFaceBin(plain, "x.bin", nullptr);
  ASSERT_TRUE(bin.ok()) << bin.status();
  EXPECT_THAT(bin->images, ElementsAre("A", "longer"));
  EXPECT_THAT(bin->same, ElementsAre(true));
  const std::string repeated = Bytes(
      "\x80\x02](U\x01"
      "Aq\x01h\x01"
      "e](I00\ne\x86.");
  const auto twice = ParseInsightFaceBin(repeated, "x.bin", nullptr);
  ASSERT_TRUE(twice.ok()) << twice.status();
  EXPECT_THAT(twice->images, ElementsAre("A", "A"));
  EXPECT_THAT(twice->same, ElementsAre(false));
}

TEST(InsightFaceBinTest, NoCodeIsRun) {
  EXPECT_THAT(BinError("cos\nsystem\n(S'true'\ntR."), HasSubstr("asks for os.system"));
  EXPECT_THAT(BinError(Bytes("\x80\x04\x8c\x02os\x8c\x06system\x93.")), HasSubstr("asks for os.system"));
  EXPECT_THAT(BinError(Bytes("\x80\x02i__main__\nX\n.")), HasSubstr("opcode 0x69"));
  EXPECT_THAT(BinError(Bytes("c_codecs\nencode\n(X\x01\x00\x00\x00"
                             "aX\x04\x00\x00\x00utf8tR.")),
              HasSubstr("no code is run"));
}

TEST(InsightFaceBinTest, DamageIsNamedWithItsPlace) {
  EXPECT_THAT(BinError(""), HasSubstr("x.bin: at byte 0, the pickle ends"));
  EXPECT_THAT(BinError("."), HasSubstr("empty stack"));
  EXPECT_THAT(BinError(Bytes("\x80\x02T\xff\xff\xff\x7f"
                             "abc.")),
              HasSubstr("at byte 2, the pickle has a string"));
  EXPECT_THAT(BinError(Bytes("\x80\x02T\xff")), HasSubstr("cut short"));
  EXPECT_THAT(BinError("]e."), HasSubstr("misses a mark"));
  EXPECT_THAT(BinError("(e."), HasSubstr("what is no list"));
  EXPECT_THAT(BinError("Na."), HasSubstr("what is no list"));
  EXPECT_THAT(BinError(Bytes("h\x05.")), HasSubstr("refers to what is not there"));
  EXPECT_THAT(BinError("I7"), HasSubstr("cut short"));
  EXPECT_THAT(BinError("Ix\n."), HasSubstr("no number"));
  EXPECT_THAT(BinError("("), HasSubstr("ends before"));
  EXPECT_THAT(BinError("(."), HasSubstr("empty stack"));
}

TEST(InsightFaceBinTest, OtherContentsAreNamed) {
  EXPECT_THAT(BinError("N."), HasSubstr("no pair"));
  EXPECT_THAT(BinError("]N\x86."), HasSubstr("something else than lists"));
  EXPECT_THAT(BinError("]]\x86."), HasSubstr("0 images and 0 booleans"));
  EXPECT_THAT(BinError(Bytes("](U\x01"
                             "ae](\x88"
                             "e\x86.")),
              HasSubstr("1 images and 1 booleans"));
  EXPECT_THAT(BinError(Bytes("](U\x01"
                             "aNe](\x88"
                             "e\x86.")),
              HasSubstr("image 1 is no byte string"));
  EXPECT_THAT(BinError(Bytes("](U\x01"
                             "aU\x01"
                             "be](K\x02"
                             "e\x86.")),
              HasSubstr("label 0 is no boolean"));
}

TEST(InsightFaceBinTest, EveryCutIsAnError) {
  const auto whole = Bytes(
      "\x80\x02]q\x00(U\x01"
      "Aq\x01T\x06\x00\x00\x00longerq\x02"
      "e]q\x03\x88"
      "a\x86q\x04.");
  for (size_t length = 0; length < whole.size(); ++length) BinError(whole.substr(0, length));
}

}  // namespace
}  // namespace doppel
