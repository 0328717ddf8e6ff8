// Figures that tests/golden/eval/make.py computed by other means.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "trainer/eval/protocols.h"

namespace doppel {
namespace {

using nlohmann::json;

const json& Golden() {
  static const json* golden =
      new json(json::parse(std::ifstream(std::string(DOPPEL_GOLDEN_EVAL) + "/golden.json")));
  return *golden;
}

EvalData GoldenRows(const std::string& prefix) {
  EvalData data;
  for (const json& row : Golden()[prefix + "embeddings"]) {
    data.dimension = static_cast<int>(row.size());
    for (const json& value : row) data.vectors.push_back(value.get<float>());
  }
  data.labels = Golden()[prefix + "labels"].get<std::vector<int64_t>>();
  data.cameras = Golden()[prefix + "cameras"].get<std::vector<int64_t>>();
  return data;
}

// Every figure of `expected` in `actual`.
void Compare(const json& expected, const json& actual, const std::string& where) {
  if (expected.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      ASSERT_TRUE(actual.contains(key)) << where << "." << key;
      Compare(value, actual[key], where + "." + key);
    }
  } else if (expected.is_array()) {
    ASSERT_EQ(expected.size(), actual.size()) << where;
    for (size_t i = 0; i < expected.size(); ++i) Compare(expected[i], actual[i], where);
  } else {
    EXPECT_NEAR(expected.get<double>(), actual.get<double>(), 1e-12) << where;
  }
}

class GoldenProtocolTest : public testing::TestWithParam<const char*> {};

TEST_P(GoldenProtocolTest, FiguresAreThoseOfThePythonScript) {
  const std::string protocol = GetParam();
  ProtocolData data;
  data.gallery = GoldenRows("");
  if (protocol == "market1501") data.queries = GoldenRows("query_");
  if (protocol == "lfw") {
    data.has_pairs = true;
    for (const json& pair : Golden()["pairs"]) data.pairs.push_back({pair[0], pair[1], pair[2] == 1});
  }
  ProtocolRequest request;
  request.protocol = protocol;
  request.top = Golden()["top"].get<std::vector<int>>();
  request.far_targets = Golden()["far"].get<std::vector<double>>();
  request.precisions = Golden()["precision"].get<std::vector<double>>();
  request.val_far = 0.05;
  if (protocol == "identification_distractors") {
    request.distractors = {Golden()[protocol]["distractors_available"].get<int64_t>()};
  }
  for (const int threads : {1, 3}) {
    request.ranking.threads = threads;
    const auto report = RunProtocol(request, data);
    ASSERT_TRUE(report.ok()) << report.status();
    const json actual = json::parse(*report);
    EXPECT_EQ(actual["protocol"], protocol);
    Compare(Golden()[protocol], actual, protocol);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenProtocolTest,
                         testing::Values("market1501", "retrieval", "lfw", "verification",
                                         "identification_distractors", "coverage"),
                         [](const auto& info) { return std::string(info.param); });

TEST(RunProtocolTest, OpenGalleryTakesTheFirstRowOfEveryLabel) {
  ProtocolData data;
  data.gallery.dimension = 2;
  data.gallery.vectors = {1, 0, 0, 1, 0.9F, 0.1F, 0.7F, 0.6F};
  data.gallery.labels = {3, 5, 3, 5};
  ProtocolRequest request;
  request.protocol = "open_gallery";
  request.top = {1, 2};
  const auto report = RunProtocol(request, data);
  ASSERT_TRUE(report.ok()) << report.status();
  const json actual = json::parse(*report);
  EXPECT_EQ(actual["protocol"], "open gallery identification");
  EXPECT_EQ(actual["queries"], 2);
  EXPECT_EQ(actual["gallery"], 2);
  EXPECT_EQ(actual["rank1"], 0.5);
  EXPECT_EQ(actual["recall"]["2"], 1.0);
  EXPECT_EQ(actual["refused_far_targets"].size(), 4U);
}

TEST(RunProtocolTest, VerificationOfGivenPairs) {
  ProtocolData data;
  data.gallery.dimension = 2;
  data.gallery.vectors = {2, 0, 3, 0, 0, 1};  // lengths do not count
  data.has_pairs = true;
  data.pairs = {{0, 1, true}, {0, 2, false}, {1, 2, false}};
  ProtocolRequest request;
  request.protocol = "verification";
  request.far_targets = {0.1, 0.5};
  const json actual = json::parse(*RunProtocol(request, data));
  EXPECT_EQ(actual["positive_pairs"], 1);
  EXPECT_EQ(actual["negative_pairs"], 2);
  EXPECT_EQ(actual["tar"]["0.5"], 1.0);
  EXPECT_EQ(actual["refused_far_targets"][0], 0.1);
  request.ranking.similarity = Similarity::kEuclidean;
  EXPECT_EQ(json::parse(*RunProtocol(request, data))["threshold"]["0.5"], -10.0);
}

TEST(RunProtocolTest, WhatDoesNotFitIsSaid) {
  ProtocolData data;
  data.gallery.dimension = 1;
  data.gallery.vectors = {1, 1, 1};
  data.gallery.labels = {1, 1, 2};
  ProtocolRequest request;
  const auto message = [&](const std::string& protocol) {
    request.protocol = protocol;
    return std::string(RunProtocol(request, data).status().message());
  };
  EXPECT_NE(message("recall").find("there are open_gallery, lfw"), std::string::npos);
  EXPECT_NE(message("market1501").find("queries"), std::string::npos);
  EXPECT_NE(message("lfw").find("pairs"), std::string::npos);
  data.has_pairs = true;
  data.pairs = {{0, 3, true}};
  EXPECT_NE(message("lfw").find("(0, 3) points outside the 3"), std::string::npos);
  data.pairs = {};
  EXPECT_NE(message("verification").find("0 pairs"), std::string::npos);
  data = ProtocolData();
  data.gallery.dimension = 1;
  data.gallery.vectors = {1, 1};
  data.gallery.labels = {1, 1};
  EXPECT_NE(message("verification").find("0 of different"), std::string::npos);
  data.queries = data.gallery;
  EXPECT_NE(message("open_gallery").find("label 1 has two"), std::string::npos);
}

}  // namespace
}  // namespace doppel
