#include "trainer/loss/selection/batch_pairs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/batch_check.h"

namespace doppel {

absl::StatusOr<BatchPairs> BatchPairs::Create(const LossInput& input) {
  RETURN_IF_ERROR(CheckInput(input));
  BatchPairs pairs;
  pairs.rows_ = static_cast<int64_t>(input.identities.size());
  pairs.columns_ = pairs.rows_ + static_cast<int64_t>(input.memory_identities.size());
  pairs.identities_ = input.identities;
  pairs.memory_identities_ = input.memory_identities;
  absl::flat_hash_map<int64_t, int32_t> group_of;
  for (int64_t column = 0; column < pairs.columns_; ++column) {
    const auto [it, is_new] =
        group_of.try_emplace(pairs.identity(column), static_cast<int32_t>(pairs.groups_.size()));
    if (is_new) pairs.groups_.emplace_back();
    pairs.groups_[it->second].push_back(static_cast<int32_t>(column));
    if (column < pairs.rows_) pairs.group_of_.push_back(it->second);
  }
  if (input.excluded.defined()) {
    pairs.excluded_ = input.excluded.detach().to(torch::kCPU).contiguous();
    pairs.excluded_rows_ = pairs.excluded_.data_ptr<bool>();
  }
  return pairs;
}

int64_t BatchPairs::identity(int64_t column) const {
  return column < rows_ ? identities_[column] : memory_identities_[column - rows_];
}

bool BatchPairs::Excluded(int64_t anchor, int64_t column) const {
  return excluded_rows_ != nullptr && column < rows_ && excluded_rows_[anchor * rows_ + column];
}

void BatchPairs::Positives(int64_t anchor, std::vector<int32_t>* positives) const {
  positives->clear();
  for (const int32_t column : groups_[group_of_[anchor]]) {
    if (column != anchor && !Excluded(anchor, column)) positives->push_back(column);
  }
}

void BatchPairs::Blocked(int64_t anchor, std::vector<int32_t>* blocked) const {
  *blocked = groups_[group_of_[anchor]];
  if (excluded_rows_ == nullptr) return;
  const bool* const row = excluded_rows_ + anchor * rows_;
  const size_t own = blocked->size();
  for (const bool* at = row; at < row + rows_; ++at) {
    at = static_cast<const bool*>(std::memchr(at, 1, row + rows_ - at));
    if (at == nullptr) break;
    blocked->push_back(static_cast<int32_t>(at - row));
  }
  std::inplace_merge(blocked->begin(), blocked->begin() + own, blocked->end());
  blocked->erase(std::unique(blocked->begin(), blocked->end()), blocked->end());
}

}  // namespace doppel
