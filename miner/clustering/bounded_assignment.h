#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "miner/clustering/nearest_centroid_kernel.h"
#include "miner/clustering/packed_centroids.h"
#include "miner/clustering/row_view.h"
#include "miner/representation/matrix.h"

namespace doppel {

struct MovedRow {
  int32_t row;       // of the view
  int32_t from, to;  // from is -1 at first
};

// Which centroid every row has the highest product with, over many runs with centroids that move a little in
// between. See RunLloyd.
class BoundedAssignment {
 public:
  BoundedAssignment(const RowView& rows, const Matrix& centroids, const NearestCentroidKernel& kernel,
                    int threads);

  // Assigns anew; what moved, by chunks of rows, in the order of the rows. Valid until the next call.
  const std::vector<std::vector<MovedRow>>& Run(const Matrix& centroids);

  // Moves the assignment out, with every row's product with its centroid.
  void Take(const Matrix& centroids, std::vector<int32_t>* assignment, std::vector<float>* product);

 private:
  class Chunk;

  // How far each centroid has gone since the last run; returns the furthest.
  double Drift(const Matrix& centroids);
  void Regroup(const Matrix& centroids);
  // First and past the last.
  std::pair<int64_t, int64_t> PanelsOf(int64_t group, int64_t panels) const;

  const RowView rows_;
  const NearestCentroidKernel kernel_;
  const int threads_;
  const int64_t groups_;
  // Products are off by no more than this (rows may be longer than 1 by a thousandth).
  const float slack_;
  bool bounded_ = false;         // there are bounds to go by
  std::vector<float> previous_;  // the centroids of the last run
  std::vector<int32_t> order_;
  std::vector<int32_t> group_;       // [M]
  std::vector<double> drift_;        // [M]: how far each centroid has gone in all
  std::vector<double> group_drift_;  // [groups]: how far any of a group has gone in all, at most
  std::vector<int32_t> assignment_;  // [N]
  std::vector<float> own_;           // [N]: at most the product with the own centroid, plus its drift then
  std::vector<float> others_;        // [N, groups]: at least the products with others, minus the drift then
  std::vector<std::vector<MovedRow>> moved_;
};

}  // namespace doppel
