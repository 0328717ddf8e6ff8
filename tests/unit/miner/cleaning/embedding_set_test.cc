#include "miner/cleaning/embedding_set.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace doppel {
namespace {

TEST(EmbeddingSetTest, SortsByIdentityAndRemembersWhereRowsCameFrom) {
  const EmbeddingSet set = MakeEmbeddingSet({4, 2, {3, 0, 0, 1, 0, 2, 1, 0}}, {2, 0, 2, 0}).value();
  EXPECT_EQ(set.identities(), 3u);
  EXPECT_EQ(set.source, (std::vector<uint64_t>{1, 3, 0, 2}));
  EXPECT_EQ(set.count(0), 2);
  EXPECT_EQ(set.count(1), 0);
  EXPECT_EQ(set.count(2), 2);
  EXPECT_FLOAT_EQ(set.row(2)[0], 1);
  EXPECT_FLOAT_EQ(set.row(3)[1], 1);
}

TEST(EmbeddingSetTest, CentresAreUnitMeansAndZeroWithoutRows) {
  const EmbeddingSet set = MakeEmbeddingSet({2, 2, {5, 0, 0, 1}}, {1, 1}).value();
  const Matrix centres = IdentityCentres(set);
  EXPECT_EQ(centres.rows, 2);
  EXPECT_EQ(centres.row(0)[0], 0);
  EXPECT_NEAR(centres.row(1)[0], std::sqrt(0.5), 1e-6);
  EXPECT_NEAR(centres.row(1)[1], std::sqrt(0.5), 1e-6);
}

TEST(EmbeddingSetTest, RefusesWhatIsNoEmbedding) {
  EXPECT_FALSE(MakeEmbeddingSet({0, 2, {}}, {}).ok());
  EXPECT_FALSE(MakeEmbeddingSet({1, 2, {0, 0}}, {0}).ok());
  EXPECT_FALSE(MakeEmbeddingSet({1, 2, {std::numeric_limits<float>::quiet_NaN(), 1}}, {0}).ok());
  EXPECT_FALSE(MakeEmbeddingSet({1, 2, {1, 0}}, {-1}).ok());
  EXPECT_FALSE(MakeEmbeddingSet({1, 2, {1, 0}}, {0, 1}).ok());
  EXPECT_FALSE(MakeEmbeddingSet({1, 2, {1, 0}}, {int64_t{1} << 33}).ok());
}

TEST(EmbeddingSetTest, CosineOfAnyDimension) {
  for (const int dimension : {1, 7, 8, 9, 17}) {
    const std::vector<float> a(dimension, 0.5f), b(dimension, 2.0f);
    EXPECT_FLOAT_EQ(Cosine(a.data(), b.data(), dimension), static_cast<float>(dimension));
  }
}

}  // namespace
}  // namespace doppel
