#include "trainer/eval/eval_data.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace doppel {

absl::Status CheckEvalData(const EvalData& data, const std::string& what) {
  if (data.dimension < 1 || data.vectors.size() % data.dimension != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": ", data.vectors.size(), " values are no rows of dimension ", data.dimension));
  }
  const auto rows = static_cast<size_t>(data.rows());
  if (data.labels.size() != rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": ", rows, " embeddings, but ", data.labels.size(), " labels"));
  }
  if (!data.cameras.empty() && data.cameras.size() != rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": ", rows, " embeddings, but ", data.cameras.size(), " cameras"));
  }
  const auto bad = std::find_if_not(data.vectors.begin(), data.vectors.end(),
                                    [](float value) { return std::isfinite(value); });
  if (bad != data.vectors.end()) {
    const int64_t at = bad - data.vectors.begin();
    return absl::InvalidArgumentError(absl::StrCat(what, ": row ", at / data.dimension, ", column ",
                                                   at % data.dimension, " is ", *bad,
                                                   ": embeddings must be finite numbers"));
  }
  return absl::OkStatus();
}

absl::Status NormalizeRows(EvalData* data, const std::string& what) {
  for (int64_t i = 0; i < data->rows(); ++i) {
    float* row = &data->vectors[i * data->dimension];
    double sum = 0;
    for (int d = 0; d < data->dimension; ++d)
      sum += static_cast<double>(row[d]) * static_cast<double>(row[d]);
    if (sum <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": row ", i, " is all zeros and has no direction: take it out, or rank by ",
                       "Euclidean distance"));
    }
    const double norm = std::sqrt(sum);
    for (int d = 0; d < data->dimension; ++d) row[d] = static_cast<float>(row[d] / norm);
  }
  return absl::OkStatus();
}

LabelGroups::LabelGroups(absl::Span<const int64_t> labels) : rows_(labels.size()) {
  std::iota(rows_.begin(), rows_.end(), 0);
  std::stable_sort(rows_.begin(), rows_.end(), [&](int64_t a, int64_t b) { return labels[a] < labels[b]; });
  for (size_t i = 0; i < rows_.size(); ++i) {
    const int64_t label = labels[rows_[i]];
    if (!labels_.empty() && labels_.back() == label) continue;
    labels_.push_back(label);
    begin_.push_back(static_cast<int64_t>(i));
  }
  begin_.push_back(static_cast<int64_t>(rows_.size()));
  for (size_t i = 0; i < labels_.size(); ++i) largest_ = std::max(largest_, begin_[i + 1] - begin_[i]);
}

absl::Span<const int64_t> LabelGroups::Rows(int64_t label) const {
  const auto at = std::lower_bound(labels_.begin(), labels_.end(), label);
  if (at == labels_.end() || *at != label) return {};
  const auto i = at - labels_.begin();
  return absl::MakeConstSpan(rows_).subspan(begin_[i], begin_[i + 1] - begin_[i]);
}

}  // namespace doppel
