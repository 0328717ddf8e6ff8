#include "trainer/eval/verification.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace doppel {
namespace {

double ShareAbove(const std::vector<float>& descending, float threshold) {
  const auto end =
      std::partition_point(descending.begin(), descending.end(), [&](float s) { return s > threshold; });
  return static_cast<double>(end - descending.begin()) / static_cast<double>(descending.size());
}

}  // namespace

// The factor makes up for targets such as 0.1 that are no binary fractions.
uint64_t ImpostorsAllowed(double target, uint64_t impostors) {
  return static_cast<uint64_t>(std::floor(target * static_cast<double>(impostors) * (1 + 1e-12)));
}

bool FarTargetRefused(double target, uint64_t impostors) {
  return !(target > 0 && target <= 1) || ImpostorsAllowed(target, impostors) < 1;
}

TarAtFarResult TarAtFarFromTop(absl::Span<const float> genuine, absl::Span<const float> top,
                               uint64_t impostors, absl::Span<const double> targets) {
  std::vector<float> descending(genuine.begin(), genuine.end());
  std::sort(descending.begin(), descending.end(), std::greater<float>());
  TarAtFarResult result;
  for (const double target : targets) {
    if (FarTargetRefused(target, impostors) || genuine.empty()) {
      result.refused.push_back(target);
      continue;
    }
    const uint64_t allowed = ImpostorsAllowed(target, impostors);
    // The best impostor that must stay out is the threshold.
    const float threshold = allowed < top.size() ? top[allowed] : -std::numeric_limits<float>::infinity();
    result.points.push_back({target, ShareAbove(descending, threshold), threshold});
  }
  return result;
}

uint64_t ImpostorsNeeded(absl::Span<const double> targets, uint64_t impostors) {
  uint64_t needed = 0;
  for (const double target : targets) {
    if (!FarTargetRefused(target, impostors))
      needed = std::max(needed, ImpostorsAllowed(target, impostors) + 1);
  }
  return std::min(needed, impostors);
}

TarAtFarResult TarAtFar(absl::Span<const float> genuine, absl::Span<const float> impostors,
                        absl::Span<const double> targets) {
  LargestValues largest(ImpostorsNeeded(targets, impostors.size()));
  largest.Add(impostors);
  return TarAtFarFromTop(genuine, largest.Take(), impostors.size(), targets);
}

void LargestValues::Add(absl::Span<const float> values) {
  if (capacity_ == 0) return;
  for (const float value : values) {
    if (!(value > bound_)) continue;
    values_.push_back(value);
    if (values_.size() >= 2 * capacity_) Shrink();
  }
}

void LargestValues::Shrink() {
  std::nth_element(values_.begin(), values_.begin() + static_cast<int64_t>(capacity_) - 1, values_.end(),
                   std::greater<float>());
  values_.resize(capacity_);
  bound_ = values_.back();
}

std::vector<float> LargestValues::Take() {
  std::sort(values_.begin(), values_.end(), std::greater<float>());
  if (values_.size() > capacity_) values_.resize(capacity_);
  bound_ = -std::numeric_limits<float>::infinity();
  std::vector<float> taken;
  taken.swap(values_);
  return taken;
}

double RecallAt(absl::Span<const int> ranks, int k) {
  if (ranks.empty()) return 0;
  const auto hits =
      std::count_if(ranks.begin(), ranks.end(), [k](int rank) { return rank >= 0 && rank < k; });
  return static_cast<double>(hits) / static_cast<double>(ranks.size());
}

std::vector<double> CumulativeMatch(absl::Span<const int> ranks, int length) {
  std::vector<double> curve(static_cast<size_t>(std::max(length, 0)));
  for (const int rank : ranks) {
    if (rank >= 0 && rank < length) ++curve[rank];
  }
  double sum = 0;
  for (double& share : curve) {
    sum += share;
    share = sum / static_cast<double>(ranks.size());
  }
  return curve;
}

}  // namespace doppel
