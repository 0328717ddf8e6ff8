#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <sstream>
#include <utility>
#include <vector>

#include "common/base/status_macros.h"
#include "common/io/file_system.h"
#include "common/model/model_directory.h"
#include "common/model/network_internal.h"

namespace doppel {
namespace {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

// Any TorchScript module from [n, channels, height, width] to [n, D].
class TorchScriptNetwork : public SavableNetwork {
 public:
  TorchScriptNetwork(ModelSpec spec, const torch::jit::Module& module)
      : spec_(std::move(spec)), module_(module) {}

  torch::Tensor Forward(const torch::Tensor& images) override {
    return FinishEmbedding(spec_, module_.forward({images}).toTensor());
  }
  void Train(bool on) override { SetTraining(on); }
  void To(const torch::Device& device) override { module_.to(device); }
  NamedTensors NamedParameters() override {
    NamedTensors result;
    for (const auto& item : module_.named_parameters()) result.emplace_back(item.name, item.value);
    return result;
  }
  NamedTensors NamedBuffers() override {
    NamedTensors result;
    for (const auto& item : module_.named_buffers()) result.emplace_back(item.name, item.value);
    return result;
  }
  const ModelSpec& spec() const override { return spec_; }
  void set_spec(const ModelSpec& spec) override { spec_ = spec; }

  absl::StatusOr<std::string> Serialize() override {
    return CatchTorch("saving the TorchScript module", absl::StatusCode::kInternal,
                      [this]() -> absl::StatusOr<std::string> {
                        std::ostringstream out;
                        module_.save(out);
                        return out.str();
                      });
  }

  absl::Status Freeze() override {
    SetTraining(false);
    try {
      module_ = torch::jit::freeze(module_);
    } catch (const std::exception&) {
      // A module that writes to its own attributes cannot be frozen; it runs as it is.
    }
    return absl::OkStatus();
  }

  // One batch of two images through the net, to find out early that it does not fit the spec.
  absl::Status Probe(const std::string& origin) {
    return CatchTorch(
        absl::StrCat(origin, ": the module does not run on [2, ", spec_.channels, ", ", spec_.height, ", ",
                     spec_.width, "] float32"),
        absl::StatusCode::kInvalidArgument, [&]() -> absl::Status {
          torch::NoGradGuard no_grad;
          SetTraining(false);
          const auto out = module_.forward({torch::zeros({2, spec_.channels, spec_.height, spec_.width})});
          if (!out.isTensor() || out.toTensor().sizes() != at::IntArrayRef({2, spec_.dimension})) {
            return absl::InvalidArgumentError(absl::StrCat(
                origin, ": for 2 images the module must return a tensor [2, ", spec_.dimension,
                "], it returned ", out.isTensor() ? c10::str(out.toTensor().sizes()) : out.tagKind(),
                "; check dimension and input size"));
          }
          return absl::OkStatus();
        });
  }

 private:
  // Module::train insists on the attribute, which modules made in C++ need not have.
  void SetTraining(bool on) {
    for (torch::jit::Module module : module_.modules()) {
      if (module.hasattr("training")) module.setattr("training", on);
    }
  }

  ModelSpec spec_;
  torch::jit::Module module_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SavableNetwork>> LoadTorchScriptNetwork(const ModelSpec& spec,
                                                                       const std::string& weights,
                                                                       const std::string& origin) {
  ASSIGN_OR_RETURN(
      auto network,
      CatchTorch(absl::StrCat(origin, ": not a TorchScript module that LibTorch can read"),
                 absl::StatusCode::kDataLoss, [&]() -> absl::StatusOr<std::unique_ptr<TorchScriptNetwork>> {
                   std::istringstream in(weights);
                   return std::make_unique<TorchScriptNetwork>(spec, torch::jit::load(in, torch::kCPU));
                 }));
  RETURN_IF_ERROR(network->Probe(origin));
  return std::unique_ptr<SavableNetwork>(std::move(network));
}

absl::StatusOr<ModelSpec> ImportTorchScript(const std::string& file, const ModelSpec& spec,
                                            const std::string& directory) {
  RETURN_IF_ERROR(CheckModelSpec(spec));
  ASSIGN_OR_RETURN(std::string weights, PosixFileSystem().ReadFile(file));
  ModelSpec imported = spec;
  imported.architecture = "torchscript";
  RETURN_IF_ERROR(LoadTorchScriptNetwork(imported, weights, file).status());
  return WriteModelFiles(imported, weights, directory);
}

}  // namespace doppel
