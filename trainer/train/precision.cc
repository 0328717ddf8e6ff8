#include "trainer/train/precision.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#ifdef DOPPEL_HAS_CUDA
#include <ATen/cuda/CUDAContext.h>
#endif

#include <exception>

#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

#ifdef DOPPEL_HAS_CUDA
bool GpuHasBfloat16(const torch::Device& device) {
  return at::cuda::getDeviceProperties(device.has_index() ? device.index() : 0)->major >= 8;
}
#else
bool GpuHasBfloat16(const torch::Device&) { return false; }
#endif

// LibTorch knows bfloat16 on every CPU on paper; whether its convolutions run, only running one tells.
absl::Status TryOnCpu() {
  try {
    const AutocastScope scope(Precision::kBfloat16, torch::kCPU);
    const torch::Tensor weight = torch::ones({8, 8, 3, 3}).requires_grad_(true);
    const torch::Tensor out = at::conv2d(torch::ones({2, 8, 6, 6}), weight);
    out.to(torch::kFloat32).sum().backward();
    if (out.scalar_type() == torch::kBFloat16 && weight.grad().isfinite().all().item<bool>()) {
      return absl::OkStatus();
    }
  } catch (const std::exception& e) {
    return absl::UnavailableError(absl::StrCat(
        "--precision bfloat16: LibTorch cannot run it on this CPU; take float32 (", e.what(), ")"));
  }
  return absl::UnavailableError(
      "--precision bfloat16: this LibTorch does not compute convolutions in it on a CPU; take float32");
}

}  // namespace

absl::StatusOr<Precision> ResolvePrecision(const std::string& name, const torch::Device& device) {
  const bool cuda = device.is_cuda();
  if (name == "float32") return Precision::kFloat32;
  if (name == "auto") {
    if (!cuda) return Precision::kFloat32;
    return GpuHasBfloat16(device) ? Precision::kBfloat16 : Precision::kFloat16;
  }
  if (name == "bfloat16") {
    if (!cuda) {
      if (absl::Status status = TryOnCpu(); !status.ok()) return status;
    } else if (!GpuHasBfloat16(device)) {
      return absl::UnavailableError(
          absl::StrCat("--precision bfloat16: ", device.str(), " does not compute in it; take float16"));
    }
    return Precision::kBfloat16;
  }
  if (name == "float16") {
    if (!cuda) {
      return absl::UnavailableError(
          "--precision float16 needs a CUDA device; on a CPU take bfloat16 or float32");
    }
    return Precision::kFloat16;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--precision is \"", name, "\": choose one of auto, float32, bfloat16, float16"));
}

std::string PrecisionName(Precision precision) {
  switch (precision) {
    case Precision::kBfloat16:
      return "bfloat16";
    case Precision::kFloat16:
      return "float16";
    case Precision::kFloat32:
      break;
  }
  return "float32";
}

AutocastScope::AutocastScope(Precision precision, const torch::Device& device)
    : on_(precision != Precision::kFloat32), cuda_(device.is_cuda()) {
  if (!on_) return;
  const auto type = precision == Precision::kBfloat16 ? torch::kBFloat16 : torch::kHalf;
  at::autocast::increment_nesting();
  if (cuda_) {
    at::autocast::set_autocast_gpu_dtype(type);
    at::autocast::set_enabled(true);
  } else {
    at::autocast::set_autocast_cpu_dtype(type);
    at::autocast::set_cpu_enabled(true);
  }
}

AutocastScope::~AutocastScope() {
  if (!on_) return;
  if (cuda_) {
    at::autocast::set_enabled(false);
  } else {
    at::autocast::set_cpu_enabled(false);
  }
  // The cache holds casted weights, which the next step must not see.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
}

}  // namespace doppel
