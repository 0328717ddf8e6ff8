#include "services/trainer_worker/torchscript_export.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <memory>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "common/model/network.h"

namespace doppel {
namespace {

// Parameters as attributes of nested modules, so that "layer1.0.conv1.weight" keeps its name.
void Register(torch::jit::Module module, const std::string& name, const torch::Tensor& tensor, bool buffer) {
  const std::vector<std::string> path = absl::StrSplit(name, '.');
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    if (!module.hasattr(path[i])) {
      module.register_module(path[i],
                             torch::jit::Module(c10::QualifiedName("__torch__.doppel.Part"),
                                                module._ivalue()->compilation_unit(), /*shouldMangle=*/true));
    }
    module = module.attr(path[i]).toModule();
  }
  if (buffer) {
    module.register_buffer(path.back(), tensor);
  } else {
    module.register_parameter(path.back(), tensor, /*is_buffer=*/false);
  }
}

// Strides chosen for the kernels' sake, with the sizes of the traced batch: the values are those of its
// input.
void DropRestriding(torch::jit::Graph& graph) {
  for (auto it = graph.nodes().begin(); it != graph.nodes().end();) {
    torch::jit::Node* node = *it++;
    if (node->kind() != c10::aten::as_strided) continue;
    node->output()->replaceAllUsesWith(node->input(0));
  }
  torch::jit::EliminateDeadCode(graph.block());
}

torch::jit::Module Trace(Network& network) {
  torch::jit::Module module("__torch__.doppel.EmbeddingNet");
  for (auto& [name, tensor] : network.NamedParameters()) Register(module, name, tensor, false);
  for (auto& [name, tensor] : network.NamedBuffers()) Register(module, name, tensor, true);
  const ModelSpec& spec = network.spec();
  const torch::Tensor example = at::zeros({2, spec.channels, spec.height, spec.width});
  const auto traced = torch::jit::tracer::trace(
      {example},
      [&](torch::jit::Stack inputs) -> torch::jit::Stack { return {network.Forward(inputs[0].toTensor())}; },
      [](const torch::Tensor&) { return std::string(); }, /*strict=*/true, /*force_outplace=*/false, &module,
      {"images"});
  const std::shared_ptr<torch::jit::Graph>& graph = traced.first->graph;
  DropRestriding(*graph);
  const auto function = module._ivalue()->compilation_unit()->create_function(
      c10::QualifiedName(*module.type()->name(), "forward"), graph);
  module.type()->addMethod(function);
  return module;
}

std::string FloatList(const float* values, int n) {
  std::string text = "[";
  for (int i = 0; i < n; ++i) absl::StrAppendFormat(&text, "%s%.9e", i == 0 ? "" : ", ", values[i]);
  return text + "]";
}

// The second entry, which takes pixels as they are in a file. (dtype 6 is float32: TorchScript made in C++
// knows types by number only.)
void DefineEmbed(torch::jit::Module& module, const ModelSpec& spec) {
  std::vector<float> scale, shift;
  for (int c = 0; c < spec.channels; ++c) {
    scale.push_back(1.0F / (255.0F * spec.std[c]));
    shift.push_back(spec.mean[c] / spec.std[c]);
  }
  module.define(
      absl::StrCat("def embed(self, pixels: Tensor) -> Tensor:\n"
                   "    x = pixels.permute([0, 3, 1, 2]).float()\n"
                   "    scale = torch.tensor(",
                   FloatList(scale.data(), spec.channels),
                   ", dtype=6, device=x.device).view([1, -1, 1, 1])\n"
                   "    shift = torch.tensor(",
                   FloatList(shift.data(), spec.channels),
                   ", dtype=6, device=x.device).view([1, -1, 1, 1])\n"
                   "    return self.forward(x * scale - shift)\n"));
}

// A TorchScript module is wrapped: only what model.json adds to it is ours.
absl::StatusOr<torch::jit::Module> Wrap(const std::string& directory, const ModelSpec& spec) {
  ASSIGN_OR_RETURN(const std::string bytes,
                   PosixFileSystem().ReadFile(absl::StrCat(directory, "/weights.pt")));
  std::istringstream in(bytes);
  torch::jit::Module module("__torch__.doppel.EmbeddingNet");
  torch::jit::Module net = torch::jit::load(in, torch::kCPU);
  net.eval();
  module.register_module("net", net);
  module.define(absl::StrCat(
      "def forward(self, images: Tensor) -> Tensor:\n"
      "    x = self.net.forward(images)\n",
      spec.normalize ? "    x = x / x.norm(2, [1], True).clamp_min(1e-12)\n" : "", "    return x\n"));
  return module;
}

// Batches of other sizes than the traced one, of pixels that are a function of their place.
absl::Status Compare(torch::jit::Module& exported, Network& network) {
  const ModelSpec& spec = network.spec();
  for (const int64_t n : {1, 3}) {
    const std::vector<int64_t> shape = {n, spec.height, spec.width, spec.channels};
    const int64_t count = n * spec.height * spec.width * spec.channels;
    const torch::Tensor pixels = at::arange(count, torch::kInt64)
                                     .mul(2654435761)
                                     .bitwise_right_shift(7)
                                     .remainder(256)
                                     .to(torch::kUInt8)
                                     .view(shape);
    const torch::Tensor images = ToInput(spec, pixels);
    const torch::Tensor expected = network.Forward(images);
    const torch::Tensor forward = exported.forward({images}).toTensor();
    const torch::Tensor embed = exported.get_method("embed")({pixels}).toTensor();
    for (const torch::Tensor& got : {forward, embed}) {
      const double difference = got.sizes() == expected.sizes() ? (got - expected).abs().max().item<double>()
                                                                : std::numeric_limits<double>::infinity();
      const double largest = std::max(1.0, expected.abs().max().item<double>());
      if (difference <= 1e-5 * largest) continue;
      return absl::FailedPreconditionError(absl::StrCat("the exported module differs from the model by ",
                                                        difference, " on a batch of ", n,
                                                        ": nothing was written"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelSpec> Export(const std::string& directory, const std::string& output) {
  const c10::AutoGradMode no_grad(false);
  ASSIGN_OR_RETURN(const std::unique_ptr<Network> network, LoadNetwork(directory, torch::kCPU));
  network->Train(false);
  const ModelSpec spec = network->spec();
  torch::jit::Module module("__torch__.doppel.EmbeddingNet");
  if (spec.architecture == "torchscript") {
    ASSIGN_OR_RETURN(module, Wrap(directory, spec));
  } else {
    module = Trace(*network);
  }
  DefineEmbed(module, spec);
  std::ostringstream saved;
  module.save(saved);
  std::istringstream in(saved.str());
  torch::jit::Module loaded = torch::jit::load(in, torch::kCPU);
  RETURN_IF_ERROR(Compare(loaded, *network));
  RETURN_IF_ERROR(WriteFileAtomically(PosixFileSystem(), output, saved.str()));
  return spec;
}

}  // namespace

absl::StatusOr<ModelSpec> ExportTorchScript(const std::string& directory, const std::string& output) {
  std::string message;
  try {
    return Export(directory, output);
  } catch (const c10::Error& error) {
    message = error.what_without_backtrace();
    if (message.empty()) message = error.what();
  } catch (const std::exception& error) {
    message = error.what();
  }
  return absl::InternalError(absl::StrCat("exporting ", directory, ": ", message));
}

}  // namespace doppel
