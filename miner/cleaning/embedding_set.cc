#include "miner/cleaning/embedding_set.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

absl::Status CheckRows(const Matrix& rows, absl::Span<const int64_t> labels) {
  if (rows.rows < 1 || rows.dimension < 1) return absl::InvalidArgumentError("embeddings: there are none");
  if (static_cast<size_t>(rows.rows) != labels.size()) {
    return absl::InvalidArgumentError(absl::StrCat("embeddings: ", rows.rows, " rows, but ", labels.size(),
                                                   " labels: they must come from the same run"));
  }
  for (int64_t i = 0; i < rows.rows; ++i) {
    if (labels[i] < 0 || labels[i] >= int64_t{UINT32_MAX}) {
      return absl::InvalidArgumentError(
          absl::StrCat("labels: row ", i, " has ", labels[i], ", which is no identity's number"));
    }
    double squares = 0;
    for (int d = 0; d < rows.dimension; ++d) squares += double{rows.row(i)[d]} * rows.row(i)[d];
    if (!std::isfinite(squares) || squares <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("embeddings: row ", i, " is zero or holds what is no number"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EmbeddingSet> MakeEmbeddingSet(Matrix rows, absl::Span<const int64_t> labels) {
  const absl::Status status = CheckRows(rows, labels);
  if (!status.ok()) return status;
  NormalizeRows(rows);
  EmbeddingSet set;
  const int64_t largest = *std::max_element(labels.begin(), labels.end());
  set.first.assign(static_cast<size_t>(largest) + 2, 0);
  for (const int64_t label : labels) ++set.first[label + 1];
  for (size_t i = 1; i < set.first.size(); ++i) set.first[i] += set.first[i - 1];
  std::vector<uint64_t> next(set.first.begin(), set.first.end() - 1);
  set.source.resize(labels.size());
  for (size_t i = 0; i < labels.size(); ++i) set.source[next[labels[i]]++] = i;
  if (std::is_sorted(labels.begin(), labels.end())) {
    set.rows = std::move(rows);
    return set;
  }
  set.rows = {rows.rows, rows.dimension, std::vector<float>(rows.values.size())};
  for (size_t i = 0; i < labels.size(); ++i) {
    const float* from = rows.row(static_cast<int64_t>(set.source[i]));
    std::copy_n(from, rows.dimension, set.rows.row(static_cast<int64_t>(i)));
  }
  return set;
}

Matrix IdentityCentres(const EmbeddingSet& set) {
  const int dimension = set.rows.dimension;
  const auto identities = static_cast<int64_t>(set.identities());
  Matrix centres{identities, dimension, std::vector<float>(identities * dimension)};
  for (int64_t i = 0; i < identities; ++i) {
    float* centre = centres.row(i);
    for (uint64_t r = set.first[i]; r < set.first[i + 1]; ++r) {
      for (int d = 0; d < dimension; ++d) centre[d] += set.row(r)[d];
    }
  }
  NormalizeRows(centres);
  return centres;
}

float Cosine(const float* a, const float* b, int dimension) {
  // Eight sums, so that the compiler may use vectors.
  float sums[8] = {};
  int d = 0;
  for (; d + 8 <= dimension; d += 8) {
    for (int j = 0; j < 8; ++j) sums[j] += a[d + j] * b[d + j];
  }
  for (; d < dimension; ++d) sums[0] += a[d] * b[d];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace doppel
