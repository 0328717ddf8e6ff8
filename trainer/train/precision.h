#pragma once

#include <torch/types.h>

#include <string>

#include "absl/status/statusor.h"

namespace doppel {

// What the network's forward and backward pass compute in. Weights, optimiser, embeddings and loss are always
// float32; the lower precisions are LibTorch's autocast (matrix products and convolutions in 16 bits).
enum class Precision { kFloat32, kBfloat16, kFloat16 };

// "float32", "bfloat16", "float16", or "auto": float32 on a CPU, on a GPU bfloat16 from compute capability
// 8.0 on and float16 below. INVALID_ARGUMENT for other names, UNAVAILABLE (with what to take instead) for
// what the device lacks.
absl::StatusOr<Precision> ResolvePrecision(const std::string& name, const torch::Device& device);
// "float32", …
std::string PrecisionName(Precision precision);

// While it lives, autocast is on in this thread (not for kFloat32).
class AutocastScope {
 public:
  AutocastScope(Precision precision, const torch::Device& device);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  const bool on_;
  const bool cuda_;
};

}  // namespace doppel
