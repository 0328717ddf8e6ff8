#include "common/model/network.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/model/model_directory.h"
#include "common/model/network_internal.h"

namespace doppel {
namespace {

// The network is frozen: clones share it, each with its own calls.
class TorchEmbeddingModel : public EmbeddingModel {
 public:
  TorchEmbeddingModel(std::shared_ptr<SavableNetwork> network, const torch::Device& device)
      : network_(std::move(network)), device_(device) {}

  const ModelSpec& spec() const override { return network_->spec(); }

  absl::Status Embed(absl::Span<const uint8_t> images, int64_t n, float* out) override {
    const ModelSpec& s = spec();
    const int64_t image = int64_t{s.height} * s.width * s.channels;
    if (n < 0 || static_cast<int64_t>(images.size()) != n * image) {
      return absl::InvalidArgumentError(absl::StrFormat("embedding: %d bytes are not %d images of %dx%dx%d",
                                                        images.size(), n, s.height, s.width, s.channels));
    }
    if (n == 0) return absl::OkStatus();
    return CatchTorch("embedding", absl::StatusCode::kInternal, [&]() -> absl::Status {
      c10::InferenceMode inference;
      const torch::Tensor input = torch::from_blob(const_cast<uint8_t*>(images.data()),
                                                   {n, s.height, s.width, s.channels}, torch::kUInt8)
                                      .to(device_);
      const torch::Tensor result =
          network_->Forward(ToInput(s, input)).to(torch::kCPU, torch::kFloat32).contiguous();
      if (result.dim() != 2 || result.size(0) != n || result.size(1) != s.dimension) {
        return absl::InternalError(absl::StrFormat("embedding: the net returned %s instead of [%d, %d]",
                                                   c10::str(result.sizes()), n, s.dimension));
      }
      std::memcpy(out, result.data_ptr<float>(), sizeof(float) * n * s.dimension);
      return absl::OkStatus();
    });
  }

  absl::StatusOr<std::unique_ptr<EmbeddingModel>> Clone() const override {
    return std::unique_ptr<EmbeddingModel>(std::make_unique<TorchEmbeddingModel>(network_, device_));
  }

 private:
  const std::shared_ptr<SavableNetwork> network_;
  const torch::Device device_;
};

}  // namespace

torch::Tensor ToInput(const ModelSpec& spec, const torch::Tensor& images) {
  // Of contiguous NHWC bytes this permutation is channels-last, which is what the nets want: nothing is
  // moved.
  torch::Tensor x = images.permute({0, 3, 1, 2}).to(torch::kFloat32);
  bool uniform = true;
  for (int c = 1; c < spec.channels; ++c) {
    uniform = uniform && spec.mean[c] == spec.mean[0] && spec.std[c] == spec.std[0];
  }
  if (uniform) return x.mul_(1.0F / (255.0F * spec.std[0])).sub_(spec.mean[0] / spec.std[0]);
  torch::Tensor scale = torch::empty({1, spec.channels, 1, 1});
  torch::Tensor shift = torch::empty({1, spec.channels, 1, 1});
  for (int c = 0; c < spec.channels; ++c) {
    scale.data_ptr<float>()[c] = 1.0F / (255.0F * spec.std[c]);
    shift.data_ptr<float>()[c] = spec.mean[c] / spec.std[c];
  }
  return x.mul_(scale.to(x.device())).sub_(shift.to(x.device()));
}

torch::Tensor FinishEmbedding(const ModelSpec& spec, const torch::Tensor& features) {
  if (!spec.normalize) return features;
  return features / features.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
}

absl::StatusOr<torch::Device> ParseDevice(const std::string& device) {
  const bool cuda = at::hasCUDA() && at::detail::getCUDAHooks().hasCUDA();
  if (device == "cpu" || (device == "auto" && !cuda)) return torch::Device(torch::kCPU);
  if (device == "auto") return torch::Device(torch::kCUDA, 0);
  return CatchTorch(absl::StrCat("device \"", device, "\" is not auto, cpu, cuda or cuda:N"),
                    absl::StatusCode::kInvalidArgument, [&]() -> absl::StatusOr<torch::Device> {
                      torch::Device parsed(device);
                      if (!parsed.is_cuda()) {
                        return absl::InvalidArgumentError(
                            absl::StrCat("device \"", device, "\" is not auto, cpu, cuda or cuda:N"));
                      }
                      const int count = cuda ? at::detail::getCUDAHooks().getNumGPUs() : 0;
                      if (!parsed.has_index()) parsed = torch::Device(torch::kCUDA, 0);
                      if (parsed.index() >= count) {
                        return absl::UnavailableError(absl::StrCat(
                            "device \"", device, "\": LibTorch sees ", count,
                            " CUDA devices here; take \"cpu\" or \"auto\", or a LibTorch with CUDA"));
                      }
                      return parsed;
                    });
}

absl::StatusOr<std::unique_ptr<SavableNetwork>> LoadSavableNetwork(const std::string& directory,
                                                                   const torch::Device& device) {
  ASSIGN_OR_RETURN(ModelFiles files, ReadModelFiles(directory));
  auto load = files.spec.architecture == "torchscript" ? LoadTorchScriptNetwork : LoadBuiltinNetwork;
  ASSIGN_OR_RETURN(std::unique_ptr<SavableNetwork> network,
                   load(files.spec, files.weights, files.weights_path));
  RETURN_IF_ERROR(CatchTorch(absl::StrCat(directory, ": moving the net to ", device.str()),
                             absl::StatusCode::kUnavailable, [&] {
                               network->To(device);
                               return absl::OkStatus();
                             }));
  return network;
}

absl::StatusOr<std::unique_ptr<Network>> LoadNetwork(const std::string& directory,
                                                     const torch::Device& device) {
  ASSIGN_OR_RETURN(std::unique_ptr<SavableNetwork> network, LoadSavableNetwork(directory, device));
  return std::unique_ptr<Network>(std::move(network));
}

absl::StatusOr<ModelSpec> SaveNetwork(Network& network, uint64_t step, const std::string& directory) {
  auto* savable = dynamic_cast<SavableNetwork*>(&network);
  if (savable == nullptr) {
    return absl::InvalidArgumentError("saving a model: only networks of common/model can be saved");
  }
  ASSIGN_OR_RETURN(std::string weights, savable->Serialize());
  ModelSpec spec = network.spec();
  spec.step = step;
  ASSIGN_OR_RETURN(spec, WriteModelFiles(spec, weights, directory));
  savable->set_spec(spec);
  return spec;
}

absl::StatusOr<ModelFiles> SerializeNetwork(Network& network, uint64_t step) {
  auto* savable = dynamic_cast<SavableNetwork*>(&network);
  if (savable == nullptr) {
    return absl::InvalidArgumentError("saving a model: only networks of common/model can be saved");
  }
  ModelFiles files;
  ASSIGN_OR_RETURN(files.weights, savable->Serialize());
  files.spec = network.spec();
  files.spec.step = step;
  files.spec.fingerprint = WeightsFingerprint(files.weights);
  return files;
}

absl::StatusOr<std::unique_ptr<EmbeddingModel>> LoadEmbeddingModel(const std::string& directory,
                                                                   const std::string& device) {
  ASSIGN_OR_RETURN(torch::Device place, ParseDevice(device));
  ASSIGN_OR_RETURN(std::unique_ptr<SavableNetwork> network, LoadSavableNetwork(directory, place));
  RETURN_IF_ERROR(network->Freeze());
  return std::unique_ptr<EmbeddingModel>(
      std::make_unique<TorchEmbeddingModel>(std::shared_ptr<SavableNetwork>(std::move(network)), place));
}

void SetComputeThreads(int threads) {
  at::set_num_threads(threads);
  // LibTorch's BLAS has a pool of its own, which at:: does not reach; looked up, since another BLAS may be
  // linked.
  using SetThreads = void (*)(int);
  if (void* symbol = dlsym(RTLD_DEFAULT, "openblas_set_num_threads"))
    reinterpret_cast<SetThreads>(symbol)(threads);
}

}  // namespace doppel
