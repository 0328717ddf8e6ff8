#include "common/index/ivf_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/common/index/random_vectors.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(IvfIndexTest, AllProbesGiveTheExactResult) {
  const std::vector<float> vectors = RandomVectors(900, 12, 1);
  const std::vector<float> queries = RandomVectors(50, 12, 2);
  IvfOptions options;
  options.lists = 10;
  options.probes = 10;
  const auto ivf = MakeIvfIndex(vectors, 12, options);
  ASSERT_TRUE(ivf.ok()) << ivf.status();
  EXPECT_EQ((*ivf)->size(), 900);
  EXPECT_EQ((*ivf)->dimension(), 12);
  const auto exact = MakeExactIndex(vectors, 12, 1);
  const auto found = (*ivf)->Search(queries, 5);
  const auto expected = (*exact)->Search(queries, 5);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->ids, expected->ids);
  EXPECT_EQ(found->scores, expected->scores);
}

TEST(IvfIndexTest, FewProbesFindAVectorItself) {
  const std::vector<float> vectors = RandomVectors(500, 8, 3);
  IvfOptions options;
  options.probes = 1;
  const auto ivf = MakeIvfIndex(vectors, 8, options);
  ASSERT_TRUE(ivf.ok()) << ivf.status();
  const auto found = (*ivf)->Search(vectors, 1);
  for (int64_t i = 0; i < 500; ++i) ASSERT_EQ(found->ids[i], i);
}

TEST(IvfIndexTest, LowerIdWinsTiesAndRowsAreFilledUp) {
  const std::vector<float> vectors = {0, 1, 1, 0, 1, 0};
  const std::vector<float> query = {1, 0};
  IvfOptions options;
  options.lists = 1;
  const auto ivf = MakeIvfIndex(vectors, 2, options);
  ASSERT_TRUE(ivf.ok()) << ivf.status();
  EXPECT_THAT((*ivf)->Search(query, 4)->ids, ElementsAre(1, 2, 0, -1));
}

TEST(IvfIndexTest, SenselessSizesAreRefused) {
  const std::vector<float> vectors = {0, 1, 1, 0};
  IvfOptions options;
  options.lists = 3;
  EXPECT_THAT(std::string(MakeIvfIndex(vectors, 2, options).status().message()), HasSubstr("3 lists over 2"));
  EXPECT_EQ(MakeIvfIndex(vectors, 3, {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeIvfIndex({}, 3, {}).status().code(), absl::StatusCode::kInvalidArgument);
  options.lists = 1;
  const auto ivf = MakeIvfIndex(vectors, 2, options);
  EXPECT_EQ((*ivf)->Search(vectors, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace doppel
