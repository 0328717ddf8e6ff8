#include "tests/support/catalog_fixture.h"

#include <gtest/gtest.h>

#include "common/catalog/readers/image_check.h"

namespace doppel::testing {
namespace {

TEST(CatalogFixtureTest, BothFormatsHoldTheSameImages) {
  CatalogFixtureOptions options;
  options.test_identities = 2;
  const CatalogFixture tar(options);
  options.format = CatalogFixtureOptions::Format::kImageFolder;
  const CatalogFixture folder(options);
  ASSERT_EQ(tar.catalog()->num_samples(), 32);
  ASSERT_EQ(folder.catalog()->num_samples(), 32);
  for (uint64_t s = 0; s < 32; ++s) {
    EXPECT_EQ(tar.catalog()->ReadChecked(s)->data, folder.catalog()->ReadChecked(s)->data);
    EXPECT_TRUE(CheckImage(tar.catalog()->Read(s)->data).ok());
  }
}

TEST(CatalogFixtureTest, SplitsAreAsAsked) {
  CatalogFixtureOptions options;
  options.test_identities = 2;
  const CatalogFixture fixture(options);
  EXPECT_EQ(fixture.catalog()->Split("train")->identities, 6);
  EXPECT_EQ(fixture.catalog()->Split("test")->identities, 2);
  EXPECT_EQ(fixture.catalog()->IdentityName(6), "id000006");
}

TEST(CatalogFixtureTest, ImagesDifferBySampleAndIdentity) {
  EXPECT_EQ(MakeTestImage(1, 2, 16), MakeTestImage(1, 2, 16));
  EXPECT_NE(MakeTestImage(1, 2, 16), MakeTestImage(1, 3, 16));
  EXPECT_NE(MakeTestImage(1, 2, 16), MakeTestImage(2, 2, 16));
}

}  // namespace
}  // namespace doppel::testing
