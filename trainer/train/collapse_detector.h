#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "trainer/loss/statistics.h"

namespace doppel {

struct CollapseOptions {
  // The loss when all embeddings coincide (margin, or ln 2); unset: the loss cannot collapse like that, never
  // warn.
  std::optional<double> collapsed_loss;
  // All distances of a step at most this share of the larger of 1 and the embeddings' norm…
  double distance_share = 0.02;
  // …of squared units: the distance grows with the square of the norm (squared Euclidean; cosine ignores the
  // norm).
  bool squared_distance = false;
  // …and the loss within this share of the collapsed one…
  double loss_share = 0.1;
  // …for so many steps on end.
  uint64_t patience = 50;
  // Repeats the warning after so many further steps.
  uint64_t repeat = 1000;
};

// Tells when a network has begun to map everything to one point. Not thread-safe.
class CollapseDetector {
 public:
  explicit CollapseDetector(CollapseOptions options) : options_(options) {}
  // A warning that says what to do, or nothing.
  std::optional<std::string> Observe(const LossStatistics& statistics);

 private:
  bool LooksCollapsed(const LossStatistics& statistics) const;

  const CollapseOptions options_;
  uint64_t run_ = 0;
};

}  // namespace doppel
