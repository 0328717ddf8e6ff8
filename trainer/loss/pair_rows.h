#pragma once

#include <torch/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/loss/dense_distances.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"

namespace doppel {

// What an anchor (a row of the batch) may be compared with. Columns 0..B-1 are the batch, those after it the
// memory.
struct AnchorPairs {
  std::vector<int64_t> positives, negatives;
  std::vector<double> d_ap, d_an;
};

// What of a LossInput a loss can use besides embeddings, identities and the guard mask.
struct PairRowsUse {
  bool memory = true;
  // A loss over pairs can be had from a batch without a triplet.
  bool needs_triplets = true;
};

// A batch as rows of distances on the host, for losses over all pairs: they read rows in double precision and
// leave the slope of every distance behind; Finish turns these into a loss with its exact gradient.
// Not thread-safe.
class PairRows {
 public:
  // INVALID_ARGUMENT names `loss` where the input holds something that it cannot use.
  static absl::StatusOr<PairRows> Make(const LossInput& input, Distance distance, absl::string_view loss,
                                       PairRowsUse use = {});

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  void Read(int64_t anchor, AnchorPairs* pairs) const;
  double At(int64_t row, int64_t column) const {
    return single_ != nullptr ? single_[row * columns_ + column] : double_[row * columns_ + column];
  }
  bool SameIdentity(int64_t column, int64_t other) const { return group_[column] == group_[other]; }
  // By the guard mask. Rows of the memory never are.
  bool Excluded(int64_t row, int64_t column) const {
    return excluded_ != nullptr && column < rows_ && excluded_[row * rows_ + column];
  }
  // Of the right identities, and the anchor in the batch.
  bool IsTriplet(int64_t anchor, int64_t positive, int64_t negative) const;

  void AddSlope(int64_t row, int64_t column, double slope);
  void AddSlopes(int64_t row, const std::vector<int64_t>& columns, const std::vector<double>& slopes);

  // Percentiles of d_ap and d_an over all pairs, each once, and of the norms.
  LossStatistics AllPairsStatistics() const;
  Percentiles Norms() const;
  // If the guard mask leaves nothing to learn from: a loss of 0 without gradient.
  LossResult Nothing() { return Finish(0, AllPairsStatistics()); }
  // The statistics get the loss; the rest of them is the caller's.
  LossResult Finish(double loss, const LossStatistics& statistics);

 private:
  PairRows(const LossInput& input, torch::Tensor embeddings, Distance distance);

  torch::Tensor embeddings_;  // with gradient
  DenseDistances distances_;
  torch::Tensor host_;    // [rows, columns]
  torch::Tensor slopes_;  // likewise
  torch::Tensor host_excluded_;
  int64_t rows_ = 0, columns_ = 0;
  std::vector<int32_t> group_;     // by column
  const float* single_ = nullptr;  // one of these two is `host_`
  const double* double_ = nullptr;
  const bool* excluded_ = nullptr;  // [rows, rows]
};

// A term ln(1 + e^(s z)) or [z + m]+ and its slope by z.
struct MarginTerm {
  double value = 0, slope = 0;
};
MarginTerm BendMargin(double z, const Margin& margin);
bool MarginActive(double z, const Margin& margin);

// log(sum e^(sign * values)) and its slopes by `sign * values` (a softmax). -infinity for no values.
double LogSumExp(const std::vector<double>& values, double sign, std::vector<double>* softmax);

// For losses that select nothing (heads): d_ap, d_an and active (d_ap > d_an) of batch hard's triplets; norms
// alone if there is no triplet.
absl::StatusOr<LossStatistics> WatchHardest(const LossInput& input, Distance distance);

}  // namespace doppel
