#include "trainer/loss/triplet_loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "absl/strings/str_cat.h"
#include "trainer/loss/selection/batch_hard.h"
#include "trainer/loss/selection/batch_ohnm.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using Matrix = std::vector<std::vector<double>>;
using Labels = std::vector<int64_t>;

// The formulas, written down without a thought for speed.
double BruteDistance(const std::vector<double>& a, const std::vector<double>& b, Distance distance) {
  double sum = 0, dot = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += (a[i] - b[i]) * (a[i] - b[i]);
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  if (distance == Distance::kCosine) return 1 - dot / std::sqrt(aa * bb);
  return distance == Distance::kEuclidean ? std::sqrt(sum + 1e-12) : sum;
}

struct Brute {
  double loss = 0;
  double active = 0;
  std::vector<double> d_ap, d_an;
};

// k == 0 means batch hard.
Brute BruteForce(const Matrix& x, const Labels& labels, const TripletLossOptions& options, size_t k,
                 size_t skip) {
  Brute result;
  double sum = 0, active = 0;
  auto add = [&](double ap, double an) {
    const double z = ap - an;
    sum += options.margin.soft ? std::log(1 + std::exp(options.margin.scale * z))
                               : std::max(0.0, z + options.margin.margin);
    active += options.margin.soft ? (ap > an) : (ap + options.margin.margin > an);
    result.d_ap.push_back(ap);
    result.d_an.push_back(an);
  };
  for (size_t a = 0; a < x.size(); ++a) {
    std::vector<double> positives, negatives;
    for (size_t j = 0; j < x.size(); ++j) {
      if (j == a) continue;
      (labels[j] == labels[a] ? positives : negatives).push_back(BruteDistance(x[a], x[j], options.distance));
    }
    if (positives.empty()) continue;
    std::sort(negatives.begin(), negatives.end());
    if (k == 0) {
      add(*std::max_element(positives.begin(), positives.end()), negatives[0]);
      continue;
    }
    const size_t take = std::min(k, negatives.size());
    const size_t from = std::min(skip, negatives.size() - take);
    for (double ap : positives) {
      for (size_t r = from; r < from + take; ++r) add(ap, negatives[r]);
    }
  }
  const double n = static_cast<double>(result.d_ap.size());
  result.active = active / n;
  result.loss = sum / (options.mean_over_active ? std::max(active, 1.0) : n);
  return result;
}

double BrutePercentile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double position = q * static_cast<double>(values.size() - 1);
  const size_t low = static_cast<size_t>(position);
  if (low + 1 == values.size()) return values.back();
  return values[low] + (position - static_cast<double>(low)) * (values[low + 1] - values[low]);
}

Matrix RandomMatrix(size_t rows, size_t columns, uint32_t seed, double scale = 1.0) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0.0, scale);
  Matrix x(rows, std::vector<double>(columns));
  for (auto& row : x) {
    for (double& value : row) value = normal(generator);
  }
  return x;
}

torch::Tensor ToTensor(const Matrix& x) {
  torch::Tensor t =
      torch::empty({static_cast<int64_t>(x.size()), static_cast<int64_t>(x[0].size())}, torch::kFloat64);
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < x[i].size(); ++j) t[i][j] = x[i][j];
  }
  return t.requires_grad_(true);
}

Labels PkLabels(int64_t identities, int64_t samples) {
  Labels labels;
  for (int64_t i = 0; i < identities; ++i) labels.insert(labels.end(), samples, 1000 - 7 * i);
  return labels;
}

std::unique_ptr<TripletSelector> Selector(size_t k, size_t skip) {
  if (k == 0) return std::make_unique<BatchHardSelector>();
  return std::make_unique<BatchOhnmSelector>(static_cast<int>(k), static_cast<int>(skip));
}

void ExpectAgrees(const Matrix& x, const Labels& labels, const TripletLossOptions& options, size_t k,
                  size_t skip) {
  SCOPED_TRACE(absl::StrCat(DistanceName(options.distance), options.margin.soft ? " soft " : " hinge ",
                            options.margin.soft ? options.margin.scale : options.margin.margin, " k=", k,
                            " skip=", skip, " rows=", x.size(), " over active=", options.mean_over_active));
  const Brute expected = BruteForce(x, labels, options, k, skip);
  torch::Tensor embeddings = ToTensor(x);
  const auto result = TripletLoss(embeddings, labels, *Selector(k, skip), options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_NEAR(result->loss.item<double>(), expected.loss, 1e-9);
  EXPECT_NEAR(result->statistics.loss, expected.loss, 1e-9);
  EXPECT_DOUBLE_EQ(result->statistics.active, expected.active);
  EXPECT_EQ(result->statistics.triplets, static_cast<int64_t>(expected.d_ap.size()));
  EXPECT_NEAR(result->statistics.d_ap.p5, BrutePercentile(expected.d_ap, 0.05), 1e-5);
  EXPECT_NEAR(result->statistics.d_ap.p50, BrutePercentile(expected.d_ap, 0.5), 1e-5);
  EXPECT_NEAR(result->statistics.d_an.p0, BrutePercentile(expected.d_an, 0), 1e-5);
  EXPECT_NEAR(result->statistics.d_an.p95, BrutePercentile(expected.d_an, 0.95), 1e-5);

  result->loss.backward();
  const double step = 1e-6;
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < x[i].size(); ++j) {
      Matrix up = x, down = x;
      up[i][j] += step;
      down[i][j] -= step;
      const double slope =
          (BruteForce(up, labels, options, k, skip).loss - BruteForce(down, labels, options, k, skip).loss) /
          (2 * step);
      ASSERT_NEAR(embeddings.grad()[i][j].item<double>(), slope, 1e-6) << "row " << i << " column " << j;
    }
  }
}

struct Shape {
  int64_t identities, samples;
};

void ExpectAgreesForAllMargins(size_t k, size_t skip) {
  uint32_t seed = 1;
  for (Shape shape : {Shape{2, 2}, Shape{4, 3}}) {
    const Labels labels = PkLabels(shape.identities, shape.samples);
    for (Distance distance : {Distance::kEuclidean, Distance::kSquaredEuclidean, Distance::kCosine}) {
      for (Margin margin :
           {Margin{false, 0.0, 1}, Margin{false, 0.3, 1}, Margin{true, 0, 1}, Margin{true, 0, 5}}) {
        TripletLossOptions options;
        options.distance = distance;
        options.margin = margin;
        ExpectAgrees(RandomMatrix(labels.size(), 4, ++seed, 0.6), labels, options, k, skip);
        if (margin.soft) continue;
        options.mean_over_active = true;
        // Rows apart by more than the perturbation: the count of active triplets must not change under it.
        ExpectAgrees(RandomMatrix(labels.size(), 4, ++seed, 0.6), labels, options, k, skip);
      }
    }
  }
}

TEST(TripletLossTest, BatchHardAgreesWithTheFormula) { ExpectAgreesForAllMargins(0, 0); }
TEST(TripletLossTest, BatchOhnmWithOneNegativeAgreesWithTheFormula) { ExpectAgreesForAllMargins(1, 0); }
TEST(TripletLossTest, BatchOhnmWithThreeNegativesAgreesWithTheFormula) { ExpectAgreesForAllMargins(3, 0); }
TEST(TripletLossTest, BatchOhnmWithABandAgreesWithTheFormula) { ExpectAgreesForAllMargins(2, 2); }
TEST(TripletLossTest, BatchOhnmWithMoreThanThereAreAgreesWithTheFormula) { ExpectAgreesForAllMargins(50, 3); }

TEST(TripletLossTest, UnevenIdentitiesAgreeWithTheFormula) {
  // One identity has a single sample: it serves as negative, never as anchor.
  const Labels labels = {5, 5, 9, 5, 2, 2, 9, 9, 9, 4};
  for (Distance distance : {Distance::kEuclidean, Distance::kSquaredEuclidean, Distance::kCosine}) {
    TripletLossOptions options;
    options.distance = distance;
    options.margin.soft = true;
    ExpectAgrees(RandomMatrix(labels.size(), 3, 77), labels, options, 0, 0);
    ExpectAgrees(RandomMatrix(labels.size(), 3, 78), labels, options, 4, 4);
  }
}

TEST(TripletLossTest, OrderOfRowsDoesNotMatter) {
  const Matrix x = RandomMatrix(12, 4, 5);
  const Labels labels = PkLabels(4, 3);
  Matrix reversed(x.rbegin(), x.rend());
  const Labels reversed_labels(labels.rbegin(), labels.rend());
  const BatchOhnmSelector selector(3, 1);
  const auto a = TripletLoss(ToTensor(x), labels, selector, {});
  const auto b = TripletLoss(ToTensor(reversed), reversed_labels, selector, {});
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_NEAR(a->statistics.loss, b->statistics.loss, 1e-12);
}

TEST(TripletLossTest, GradientReachesTheSelectedRowsAlone) {
  // Rows 4 and 5 are far from everything, near one another: no anchor but themselves selects them.
  const Matrix x = {{0, 0}, {1, 0}, {0, 2}, {0, 3}, {100, 100}, {100, 101}};
  torch::Tensor embeddings = ToTensor(x);
  TripletLossOptions options;
  options.margin.margin = 0.5;
  auto result = TripletLoss(embeddings, PkLabels(3, 2), BatchHardSelector(), options);
  ASSERT_TRUE(result.ok());
  result->loss.backward();
  // z + margin < 0 for both anchors: no gradient at all.
  EXPECT_EQ(embeddings.grad()[4].abs().sum().item<double>(), 0);
  EXPECT_EQ(embeddings.grad()[5].abs().sum().item<double>(), 0);
}

TEST(TripletLossTest, SelectedTripletsBelongTogether) {
  const Labels labels = PkLabels(5, 3);
  const torch::Tensor embeddings = ToTensor(RandomMatrix(15, 4, 3));
  const auto selected = SelectTriplets({embeddings, labels}, BatchOhnmSelector(4, 2), {});
  ASSERT_TRUE(selected.ok()) << selected.status();
  const TripletSelection& s = *selected;
  ASSERT_EQ(s.ap.size(), 15U * 2 * 4);
  EXPECT_EQ(s.ap_anchor.size(), 15U * 2);
  EXPECT_EQ(s.an_anchor.size(), 15U * 4);
  for (size_t t = 0; t < s.ap.size(); ++t) {
    const int64_t anchor = s.ap_anchor[s.ap[t]];
    EXPECT_EQ(anchor, s.an_anchor[s.an[t]]);
    EXPECT_NE(anchor, s.ap_positive[s.ap[t]]);
    EXPECT_EQ(labels[anchor], labels[s.ap_positive[s.ap[t]]]);
    EXPECT_NE(labels[anchor], labels[s.an_negative[s.an[t]]]);
  }
}

TEST(TripletLossTest, IdenticalImagesGiveFiniteGradients) {
  for (Distance distance : {Distance::kEuclidean, Distance::kSquaredEuclidean, Distance::kCosine}) {
    torch::Tensor embeddings = torch::ones({8, 16}, torch::kFloat32).requires_grad_(true);
    TripletLossOptions options;
    options.distance = distance;
    auto result = TripletLoss(embeddings, PkLabels(2, 4), BatchOhnmSelector(3, 0), options);
    ASSERT_TRUE(result.ok());
    EXPECT_NEAR(result->statistics.loss, options.margin.margin, 1e-5);
    EXPECT_EQ(result->statistics.active, 1);
    result->loss.backward();
    EXPECT_TRUE(embeddings.grad().isfinite().all().item<bool>()) << DistanceName(distance);
  }
}

TEST(TripletLossTest, ZeroEmbeddingsGiveFiniteGradients) {
  for (Distance distance : {Distance::kEuclidean, Distance::kSquaredEuclidean, Distance::kCosine}) {
    torch::Tensor embeddings = torch::zeros({4, 8}, torch::kFloat32).requires_grad_(true);
    TripletLossOptions options;
    options.distance = distance;
    auto result = TripletLoss(embeddings, PkLabels(2, 2), BatchHardSelector(), options);
    ASSERT_TRUE(result.ok());
    result->loss.backward();
    EXPECT_TRUE(embeddings.grad().isfinite().all().item<bool>()) << DistanceName(distance);
  }
}

TEST(TripletLossTest, SoftMarginCollapsesToLn2AndNothingIsActive) {
  TripletLossOptions options;
  options.margin.soft = true;
  options.margin.scale = 5;
  auto result = TripletLoss(torch::ones({4, 8}), PkLabels(2, 2), BatchHardSelector(), options);
  ASSERT_TRUE(result.ok());
  EXPECT_NEAR(result->statistics.loss, std::log(2.0), 1e-6);
  EXPECT_EQ(result->statistics.active, 0);
  EXPECT_NEAR(CollapsedLoss(options.margin), std::log(2.0), 1e-12);
}

TEST(TripletLossTest, NormsAreThoseOfTheEmbeddings) {
  const Matrix x = {{3, 4}, {0, 1}, {0, 2}, {6, 8}};
  auto result = TripletLoss(ToTensor(x), PkLabels(2, 2), BatchHardSelector(), {});
  ASSERT_TRUE(result.ok());
  EXPECT_NEAR(result->statistics.norm.p0, 1, 1e-6);
  EXPECT_NEAR(result->statistics.norm.p50, 3.5, 1e-6);
  EXPECT_NEAR(result->statistics.norm.p100, 10, 1e-6);
}

TEST(TripletLossTest, WithoutPositivesIsAnErrorThatSaysSo) {
  auto result = TripletLoss(ToTensor(RandomMatrix(4, 2, 1)), PkLabels(4, 1), BatchHardSelector(), {});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(result.status().ToString(), HasSubstr("K = 2"));
}

TEST(TripletLossTest, WithOneIdentityIsAnErrorThatSaysSo) {
  auto result = TripletLoss(ToTensor(RandomMatrix(4, 2, 1)), PkLabels(1, 4), BatchOhnmSelector(2, 0), {});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(result.status().ToString(), HasSubstr("P = 2"));
}

TEST(TripletLossTest, NanAndInfinityAreErrorsThatCountRows) {
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Matrix x = RandomMatrix(4, 2, 1);
    x[1][0] = bad;
    x[3][1] = bad;
    auto result = TripletLoss(ToTensor(x), PkLabels(2, 2), BatchHardSelector(), {});
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(result.status().ToString(), HasSubstr("2 of 4 embeddings"));
  }
}

TEST(TripletLossTest, LabelsMustMatchRows) {
  auto result = TripletLoss(ToTensor(RandomMatrix(4, 2, 1)), PkLabels(2, 3), BatchHardSelector(), {});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(result.status().ToString(), HasSubstr("4 embeddings"));
  EXPECT_FALSE(TripletLoss(torch::ones({4}), PkLabels(2, 2), BatchHardSelector(), {}).ok());
  EXPECT_FALSE(TripletLoss(torch::ones({0, 4}), {}, BatchHardSelector(), {}).ok());
}

TEST(DistanceTest, MatrixAgreesWithPairs) {
  const Matrix x = RandomMatrix(9, 6, 4);
  for (Distance distance : {Distance::kEuclidean, Distance::kSquaredEuclidean, Distance::kCosine}) {
    const torch::Tensor matrix = PairwiseDistances(ToTensor(x).detach(), distance);
    for (int64_t i = 0; i < 9; ++i) {
      const torch::Tensor first = torch::full({9}, i, torch::kInt64);
      const torch::Tensor row = PairDistances(ToTensor(x).detach(), first, torch::arange(9), distance);
      EXPECT_TRUE(torch::allclose(matrix[i], row, 1e-9, 1e-5)) << DistanceName(distance) << " row " << i;
    }
  }
}

TEST(MarginTest, IsParsedOrRefused) {
  EXPECT_TRUE(ParseMargin("soft", 5)->soft);
  EXPECT_EQ(ParseMargin("soft", 5)->scale, 5);
  EXPECT_EQ(ParseMargin("0.25", 1)->margin, 0.25);
  for (const char* bad : {"-1", "nan", "hard", "", "inf"}) EXPECT_FALSE(ParseMargin(bad, 1).ok()) << bad;
  EXPECT_FALSE(ParseMargin("soft", 0).ok());
}

}  // namespace
}  // namespace doppel
