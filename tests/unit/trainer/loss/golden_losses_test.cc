#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "trainer/loss/loss_factory.h"

namespace doppel {
namespace {

// tests/golden/losses/losses.json: figures of other libraries, see make_golden.py there.
nlohmann::json ReadGoldenLosses() {
  const auto root = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path().parent_path();
  std::ifstream file(root / "golden" / "losses" / "losses.json");
  return nlohmann::json::parse(file);
}

torch::Tensor GoldenTensor(const nlohmann::json& rows) {
  const int64_t height = static_cast<int64_t>(rows.size()), width = static_cast<int64_t>(rows[0].size());
  torch::Tensor t = torch::empty({height, width}, torch::kFloat64);
  for (int64_t i = 0; i < height; ++i) {
    for (int64_t j = 0; j < width; ++j) t[i][j] = rows[i][j].get<double>();
  }
  return t;
}

absl::StatusOr<LossOptions> GoldenOptions(const nlohmann::json& one) {
  LossOptions options;
  options.name = one["loss"];
  options.distance = one["distance"];
  options.margin = one["margin"];
  for (const auto& [key, value] : one["options"].items()) {
    const absl::Status status = SetLossOption(&options, key, value.get<std::string>());
    if (!status.ok()) return status;
  }
  if (one.contains("triplets")) {
    for (const auto& t : one["triplets"]) options.triplets.push_back({t[0], t[1], t[2]});
  }
  return options;
}

void ExpectSameAs(const nlohmann::json& golden, const nlohmann::json& one, torch::ScalarType type,
                  double tolerance) {
  SCOPED_TRACE(one["name"].get<std::string>());
  const nlohmann::json& batch = golden["batches"][one["batch"].get<std::string>()];
  const auto labels = batch["labels"].get<std::vector<int64_t>>();
  torch::Tensor x = GoldenTensor(batch["embeddings"]).to(type).requires_grad_(true);
  const auto options = GoldenOptions(one);
  ASSERT_TRUE(options.ok()) << options.status();
  auto loss = MakeLoss(*options);
  ASSERT_TRUE(loss.ok()) << loss.status();
  const auto result = (*loss)->Compute({x, labels});
  ASSERT_TRUE(result.ok()) << result.status();
  const double value = one["value"];
  EXPECT_NEAR(result->loss.item<double>(), value, tolerance * std::max(1.0, value));
  result->loss.backward();
  const torch::Tensor theirs = GoldenTensor(one["gradient"]);
  EXPECT_LT((x.grad().to(torch::kFloat64) - theirs).abs().max().item<double>(),
            10 * tolerance * std::max(1.0, theirs.abs().max().item<double>()));
}

TEST(GoldenLossesTest, ValueAndGradientAreTheOtherLibraries) {
  const nlohmann::json golden = ReadGoldenLosses();
  ASSERT_GE(golden["cases"].size(), 30u);
  for (const auto& one : golden["cases"]) ExpectSameAs(golden, one, torch::kFloat64, 1e-9);
}

TEST(GoldenLossesTest, AlsoInSinglePrecision) {
  const nlohmann::json golden = ReadGoldenLosses();
  for (const auto& one : golden["cases"]) ExpectSameAs(golden, one, torch::kFloat32, 2e-6);
}

TEST(GoldenLossesTest, EveryLibraryIsThere) {
  std::map<std::string, int> cases;
  const nlohmann::json golden = ReadGoldenLosses();
  for (const auto& one : golden["cases"]) ++cases[one["library"]];
  EXPECT_GE(cases["pytorch-metric-learning"], 20);
  EXPECT_GE(cases["fast-reid"], 6);
  EXPECT_GE(cases["triplet-reid, from its formula"], 2);
}

}  // namespace
}  // namespace doppel
