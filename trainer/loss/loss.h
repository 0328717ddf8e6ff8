#pragma once

#include <torch/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/loss/statistics.h"

namespace doppel {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

struct LossResult {
  torch::Tensor loss;  // scalar, differentiable
  LossStatistics statistics;
};

// What a step of metric learning looks at.
struct LossInput {
  LossInput() = default;
  LossInput(torch::Tensor embeddings, absl::Span<const int64_t> identities)
      : embeddings(std::move(embeddings)), identities(identities) {}

  torch::Tensor embeddings;              // [B, D] floating point
  absl::Span<const int64_t> identities;  // [B]; must outlive the call
  // Pairs that are used neither as positives nor as negatives (guard list): bool [B, B], symmetric;
  // undefined: none.
  torch::Tensor excluded;
  // Cross-batch memory (Wang 2020): further rows [R, D], without gradient, that serve as positives and
  // negatives but never as anchors. Undefined: none. Losses that have no use for it say so
  // (INVALID_ARGUMENT).
  torch::Tensor memory;
  absl::Span<const int64_t> memory_identities;  // [R]
  // Steps done before: what margin schedules and counter-based random draws depend on.
  uint64_t step = 0;
  // Of the batch's plan; a cross-batch memory starts anew when it changes.
  uint64_t generation = 0;
};

// A loss with what it learns itself (a classification head), if anything. Not thread-safe.
class Loss {
 public:
  virtual ~Loss() = default;
  // INVALID_ARGUMENT for a batch that cannot teach (one identity, no positives, NaN) says what is wrong with
  // it.
  virtual absl::StatusOr<LossResult> Compute(const LossInput& input) = 0;
  // For the optimiser: stable order and names.
  virtual NamedTensors NamedParameters() { return {}; }
  // Everything that a checkpoint must hold: parameters and tables.
  virtual NamedTensors State() { return {}; }
  virtual absl::Status LoadState(const NamedTensors& state);
  virtual void To(const torch::Device& device) {}
  // The loss if all embeddings coincide, for losses that can collapse like that.
  virtual std::optional<double> CollapsedValue() const { return std::nullopt; }
};

}  // namespace doppel
