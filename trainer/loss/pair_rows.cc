#include "trainer/loss/pair_rows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/batch_check.h"

namespace doppel {
namespace {

absl::Status CheckExcluded(const torch::Tensor& excluded, int64_t rows) {
  if (!excluded.defined()) return absl::OkStatus();
  if (excluded.dim() == 2 && excluded.size(0) == rows && excluded.size(1) == rows &&
      excluded.scalar_type() == torch::kBool) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the guard mask must be bool [", rows, ", ", rows, "], one row per embedding"));
}

absl::Status CheckMemory(const LossInput& input) {
  if (!input.memory.defined()) return absl::OkStatus();
  const torch::Tensor& memory = input.memory;
  if (memory.dim() != 2 || memory.size(1) != input.embeddings.size(1) ||
      memory.size(0) != static_cast<int64_t>(input.memory_identities.size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the cross-batch memory must be a matrix [R, ", input.embeddings.size(1),
        "] with R = ", input.memory_identities.size(), " identities, but has ",
        memory.dim() == 2 ? memory.size(0) : 0, " rows of ", memory.dim() == 2 ? memory.size(1) : 0));
  }
  if (!memory.isfinite().all().item<bool>()) {
    return absl::InvalidArgumentError("the cross-batch memory holds values that are NaN or infinite");
  }
  return absl::OkStatus();
}

Percentiles RowNorms(const torch::Tensor& embeddings) {
  at::NoGradGuard no_grad;
  const torch::Tensor norms =
      embeddings.detach().square().sum(1).sqrt().to(torch::kCPU, torch::kFloat32).contiguous();
  return ComputePercentiles({norms.data_ptr<float>(), norms.data_ptr<float>() + norms.numel()});
}

}  // namespace

absl::StatusOr<PairRows> PairRows::Make(const LossInput& input, Distance distance, absl::string_view loss,
                                        PairRowsUse use) {
  RETURN_IF_ERROR(CheckEmbeddings(input.embeddings, input.identities));
  RETURN_IF_ERROR(CheckExcluded(input.excluded, input.embeddings.size(0)));
  const bool has_memory = input.memory.defined() && input.memory.size(0) > 0;
  if (has_memory && !use.memory) {
    return absl::InvalidArgumentError(
        absl::StrCat(loss, " cannot use a cross-batch memory: set memory to 0 or choose another loss"));
  }
  RETURN_IF_ERROR(CheckMemory(input));
  if (use.needs_triplets) RETURN_IF_ERROR(CheckInput(input));
  torch::Tensor embeddings = input.embeddings;
  const auto type = embeddings.scalar_type();
  if (type != torch::kFloat32 && type != torch::kFloat64) embeddings = embeddings.to(torch::kFloat32);
  return PairRows(input, std::move(embeddings), distance);
}

PairRows::PairRows(const LossInput& input, torch::Tensor embeddings, Distance distance)
    : embeddings_(std::move(embeddings)),
      distances_(embeddings_,
                 input.memory.defined() ? input.memory.to(embeddings_.options()) : torch::Tensor(),
                 distance) {
  host_ = distances_.values().to(torch::kCPU).contiguous();
  slopes_ = at::zeros_like(host_);
  rows_ = host_.size(0);
  columns_ = host_.size(1);
  if (host_.scalar_type() == torch::kFloat64) {
    double_ = host_.data_ptr<double>();
  } else {
    single_ = host_.data_ptr<float>();
  }
  if (input.excluded.defined()) {
    host_excluded_ = input.excluded.to(torch::kCPU).contiguous();
    excluded_ = host_excluded_.data_ptr<bool>();
  }
  absl::flat_hash_map<int64_t, int32_t> groups;
  group_.reserve(static_cast<size_t>(columns_));
  for (int64_t c = 0; c < columns_; ++c) {
    const int64_t identity = c < rows_ ? input.identities[c] : input.memory_identities[c - rows_];
    group_.push_back(groups.try_emplace(identity, static_cast<int32_t>(groups.size())).first->second);
  }
}

void PairRows::Read(int64_t anchor, AnchorPairs* pairs) const {
  pairs->positives.clear();
  pairs->negatives.clear();
  pairs->d_ap.clear();
  pairs->d_an.clear();
  const size_t width = static_cast<size_t>(columns_);
  pairs->negatives.reserve(width);
  pairs->d_an.reserve(width);
  const int32_t group = group_[anchor];
  for (int64_t c = 0; c < columns_; ++c) {
    if (Excluded(anchor, c)) continue;
    if (group_[c] != group) {
      pairs->negatives.push_back(c);
      pairs->d_an.push_back(At(anchor, c));
    } else if (c != anchor) {
      pairs->positives.push_back(c);
      pairs->d_ap.push_back(At(anchor, c));
    }
  }
}

bool PairRows::IsTriplet(int64_t anchor, int64_t positive, int64_t negative) const {
  const auto is_column = [this](int64_t column) { return column >= 0 && column < columns_; };
  return is_column(anchor) && anchor < rows_ && is_column(positive) && is_column(negative) &&
         anchor != positive && SameIdentity(anchor, positive) && !SameIdentity(anchor, negative);
}

void PairRows::AddSlope(int64_t row, int64_t column, double slope) {
  const int64_t at = row * columns_ + column;
  if (single_ != nullptr) {
    slopes_.data_ptr<float>()[at] += static_cast<float>(slope);
  } else {
    slopes_.data_ptr<double>()[at] += slope;
  }
}

void PairRows::AddSlopes(int64_t row, const std::vector<int64_t>& columns,
                         const std::vector<double>& slopes) {
  if (single_ != nullptr) {
    float* out = slopes_.data_ptr<float>() + row * columns_;
    for (size_t i = 0; i < columns.size(); ++i) out[columns[i]] += static_cast<float>(slopes[i]);
  } else {
    double* out = slopes_.data_ptr<double>() + row * columns_;
    for (size_t i = 0; i < columns.size(); ++i) out[columns[i]] += slopes[i];
  }
}

LossStatistics PairRows::AllPairsStatistics() const {
  std::vector<float> d_ap, d_an;
  d_an.reserve(static_cast<size_t>(rows_ * (columns_ - rows_) + rows_ * (rows_ - 1) / 2));
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t c = row + 1; c < columns_; ++c) {
      if (Excluded(row, c)) continue;
      (SameIdentity(row, c) ? d_ap : d_an).push_back(static_cast<float>(At(row, c)));
    }
  }
  LossStatistics statistics;
  statistics.d_ap = ComputePercentiles(std::move(d_ap));
  statistics.d_an = ComputePercentiles(std::move(d_an));
  statistics.norm = Norms();
  return statistics;
}

Percentiles PairRows::Norms() const { return RowNorms(embeddings_); }

LossResult PairRows::Finish(double loss, const LossStatistics& statistics) {
  const torch::Tensor value = at::scalar_tensor(loss, embeddings_.options().requires_grad(false));
  LossResult result;
  result.statistics = statistics;
  result.statistics.loss = loss;
  if (!embeddings_.requires_grad()) {
    result.loss = value;
    return result;
  }
  const torch::Tensor gradient = distances_.Gradient(slopes_.to(embeddings_.device()));
  result.loss = WithGradient(embeddings_, value, gradient);
  return result;
}

MarginTerm BendMargin(double z, const Margin& margin) {
  if (!margin.soft) {
    const double bent = z + margin.margin;
    return bent > 0 ? MarginTerm{bent, 1} : MarginTerm{};
  }
  const double scaled = z * margin.scale;
  const double tail = std::exp(-std::abs(scaled));
  const double sigmoid = scaled >= 0 ? 1 / (1 + tail) : tail / (1 + tail);
  return {std::max(scaled, 0.0) + std::log1p(tail), margin.scale * sigmoid};
}

bool MarginActive(double z, const Margin& margin) { return margin.soft ? z > 0 : z + margin.margin > 0; }

double LogSumExp(const std::vector<double>& values, double sign, std::vector<double>* softmax) {
  softmax->resize(values.size());
  if (values.empty()) return -std::numeric_limits<double>::infinity();
  double highest = sign * values[0];
  for (const double value : values) highest = std::max(highest, sign * value);
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    (*softmax)[i] = std::exp(sign * values[i] - highest);
    sum += (*softmax)[i];
  }
  for (double& share : *softmax) share /= sum;
  return highest + std::log(sum);
}

absl::StatusOr<LossStatistics> WatchHardest(const LossInput& input, Distance distance) {
  LossInput plain(input.embeddings.detach(), input.identities);
  plain.excluded = input.excluded;
  PairRowsUse use;
  use.needs_triplets = false;
  ASSIGN_OR_RETURN(const PairRows rows, PairRows::Make(plain, distance, "", use));
  std::vector<float> d_ap, d_an;
  int64_t active = 0;
  AnchorPairs pairs;
  for (int64_t a = 0; a < rows.rows(); ++a) {
    rows.Read(a, &pairs);
    if (pairs.positives.empty() || pairs.negatives.empty()) continue;
    const double farthest = *std::max_element(pairs.d_ap.begin(), pairs.d_ap.end());
    const double nearest = *std::min_element(pairs.d_an.begin(), pairs.d_an.end());
    d_ap.push_back(static_cast<float>(farthest));
    d_an.push_back(static_cast<float>(nearest));
    active += farthest > nearest;
  }
  LossStatistics statistics;
  statistics.triplets = static_cast<int64_t>(d_ap.size());
  if (!d_ap.empty()) statistics.active = static_cast<double>(active) / static_cast<double>(d_ap.size());
  statistics.d_ap = ComputePercentiles(std::move(d_ap));
  statistics.d_an = ComputePercentiles(std::move(d_an));
  statistics.norm = rows.Norms();
  return statistics;
}

}  // namespace doppel
