#pragma once

#include <torch/types.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/loss/loss.h"

namespace doppel {

struct BnNeckOptions {
  int64_t dimension = 128;
  double momentum = 0.1;  // of the running statistics
  double epsilon = 1e-5;
};

// Batch normalisation between the embedding, on which the metric loss stands, and the ID head (Luo et al.
// 2019, "Bag of Tricks"): a trained scale, no shift. Part of the loss: at test time it is dropped with the
// head. Not thread-safe.
class BnNeck {
 public:
  static absl::StatusOr<BnNeck> Create(const BnNeckOptions& options);

  // [B, D], B ≥ 2, differentiable; moves the running statistics.
  absl::StatusOr<torch::Tensor> Forward(const torch::Tensor& embeddings);
  // What the running statistics make of embeddings, as at test time. Changes nothing.
  torch::Tensor Apply(const torch::Tensor& embeddings) const;

  // "bnneck_weight".
  NamedTensors NamedParameters();
  // With "bnneck_mean" and "bnneck_variance".
  NamedTensors State();
  void To(const torch::Device& device);

 private:
  explicit BnNeck(const BnNeckOptions& options);

  BnNeckOptions options_;
  torch::Tensor weight_, mean_, variance_;  // [D] float32
};

// Copies those of `state` into the tensors of `own` by name. FAILED_PRECONDITION for another shape, DATA_LOSS
// for a missing one; `what` names the head. Further entries of `state` are left alone.
absl::Status CopyNamed(const NamedTensors& state, absl::string_view what, const NamedTensors& own);
// The entries whose names start with `prefix`, without it; and the other way round.
NamedTensors WithoutPrefix(const NamedTensors& tensors, absl::string_view prefix);
void AppendPrefixed(absl::string_view prefix, const NamedTensors& tensors, NamedTensors* all);

}  // namespace doppel
