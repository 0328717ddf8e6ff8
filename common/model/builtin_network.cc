#include <ATen/core/Dict.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "common/model/model_directory.h"
#include "common/model/nets/net.h"
#include "common/model/network_internal.h"

namespace doppel {
namespace {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;
using StateDict = c10::Dict<std::string, torch::Tensor>;

struct Architecture {
  const char* name;
  std::shared_ptr<Net> (*make)(const ModelSpec&);
};
constexpr Architecture kArchitectures[] = {
    {"glyph_cnn", MakeGlyphCnn},
    {"lunet", MakeLuNet},
    {"resnet18", [](const ModelSpec& spec) { return MakeResNet(spec, 18); }},
    {"resnet34", [](const ModelSpec& spec) { return MakeResNet(spec, 34); }},
    {"resnet50", [](const ModelSpec& spec) { return MakeResNet(spec, 50); }},
};

std::string ArchitectureNames() {
  return absl::StrJoin(kArchitectures, ", ",
                       [](std::string* out, const Architecture& a) { out->append(a.name); });
}

// Uniform in [-bound, bound), a pure function of (seed, name): adding a layer leaves the others' weights
// alone.
void FillUniform(torch::Tensor& tensor, double bound, uint64_t seed, const std::string& name) {
  uint64_t key = seed;
  for (char c : name) key = MixKey(key, static_cast<unsigned char>(c));
  const Philox philox(key);
  // Filled in plain order whatever the tensor's memory format is.
  torch::Tensor values = torch::empty(tensor.sizes(), torch::kFloat32);
  float* out = values.data_ptr<float>();
  const int64_t n = values.numel();
  for (int64_t i = 0; i < n; i += 4) {
    const std::array<uint32_t, 4> bits = philox.Block(static_cast<uint64_t>(i / 4));
    for (int64_t j = i; j < std::min(n, i + 4); ++j) {
      out[j] = static_cast<float>(bound * (2.0 * bits[j - i] / 4294967296.0 - 1.0));
    }
  }
  tensor.copy_(values);
}

// Convolutions: He et al.'s variance over the outgoing connections. Linear layers: ±1/sqrt(fan in), bias as
// well. Batch norms keep 1 and 0.
void Initialise(NamedTensors parameters, uint64_t seed) {
  torch::NoGradGuard no_grad;
  double linear_bound = 0;
  for (auto& [name, p] : parameters) {
    if (p.dim() == 4) {
      const double fan_out = static_cast<double>(p.size(0) * p.size(2) * p.size(3));
      FillUniform(p, std::sqrt(6.0 / fan_out), seed, name);
    } else if (p.dim() == 2) {
      linear_bound = 1.0 / std::sqrt(static_cast<double>(p.size(1)));
      FillUniform(p, linear_bound, seed, name);
    } else if (absl::StartsWith(name, "fc")) {
      FillUniform(p, linear_bound, seed, name);  // the bias that follows its weight
    }
  }
}

// A builtin net. Weights of convolutions are kept channels-last, where LibTorch's CPU kernels are fastest.
class BuiltinNetwork : public SavableNetwork {
 public:
  BuiltinNetwork(ModelSpec spec, std::shared_ptr<Net> net) : spec_(std::move(spec)), net_(std::move(net)) {
    for (torch::Tensor& p : net_->parameters()) {
      if (p.dim() == 4) p.set_data(p.data().contiguous(at::MemoryFormat::ChannelsLast));
    }
  }

  torch::Tensor Forward(const torch::Tensor& images) override {
    torch::Tensor x = images.contiguous(at::MemoryFormat::ChannelsLast);
    if (x.size(1) == 1) {
      // With one channel both orders are the same bytes; the strides decide which kernels run.
      x = x.as_strided(x.sizes(), {x.size(2) * x.size(3), 1, x.size(3), 1});
    }
    return FinishEmbedding(spec_, net_->Forward(x));
  }
  void Train(bool on) override { net_->train(on); }
  void To(const torch::Device& device) override { net_->to(device); }
  NamedTensors NamedParameters() override {
    NamedTensors result;
    for (auto& item : net_->named_parameters()) result.emplace_back(item.key(), item.value());
    return result;
  }
  NamedTensors NamedBuffers() override {
    NamedTensors result;
    for (auto& item : net_->named_buffers()) result.emplace_back(item.key(), item.value());
    return result;
  }
  const ModelSpec& spec() const override { return spec_; }
  void set_spec(const ModelSpec& spec) override { spec_ = spec; }

  absl::StatusOr<std::string> Serialize() override {
    return CatchTorch("saving weights", absl::StatusCode::kInternal, [this]() -> absl::StatusOr<std::string> {
      torch::NoGradGuard no_grad;
      StateDict dict;
      for (const NamedTensors& tensors : {NamedParameters(), NamedBuffers()}) {
        for (const auto& [name, tensor] : tensors) {
          dict.insert(name, tensor.detach().to(torch::kCPU).clone(at::MemoryFormat::Contiguous));
        }
      }
      const std::vector<char> bytes = torch::jit::pickle_save(dict);
      return std::string(bytes.data(), bytes.size());
    });
  }

  absl::Status Freeze() override {
    return CatchTorch("folding batch norms", absl::StatusCode::kInternal, [this] {
      net_->eval();
      net_->Fuse();
      return absl::OkStatus();
    });
  }

 private:
  ModelSpec spec_;
  std::shared_ptr<Net> net_;
};

absl::StatusOr<std::unique_ptr<BuiltinNetwork>> MakeBuiltin(const ModelSpec& spec) {
  RETURN_IF_ERROR(CheckModelSpec(spec));
  for (const Architecture& architecture : kArchitectures) {
    if (spec.architecture != architecture.name) continue;
    return CatchTorch(absl::StrCat("making ", spec.architecture), absl::StatusCode::kInvalidArgument,
                      [&]() -> absl::StatusOr<std::unique_ptr<BuiltinNetwork>> {
                        return std::make_unique<BuiltinNetwork>(spec, architecture.make(spec));
                      });
  }
  return absl::InvalidArgumentError(absl::StrCat("model: unknown architecture \"", spec.architecture,
                                                 "\"; there are ", ArchitectureNames(),
                                                 ", and torchscript for a module of your own"));
}

// Up to five names, so that a foreign file does not fill the screen.
std::string SomeNames(const std::vector<std::string>& names) {
  const std::vector<std::string> some(names.begin(), names.begin() + std::min<size_t>(names.size(), 5));
  return absl::StrCat(absl::StrJoin(some, ", "),
                      names.size() > 5 ? absl::StrCat(" and ", names.size() - 5, " more") : "");
}

std::string ShapeOf(const torch::Tensor& tensor) {
  return absl::StrCat("[", absl::StrJoin(tensor.sizes(), ", "), "]");
}

absl::StatusOr<std::vector<std::pair<std::string, torch::Tensor>>> ReadStateDict(const std::string& weights,
                                                                                 const std::string& origin) {
  const std::string what = absl::StrCat(
      origin, ": not a dict of tensors that LibTorch can read (damaged, or another kind of file)");
  return CatchTorch(what, absl::StatusCode::kDataLoss, [&]() -> absl::StatusOr<NamedTensors> {
    const c10::IValue value = torch::jit::pickle_load(std::vector<char>(weights.begin(), weights.end()));
    if (!value.isGenericDict()) return absl::DataLossError(what);
    NamedTensors tensors;
    for (const auto& item : value.toGenericDict()) {
      if (!item.key().isString() || !item.value().isTensor()) return absl::DataLossError(what);
      tensors.emplace_back(item.key().toStringRef(), item.value().toTensor());
    }
    return tensors;
  });
}

// All of the net's tensors must be there, with their shapes, and none besides; all problems are named at
// once.
absl::Status Assign(const NamedTensors& source, const NamedTensors& target, const std::string& architecture,
                    const std::string& origin) {
  torch::NoGradGuard no_grad;
  std::vector<std::string> missing;
  std::vector<std::string> misshapen;
  std::vector<std::string> unknown;
  std::set<std::string> names;
  for (const auto& [name, tensor] : target) {
    names.insert(name);
    auto it =
        std::find_if(source.begin(), source.end(), [&n = name](const auto& item) { return item.first == n; });
    if (it == source.end()) {
      missing.push_back(name);
    } else if (it->second.sizes() != tensor.sizes()) {
      misshapen.push_back(absl::StrCat(name, " ", ShapeOf(it->second), " instead of ", ShapeOf(tensor)));
    }
  }
  for (const auto& [name, tensor] : source) {
    if (names.count(name) == 0) unknown.push_back(name);
  }
  if (!missing.empty() || !misshapen.empty() || !unknown.empty()) {
    std::vector<std::string> problems;
    if (!missing.empty()) problems.push_back("missing: " + SomeNames(missing));
    if (!misshapen.empty()) problems.push_back("wrong shape: " + SomeNames(misshapen));
    if (!unknown.empty()) problems.push_back("not in the net: " + SomeNames(unknown));
    return absl::InvalidArgumentError(absl::StrCat(origin, ": these are not the weights of the ",
                                                   architecture, " that model.json describes; ",
                                                   absl::StrJoin(problems, "; ")));
  }
  for (const auto& [name, tensor] : source) {
    const std::string& n = name;
    auto it = std::find_if(target.begin(), target.end(), [&n](const auto& item) { return item.first == n; });
    torch::Tensor(it->second).copy_(tensor);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Network>> CreateNetwork(const ModelSpec& spec, uint64_t seed) {
  ASSIGN_OR_RETURN(std::unique_ptr<BuiltinNetwork> network, MakeBuiltin(spec));
  Initialise(network->NamedParameters(), seed);
  return std::unique_ptr<Network>(std::move(network));
}

absl::StatusOr<std::unique_ptr<SavableNetwork>> LoadBuiltinNetwork(const ModelSpec& spec,
                                                                   const std::string& weights,
                                                                   const std::string& origin) {
  ASSIGN_OR_RETURN(std::unique_ptr<BuiltinNetwork> network, MakeBuiltin(spec));
  ASSIGN_OR_RETURN(NamedTensors source, ReadStateDict(weights, origin));
  NamedTensors target = network->NamedParameters();
  for (auto& item : network->NamedBuffers()) target.push_back(item);
  RETURN_IF_ERROR(CatchTorch(origin, absl::StatusCode::kDataLoss,
                             [&] { return Assign(source, target, spec.architecture, origin); }));
  return std::unique_ptr<SavableNetwork>(std::move(network));
}

}  // namespace doppel
