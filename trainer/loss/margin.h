#pragma once

#include <torch/types.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

// How a triplet's z = d_ap - d_an becomes a loss. Hinge: [z + margin]+. Soft: ln(1 + e^(scale * z)).
struct Margin {
  bool soft = false;
  double margin = 0.3;
  // Embeddings on the unit sphere have |z| ≤ 2, where the plain soft margin hardly bends: about 5 suits them.
  double scale = 1.0;
};

// "soft" or a number ≥ 0.
absl::StatusOr<Margin> ParseMargin(absl::string_view text, double soft_scale);
absl::Status CheckMargin(const Margin& margin);

// Hinge margins that grow (or shrink) while training: `start` at step 0, the margin itself from `steps` on,
// linear between. 0 steps: the margin from the beginning.
struct MarginSchedule {
  double start = 0;
  uint64_t steps = 0;
};
Margin MarginAt(const Margin& margin, const MarginSchedule& schedule, uint64_t step);
// INVALID_ARGUMENT for a negative start, or steps with a soft margin.
absl::Status CheckMarginSchedule(const Margin& margin, const MarginSchedule& schedule);

// Elementwise.
torch::Tensor ApplyMargin(const torch::Tensor& z, const Margin& margin);
// True where the triplet still teaches.
torch::Tensor IsActive(const torch::Tensor& z, const Margin& margin);
// The loss if all embeddings coincide: the margin, or ln 2.
double CollapsedLoss(const Margin& margin);

}  // namespace doppel
