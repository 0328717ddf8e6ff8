#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"

namespace doppel {

// One point of the curve: a pair is accepted if its score is greater than `threshold`. That is the lowest
// threshold at which at most far × impostors impostors are accepted (of equal scores none or all), so `tar`,
// the share of genuine pairs that are accepted, is the highest that the target allows.
struct TarPoint {
  double far = 0;  // the target
  double tar = 0;
  double threshold = 0;
};

struct TarAtFarResult {
  std::vector<TarPoint> points;
  // Targets below 1 / impostors, or not in (0, 1]: the data cannot say anything about them.
  std::vector<double> refused;
};

TarAtFarResult TarAtFar(absl::Span<const float> genuine, absl::Span<const float> impostors,
                        absl::Span<const double> targets);

// The same when there are too many impostors to hold: `top` are the largest of their scores, descending, at
// least ImpostorsNeeded(targets, impostors) of them.
TarAtFarResult TarAtFarFromTop(absl::Span<const float> genuine, absl::Span<const float> top,
                               uint64_t impostors, absl::Span<const double> targets);
uint64_t ImpostorsNeeded(absl::Span<const double> targets, uint64_t impostors);

// How many impostors a target lets in, and whether it is refused.
uint64_t ImpostorsAllowed(double target, uint64_t impostors);
bool FarTargetRefused(double target, uint64_t impostors);

// The `capacity` largest of all values that were added, in memory for twice as many. Not thread-safe.
class LargestValues {
 public:
  explicit LargestValues(size_t capacity) : capacity_(capacity) {}
  void Add(absl::Span<const float> values);
  // Nothing at or below it is kept any more: values may be sorted out by it before Add.
  float bound() const { return bound_; }
  // Descending. The object is empty afterwards.
  std::vector<float> Take();

 private:
  void Shrink();
  const size_t capacity_;
  float bound_ = -std::numeric_limits<float>::infinity();
  std::vector<float> values_;
};

// ranks: the place of the first right answer of each query, counted from 0; negative: it is not among the
// answers. Share of queries with a right answer among the first k. 0 without queries.
double RecallAt(absl::Span<const int> ranks, int k);
// The cumulative match curve: RecallAt(ranks, 1) … RecallAt(ranks, length).
std::vector<double> CumulativeMatch(absl::Span<const int> ranks, int length);

}  // namespace doppel
