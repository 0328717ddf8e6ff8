#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "tests/unit/trainer/loss/family_formulas.h"
#include "trainer/loss/adaptive_weights.h"
#include "trainer/loss/contrastive.h"
#include "trainer/loss/improved_triplet.h"
#include "trainer/loss/lifted.h"
#include "trainer/loss/lmnn.h"
#include "trainer/loss/loss_factory.h"
#include "trainer/loss/quadruplet.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using Formula = std::function<double(const FormulaBatch&)>;

Margin PairMargin(bool soft, double value) {
  Margin margin;
  margin.soft = soft;
  (soft ? margin.scale : margin.margin) = value;
  return margin;
}

// Batches of all shapes, by distance: P x K, unequal, with lone identities, with a mask, with a memory, both.
std::vector<FormulaBatch> GridBatches(Distance distance, bool with_memory) {
  std::vector<FormulaBatch> batches = {MakeFormulaBatch({2, 2}, 3, 1), MakeFormulaBatch({3, 3, 3}, 4, 2),
                                       MakeFormulaBatch({5, 1, 2}, 3, 3),
                                       MakeFormulaBatch({4, 3, 1, 1}, 2, 4)};
  batches.push_back(MakeFormulaBatch({3, 3, 3}, 3, 5));
  SetSomeApart(&batches.back());
  if (with_memory) {
    batches.push_back(MakeFormulaBatch({2, 2, 1}, 3, 6, {1, 3, 2, 2}));
    batches.push_back(MakeFormulaBatch({1, 1}, 3, 7, {2, 2}));  // positives in the memory alone
    batches.push_back(MakeFormulaBatch({3, 2, 2}, 3, 8, {2, 1}));
    SetSomeApart(&batches.back());
  }
  for (FormulaBatch& batch : batches) batch.distance = distance;
  return batches;
}

// `make` gets distance and margin and returns the loss and its formula.
struct LossAndFormula {
  std::unique_ptr<Loss> loss;
  Formula formula;
};
struct GridRange {
  bool with_memory = true;
  size_t skip_batches = 0;
  bool all_margins = true;
};
void CheckGrid(const std::function<LossAndFormula(Distance, Margin)>& make, GridRange range = {}) {
  for (const Distance distance : {Distance::kEuclidean, Distance::kSquaredEuclidean, Distance::kCosine}) {
    for (const Margin& margin : {PairMargin(false, 0), PairMargin(false, 0.3), PairMargin(false, 2),
                                 PairMargin(true, 1), PairMargin(true, 5)}) {
      if (!range.all_margins && (margin.soft ? margin.scale > 1 : margin.margin != 0.3)) continue;
      const LossAndFormula both = make(distance, margin);
      const std::vector<FormulaBatch> batches = GridBatches(distance, range.with_memory);
      for (size_t b = range.skip_batches; b < batches.size(); ++b) {
        SCOPED_TRACE(absl::StrCat(DistanceName(distance), margin.soft ? " soft " : " hinge ",
                                  margin.soft ? margin.scale : margin.margin, " batch ", b));
        ExpectFollowsFormula(*both.loss, batches[b], both.formula);
      }
    }
  }
}

double ContrastiveFormula(const FormulaBatch& b, const ContrastiveOptions& o) {
  double positive = 0, negative = 0, positives = 0, negatives = 0, costly_p = 0, costly_n = 0;
  for (size_t i = 0; i < b.rows; ++i) {
    for (size_t j = i + 1; j < b.columns(); ++j) {
      if (b.Positive(i, j)) {
        const double cost = std::pow(b.D(i, j), o.power);
        positive += cost;
        ++positives;
        costly_p += cost > 0;
      } else if (b.Negative(i, j)) {
        const double cost = std::pow(FormulaBend(-b.D(i, j), o.margin), o.power);
        negative += cost;
        ++negatives;
        costly_n += cost > 0;
      }
    }
  }
  if (o.reduction == Reduction::kBalanced) {
    return positive / std::max(positives, 1.0) + negative / std::max(negatives, 1.0);
  }
  if (o.reduction == Reduction::kNonzero) {
    return positive / std::max(costly_p, 1.0) + negative / std::max(costly_n, 1.0);
  }
  return (positive + negative) / (positives + negatives);
}

LossAndFormula ContrastiveOf(const ContrastiveOptions& o) {
  return {std::make_unique<ContrastiveLossModule>(o),
          [o](const FormulaBatch& b) { return ContrastiveFormula(b, o); }};
}

TEST(ContrastiveLossTest, FollowsItsFormula) {
  for (const int power : {1, 2}) {
    for (const Reduction reduction : {Reduction::kDefinition, Reduction::kBalanced, Reduction::kNonzero}) {
      CheckGrid(
          [&](Distance distance, const Margin& margin) {
            ContrastiveOptions o;
            o.distance = distance;
            o.margin = margin;
            o.power = power;
            o.reduction = reduction;
            return ContrastiveOf(o);
          },
          {true, 0, power == 2 && reduction == Reduction::kDefinition});
    }
  }
}

TEST(ContrastiveLossTest, PairsSufficeNoTripletIsNeeded) {
  const ContrastiveOptions o;
  const LossAndFormula both = ContrastiveOf(o);
  ExpectFollowsFormula(*both.loss, MakeFormulaBatch({1, 1, 1}, 3, 1), both.formula);  // K = 1
  ExpectFollowsFormula(*both.loss, MakeFormulaBatch({4}, 3, 1), both.formula);        // one identity
  torch::Tensor x;
  EXPECT_THAT(ComputeOn(*both.loss, MakeFormulaBatch({1}, 3, 1), &x).status().ToString(),
              HasSubstr("one embedding"));
}

TEST(ContrastiveLossTest, ActiveIsTheShareOfNegativesWithinTheMargin) {
  FormulaBatch b = MakeFormulaBatch({1, 1, 1}, 1, 1);
  b.x = {{0}, {0.2}, {5}};
  ContrastiveOptions o;
  o.margin = PairMargin(false, 1);
  ContrastiveLossModule loss(o);
  torch::Tensor x;
  const auto result = ComputeOn(loss, b, &x);
  EXPECT_DOUBLE_EQ(result->statistics.active, 1.0 / 3);
  EXPECT_NEAR(result->loss.item<double>(), 0.8 * 0.8 / 3, 1e-9);
  EXPECT_EQ(result->statistics.triplets, 3);
}

double LmnnFormula(const FormulaBatch& b, const LmnnOptions& o) {
  double pull = 0, push = 0, pulls = 0, pushes = 0;
  for (size_t a = 0; a < b.rows; ++a) {
    std::vector<double> positives;
    for (size_t p = 0; p < b.columns(); ++p) {
      if (b.Positive(a, p)) positives.push_back(b.D(a, p));
    }
    std::sort(positives.begin(), positives.end());
    positives.resize(std::min(positives.size(), static_cast<size_t>(o.target_neighbours)));
    for (const double d_ap : positives) {
      pull += d_ap;
      ++pulls;
      for (size_t n = 0; n < b.columns(); ++n) {
        if (!b.Negative(a, n)) continue;
        push += FormulaBend(d_ap - b.D(a, n), o.margin);
        ++pushes;
      }
    }
  }
  if (o.reduction == Reduction::kMean) {
    pull /= pulls;
    push /= pushes;
  }
  return (1 - o.push) * pull + o.push * push;
}

TEST(LmnnLossTest, FollowsItsFormula) {
  for (const int targets : {1, 2, 10}) {
    for (const Reduction reduction : {Reduction::kDefinition, Reduction::kMean}) {
      CheckGrid(
          [&](Distance distance, const Margin& margin) {
            LmnnOptions o;
            o.distance = distance;
            o.margin = margin;
            o.target_neighbours = targets;
            o.push = 0.7;
            o.reduction = reduction;
            return LossAndFormula{std::make_unique<LmnnLossModule>(o),
                                  [o](const FormulaBatch& b) { return LmnnFormula(b, o); }};
          },
          {true, 0, targets == 2 && reduction == Reduction::kDefinition});
    }
  }
}

TEST(LmnnLossTest, PushAloneAndPullAlone) {
  for (const double push : {0.0, 1.0}) {
    LmnnOptions o;
    o.push = push;
    LmnnLossModule loss(o);
    ExpectFollowsFormula(loss, MakeFormulaBatch({3, 3}, 3, 5),
                         [o](const FormulaBatch& b) { return LmnnFormula(b, o); });
  }
}

double ImprovedFormula(const FormulaBatch& b, const ImprovedTripletOptions& o) {
  double sum = 0, count = 0;
  const auto add = [&](double ap, double an) {
    sum += o.pull * ap + FormulaBend(ap - an, o.margin);
    ++count;
  };
  if (!o.triplets.empty()) {
    for (const auto& [a, p, n] : o.triplets) add(b.D(a, p), b.D(a, n));
    return sum / count;
  }
  for (size_t a = 0; a < b.rows; ++a) {
    double farthest = -1, nearest = 1e300;
    for (size_t p = 0; p < b.columns(); ++p) {
      if (!b.Positive(a, p)) continue;
      for (size_t n = 0; n < b.columns(); ++n) {
        if (!b.Negative(a, n)) continue;
        farthest = std::max(farthest, b.D(a, p));
        nearest = std::min(nearest, b.D(a, n));
        if (!o.hardest) add(b.D(a, p), b.D(a, n));
      }
    }
    if (o.hardest && farthest >= 0) add(farthest, nearest);
  }
  return sum / count;
}

TEST(ImprovedTripletLossTest, FollowsItsFormula) {
  for (const bool hardest : {false, true}) {
    CheckGrid([&](Distance distance, const Margin& margin) {
      ImprovedTripletOptions o;
      o.distance = distance;
      o.margin = margin;
      o.hardest = hardest;
      o.pull = hardest ? 0.25 : 1;
      return LossAndFormula{std::make_unique<ImprovedTripletLossModule>(o),
                            [o](const FormulaBatch& b) { return ImprovedFormula(b, o); }};
    });
  }
}

TEST(ImprovedTripletLossTest, FollowsItsFormulaWithManyPositives) {
  for (const Margin& margin : {PairMargin(false, 0), PairMargin(false, 0.7), PairMargin(true, 2)}) {
    ImprovedTripletOptions o;
    o.margin = margin;
    ImprovedTripletLossModule loss(o);
    ExpectFollowsFormula(loss, MakeFormulaBatch({18, 2, 2}, 2, 9),
                         [o](const FormulaBatch& f) { return ImprovedFormula(f, o); });
  }
}

TEST(ImprovedTripletLossTest, TakesGivenTripletsAndNamesBadOnes) {
  FormulaBatch b = MakeFormulaBatch({2, 2}, 3, 1, {1, 1});
  b.identities = {7, 7, 8, 8, 7, 8};
  ImprovedTripletOptions o;
  o.triplets = {{0, 1, 2}, {3, 2, 0}, {3, 2, 1}, {1, 4, 5}};
  ImprovedTripletLossModule loss(o);
  ExpectFollowsFormula(loss, b, [o](const FormulaBatch& f) { return ImprovedFormula(f, o); });
  for (const std::array<int64_t, 3>& bad :
       {std::array<int64_t, 3>{0, 0, 2}, {0, 2, 3}, {0, 1, 1}, {0, 1, 6}, {4, 0, 2}, {-1, 1, 2}}) {
    ImprovedTripletOptions wrong = o;
    wrong.triplets[2] = bad;
    ImprovedTripletLossModule refused(wrong);
    torch::Tensor x;
    EXPECT_THAT(ComputeOn(refused, b, &x).status().ToString(), HasSubstr("triplet 2"));
  }
}

double QuadrupletFormula(const FormulaBatch& b, const QuadrupletOptions& o) {
  double sum = 0, count = 0;
  Margin beta = o.margin;
  if (!beta.soft) beta.margin = o.beta < 0 ? o.margin.margin / 2 : o.beta;
  for (size_t a = 0; a < b.rows; ++a) {
    double farthest = -1, nearest = 1e300, third = 1e300;
    size_t n1 = 0;
    for (size_t j = 0; j < b.rows; ++j) {
      if (b.Positive(a, j)) farthest = std::max(farthest, b.D(a, j));
      if (b.Negative(a, j) && b.D(a, j) < nearest) {
        nearest = b.D(a, j);
        n1 = j;
      }
    }
    if (farthest < 0 || nearest == 1e300) continue;
    for (size_t j = 0; j < b.rows; ++j) {
      if (b.Negative(n1, j) && b.identities[j] != b.identities[a]) third = std::min(third, b.D(n1, j));
    }
    if (third == 1e300) continue;
    sum += FormulaBend(farthest - nearest, o.margin) + FormulaBend(farthest - third, beta);
    ++count;
  }
  return sum / count;
}

TEST(QuadrupletLossTest, FollowsItsFormula) {
  for (const double beta : {-1.0, 0.1}) {
    CheckGrid(
        [&](Distance distance, const Margin& margin) {
          QuadrupletOptions o;
          o.distance = distance;
          o.margin = margin;
          o.beta = margin.margin > 0.1 ? beta : -1;
          return LossAndFormula{std::make_unique<QuadrupletLossModule>(o),
                                [o](const FormulaBatch& b) { return QuadrupletFormula(b, o); }};
        },
        {/*with_memory=*/false, /*skip_batches=*/1});
  }
}

TEST(QuadrupletLossTest, NeedsThreeIdentitiesAndASmallerBeta) {
  QuadrupletLossModule loss({});
  torch::Tensor x;
  EXPECT_THAT(ComputeOn(loss, MakeFormulaBatch({3, 3}, 3, 1), &x).status().ToString(), HasSubstr("P = 3"));
  QuadrupletOptions wide;
  wide.margin = PairMargin(false, 0.3);
  wide.beta = 0.3;
  QuadrupletLossModule refused(wide);
  EXPECT_THAT(ComputeOn(refused, MakeFormulaBatch({2, 2, 2}, 3, 1), &x).status().ToString(),
              HasSubstr("below the margin"));
}

double LiftedFormula(const FormulaBatch& b, const LiftedOptions& o) {
  double sum = 0, pairs = 0;
  for (size_t i = 0; i < b.rows; ++i) {
    for (size_t j = i + 1; j < b.columns(); ++j) {
      if (!b.Positive(i, j)) continue;
      double push = 0;
      for (size_t n = 0; n < b.columns(); ++n) {
        if (b.Negative(i, n)) push += std::exp(-b.D(i, n));
        if (j < b.rows && b.Negative(j, n)) push += std::exp(-b.D(j, n));
      }
      if (push == 0) continue;
      const double term = FormulaBend(b.D(i, j) + std::log(push), o.margin);
      sum += term * term;
      ++pairs;
    }
  }
  return sum / (2 * pairs);
}

double LiftedPxkFormula(const FormulaBatch& b, const LiftedOptions& o) {
  double sum = 0, anchors = 0;
  for (size_t a = 0; a < b.rows; ++a) {
    double pull = 0, push = 0;
    for (size_t j = 0; j < b.columns(); ++j) {
      if (b.Positive(a, j)) pull += std::exp(b.D(a, j));
      if (b.Negative(a, j)) push += std::exp(-b.D(a, j));
    }
    if (pull == 0 || push == 0) continue;
    sum += FormulaBend(std::log(pull) + std::log(push), o.margin);
    ++anchors;
  }
  return o.reduction == Reduction::kMean ? sum / anchors : sum;
}

TEST(LiftedLossTest, FollowsItsFormula) {
  CheckGrid([&](Distance distance, const Margin& margin) {
    LiftedOptions o;
    o.distance = distance;
    o.margin = margin;
    return LossAndFormula{std::make_unique<LiftedLossModule>(o),
                          [o](const FormulaBatch& b) { return LiftedFormula(b, o); }};
  });
}

TEST(LiftedPxkLossTest, FollowsItsFormula) {
  for (const Reduction reduction : {Reduction::kDefinition, Reduction::kMean}) {
    CheckGrid([&](Distance distance, const Margin& margin) {
      LiftedOptions o;
      o.distance = distance;
      o.margin = margin;
      o.reduction = reduction;
      return LossAndFormula{std::make_unique<LiftedPxkLossModule>(o),
                            [o](const FormulaBatch& b) { return LiftedPxkFormula(b, o); }};
    });
  }
}

TEST(LiftedLossTest, FarApartEmbeddingsDoNotOverflow) {
  for (const double scale : {1e3, 1e5}) {
    const FormulaBatch b = MakeFormulaBatch({3, 3}, 4, 5, {}, scale);
    LiftedLossModule pairs({});
    LiftedPxkLossModule anchors({});
    for (Loss* loss : {static_cast<Loss*>(&pairs), static_cast<Loss*>(&anchors)}) {
      torch::Tensor x;
      const auto result = ComputeOn(*loss, b, &x);
      ASSERT_TRUE(result.ok());
      EXPECT_TRUE(std::isfinite(result->statistics.loss));
      result->loss.backward();
      EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
    }
  }
}

double AdaptiveFormula(const FormulaBatch& b, const AdaptiveWeightsOptions& o) {
  double sum = 0, anchors = 0;
  const double epsilon = o.as_fast_reid ? 1e-6 : 0;
  for (size_t a = 0; a < b.rows; ++a) {
    std::vector<double> ap, an;
    for (size_t j = 0; j < b.columns(); ++j) {
      if (b.Positive(a, j)) ap.push_back(b.D(a, j));
      if (b.Negative(a, j)) an.push_back(b.D(a, j));
    }
    if (ap.empty() || an.empty()) continue;
    if (o.as_fast_reid) ap.push_back(b.distance == Distance::kEuclidean ? 1e-6 : 0);
    const double top = o.as_fast_reid ? *std::max_element(ap.begin(), ap.end()) : 0;
    double wp = 0, sp = 0, wn = 0, sn = 0;
    for (const double d : ap) {
      wp += std::exp(d - top);
      sp += std::exp(d - top) * d;
    }
    for (const double d : an) {
      wn += std::exp(-d);
      sn += std::exp(-d) * d;
    }
    sum += FormulaBend(sp / (wp + epsilon) - sn / (wn + epsilon), o.margin);
    ++anchors;
  }
  return sum / anchors;
}

TEST(AdaptiveWeightsLossTest, FollowsItsFormula) {
  for (const bool as_fast_reid : {false, true}) {
    CheckGrid([&](Distance distance, const Margin& margin) {
      AdaptiveWeightsOptions o;
      o.distance = distance;
      o.margin = margin;
      o.as_fast_reid = as_fast_reid;
      return LossAndFormula{std::make_unique<AdaptiveWeightsLossModule>(o),
                            [o](const FormulaBatch& b) { return AdaptiveFormula(b, o); }};
    });
  }
}

TEST(AdaptiveWeightsLossTest, FarNegativesVanishInFastReidsWeightsOnly) {
  FormulaBatch b = MakeFormulaBatch({3, 3}, 4, 5, {}, 30);
  b.ComputeDistances();
  for (const bool as_fast_reid : {false, true}) {
    AdaptiveWeightsOptions o;
    o.as_fast_reid = as_fast_reid;
    o.margin = PairMargin(false, 0.3);
    AdaptiveWeightsLossModule loss(o);
    torch::Tensor x;
    const auto result = ComputeOn(loss, b, &x);
    EXPECT_NEAR(result->statistics.loss, AdaptiveFormula(b, o), 1e-9 * AdaptiveFormula(b, o));
  }
}

std::vector<std::string> PairFamilyNames() {
  return {"contrastive", "lmnn",       "improved_triplet", "quadruplet",
          "lifted",      "lifted_pxk", "adaptive_weights"};
}

std::unique_ptr<Loss> PairFamily(const std::string& name, const std::string& distance = "euclidean") {
  LossOptions options;
  options.name = name;
  options.distance = distance;
  options.margin = "0.3";
  return MakeLoss(options).value();
}

TEST(PairFamiliesTest, NanIsAnErrorThatCountsRows) {
  for (const std::string& name : PairFamilyNames()) {
    FormulaBatch b = MakeFormulaBatch({2, 2, 2}, 3, 1);
    b.x[1][0] = std::numeric_limits<double>::quiet_NaN();
    b.x[4][2] = std::numeric_limits<double>::infinity();
    torch::Tensor x;
    const auto result = ComputeOn(*PairFamily(name), b, &x);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(result.status().ToString(), HasSubstr("2 of 6")) << name;
  }
}

TEST(PairFamiliesTest, BatchesWithoutTripletsAreErrorsButForContrastive) {
  for (const std::string& name : PairFamilyNames()) {
    for (const std::vector<int>& shape : {std::vector<int>{1, 1, 1, 1}, std::vector<int>{4}}) {
      torch::Tensor x;
      const auto result = ComputeOn(*PairFamily(name), MakeFormulaBatch(shape, 3, 1), &x);
      if (name == "contrastive") {
        EXPECT_TRUE(result.ok());
      } else {
        EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << name;
      }
    }
  }
}

TEST(PairFamiliesTest, IdenticalImagesGiveFiniteLossesAndGradients) {
  for (const std::string& name : PairFamilyNames()) {
    for (const char* distance : {"euclidean", "squared", "cosine"}) {
      for (const auto type : {torch::kFloat32, torch::kFloat64}) {
        FormulaBatch some = MakeFormulaBatch({2, 2, 2}, 3, 1), all = some;
        some.x[3] = some.x[0];
        for (auto& row : all.x) row = all.x[0];
        for (const FormulaBatch& b : {some, all}) {
          torch::Tensor x;
          const auto result = ComputeOn(*PairFamily(name, distance), b, &x, type);
          ASSERT_TRUE(result.ok()) << name << result.status();
          EXPECT_TRUE(std::isfinite(result->statistics.loss)) << name;
          result->loss.backward();
          EXPECT_TRUE(x.grad().isfinite().all().item<bool>()) << name << " " << distance;
        }
      }
    }
  }
}

TEST(PairFamiliesTest, CollapsedValueIsTheLossOfOnePoint) {
  for (const char* name : {"improved_triplet", "quadruplet", "adaptive_weights"}) {
    for (const char* margin : {"0.3", "soft"}) {
      LossOptions options;
      options.name = name;
      options.margin = margin;
      auto loss = MakeLoss(options).value();
      FormulaBatch b = MakeFormulaBatch({2, 2, 2}, 3, 1);
      for (auto& row : b.x) row = b.x[0];
      torch::Tensor x;
      ASSERT_TRUE(loss->CollapsedValue().has_value());
      EXPECT_NEAR(ComputeOn(*loss, b, &x)->statistics.loss, *loss->CollapsedValue(), 1e-5) << name;
    }
  }
}

TEST(PairFamiliesTest, AMaskThatLeavesNothingGivesZero) {
  for (const std::string& name : PairFamilyNames()) {
    FormulaBatch b = MakeFormulaBatch({2, 2, 2}, 3, 1);
    b.excluded.assign(b.rows, std::vector<bool>(b.rows, true));
    torch::Tensor x;
    const auto result = ComputeOn(*PairFamily(name), b, &x);
    ASSERT_TRUE(result.ok()) << name << result.status();
    EXPECT_EQ(result->statistics.loss, 0);
    EXPECT_EQ(result->statistics.triplets, 0);
    result->loss.backward();
    EXPECT_EQ(x.grad().abs().max().item<double>(), 0);
  }
}

TEST(PairFamiliesTest, MemoryOfTheWrongWidthIsRefused) {
  for (const std::string& name : PairFamilyNames()) {
    const torch::Tensor x = torch::eye(4, torch::kFloat64);
    const std::vector<int64_t> identities = {1, 1, 2, 2}, remembered = {1, 2};
    LossInput input(x, identities);
    input.memory = torch::ones({2, 3}, torch::kFloat64);
    input.memory_identities = remembered;
    EXPECT_EQ(PairFamily(name)->Compute(input).status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

// Single precision: close pairs far from the origin, where a plain matrix product has no digits left.
TEST(PairFamiliesTest, SinglePrecisionKeepsItsDigitsFarFromTheOrigin) {
  FormulaBatch b = MakeFormulaBatch({3, 3, 3}, 8, 11, {}, 0.01);
  for (auto& row : b.x) {
    for (double& value : row) value = static_cast<float>(value + 10);
  }
  for (const std::string& name : PairFamilyNames()) {
    for (const char* distance : {"euclidean", "squared"}) {
      torch::Tensor single, exact;
      auto loss = PairFamily(name, distance);
      const auto rough = ComputeOn(*loss, b, &single, torch::kFloat32);
      const auto fine = ComputeOn(*loss, b, &exact, torch::kFloat64);
      rough->loss.backward();
      fine->loss.backward();
      EXPECT_NEAR(rough->statistics.loss, fine->statistics.loss, 2e-5 * std::abs(fine->statistics.loss))
          << name;
      const double size = exact.grad().abs().max().item<double>();
      EXPECT_LT((single.grad().to(torch::kFloat64) - exact.grad()).abs().max().item<double>(), 1e-4 * size)
          << name << " " << distance;
    }
  }
}

TEST(PairFamiliesTest, GradientsScaleWithWhatComesFromAbove) {
  const FormulaBatch b = MakeFormulaBatch({3, 3}, 4, 2);
  torch::Tensor once, thrice;
  auto loss = PairFamily("lifted");
  ComputeOn(*loss, b, &once)->loss.backward();
  (ComputeOn(*loss, b, &thrice)->loss * 3).backward();
  EXPECT_TRUE(torch::allclose(once.grad() * 3, thrice.grad()));
}

TEST(PairFamiliesTest, MarginsGrowBySchedule) {
  for (const std::string& name : PairFamilyNames()) {
    LossOptions options;
    options.name = name;
    options.margin = "0.4";
    options.margin_start = 0.2;
    options.margin_steps = 10;
    auto loss = MakeLoss(options).value();
    const FormulaBatch b = MakeFormulaBatch({3, 3, 3}, 4, 2);
    const torch::Tensor x = FormulaTensor(b.x, 0, b.rows);
    LossInput input(x, b.identities);
    input.step = 5;
    LossOptions fixed;
    fixed.name = name;
    fixed.margin = absl::StrCat(0.2 + 0.2 * 0.5);
    EXPECT_NEAR(loss->Compute(input)->statistics.loss,
                MakeLoss(fixed).value()->Compute(LossInput(x, b.identities))->statistics.loss, 1e-9)
        << name;
  }
}

TEST(PairFamiliesTest, StatisticsAreThoseOfAllPairs) {
  FormulaBatch b = MakeFormulaBatch({2, 2}, 1, 1);
  b.identities = {1, 1, 2, 2};
  b.x = {{0}, {1}, {3}, {7}};
  torch::Tensor x;
  const LossStatistics s = ComputeOn(*PairFamily("lifted"), b, &x)->statistics;
  EXPECT_NEAR(s.d_ap.p0, 1, 1e-6);
  EXPECT_NEAR(s.d_ap.p100, 4, 1e-6);
  EXPECT_NEAR(s.d_an.p0, 2, 1e-6);
  EXPECT_NEAR(s.d_an.p50, 4.5, 1e-6);
  EXPECT_NEAR(s.norm.p100, 7, 1e-6);
}

}  // namespace
}  // namespace doppel
