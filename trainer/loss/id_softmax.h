#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "trainer/loss/distance.h"
#include "trainer/loss/loss.h"

namespace doppel {

struct IdSoftmaxOptions {
  // Identities that the head has room for.
  int64_t classes = 0;
  int64_t dimension = 128;
  // > 0: logits are scale * cosine(embedding, class weight), as embeddings on the unit sphere need it. 0: a
  // linear layer with bias.
  double scale = 24;
  // Share of the target that is spread over all classes.
  double label_smoothing = 0;
  uint64_t seed = 0;
  // Of the d_ap and d_an that are reported (not trained on).
  Distance distance = Distance::kEuclidean;
};

// Mean cross entropy, in the type of the embeddings. targets: int64 [B]; weight [C, D]; bias [C], or
// undefined.
torch::Tensor IdSoftmaxLoss(const torch::Tensor& embeddings, const torch::Tensor& targets,
                            const torch::Tensor& weight, const torch::Tensor& bias,
                            const IdSoftmaxOptions& options);

// The classification loss that embeddings are pre-trained with; the head is dropped afterwards. Identities
// get classes in the order of their first appearance, and one too many is FAILED_PRECONDITION. The statistics
// are those of batch hard's triplets (none if K = 1), active by d_ap > d_an.
class IdSoftmaxModule : public Loss {
 public:
  static absl::StatusOr<std::unique_ptr<IdSoftmaxModule>> Create(const IdSoftmaxOptions& options);

  absl::StatusOr<LossResult> Compute(const LossInput& input) override;
  // The loss alone, of other features than those that distances are taken of.
  absl::StatusOr<torch::Tensor> CrossEntropy(const torch::Tensor& features,
                                             absl::Span<const int64_t> identities);
  NamedTensors NamedParameters() override;
  NamedTensors State() override;
  absl::Status LoadState(const NamedTensors& state) override;
  void To(const torch::Device& device) override;

 private:
  explicit IdSoftmaxModule(const IdSoftmaxOptions& options);
  absl::StatusOr<std::vector<int64_t>> Classes(absl::Span<const int64_t> identities);

  const IdSoftmaxOptions options_;
  torch::Tensor weight_;
  torch::Tensor bias_;
  absl::flat_hash_map<int64_t, int64_t> class_of_;
  std::vector<int64_t> identity_of_;  // by class
};

}  // namespace doppel
