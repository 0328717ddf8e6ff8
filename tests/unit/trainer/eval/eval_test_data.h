#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/base/philox.h"
#include "trainer/eval/eval_data.h"
#include "trainer/eval/ranking.h"

namespace doppel {

// Random rows, labels below `labels` and cameras below `cameras` (0: none). With `steps`, values lie on a
// grid of so many steps, so that many rows are the same and scores tie.
inline EvalData RandomEvalData(int64_t rows, int dimension, int labels, int cameras, uint64_t seed,
                               int steps = 0) {
  const Philox philox(seed);
  EvalData data;
  data.dimension = dimension;
  for (int64_t i = 0; i < rows; ++i) {
    for (int d = 0; d < dimension; ++d) {
      const double x = philox.Uniform(static_cast<uint64_t>(d), static_cast<uint64_t>(i));
      data.vectors.push_back(steps > 0 ? static_cast<float>(static_cast<int>(x * steps) + 1)
                                       : static_cast<float>(x - 0.5));
    }
    data.labels.push_back(static_cast<int64_t>(philox.Below(labels, 1, i)));
    if (cameras > 0) data.cameras.push_back(static_cast<int64_t>(philox.Below(cameras, 2, i)));
  }
  return data;
}

// The whole ranking of one query, by sorting: rows of `gallery` for which keep(row), the closest first, of
// equals the lower index. By cosine similarity of normalised rows, or by squared distance.
template <typename Keep>
std::vector<int64_t> SortedRows(const float* query, const EvalData& gallery, Similarity similarity,
                                const Keep& keep) {
  std::vector<std::pair<double, int64_t>> order;
  for (int64_t i = 0; i < gallery.rows(); ++i) {
    if (!keep(i)) continue;
    double dot = 0;
    double norm = 0;
    for (int d = 0; d < gallery.dimension; ++d) {
      const auto x = static_cast<double>(gallery.row(i)[d]);
      dot += static_cast<double>(query[d]) * x;
      norm += x * x;
    }
    order.emplace_back(similarity == Similarity::kEuclidean ? norm / 2 - dot : -dot, i);
  }
  std::sort(order.begin(), order.end());
  std::vector<int64_t> rows;
  rows.reserve(order.size());
  for (const auto& [score, row] : order) rows.push_back(row);
  return rows;
}

}  // namespace doppel
