#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/loss/loss.h"
#include "trainer/train/optimizer_options.h"

namespace torch::optim {
class Optimizer;
}

namespace doppel {

// LibTorch's Adam or SGD over named parameters, with a state that is saved and loaded by those names. Not
// thread-safe.
class Optimizer {
 public:
  // The tensors are shared with their owner, so they must not be replaced (moved to a device) afterwards.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(NamedTensors parameters,
                                                           const OptimizerOptions& options);
  ~Optimizer();

  // Drops the gradients, so that the next backward pass writes them instead of adding.
  void ZeroGrad();
  // Multiplies all gradients by `factor`.
  void ScaleGradients(double factor);
  // L2 norm over all gradients; scales them down to `clip` if it is above (clip ≤ 0: never).
  double GradNormAndClip(double clip);
  void Step(double learning_rate);

  // Steps and moments of every parameter that has been stepped. Copies.
  NamedTensors State() const;
  // FAILED_PRECONDITION if the state belongs to other parameters or another kind of optimiser.
  absl::Status LoadState(const NamedTensors& state);

 private:
  Optimizer(NamedTensors parameters, OptimizerOptions options);
  NamedTensors parameters_;
  const OptimizerOptions options_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
};

}  // namespace doppel
