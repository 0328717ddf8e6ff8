#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/index/exact_scores.h"

namespace doppel {

// Embeddings with what the protocols need to know of them, row by row.
struct EvalData {
  int dimension = 0;
  std::vector<float> vectors;    // [rows, dimension]
  std::vector<int64_t> labels;   // [rows]
  std::vector<int64_t> cameras;  // [rows], or empty
  int64_t rows() const { return dimension == 0 ? 0 : static_cast<int64_t>(vectors.size()) / dimension; }
  const float* row(int64_t i) const { return &vectors[i * dimension]; }
};

// How rankings are made. All protocols: the closer row first, of equally close ones the row with the lower
// index. Scores are exact (see ExactScore), so ties are ties of the embeddings themselves.
struct RankingOptions {
  Similarity similarity = Similarity::kInnerProduct;
  int threads = 1;
};

// INVALID_ARGUMENT that begins with `what` if labels, cameras and vectors differ in length, or a value is not
// finite (names row and column).
absl::Status CheckEvalData(const EvalData& data, const std::string& what);

// L2-normalises every row, in double, rounded to float. INVALID_ARGUMENT: a row of zeros.
absl::Status NormalizeRows(EvalData* data, const std::string& what);

// The rows of every label, ascending.
class LabelGroups {
 public:
  explicit LabelGroups(absl::Span<const int64_t> labels);
  // Empty if there is no such label.
  absl::Span<const int64_t> Rows(int64_t label) const;
  int64_t largest() const { return largest_; }
  int64_t labels() const { return static_cast<int64_t>(labels_.size()); }

 private:
  std::vector<int64_t> labels_;  // ascending
  std::vector<int64_t> begin_;   // [labels + 1]
  std::vector<int64_t> rows_;
  int64_t largest_ = 0;
};

}  // namespace doppel
