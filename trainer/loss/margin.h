#pragma once

#include <torch/types.h>

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

// Elementwise.
torch::Tensor ApplyMargin(const torch::Tensor& z, const Margin& margin);
// True where the triplet still teaches.
torch::Tensor IsActive(const torch::Tensor& z, const Margin& margin);
// The loss if all embeddings coincide: the margin, or ln 2.
double CollapsedLoss(const Margin& margin);

}  // namespace doppel
