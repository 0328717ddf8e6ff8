#pragma once

#include <cstdint>
#include <memory>

#include "trainer/loss/distance.h"
#include "trainer/loss/function_loss.h"
#include "trainer/loss/loss.h"

namespace doppel {

struct VerificationOptions {
  int64_t dimension = 128;
  uint64_t seed = 0;
  // kBalanced (default): half of the weight on pairs of one identity, half on the others (all of it, if there
  // are no others). kMean: over all pairs.
  Reduction reduction = Reduction::kDefinition;
  Distance distance = Distance::kEuclidean;  // of the statistics
};

// Cross entropy of "same" / "different" over all pairs of the batch that the guard mask leaves, by a linear
// layer on the squared difference of the two embeddings (Zheng, Zheng, Yang 2016):
//   logit_c(i, j) = sum_k weight[c, k] * (x_ik - x_jk)^2 + bias[c],   c = 0: different, 1: same.
// weight [2, D], bias [2]. O(B^2) memory: the squares are taken apart into matrix products.
absl::StatusOr<torch::Tensor> VerificationLoss(const LossInput& input, const torch::Tensor& weight,
                                               const torch::Tensor& bias, Reduction reduction);

// The head is dropped at test time. active: batch hard's d_ap > d_an.
class VerificationLossModule : public Loss {
 public:
  static absl::StatusOr<std::unique_ptr<VerificationLossModule>> Create(const VerificationOptions& options);

  absl::StatusOr<LossResult> Compute(const LossInput& input) override;
  // The loss alone.
  absl::StatusOr<torch::Tensor> CrossEntropy(const LossInput& input);
  NamedTensors NamedParameters() override;
  NamedTensors State() override { return NamedParameters(); }
  absl::Status LoadState(const NamedTensors& state) override;
  void To(const torch::Device& device) override;

 private:
  explicit VerificationLossModule(const VerificationOptions& options);

  const VerificationOptions options_;
  torch::Tensor weight_, bias_;
};

}  // namespace doppel
