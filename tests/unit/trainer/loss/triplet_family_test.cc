// Every loss of the triplet family against its formula, in float64 (tensor path) and float32 (kernels):
// value, gradient and statistics, over distances, margins, guards, memory and guard mask.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "family_formulas.h"
#include "trainer/loss/batch_all.h"
#include "trainer/loss/selection/batch_hard.h"
#include "trainer/loss/selection/random_negatives.h"
#include "trainer/loss/selection/semi_hard.h"
#include "trainer/loss/selection/softmax_sampled.h"
#include "trainer/loss/triplet_factory.h"
#include "trainer/loss/triplet_loss.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

// Anchors of positive and negative may differ (MSML).
struct FormulaTriplet {
  size_t a, p, b, n;
};

struct FormulaTotals {
  double loss = 0, active = 0;
  size_t counted = 0;
  std::vector<double> d_ap, d_an;
};

double Cosine(const FormulaBatch& batch, size_t i, size_t j) {
  FormulaBatch cosine = batch;
  cosine.distance = Distance::kCosine;
  return 1 - cosine.DistanceOf(i, j);
}

bool CapAllows(const FormulaBatch& batch, const LossOptions& o, size_t a, size_t p, size_t n) {
  return o.negative_similarity_cap == 0 ||
         Cosine(batch, a, n) <= o.negative_similarity_cap * Cosine(batch, a, p);
}

std::vector<size_t> FormulaPositives(const FormulaBatch& batch, const LossOptions& o, size_t a) {
  std::vector<size_t> positives;
  for (size_t p = 0; p < batch.columns(); ++p) {
    if (batch.Positive(a, p) && (o.positive_cap == 0 || batch.DistanceOf(a, p) <= o.positive_cap))
      positives.push_back(p);
  }
  return positives;
}

// Nearest first.
std::vector<size_t> FormulaNegatives(const FormulaBatch& batch, const LossOptions& o, size_t a, size_t p) {
  std::vector<size_t> negatives;
  for (size_t n = 0; n < batch.columns(); ++n) {
    if (batch.Negative(a, n) && CapAllows(batch, o, a, p, n)) negatives.push_back(n);
  }
  std::sort(negatives.begin(), negatives.end(),
            [&](size_t i, size_t j) { return batch.DistanceOf(a, i) < batch.DistanceOf(a, j); });
  return negatives;
}

double FormulaMargin(const LossOptions& o) { return o.margin == "soft" ? 0 : std::stod(o.margin); }

std::vector<FormulaTriplet> TripletsOfAnchor(const FormulaBatch& batch, const LossOptions& o, size_t a) {
  std::vector<FormulaTriplet> triplets;
  std::vector<size_t> positives = FormulaPositives(batch, o, a);
  const double width = o.margin == "soft" ? o.semi_hard_width : FormulaMargin(o);
  if (o.name == "batch_hard" && !positives.empty()) {
    positives = {*std::max_element(positives.begin(), positives.end(), [&](size_t i, size_t j) {
      return batch.DistanceOf(a, i) < batch.DistanceOf(a, j);
    })};
  }
  for (const size_t p : positives) {
    std::vector<size_t> negatives = FormulaNegatives(batch, o, a, p);
    if (o.name == "batch_hard") negatives.resize(std::min<size_t>(negatives.size(), 1));
    if (o.name == "batch_ohnm") {
      const size_t take = std::min<size_t>(o.negatives, negatives.size());
      const size_t skip = std::min<size_t>(o.skip, negatives.size() - take);
      negatives = {negatives.begin() + skip, negatives.begin() + skip + take};
    }
    if (o.name == "semi_hard") {
      const double low = batch.DistanceOf(a, p);
      std::vector<size_t> between;
      for (const size_t n : negatives) {
        if (batch.DistanceOf(a, n) > low && batch.DistanceOf(a, n) < low + width && between.empty())
          between.push_back(n);
      }
      negatives = between;
    }
    for (const size_t n : negatives) triplets.push_back({a, p, a, n});
  }
  return triplets;
}

std::vector<FormulaTriplet> MsmlTriplet(const FormulaBatch& batch, const LossOptions& o) {
  FormulaTriplet best = {};
  double farthest = -1, nearest = 1e30;
  for (size_t a = 0; a < batch.rows; ++a) {
    double own = -1;
    size_t own_p = a;
    for (const size_t p : FormulaPositives(batch, o, a)) {
      if (batch.DistanceOf(a, p) > own) own = batch.DistanceOf(a, p), own_p = p;
    }
    if (own > farthest) farthest = own, best.a = a, best.p = own_p;
    for (size_t n = 0; n < batch.columns(); ++n) {
      if (!batch.Negative(a, n) || (own >= 0 && !CapAllows(batch, o, a, own_p, n))) continue;
      if (batch.DistanceOf(a, n) < nearest) nearest = batch.DistanceOf(a, n), best.b = a, best.n = n;
    }
  }
  if (farthest < 0 || nearest > 1e29) return {};
  return {best};
}

std::vector<FormulaTriplet> FormulaTriplets(const FormulaBatch& batch, const LossOptions& o) {
  if (o.name == "msml") return MsmlTriplet(batch, o);
  std::vector<FormulaTriplet> all;
  for (size_t a = 0; a < batch.rows; ++a) {
    const std::vector<FormulaTriplet> own = TripletsOfAnchor(batch, o, a);
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

FormulaTotals SumFormula(const FormulaBatch& batch, const LossOptions& o, const Margin& margin,
                         const std::vector<FormulaTriplet>& triplets) {
  FormulaTotals totals;
  for (const FormulaTriplet& t : triplets) {
    const double ap = batch.DistanceOf(t.a, t.p), an = batch.DistanceOf(t.b, t.n);
    if (o.hardness_cap > 0 && ap - an > o.hardness_cap) continue;
    const bool active = margin.soft ? ap > an : ap + margin.margin > an;
    ++totals.counted;
    totals.active += active;
    totals.d_ap.push_back(ap);
    totals.d_an.push_back(an);
    if (o.name != "ohnm" || active) totals.loss += FormulaBend(ap - an, margin);
  }
  const bool over_active =
      o.name == "ohnm" || (!margin.soft && (o.mean_over_active || o.name == "batch_all_nonzero"));
  totals.loss /= std::max(over_active ? totals.active : static_cast<double>(totals.counted), 1.0);
  return totals;
}

double SortedQuantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const size_t low = static_cast<size_t>(at);
  if (low + 1 == values.size()) return values.back();
  return values[low] + (at - static_cast<double>(low)) * (values[low + 1] - values[low]);
}

struct Holder {
  torch::Tensor embeddings;
  LossInput input;
};

Holder InputOf(const FormulaBatch& batch, torch::ScalarType type) {
  Holder holder;
  holder.embeddings = FormulaTensor(batch.x, 0, batch.rows, type).detach().requires_grad_(true);
  holder.input = LossInput(holder.embeddings, absl::MakeConstSpan(batch.identities).subspan(0, batch.rows));
  if (batch.columns() > batch.rows) {
    holder.input.memory = FormulaTensor(batch.x, batch.rows, batch.columns(), type).detach();
    holder.input.memory_identities = absl::MakeConstSpan(batch.identities).subspan(batch.rows);
  }
  if (!batch.excluded.empty()) {
    const int64_t n = static_cast<int64_t>(batch.rows);
    torch::Tensor mask = torch::zeros({n, n}, torch::kBool);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) mask[i][j] = static_cast<bool>(batch.excluded[i][j]);
    }
    holder.input.excluded = mask;
  }
  return holder;
}

void ExpectFormula(FormulaBatch batch, const LossOptions& o, const std::vector<FormulaTriplet>& triplets,
                   torch::ScalarType type, uint64_t step = 0) {
  SCOPED_TRACE(absl::StrCat(o.name, " ", o.distance, " margin ", o.margin, " caps ", o.hardness_cap, " ",
                            o.positive_cap, " ", o.negative_similarity_cap, " columns ", batch.columns(),
                            " of ", batch.rows, type == torch::kFloat64 ? " float64" : " float32"));
  const Margin margin = ParseMargin(o.margin, o.soft_scale).value();
  const FormulaTotals expected = SumFormula(batch, o, margin, triplets);
  auto loss = MakeTripletFamilyLoss(o);
  ASSERT_TRUE(loss.ok()) << loss.status();
  Holder holder = InputOf(batch, type);
  holder.input.step = step;
  const auto result = (*loss)->Compute(holder.input);
  ASSERT_TRUE(result.ok()) << result.status();
  const double near = type == torch::kFloat64 ? 1e-8 : 1e-5;
  const double magnitude = std::max(1.0, std::abs(expected.loss));
  EXPECT_NEAR(result->loss.item<double>(), expected.loss, near * magnitude);
  EXPECT_NEAR(result->statistics.loss, expected.loss, near * magnitude);
  EXPECT_EQ(result->statistics.triplets, static_cast<int64_t>(expected.counted));
  EXPECT_NEAR(result->statistics.active * static_cast<double>(expected.counted), expected.active, 1e-6);
  for (const auto& [got, values] : {std::pair{result->statistics.d_ap, expected.d_ap},
                                    std::pair{result->statistics.d_an, expected.d_an}}) {
    EXPECT_NEAR(got.p0, SortedQuantile(values, 0), 1e-5 * (1 + got.p100));
    EXPECT_NEAR(got.p5, SortedQuantile(values, 0.05), 1e-5 * (1 + got.p100));
    EXPECT_NEAR(got.p50, SortedQuantile(values, 0.5), 1e-5 * (1 + got.p100));
    EXPECT_NEAR(got.p100, SortedQuantile(values, 1), 1e-5 * (1 + got.p100));
  }
  (result->loss * 2).backward();  // the factor must pass through
  const torch::Tensor gradient = holder.embeddings.grad().to(torch::kFloat64) / 2;
  const double h = 1e-6;
  for (size_t i = 0; i < batch.rows; ++i) {
    for (size_t k = 0; k < batch.x[i].size(); ++k) {
      const double at = batch.x[i][k];
      batch.x[i][k] = at + h;
      const double up = SumFormula(batch, o, margin, triplets).loss;
      batch.x[i][k] = at - h;
      const double down = SumFormula(batch, o, margin, triplets).loss;
      batch.x[i][k] = at;
      ASSERT_NEAR(gradient[i][k].item<double>(), (up - down) / (2 * h),
                  (type == torch::kFloat64 ? 1e-6 : 2e-5) * magnitude)
          << "row " << i << " column " << k;
    }
  }
}

LossOptions FamilyOptions(const std::string& name, const std::string& distance, const std::string& margin) {
  LossOptions o;
  o.name = name;
  o.distance = distance;
  o.margin = margin;
  o.soft_scale = margin == "soft" ? 3 : 1;
  o.negatives = 3;
  o.skip = 1;
  return o;
}

Distance DistanceOf(const LossOptions& o) { return ParseDistance(o.distance).value(); }

void Exclude(FormulaBatch* batch) {
  batch->excluded.assign(batch->rows, std::vector<bool>(batch->rows, false));
  for (const auto& [i, j] : {std::pair<size_t, size_t>{0, 1}, {0, 3}, {2, 5}, {4, 1}, {6, 7}}) {
    batch->excluded[i][j] = batch->excluded[j][i] = true;
  }
}

class TripletFamilyTest : public testing::TestWithParam<std::string> {};

TEST_P(TripletFamilyTest, AgreesWithTheFormulaForAllDistancesAndMargins) {
  uint32_t seed = 1;
  for (const char* distance : {"euclidean", "squared", "cosine"}) {
    for (const char* margin : {"0", "0.4", "soft"}) {
      const LossOptions o = FamilyOptions(GetParam(), distance, margin);
      FormulaBatch batch = MakeFormulaBatch({3, 3, 3}, 4, ++seed);
      batch.distance = DistanceOf(o);
      ExpectFormula(batch, o, FormulaTriplets(batch, o), torch::kFloat64);
      ExpectFormula(batch, o, FormulaTriplets(batch, o), torch::kFloat32);
    }
  }
}

TEST_P(TripletFamilyTest, AgreesWithTheFormulaWithMemoryAndMask) {
  uint32_t seed = 40;
  for (const char* distance : {"euclidean", "squared", "cosine"}) {
    for (const char* margin : {"0.4", "soft"}) {
      const LossOptions o = FamilyOptions(GetParam(), distance, margin);
      // An identity with one sample, whose positives lie in the memory; one that only the memory knows.
      FormulaBatch batch = MakeFormulaBatch({4, 3, 1}, 4, ++seed, {1, 2, 2, 3});
      batch.distance = DistanceOf(o);
      ExpectFormula(batch, o, FormulaTriplets(batch, o), torch::kFloat32);
      Exclude(&batch);
      ExpectFormula(batch, o, FormulaTriplets(batch, o), torch::kFloat64);
      ExpectFormula(batch, o, FormulaTriplets(batch, o), torch::kFloat32);
    }
  }
}

TEST_P(TripletFamilyTest, AgreesWithTheFormulaUnderGuards) {
  uint32_t seed = 80;
  for (const char* distance : {"euclidean", "squared", "cosine"}) {
    for (const char* margin : {"0.4", "soft"}) {
      for (int guard = 0; guard < 4; ++guard) {
        LossOptions o = FamilyOptions(GetParam(), distance, margin);
        if (guard == 0 || guard == 3) o.hardness_cap = 0.15;
        if (guard == 1 || guard == 3) o.positive_cap = 1.2;
        if (guard == 2 || guard == 3) o.negative_similarity_cap = 0.8;
        FormulaBatch batch = MakeFormulaBatch({3, 4, 2}, 4, ++seed, {0, 2, 1});
        batch.distance = DistanceOf(o);
        const auto triplets = FormulaTriplets(batch, o);
        ExpectFormula(batch, o, triplets, guard % 2 == 0 ? torch::kFloat64 : torch::kFloat32);
        ExpectFormula(batch, o, triplets, torch::kFloat32);
      }
    }
  }
}

TEST_P(TripletFamilyTest, IdenticalImagesGiveTheCollapsedLossAndFiniteGradients) {
  for (const char* distance : {"euclidean", "squared", "cosine"}) {
    for (const char* margin : {"0.4", "soft"}) {
      for (const auto type : {torch::kFloat32, torch::kFloat64}) {
        const auto loss = MakeTripletFamilyLoss(FamilyOptions(GetParam(), distance, margin));
        torch::Tensor x = torch::full({8, 16}, 0.7, type).requires_grad_(true);
        const std::vector<int64_t> labels = {1, 1, 1, 1, 2, 2, 2, 2};
        const auto result = (*loss)->Compute({x, labels});
        ASSERT_TRUE(result.ok()) << result.status();
        if (result->statistics.triplets > 0) {
          EXPECT_NEAR(result->statistics.loss, *(*loss)->CollapsedValue(), 1e-5) << distance << margin;
        }
        result->loss.backward();
        EXPECT_TRUE(x.grad().isfinite().all().item<bool>()) << distance << margin;
      }
    }
  }
}

TEST_P(TripletFamilyTest, CloseRowsFarFromTheOriginKeepTheirDigits) {
  // Distances of about 1e-3 at norms of about 100: the Gram matrix of the rows as they are would lose them
  // all.
  FormulaBatch batch = MakeFormulaBatch({3, 3}, 6, 5, {}, 1e-3);
  for (auto& row : batch.x) {
    for (double& value : row) value = static_cast<double>(static_cast<float>(value + 50));
  }
  LossOptions o = FamilyOptions(GetParam(), "euclidean", "0.001");
  const auto triplets = FormulaTriplets(batch, o);
  const double expected = SumFormula(batch, o, ParseMargin("0.001", 1).value(), triplets).loss;
  const auto result = (*MakeTripletFamilyLoss(o))->Compute(InputOf(batch, torch::kFloat32).input);
  ASSERT_TRUE(result.ok());
  EXPECT_NEAR(result->statistics.loss, expected, 2e-5 * expected + 1e-9);
}

TEST_P(TripletFamilyTest, DegenerateBatchesAreErrorsThatSayWhatToDo) {
  const auto loss = MakeTripletFamilyLoss(FamilyOptions(GetParam(), "euclidean", "0.4"));
  const torch::Tensor x = torch::randn({4, 3});
  const auto message = [&](const torch::Tensor& rows, const std::vector<int64_t>& labels) {
    return (*loss)->Compute({rows, labels}).status().ToString();
  };
  EXPECT_THAT(message(x, {1, 2, 3, 4}), HasSubstr("K = 2"));
  EXPECT_THAT(message(x, {5, 5, 5, 5}), HasSubstr("P = 2"));
  torch::Tensor bad = x.clone();
  bad[2][1] = std::nan("");
  EXPECT_THAT(message(bad, {1, 1, 2, 2}), HasSubstr("1 of 4 embeddings are NaN"));
  EXPECT_THAT(message(x * 1e30, {1, 1, 2, 2}), HasSubstr("overflow"));
  LossInput input(x, {});
  const std::vector<int64_t> labels = {1, 1, 2, 2};
  input.identities = labels;
  input.memory = torch::randn({2, 5});
  input.memory_identities = absl::MakeConstSpan(labels).subspan(0, 2);
  EXPECT_THAT((*loss)->Compute(input).status().ToString(), HasSubstr("5 dimensions"));
  input.memory = torch::Tensor();
  EXPECT_FALSE((*loss)->Compute(input).ok());
  input.memory_identities = {};
  input.excluded = torch::zeros({4, 4}, torch::kBool);
  input.excluded[0][1] = true;
  EXPECT_THAT((*loss)->Compute(input).status().ToString(), HasSubstr("symmetric"));
  input.excluded = torch::ones({3, 4}, torch::kBool);
  EXPECT_THAT((*loss)->Compute(input).status().ToString(), HasSubstr("[4, 4]"));
}

TEST_P(TripletFamilyTest, GuardsThatLeaveNothingGiveZeroAndNoGradient) {
  LossOptions o = FamilyOptions(GetParam(), "euclidean", "0.4");
  o.positive_cap = 1e-6;
  for (const auto type : {torch::kFloat32, torch::kFloat64}) {
    torch::Tensor x = torch::randn({6, 4}, type).requires_grad_(true);
    const std::vector<int64_t> labels = {1, 1, 2, 2, 3, 3};
    const auto result = (*MakeTripletFamilyLoss(o))->Compute({x, labels});
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->statistics.loss, 0);
    EXPECT_EQ(result->statistics.triplets, 0);
    result->loss.backward();
    EXPECT_EQ(x.grad().abs().sum().item<double>(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Exact, TripletFamilyTest,
                         testing::Values("triplet", "batch_hard", "batch_ohnm", "semi_hard", "batch_all",
                                         "batch_all_nonzero", "msml"),
                         [](const auto& info) { return info.param; });

// --- random selection: what was drawn is asked for, then held against the formula
// -----------------------------

std::unique_ptr<TripletSelector> RandomSelector(const LossOptions& o) {
  if (o.name == "ohnm") return std::make_unique<RandomNegativesSelector>(o.negatives, o.seed);
  if (o.name == "softmax_sampled") return std::make_unique<SoftmaxSampledSelector>(o.temperature, o.seed);
  return std::make_unique<SemiHardSelector>(SemiHardSelector::Choice::kRandom, o.semi_hard_width, o.seed);
}

std::vector<FormulaTriplet> Drawn(const FormulaBatch& batch, const LossOptions& o, uint64_t step) {
  TripletLossOptions options;
  options.distance = batch.distance;
  options.margin = ParseMargin(o.margin, o.soft_scale).value();
  Holder holder = InputOf(batch, torch::kFloat32);
  holder.input.step = step;
  const auto s = SelectTriplets(holder.input, *RandomSelector(o), options);
  std::vector<FormulaTriplet> triplets;
  for (size_t t = 0; t < s->ap.size(); ++t) {
    const size_t p = s->ap[t], n = s->an[t];
    triplets.push_back({static_cast<size_t>(s->ap_anchor[p]), static_cast<size_t>(s->ap_positive[p]),
                        static_cast<size_t>(s->an_anchor[n]), static_cast<size_t>(s->an_negative[n])});
  }
  return triplets;
}

class RandomFamilyTest : public testing::TestWithParam<std::string> {};

TEST_P(RandomFamilyTest, AgreesWithTheFormulaOverWhatWasDrawn) {
  uint32_t seed = 200;
  for (const char* distance : {"euclidean", "squared", "cosine"}) {
    for (const char* margin : {"0.5", "soft"}) {
      const LossOptions o = FamilyOptions(GetParam(), distance, margin);
      FormulaBatch batch = MakeFormulaBatch({3, 3, 4}, 4, ++seed, {2, 0, 2});
      batch.distance = DistanceOf(o);
      const auto triplets = Drawn(batch, o, 7);
      for (const FormulaTriplet& t : triplets) {
        EXPECT_TRUE(batch.Positive(t.a, t.p) && batch.Negative(t.a, t.n) && t.a == t.b);
      }
      ExpectFormula(batch, o, triplets, torch::kFloat64, 7);
      ExpectFormula(batch, o, triplets, torch::kFloat32, 7);
    }
  }
}

TEST_P(RandomFamilyTest, DrawsAreAFunctionOfSeedAndStep) {
  LossOptions o = FamilyOptions(GetParam(), "euclidean", "0.5");
  const FormulaBatch batch = MakeFormulaBatch({4, 4, 4, 4}, 4, 3);
  const auto same = [](const std::vector<FormulaTriplet>& x, const std::vector<FormulaTriplet>& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                      [](const auto& s, const auto& t) { return s.a == t.a && s.p == t.p && s.n == t.n; });
  };
  const auto first = Drawn(batch, o, 1);
  EXPECT_TRUE(same(first, Drawn(batch, o, 1)));
  EXPECT_FALSE(same(first, Drawn(batch, o, 2)));
  o.seed = 9;
  EXPECT_FALSE(same(first, Drawn(batch, o, 1)));
}

INSTANTIATE_TEST_SUITE_P(Random, RandomFamilyTest,
                         testing::Values("ohnm", "semi_hard_random", "softmax_sampled"),
                         [](const auto& info) { return info.param; });

TEST(RandomNegativesTest, AreDifferentAndReachEverySample) {
  LossOptions o = FamilyOptions("ohnm", "euclidean", "0.5");
  const FormulaBatch batch = MakeFormulaBatch({2, 2, 2, 2}, 4, 3);
  std::set<size_t> seen;
  for (uint64_t step = 0; step < 40; ++step) {
    std::set<std::array<size_t, 3>> distinct;
    const auto drawn = Drawn(batch, o, step);
    ASSERT_EQ(drawn.size(), 8U * 3);
    for (const FormulaTriplet& t : drawn) {
      EXPECT_TRUE(distinct.insert({t.a, t.p, t.n}).second);
      if (t.a == 0) seen.insert(t.n);
    }
  }
  EXPECT_EQ(seen.size(), 6U);
}

TEST(SemiHardTest, RandomOnesLieInTheWindowAndReachAllOfIt) {
  LossOptions o = FamilyOptions("semi_hard_random", "euclidean", "0.5");
  const FormulaBatch batch = MakeFormulaBatch({2, 6, 6, 6}, 4, 3);
  std::set<std::pair<size_t, size_t>> seen, all;
  for (uint64_t step = 0; step < 200; ++step) {
    for (const FormulaTriplet& t : Drawn(batch, o, step)) {
      ASSERT_GT(batch.DistanceOf(t.a, t.n), batch.DistanceOf(t.a, t.p));
      ASSERT_LT(batch.DistanceOf(t.a, t.n), batch.DistanceOf(t.a, t.p) + 0.5);
      if (t.a == 0) seen.insert({t.p, t.n});
    }
  }
  for (size_t p = 0; p < batch.rows; ++p) {
    for (size_t n = 0; n < batch.rows; ++n) {
      if (!batch.Positive(0, p) || !batch.Negative(0, n)) continue;
      if (batch.DistanceOf(0, n) > batch.DistanceOf(0, p) &&
          batch.DistanceOf(0, n) < batch.DistanceOf(0, p) + 0.5)
        all.insert({p, n});
    }
  }
  EXPECT_EQ(seen, all);
}

TEST(SoftmaxSampledTest, DrawsByTheSoftmaxOfDistances) {
  LossOptions o = FamilyOptions("softmax_sampled", "euclidean", "0.5");
  o.temperature = 0.5;
  const FormulaBatch batch = MakeFormulaBatch({3, 3, 3}, 4, 12);
  std::vector<double> wanted(batch.rows, 0), counts(batch.rows, 0);
  double positives = 0, negatives = 0;
  for (size_t j = 0; j < batch.rows; ++j) {
    if (batch.Positive(0, j)) positives += wanted[j] = std::exp(batch.DistanceOf(0, j) / 0.5);
    if (batch.Negative(0, j)) negatives += wanted[j] = std::exp(-batch.DistanceOf(0, j) / 0.5);
  }
  constexpr int kDraws = 3000;
  for (uint64_t step = 0; step < kDraws; ++step) {
    for (const FormulaTriplet& t : Drawn(batch, o, step)) {
      if (t.a != 0) continue;
      ++counts[t.p];
      ++counts[t.n];
    }
  }
  for (size_t j = 1; j < batch.rows; ++j) {
    const double share = wanted[j] / (batch.Positive(0, j) ? positives : negatives);
    EXPECT_NEAR(counts[j] / kDraws, share, 5 * std::sqrt(share * (1 - share) / kDraws)) << j;
  }
}

TEST(SoftmaxSampledTest, IsBatchHardAtLowTemperature) {
  LossOptions o = FamilyOptions("softmax_sampled", "euclidean", "0.5");
  o.temperature = 1e-4;
  const FormulaBatch batch = MakeFormulaBatch({3, 3, 3}, 4, 12);
  LossOptions hard = o;
  hard.name = "batch_hard";
  ExpectFormula(batch, o, FormulaTriplets(batch, hard), torch::kFloat32);
}

// --- given triplets, schedules, options
// ------------------------------------------------------------------------

TEST(GivenTripletTest, AgreesWithTheFormula) {
  FormulaBatch batch = MakeFormulaBatch({3, 3, 2}, 4, 21, {1, 1});
  std::vector<FormulaTriplet> triplets;
  LossOptions o = FamilyOptions("triplet", "euclidean", "0.4");
  for (size_t a = 0; a < batch.rows; ++a) {
    for (size_t p = 0; p < batch.columns(); ++p) {
      for (size_t n = 0; n < batch.columns(); ++n) {
        if (!batch.Positive(a, p) || !batch.Negative(a, n) || (a + p + n) % 3 != 0) continue;
        triplets.push_back({a, p, a, n});
        o.triplets.push_back({static_cast<int64_t>(a), static_cast<int64_t>(p), static_cast<int64_t>(n)});
      }
    }
  }
  ExpectFormula(batch, o, triplets, torch::kFloat64);
  ExpectFormula(batch, o, triplets, torch::kFloat32);
  o.mean_over_active = true;
  ExpectFormula(batch, o, triplets, torch::kFloat32);
  o.negative_similarity_cap = 0.7;
  std::vector<FormulaTriplet> kept;
  for (const FormulaTriplet& t : triplets) {
    if (CapAllows(batch, o, t.a, t.p, t.n)) kept.push_back(t);
  }
  ASSERT_LT(kept.size(), triplets.size());
  ExpectFormula(batch, o, kept, torch::kFloat32);
}

TEST(GivenTripletTest, WhatIsNoTripletIsNamed) {
  const std::vector<int64_t> labels = {1, 1, 2, 2};
  const auto message = [&](std::array<int64_t, 3> triplet) {
    return GivenTripletLoss({torch::randn({4, 3}), labels}, {{0, 1, 2}, triplet}, {}).status().ToString();
  };
  EXPECT_THAT(message({0, 0, 2}), HasSubstr("triplet 1 (0, 0, 2) has the anchor as its own positive"));
  EXPECT_THAT(message({0, 2, 3}), HasSubstr("positive of another identity"));
  EXPECT_THAT(message({0, 1, 1}), HasSubstr("negative of the anchor's identity"));
  EXPECT_THAT(message({4, 1, 2}), HasSubstr("no row of the batch"));
  EXPECT_THAT(message({0, 1, -1}), HasSubstr("neither the batch nor its memory"));
}

TEST(MarginScheduleTest, MovesLinearlyAndThenStays) {
  Margin margin;
  margin.margin = 0.5;
  EXPECT_DOUBLE_EQ(MarginAt(margin, {0.1, 10}, 0).margin, 0.1);
  EXPECT_DOUBLE_EQ(MarginAt(margin, {0.1, 10}, 5).margin, 0.3);
  EXPECT_DOUBLE_EQ(MarginAt(margin, {0.1, 10}, 10).margin, 0.5);
  EXPECT_DOUBLE_EQ(MarginAt(margin, {0.1, 10}, 1000).margin, 0.5);
  EXPECT_DOUBLE_EQ(MarginAt(margin, {}, 0).margin, 0.5);
}

TEST(MarginScheduleTest, IsWhatTheLossUses) {
  LossOptions o = FamilyOptions("batch_all", "euclidean", "0.5");
  o.margin_start = 0.1;
  o.margin_steps = 10;
  const FormulaBatch batch = MakeFormulaBatch({3, 3}, 4, 2);
  const auto triplets = FormulaTriplets(batch, o);
  Margin now;
  now.margin = 0.3;
  for (const char* name : {"batch_all", "triplet"}) {
    o.name = name;
    Holder holder = InputOf(batch, torch::kFloat32);
    holder.input.step = 5;
    const auto result = (*MakeTripletFamilyLoss(o))->Compute(holder.input);
    ASSERT_TRUE(result.ok());
    EXPECT_NEAR(result->statistics.loss, SumFormula(batch, o, now, triplets).loss, 1e-5);
  }
}

TEST(BatchAllTest, ManyPositivesAgreeWithTheFormula) {
  // More than are compared one by one: thresholds are sorted and searched.
  for (const char* name : {"batch_all", "batch_all_nonzero"}) {
    LossOptions o = FamilyOptions(name, "euclidean", "0.2");
    const FormulaBatch batch = MakeFormulaBatch({60, 55}, 3, 31);
    const Margin margin = ParseMargin("0.2", 1).value();
    const auto triplets = FormulaTriplets(batch, o);
    const FormulaTotals expected = SumFormula(batch, o, margin, triplets);
    Holder single = InputOf(batch, torch::kFloat32), twice = InputOf(batch, torch::kFloat64);
    const auto a = (*MakeTripletFamilyLoss(o))->Compute(single.input);
    const auto b = (*MakeTripletFamilyLoss(o))->Compute(twice.input);
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_NEAR(a->statistics.loss, expected.loss, 1e-5);
    EXPECT_NEAR(b->statistics.loss, expected.loss, 1e-9);
    EXPECT_NEAR(a->statistics.active, b->statistics.active, 1e-5);
    EXPECT_NEAR(a->statistics.d_an.p5, b->statistics.d_an.p5, 1e-5);
    a->loss.backward();
    b->loss.backward();
    EXPECT_LT((single.embeddings.grad() - twice.embeddings.grad()).abs().max().item<double>(), 1e-5);
  }
}

TEST(TripletFamilyPathsTest, KernelsAndTensorsAgreeOnALargeBatch) {
  // Several blocks of rows, a width that no vector divides, some rows all but equal.
  const int64_t n = 200;
  torch::manual_seed(6);
  torch::Tensor x = torch::randn({n, 37}, torch::kFloat64);
  x.slice(0, 10, 14).copy_(x.slice(0, 150, 154) + 1e-2 * torch::randn({4, 37}, torch::kFloat64));
  x = x.to(torch::kFloat32).to(torch::kFloat64);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < n; ++i) labels.push_back(i % 50);
  for (const std::string& name : TripletFamilyNames()) {
    for (const char* distance : {"euclidean", "squared", "cosine"}) {
      for (const char* margin : {"0.5", "soft"}) {
        if (margin[0] == 's' && distance[0] != 'e') continue;
        const auto loss = MakeTripletFamilyLoss(FamilyOptions(name, distance, margin));
        torch::Tensor single = x.to(torch::kFloat32).detach().requires_grad_(true);
        torch::Tensor twice = x.clone().detach().requires_grad_(true);
        const auto a = (*loss)->Compute({single, labels}), b = (*loss)->Compute({twice, labels});
        ASSERT_TRUE(a.ok() && b.ok());
        SCOPED_TRACE(absl::StrCat(name, " ", distance, " ", margin));
        EXPECT_EQ(a->statistics.triplets, b->statistics.triplets);
        EXPECT_NEAR(a->statistics.loss, b->statistics.loss, 1e-5 * (1 + std::abs(b->statistics.loss)));
        EXPECT_NEAR(a->statistics.d_an.p95, b->statistics.d_an.p95, 1e-4 * b->statistics.d_an.p95);
        a->loss.backward();
        b->loss.backward();
        const double scale = twice.grad().abs().max().item<double>();
        EXPECT_LT((single.grad() - twice.grad()).abs().max().item<double>(), 1e-3 * scale + 1e-9);
      }
    }
  }
}

TEST(TripletFamilyPathsTest, HalfPrecisionIsWidened) {
  torch::manual_seed(1);
  torch::Tensor half = torch::randn({8, 6}).to(torch::kHalf).requires_grad_(true);
  const std::vector<int64_t> labels = {1, 1, 2, 2, 3, 3, 4, 4};
  for (const char* name : {"batch_hard", "batch_all"}) {
    const auto loss = MakeTripletFamilyLoss(FamilyOptions(name, "euclidean", "0.5"));
    const auto a = (*loss)->Compute({half, labels});
    const auto b = (*loss)->Compute({half.to(torch::kFloat32), labels});
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_EQ(a->statistics.loss, b->statistics.loss);
    a->loss.backward();
    EXPECT_EQ(half.grad().scalar_type(), torch::kHalf);
  }
}

TEST(TripletFactoryTest, RefusesWrongSettingsByName) {
  const auto message = [](auto change) {
    LossOptions o = FamilyOptions("batch_ohnm", "euclidean", "0.5");
    change(o);
    return MakeTripletFamilyLoss(o).status().ToString();
  };
  EXPECT_THAT(message([](LossOptions& o) { o.name = "nothing"; }), HasSubstr("semi_hard_random"));
  EXPECT_THAT(message([](LossOptions& o) { o.distance = "manhattan"; }), HasSubstr("euclidean, squared"));
  EXPECT_THAT(message([](LossOptions& o) { o.negatives = 0; }), HasSubstr("negatives"));
  EXPECT_THAT(message([](LossOptions& o) { o.skip = -1; }), HasSubstr("skip"));
  EXPECT_THAT(message([](LossOptions& o) { o.hardness_cap = -1; }), HasSubstr("hardness cap"));
  EXPECT_THAT(message([](LossOptions& o) { o.positive_cap = std::nan(""); }), HasSubstr("positive cap"));
  EXPECT_THAT(message([](LossOptions& o) { o.negative_similarity_cap = -1; }), HasSubstr("similarity cap"));
  EXPECT_THAT(message([](LossOptions& o) {
                o.triplets = {{0, 1, 2}};
              }),
              HasSubstr("given ones go with triplet"));
  EXPECT_THAT(message([](LossOptions& o) { o.name = "semi_hard", o.semi_hard_width = 0; }),
              HasSubstr("semi_hard_width"));
  EXPECT_THAT(message([](LossOptions& o) { o.name = "softmax_sampled", o.temperature = 0; }),
              HasSubstr("temperature"));
  EXPECT_THAT(message([](LossOptions& o) { o.margin = "soft", o.margin_steps = 5; }), HasSubstr("schedule"));
  EXPECT_THAT(message([](LossOptions& o) { o.margin = "soft", o.mean_over_active = true; }),
              HasSubstr("hinge"));
}

}  // namespace
}  // namespace doppel
