#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <cmath>

#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "tests/unit/trainer/loss/family_formulas.h"
#include "trainer/loss/attribute.h"
#include "trainer/loss/bnneck.h"
#include "trainer/loss/joint.h"
#include "trainer/loss/loss_factory.h"
#include "trainer/loss/verification.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using Rows = std::vector<std::vector<double>>;

constexpr char kTable[] = "identity,colour,kind\n900,red,a\n893,blue,\n886,red,b\n\n7,green,a\n";

Rows ToRows(const torch::Tensor& t) {
  Rows rows(static_cast<size_t>(t.size(0)), std::vector<double>(static_cast<size_t>(t.size(1))));
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < rows[i].size(); ++j)
      rows[i][j] = t[static_cast<int64_t>(i)][static_cast<int64_t>(j)].item<double>();
  }
  return rows;
}

double LinearCrossEntropy(const std::vector<double>& x, const Rows& weight, const std::vector<double>& bias,
                          int64_t target) {
  double sum = 0, own = 0;
  for (size_t c = 0; c < weight.size(); ++c) {
    double logit = bias[c];
    for (size_t k = 0; k < x.size(); ++k) logit += weight[c][k] * x[k];
    sum += std::exp(logit);
    if (static_cast<int64_t>(c) == target) own = logit;
  }
  return std::log(sum) - own;
}

TEST(AttributeTableTest, IsRead) {
  const AttributeTable table = ParseAttributeTable(kTable, "t.csv").value();
  ASSERT_EQ(table.attributes.size(), 2u);
  EXPECT_EQ(table.attributes[0].name, "colour");
  EXPECT_THAT(table.attributes[0].classes, ::testing::ElementsAre("blue", "green", "red"));
  EXPECT_THAT(table.classes_of.at(893), ::testing::ElementsAre(0, -1));
  EXPECT_THAT(table.classes_of.at(886), ::testing::ElementsAre(2, 1));
}

TEST(AttributeTableTest, ErrorsNameTheLine) {
  const auto message = [](absl::string_view csv) {
    return ParseAttributeTable(csv, "t.csv").status().ToString();
  };
  EXPECT_THAT(message("id,colour\n"), HasSubstr("header"));
  EXPECT_THAT(message("identity\n1\n"), HasSubstr("header"));
  EXPECT_THAT(message("identity,c\n1,a\nx,b\n"), HasSubstr("t.csv:3"));
  EXPECT_THAT(message("identity,c\n1,a\n1,b\n"), HasSubstr("line 2"));
  EXPECT_THAT(message("identity,c\n1,a,b\n"), HasSubstr("3 cells"));
  EXPECT_THAT(message("identity,c\n1,a\n2,a\n"), HasSubstr("at least 2"));
}

std::unique_ptr<AttributeLossModule> Attributes(int64_t dimension, double scale) {
  AttributeOptions options;
  options.dimension = dimension;
  options.scale = scale;
  options.seed = 3;
  return AttributeLossModule::Create(ParseAttributeTable(kTable, "t").value(), options).value();
}

TEST(AttributeLossTest, FollowsItsFormula) {
  auto loss = Attributes(3, 0);
  const NamedTensors parameters = loss->NamedParameters();
  ASSERT_EQ(parameters.size(), 4u);
  EXPECT_EQ(parameters[0].first, "colour.weight");
  const Rows colour = ToRows(parameters[0].second), kind = ToRows(parameters[2].second);
  const auto formula = [&](const FormulaBatch& b) {
    // 900: red a; 893: blue; 886: red b; 879: not in the table.
    double colours = 0, kinds = 0, n_colours = 0, n_kinds = 0;
    for (size_t i = 0; i < b.rows; ++i) {
      const int64_t identity = b.identities[i];
      if (identity == 879) continue;
      colours += LinearCrossEntropy(b.x[i], colour, {0, 0, 0}, identity == 893 ? 0 : 2);
      ++n_colours;
      if (identity == 893) continue;
      kinds += LinearCrossEntropy(b.x[i], kind, {0, 0}, identity == 900 ? 0 : 1);
      ++n_kinds;
    }
    return (colours / n_colours + kinds / n_kinds) / 2;
  };
  ExpectFollowsFormula(*loss, MakeFormulaBatch({2, 2, 2, 2}, 3, 1), formula);
}

TEST(AttributeLossTest, BatchesWithoutLabelsTeachNothingAndAreReportedIfAllAre) {
  auto loss = Attributes(3, 24);
  const std::vector<int64_t> unknown = {1, 1, 2, 2};
  torch::Tensor x = torch::randn({4, 3}).requires_grad_(true);
  for (int i = 0; i < 99; ++i) {
    const auto result = loss->Compute({x, unknown});
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->statistics.loss, 0);
    result->loss.backward();
  }
  EXPECT_EQ(x.grad().abs().max().item<float>(), 0);
  EXPECT_EQ(loss->Compute({x, unknown}).status().code(), absl::StatusCode::kFailedPrecondition);
  auto seen = Attributes(3, 24);
  ASSERT_TRUE(seen->Compute({x, std::vector<int64_t>{900, 900, 2, 2}}).ok());
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(seen->Compute({x, unknown}).ok());
}

TEST(AttributeLossTest, StateRoundTrips) {
  auto a = Attributes(3, 24);
  const FormulaBatch b = MakeFormulaBatch({2, 2}, 3, 1);
  const torch::Tensor x = FormulaTensor(b.x, 0, b.rows, torch::kFloat32);
  AttributeOptions options;
  options.dimension = 3;
  options.seed = 77;
  auto other = AttributeLossModule::Create(ParseAttributeTable(kTable, "t").value(), options).value();
  EXPECT_NE(a->Compute({x, b.identities})->statistics.loss,
            other->Compute({x, b.identities})->statistics.loss);
  ASSERT_TRUE(other->LoadState(a->State()).ok());
  EXPECT_EQ(a->Compute({x, b.identities})->statistics.loss,
            other->Compute({x, b.identities})->statistics.loss);
  EXPECT_EQ(a->LoadState({}).code(), absl::StatusCode::kDataLoss);
}

double VerificationFormula(const FormulaBatch& b, const Rows& w, const std::vector<double>& bias, bool mean) {
  double same = 0, different = 0, n_same = 0, n_different = 0;
  for (size_t i = 0; i < b.rows; ++i) {
    for (size_t j = i + 1; j < b.rows; ++j) {
      if (b.Excluded(i, j)) continue;
      std::vector<double> squares;
      for (size_t k = 0; k < b.x[i].size(); ++k) squares.push_back(std::pow(b.x[i][k] - b.x[j][k], 2));
      const bool is_same = b.identities[i] == b.identities[j];
      (is_same ? same : different) += LinearCrossEntropy(squares, w, bias, is_same);
      (is_same ? n_same : n_different) += 1;
    }
  }
  if (mean) return (same + different) / (n_same + n_different);
  if (n_same == 0) return different / n_different;
  if (n_different == 0) return same / n_same;
  return 0.5 * same / n_same + 0.5 * different / n_different;
}

TEST(VerificationLossTest, FollowsItsFormula) {
  for (const Reduction reduction : {Reduction::kDefinition, Reduction::kBalanced, Reduction::kMean}) {
    VerificationOptions options;
    options.dimension = 3;
    options.seed = 5;
    options.reduction = reduction;
    auto loss = VerificationLossModule::Create(options).value();
    {
      torch::NoGradGuard no_grad;
      loss->NamedParameters()[1].second[1] = 0.75;
    }
    const Rows weight = ToRows(loss->NamedParameters()[0].second);
    std::vector<FormulaBatch> batches = {MakeFormulaBatch({2, 3, 1}, 3, 1), MakeFormulaBatch({1, 1, 1}, 3, 2),
                                         MakeFormulaBatch({4}, 3, 3), MakeFormulaBatch({3, 3}, 3, 4)};
    SetSomeApart(&batches.back());
    for (const FormulaBatch& b : batches) {
      ExpectFollowsFormula(*loss, b, [&](const FormulaBatch& f) {
        return VerificationFormula(f, weight, {0, 0.75}, reduction == Reduction::kMean);
      });
    }
  }
}

TEST(VerificationLossTest, HeadLearnsAndItsStateRoundTrips) {
  VerificationOptions options;
  options.dimension = 2;
  auto loss = VerificationLossModule::Create(options).value();
  const torch::Tensor x =
      torch::tensor({0.0, 0.0, 0.1, 0.0, 3.0, 1.0, 3.1, 1.0}).to(torch::kFloat32).view({4, 2});
  const std::vector<int64_t> identities = {1, 1, 2, 2};
  NamedTensors parameters = loss->NamedParameters();
  for (int i = 0; i < 50; ++i) {
    loss->Compute({x, identities})->loss.backward();
    torch::NoGradGuard no_grad;
    for (auto& [name, p] : parameters) {
      p -= 0.1 * p.grad();
      p.grad().zero_();
    }
  }
  const double trained = loss->Compute({x, identities})->statistics.loss;
  EXPECT_LT(trained, 0.2);
  options.seed = 9;
  auto fresh = VerificationLossModule::Create(options).value();
  ASSERT_TRUE(fresh->LoadState(loss->State()).ok());
  EXPECT_EQ(fresh->Compute({x, identities})->statistics.loss, trained);
  EXPECT_FALSE(fresh->LoadState({}).ok());
}

TEST(BnNeckTest, NormalisesByTheBatchAndRemembers) {
  BnNeckOptions options;
  options.dimension = 2;
  BnNeck neck = BnNeck::Create(options).value();
  const torch::Tensor x = torch::tensor({1.0, 10.0, 3.0, 10.0, 5.0, 40.0}, torch::kFloat64).view({3, 2});
  const torch::Tensor y = neck.Forward(x).value();
  EXPECT_NEAR(y.sum().item<double>(), 0, 1e-9);
  EXPECT_NEAR(y[0][0].item<double>(), -2 / std::sqrt(8.0 / 3 + 1e-5), 1e-9);
  // The mean 3, by a tenth; the unbiased variance 4.
  EXPECT_NEAR(neck.State()[1].second[0].item<float>(), 0.3, 1e-6);
  EXPECT_NEAR(neck.State()[2].second[0].item<float>(), 0.9 + 0.4, 1e-6);
  EXPECT_NEAR(neck.Apply(x)[0][0].item<double>(), 0.7 / std::sqrt(1.3 + 1e-5), 1e-6);
  EXPECT_EQ(neck.NamedParameters().size(), 1u);
  EXPECT_FALSE(neck.Forward(torch::ones({1, 2})).ok());
  EXPECT_FALSE(neck.Forward(torch::ones({3, 4})).ok());
}

LossOptions JointOptions() {
  LossOptions options;
  options.name = "joint";
  options.metric = "batch_hard";
  options.margin = "0.3";
  options.classes = 5;
  options.dimension = 4;
  options.seed = 2;
  options.softmax_scale = 0;
  return options;
}

double LossOf(Loss& loss, const torch::Tensor& x, const std::vector<int64_t>& identities) {
  return loss.Compute({x, identities})->loss.item<double>();
}

TEST(JointLossTest, IsTheWeightedSumOfItsParts) {
  const FormulaBatch b = MakeFormulaBatch({2, 2, 2}, 4, 1);
  const torch::Tensor x = FormulaTensor(b.x, 0, b.rows);
  LossOptions options = JointOptions();
  options.metric_weight = 0.5;
  options.id_weight = 2;
  options.verification_weight = 3;
  const double joint = LossOf(*MakeLoss(options).value(), x, b.identities);

  LossOptions part = options;
  part.name = "batch_hard";
  const double metric = LossOf(*MakeLoss(part).value(), x, b.identities);
  part.name = "verification";
  const double verification = LossOf(*MakeLoss(part).value(), x, b.identities);
  part.name = "id_softmax";
  const torch::Tensor normed = (x - x.mean(0)) / (x.var(0, /*unbiased=*/false) + 1e-5).sqrt();
  const double id = LossOf(*MakeLoss(part).value(), normed, b.identities);
  EXPECT_NEAR(joint, 0.5 * metric + 2 * id + 3 * verification, 1e-6);

  options.bnneck = false;
  const double plain_id = LossOf(*MakeLoss(part).value(), x, b.identities);
  EXPECT_NEAR(LossOf(*MakeLoss(options).value(), x, b.identities),
              0.5 * metric + 2 * plain_id + 3 * verification, 1e-6);
}

TEST(JointLossTest, GradientAgreesWithDifferences) {
  LossOptions options = JointOptions();
  options.verification_weight = 1;
  const FormulaBatch b = MakeFormulaBatch({2, 2, 2}, 4, 1);
  auto loss = MakeLoss(options).value();
  // Batch statistics alone decide, so that calls do not depend on those before.
  ExpectFollowsFormula(*loss, b, [&](const FormulaBatch& f) {
    return LossOf(*loss, FormulaTensor(f.x, 0, f.rows), f.identities);
  });
}

TEST(JointLossTest, StateHoldsHeadClassesAndRunningStatistics) {
  const FormulaBatch b = MakeFormulaBatch({2, 2, 2}, 4, 1);
  const torch::Tensor x = FormulaTensor(b.x, 0, b.rows, torch::kFloat32);
  auto a = MakeLoss(JointOptions()).value();
  for (int i = 0; i < 3; ++i) LossOf(*a, x * (i + 1), b.identities);
  LossOptions other = JointOptions();
  other.seed = 50;
  auto copy = MakeLoss(other).value();
  ASSERT_TRUE(copy->LoadState(a->State()).ok());
  const NamedTensors before = a->State(), after = copy->State();
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i].first, after[i].first);
    EXPECT_TRUE(before[i].second.equal(after[i].second)) << before[i].first;
  }
  EXPECT_EQ(LossOf(*a, x, b.identities), LossOf(*copy, x, b.identities));
  EXPECT_FALSE(copy->LoadState({}).ok());
}

TEST(JointLossTest, AllHeadsTrainAndHaveNames) {
  const std::unique_ptr<FileSystem> fs = MakeInMemoryFileSystem();
  ASSERT_TRUE(WriteFileAtomically(*fs, "/attributes.csv", kTable).ok());
  LossOptions options = JointOptions();
  options.attributes = "/attributes.csv";
  options.attribute_weight = 1;
  options.verification_weight = 1;
  auto loss = MakeLoss(options, *fs).value();
  const FormulaBatch b = MakeFormulaBatch({2, 2, 2}, 4, 1);
  torch::Tensor x = FormulaTensor(b.x, 0, b.rows, torch::kFloat32).requires_grad_(true);
  loss->Compute({x, b.identities})->loss.backward();
  std::vector<std::string> names;
  for (const auto& [name, parameter] : loss->NamedParameters()) {
    names.push_back(name);
    EXPECT_TRUE(parameter.grad().defined()) << name;
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf(
                         {"bnneck_weight", "id.weight", "attribute.kind.bias", "verification.weight"}));
}

TEST(JointLossTest, WrongSettingsAreNamed) {
  const auto message = [](auto change) {
    LossOptions options = JointOptions();
    change(options);
    return MakeLoss(options).status().ToString();
  };
  EXPECT_THAT(message([](LossOptions& o) { o.metric = "joint"; }), HasSubstr("\"joint\""));
  EXPECT_THAT(message([](LossOptions& o) { o.id_weight = 0; }), HasSubstr("beside the metric loss"));
  EXPECT_THAT(message([](LossOptions& o) { o.metric_weight = -1; }), HasSubstr("metric_weight"));
  EXPECT_THAT(message([](LossOptions& o) { o.attribute_weight = 1; }), HasSubstr("CSV"));
  EXPECT_THAT(message([](LossOptions& o) { o.classes = 0; }), HasSubstr("classes"));
}

}  // namespace
}  // namespace doppel
