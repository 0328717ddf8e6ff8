#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "trainer/loss/distance.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"

namespace doppel {

// A batch as plain numbers, for formulas that are written down without a thought for speed.
struct FormulaBatch {
  std::vector<std::vector<double>> x;       // rows of the batch, then those of the memory
  std::vector<int64_t> identities;          // of both
  size_t rows = 0;                          // of the batch
  std::vector<std::vector<bool>> excluded;  // [rows][rows], or empty
  Distance distance = Distance::kEuclidean;
  std::vector<double> distances;

  size_t columns() const { return x.size(); }
  bool Excluded(size_t i, size_t j) const {
    return !excluded.empty() && i < rows && j < rows && excluded[i][j];
  }
  bool Positive(size_t i, size_t j) const {
    return i != j && identities[i] == identities[j] && !Excluded(i, j);
  }
  bool Negative(size_t i, size_t j) const { return identities[i] != identities[j] && !Excluded(i, j); }
  // Of rows i < rows. Compute them anew after a change of x.
  void ComputeDistances() {
    distances.resize(rows * columns());
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < columns(); ++j) distances[i * columns() + j] = DistanceOf(i, j);
    }
  }
  double D(size_t i, size_t j) const { return distances[i * columns() + j]; }
  double DistanceOf(size_t i, size_t j) const {
    double sum = 0, dot = 0, ii = 0, jj = 0;
    for (size_t k = 0; k < x[i].size(); ++k) {
      sum += (x[i][k] - x[j][k]) * (x[i][k] - x[j][k]);
      dot += x[i][k] * x[j][k];
      ii += x[i][k] * x[i][k];
      jj += x[j][k] * x[j][k];
    }
    if (distance == Distance::kCosine) return 1 - dot / std::sqrt(ii * jj);
    return distance == Distance::kEuclidean ? std::sqrt(sum + 1e-12) : sum;
  }
};

inline double FormulaBend(double z, const Margin& margin) {
  return margin.soft ? std::log(1 + std::exp(margin.scale * z)) : std::max(0.0, z + margin.margin);
}

// `per_identity[i]` samples of identity i, in mixed order; memory rows likewise.
inline FormulaBatch MakeFormulaBatch(const std::vector<int>& per_identity, size_t dimension, uint32_t seed,
                                     const std::vector<int>& memory = {}, double scale = 0.5) {
  FormulaBatch batch;
  std::mt19937 generator(seed);
  const auto append = [&](const std::vector<int>& counts) {
    std::vector<int64_t> labels;
    for (size_t i = 0; i < counts.size(); ++i) {
      labels.insert(labels.end(), static_cast<size_t>(counts[i]), 900 - 7 * static_cast<int64_t>(i));
    }
    std::shuffle(labels.begin(), labels.end(), generator);
    batch.identities.insert(batch.identities.end(), labels.begin(), labels.end());
  };
  append(per_identity);
  batch.rows = batch.identities.size();
  append(memory);
  std::normal_distribution<double> normal(0.0, scale);
  for (size_t i = 0; i < batch.identities.size(); ++i) {
    std::vector<double> row(dimension);
    for (double& value : row) value = normal(generator);
    batch.x.push_back(row);
  }
  return batch;
}

inline torch::Tensor FormulaTensor(const std::vector<std::vector<double>>& x, size_t begin, size_t end,
                                   torch::ScalarType type = torch::kFloat64) {
  const int64_t width = static_cast<int64_t>(x[0].size());
  torch::Tensor t = torch::empty({static_cast<int64_t>(end - begin), width}, torch::kFloat64);
  auto out = t.accessor<double, 2>();
  for (size_t i = begin; i < end; ++i) {
    for (int64_t j = 0; j < width; ++j) out[static_cast<int64_t>(i - begin)][j] = x[i][j];
  }
  return t.to(type);
}

// Computes a loss on the batch. `embeddings` gets the leaf that holds the gradient.
inline absl::StatusOr<LossResult> ComputeOn(Loss& loss, const FormulaBatch& batch, torch::Tensor* embeddings,
                                            torch::ScalarType type = torch::kFloat64) {
  *embeddings = FormulaTensor(batch.x, 0, batch.rows, type).requires_grad_(true);
  LossInput input(*embeddings, absl::MakeConstSpan(batch.identities).subspan(0, batch.rows));
  if (batch.columns() > batch.rows) {
    input.memory = FormulaTensor(batch.x, batch.rows, batch.columns(), type);
    input.memory_identities = absl::MakeConstSpan(batch.identities).subspan(batch.rows);
  }
  if (!batch.excluded.empty()) {
    const int64_t n = static_cast<int64_t>(batch.rows);
    input.excluded = torch::zeros({n, n}, torch::kBool);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) input.excluded[i][j] = static_cast<bool>(batch.excluded[i][j]);
    }
  }
  return loss.Compute(input);
}

// Value against the formula, gradient against its differences.
inline void ExpectFollowsFormula(Loss& loss, FormulaBatch batch,
                                 const std::function<double(const FormulaBatch&)>& formula) {
  batch.ComputeDistances();
  torch::Tensor embeddings;
  const auto result = ComputeOn(loss, batch, &embeddings);
  ASSERT_TRUE(result.ok()) << result.status();
  const double expected = formula(batch);
  EXPECT_NEAR(result->loss.item<double>(), expected, 1e-9 * std::max(1.0, std::abs(expected)));
  EXPECT_NEAR(result->statistics.loss, expected, 1e-9 * std::max(1.0, std::abs(expected)));
  EXPECT_GE(result->statistics.active, 0);
  EXPECT_LE(result->statistics.active, 1);
  result->loss.backward();
  const torch::Tensor gradient = embeddings.grad();
  const auto ours = gradient.accessor<double, 2>();
  const double step = 1e-6;
  const auto value_at = [&](double* place, double value) {
    *place = value;
    batch.ComputeDistances();
    return formula(batch);
  };
  for (size_t i = 0; i < batch.rows; ++i) {
    for (size_t j = 0; j < batch.x[i].size(); ++j) {
      double* const place = &batch.x[i][j];
      const double here = *place;
      const double slope = (value_at(place, here + step) - value_at(place, here - step)) / (2 * step);
      *place = here;
      ASSERT_NEAR(ours[static_cast<int64_t>(i)][static_cast<int64_t>(j)], slope,
                  2e-6 * std::max(1.0, std::abs(slope)))
          << "row " << i << " column " << j;
    }
  }
}

// Every second pair of rows whose sum is a multiple of three is set apart.
inline void SetSomeApart(FormulaBatch* batch) {
  batch->excluded.assign(batch->rows, std::vector<bool>(batch->rows, false));
  for (size_t i = 0; i < batch->rows; ++i) {
    for (size_t j = 0; j < batch->rows; ++j) batch->excluded[i][j] = i != j && (i + j) % 3 == 0;
  }
}

}  // namespace doppel
