#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/loss/loss.h"

namespace doppel {

// Which pairs of a batch are positives and which are negatives, from identities and the guard mask alone.
// Rows 0 .. B-1 are anchors; columns are the batch's rows, then those of the memory. Immutable; refers to the
// input, which must outlive it.
class BatchPairs {
 public:
  // Checks embeddings, memory and mask (INVALID_ARGUMENT says which is wrong), and that the identities allow
  // a triplet: an anchor with a positive, and a second identity.
  static absl::StatusOr<BatchPairs> Create(const LossInput& input);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  // Columns of the anchor's identity other than itself, rising, without excluded ones.
  void Positives(int64_t anchor, std::vector<int32_t>* positives) const;
  // Columns that are no negatives of the anchor, rising: its identity (itself included) and excluded ones.
  void Blocked(int64_t anchor, std::vector<int32_t>* blocked) const;
  int64_t identity(int64_t column) const;
  bool Excluded(int64_t anchor, int64_t column) const;

 private:
  BatchPairs() = default;

  int64_t rows_ = 0, columns_ = 0;
  absl::Span<const int64_t> identities_, memory_identities_;
  std::vector<int32_t> group_of_;             // by row
  std::vector<std::vector<int32_t>> groups_;  // columns, rising
  torch::Tensor excluded_;                    // host, contiguous; undefined: none
  const bool* excluded_rows_ = nullptr;
};

}  // namespace doppel
