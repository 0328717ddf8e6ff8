#pragma once

// LibTorch's side of a model: for training. Include it in few units; inference needs embedding_model.h alone.
#include <torch/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/embedding_model.h"
#include "common/model/model_directory.h"

namespace doppel {

// A trainable embedding network: one of the builtin nets or any TorchScript module. Not thread-safe.
class Network {
 public:
  virtual ~Network() = default;
  // images: [n, channels, height, width] float32, already normalised (see ToInput). Returns [n, D] float32,
  // L2-normalised if the spec says so. Differentiable.
  virtual torch::Tensor Forward(const torch::Tensor& images) = 0;
  virtual void Train(bool on) = 0;
  virtual void To(const torch::Device& device) = 0;
  // Stable order and names (torchvision's for the ResNets).
  virtual std::vector<std::pair<std::string, torch::Tensor>> NamedParameters() = 0;
  virtual std::vector<std::pair<std::string, torch::Tensor>> NamedBuffers() = 0;
  virtual const ModelSpec& spec() const = 0;
};

// images: [n, height, width, channels] uint8 on any device → normalised [n, channels, height, width] float32.
torch::Tensor ToInput(const ModelSpec& spec, const torch::Tensor& images);

// A builtin net with weights drawn from `seed`. INVALID_ARGUMENT lists the architectures there are.
absl::StatusOr<std::unique_ptr<Network>> CreateNetwork(const ModelSpec& spec, uint64_t seed);
// "auto" | "cpu" | "cuda:N" → device; UNAVAILABLE when there is no such device.
absl::StatusOr<torch::Device> ParseDevice(const std::string& device);

// A model directory: model.json + weights.pt (builtin: a pickled dict of tensors that Python's torch.load
// reads; TorchScript: the module itself). Saving is atomic (a new directory is renamed into place) and sets
// spec.fingerprint.
absl::StatusOr<std::unique_ptr<Network>> LoadNetwork(const std::string& directory,
                                                     const torch::Device& device);
absl::StatusOr<ModelSpec> SaveNetwork(Network& network, uint64_t step, const std::string& directory);
// What SaveNetwork would write, in memory.
absl::StatusOr<ModelFiles> SerializeNetwork(Network& network, uint64_t step);
// Makes a model directory of a TorchScript file; `spec` says input size and D.
absl::StatusOr<ModelSpec> ImportTorchScript(const std::string& file, const ModelSpec& spec,
                                            const std::string& directory);

}  // namespace doppel
