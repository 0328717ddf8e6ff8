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

// A loss with what it learns itself (a classification head), if anything. Not thread-safe.
class Loss {
 public:
  virtual ~Loss() = default;
  // embeddings [B, D], identities [B]. INVALID_ARGUMENT for a batch that cannot teach (one identity, no
  // positives, NaN) says what is wrong with it.
  virtual absl::StatusOr<LossResult> Compute(const torch::Tensor& embeddings,
                                             absl::Span<const int64_t> identities) = 0;
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
