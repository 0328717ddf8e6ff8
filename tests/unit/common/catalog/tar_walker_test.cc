#include "common/catalog/readers/tar_walker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using doppel::testing::MakeTar;
using ::testing::ElementsAre;

// "name=content" of members, "!reason name" of problems.
std::vector<std::string> Walk(absl::string_view archive) {
  std::vector<std::string> result;
  TarWalker walker(archive);
  while (true) {
    const TarItem item = walker.Next();
    if (std::holds_alternative<TarEnd>(item)) break;
    if (const auto* member = std::get_if<TarMember>(&item)) {
      result.push_back(absl::StrCat(member->name, "=", archive.substr(member->offset, member->size)));
    } else {
      result.push_back(
          absl::StrCat("!", std::get<TarProblem>(item).reason, " ", std::get<TarProblem>(item).name));
    }
    if (result.size() > 100) break;
  }
  return result;
}

// Sets a field of the first header, and its checksum.
std::string WithField(std::string archive, size_t at, const std::string& value) {
  archive.replace(at, value.size(), value);
  archive.replace(148, 8, "        ");
  uint32_t sum = 0;
  for (size_t i = 0; i < 512; ++i) sum += static_cast<uint8_t>(archive[i]);
  return archive.replace(148, 8, absl::StrFormat("%06o", sum) + std::string("\0 ", 2));
}

TEST(TarWalkerTest, ListsMembersInOrder) {
  EXPECT_THAT(Walk(MakeTar({{"a.png", "one"}, {"b.png", ""}, {"c", "three"}})),
              ElementsAre("a.png=one", "b.png=", "c=three"));
}

TEST(TarWalkerTest, EmptyArchiveHasNoMembers) { EXPECT_TRUE(Walk(MakeTar({})).empty()); }

TEST(TarWalkerTest, NoBytesAtAllIsTruncated) { EXPECT_THAT(Walk(""), ElementsAre("!truncated archive ")); }

TEST(TarWalkerTest, MissingEndIsNamedAndAllMembersAreThere) {
  const std::string archive = MakeTar({{"a", "one"}, {"b", "two"}});
  EXPECT_THAT(Walk(archive.substr(0, archive.size() - 1024)),
              ElementsAre("a=one", "b=two", "!truncated archive "));
}

TEST(TarWalkerTest, OneZeroBlockAtTheEndWillDo) {
  const std::string archive = MakeTar({{"a", "one"}});
  EXPECT_THAT(Walk(archive.substr(0, archive.size() - 512)), ElementsAre("a=one"));
}

TEST(TarWalkerTest, CutWithinAMemberNamesIt) {
  const std::string archive = MakeTar({{"a", "one"}, {"b", std::string(2000, 'x')}});
  EXPECT_THAT(Walk(absl::string_view(archive).substr(0, 1024 + 512 + 1999)),
              ElementsAre("a=one", "!truncated archive b"));
}

TEST(TarWalkerTest, EveryLengthEndsAndIsNamed) {
  const std::string archive = MakeTar({{"a", "one"}, {"b", std::string(700, 'x')}, {"c", "three"}});
  const size_t complete = archive.size() - 512;
  for (size_t size = 0; size < complete; ++size) {
    const auto items = Walk(absl::string_view(archive).substr(0, size));
    ASSERT_FALSE(items.empty()) << size;
    EXPECT_EQ(items.back()[0], '!') << size;
    for (size_t i = 0; i + 1 < items.size(); ++i) EXPECT_NE(items[i][0], '!') << size;
  }
}

TEST(TarWalkerTest, BadHeaderIsNamedAndTheWalkResumes) {
  std::string archive = MakeTar({{"a", "one"}, {"b", std::string(600, 'x')}, {"c", "three"}});
  archive[1024 + 3] ^= 1;
  EXPECT_THAT(Walk(archive), ElementsAre("a=one", "!bad header ", "c=three"));
}

TEST(TarWalkerTest, BadLastHeaderEndsTheWalk) {
  std::string archive = MakeTar({{"a", "one"}, {"b", "two"}});
  archive[1024 + 150] ^= 1;
  EXPECT_THAT(Walk(archive), ElementsAre("a=one", "!bad header "));
}

TEST(TarWalkerTest, GarbageHasNoMembers) {
  EXPECT_THAT(Walk(std::string(5000, 'x')), ElementsAre("!bad header "));
}

TEST(TarWalkerTest, EveryFlippedByteOfAHeaderIsNoticed) {
  const std::string good = MakeTar({{"a", "one"}, {"b", "two"}});
  for (size_t at = 0; at < 512; ++at) {
    std::string archive = good;
    archive[at] ^= 0x04;
    if (at >= 148 && at < 156) continue;  // the checksum itself has more than one spelling
    EXPECT_THAT(Walk(archive), ElementsAre("!bad header ", "b=two")) << at;
  }
}

TEST(TarWalkerTest, SizeInBase256) {
  const std::string archive = MakeTar({{"a", "one"}, {"b", "two"}});
  EXPECT_THAT(Walk(WithField(archive, 124, std::string("\x80\0\0\0\0\0\0\0\0\0\0\x03", 12))),
              ElementsAre("a=one", "b=two"));
}

TEST(TarWalkerTest, HugeSizeIsTruncationAndNotOverflow) {
  const std::string archive = MakeTar({{"a", "one"}});
  EXPECT_THAT(Walk(WithField(archive, 124, std::string("\x80\0\0\0\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 12))),
              ElementsAre("!truncated archive a"));
  EXPECT_THAT(
      Walk(WithField(archive, 124, std::string("\x80\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 12))).size(), 1);
}

TEST(TarWalkerTest, SizeThatIsNoNumberIsABadHeader) {
  EXPECT_THAT(Walk(WithField(MakeTar({{"a", "one"}, {"b", "two"}}), 124, "hello")),
              ElementsAre("!bad header ", "b=two"));
}

TEST(TarWalkerTest, LinksHaveNoContent) {
  TarWalker walker("");
  const std::string archive = WithField(MakeTar({{"a", ""}, {"b", "two"}}), 156, "2");
  TarWalker links(archive);
  const TarItem item = links.Next();
  ASSERT_TRUE(std::holds_alternative<TarMember>(item));
  EXPECT_TRUE(std::get<TarMember>(item).link);
  EXPECT_FALSE(std::get<TarMember>(links.Next()).link);
}

TEST(TarWalkerTest, FoldersAndDevicesArePassedOver) {
  for (const char* type : {"3", "4", "5", "6"}) {
    EXPECT_THAT(Walk(WithField(MakeTar({{"a", ""}, {"b", "two"}}), 156, type)), ElementsAre("b=two")) << type;
  }
}

TEST(TarWalkerTest, PaxPathAndSize) {
  const std::string archive = WithField(
      MakeTar({{"PaxHeader", "20 path=long/name.x\n"}, {"short", "two"}, {"c", "three"}}), 156, "x");
  EXPECT_THAT(Walk(archive), ElementsAre("long/name.x=two", "c=three"));
}

TEST(TarWalkerTest, MalformedPaxNamesTheMember) {
  for (const char* pax : {"999 path=x\n", "path=x\n", "9 path=xx\n", "7 path\n", "12 size=many\n", "0 =\n"}) {
    const std::string archive =
        WithField(MakeTar({{"PaxHeader", pax}, {"a", "two"}, {"c", "three"}}), 156, "x");
    EXPECT_THAT(Walk(archive), ElementsAre("!bad header a", "c=three")) << pax;
  }
}

TEST(TarWalkerTest, SparseMembersAreUnsupported) {
  const std::string archive =
      WithField(MakeTar({{"PaxHeader", "22 GNU.sparse.major=1\n"}, {"a", "two"}, {"c", "three"}}), 156, "x");
  EXPECT_THAT(Walk(archive), ElementsAre("!unsupported member a", "c=three"));
}

TEST(TarWalkerTest, GnuLongName) {
  const std::string name(150, 'n');
  const std::string archive = WithField(
      MakeTar({{"././@LongLink", name + std::string(1, '\0')}, {"short", "two"}, {"c", "x"}}), 156, "L");
  EXPECT_THAT(Walk(archive), ElementsAre(name + "=two", "c=x"));
}

TEST(TarWalkerTest, LoneZeroBlockIsPassedOver) {
  const std::string a = MakeTar({{"a", "one"}}), b = MakeTar({{"b", "two"}});
  EXPECT_THAT(Walk(a.substr(0, 1024) + std::string(512, '\0') + b), ElementsAre("a=one", "b=two"));
}

}  // namespace
}  // namespace doppel
