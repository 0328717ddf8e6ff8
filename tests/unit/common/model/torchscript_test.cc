#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include "common/model/embedding_model.h"
#include "common/model/network.h"
#include "tests/unit/common/model/temp_dir.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

constexpr int kScriptSide = 8;
constexpr int kScriptDimension = 5;

// One linear layer over the pixels, written in TorchScript; `training` adds one to the output.
torch::jit::Module MakeModule() {
  torch::jit::Module module("linear");
  const torch::Tensor weight = torch::arange(kScriptDimension * kScriptSide * kScriptSide, torch::kFloat32)
                                   .mul(0.37)
                                   .sin()
                                   .view({kScriptDimension, kScriptSide * kScriptSide});
  module.register_parameter("weight", weight.set_requires_grad(true), /*is_buffer=*/false);
  module.register_buffer("shift", torch::full({1}, 0.25));
  module.register_attribute("training", c10::BoolType::get(), true);
  module.define(R"(
def forward(self, x):
    y = torch.matmul(x.flatten(1), self.weight.t()) + self.shift
    if self.training:
        y = y + 1.0
    return y
)");
  return module;
}

class TorchScriptTest : public ::testing::Test {
 protected:
  void SetUp() override { MakeModule().save(temp_ / "net.pt"); }

  static ModelSpec Spec() {
    ModelSpec spec;
    spec.height = kScriptSide;
    spec.width = kScriptSide;
    spec.dimension = kScriptDimension;
    spec.normalize = false;
    return spec;
  }
  static torch::Tensor Images() {
    return torch::arange(3 * kScriptSide * kScriptSide, torch::kInt64)
        .remainder(251)
        .to(torch::kUInt8)
        .view({3, kScriptSide, kScriptSide, 1});
  }
  static torch::Tensor Infer(Network& network) {
    torch::NoGradGuard no_grad;
    network.Train(false);
    return network.Forward(ToInput(network.spec(), Images()));
  }
  std::unique_ptr<Network> Imported() {
    const auto spec = ImportTorchScript(temp_ / "net.pt", Spec(), temp_ / "m");
    EXPECT_TRUE(spec.ok()) << spec.status();
    auto network = LoadNetwork(temp_ / "m", torch::kCPU);
    EXPECT_TRUE(network.ok()) << network.status();
    return std::move(network).value();
  }

  TempDir temp_;
};

TEST_F(TorchScriptTest, ImportKeepsTheModuleAsItIs) {
  auto network = Imported();
  EXPECT_EQ(network->spec().architecture, "torchscript");
  torch::jit::Module module = MakeModule();
  module.setattr("training", false);
  EXPECT_TRUE(torch::equal(Infer(*network), module.forward({ToInput(Spec(), Images())}).toTensor()));
}

TEST_F(TorchScriptTest, HasParametersAndBuffersByName) {
  auto network = Imported();
  ASSERT_EQ(network->NamedParameters().size(), 1);
  EXPECT_EQ(network->NamedParameters()[0].first, "weight");
  ASSERT_EQ(network->NamedBuffers().size(), 1);
  EXPECT_EQ(network->NamedBuffers()[0].first, "shift");
}

TEST_F(TorchScriptTest, TrainSwitchesTheMode) {
  auto network = Imported();
  const torch::Tensor evaluated = Infer(*network);
  network->Train(true);
  torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::allclose(network->Forward(ToInput(Spec(), Images())), evaluated + 1.0));
}

TEST_F(TorchScriptTest, TrainsAndSavesBack) {
  auto network = Imported();
  const torch::Tensor before = Infer(*network);
  network->Train(true);
  network->Forward(ToInput(Spec(), Images())).square().sum().backward();
  torch::Tensor weight = network->NamedParameters()[0].second;
  ASSERT_TRUE(weight.grad().defined());
  {
    torch::NoGradGuard no_grad;
    weight.sub_(weight.grad(), 1e-3);
  }
  const torch::Tensor trained = Infer(*network);
  EXPECT_FALSE(torch::equal(before, trained));
  const auto spec = SaveNetwork(*network, 1, temp_ / "m");
  ASSERT_TRUE(spec.ok()) << spec.status();
  auto loaded = LoadNetwork(temp_ / "m", torch::kCPU);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(torch::equal(Infer(**loaded), trained));
  EXPECT_EQ((*loaded)->spec().step, 1);
}

TEST_F(TorchScriptTest, SameWeightsGiveTheSameFingerprint) {
  auto network = Imported();
  const auto a = SaveNetwork(*network, 1, temp_ / "a");
  const auto b = SaveNetwork(**LoadNetwork(temp_ / "a", torch::kCPU), 1, temp_ / "b");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->fingerprint, b->fingerprint);
}

TEST_F(TorchScriptTest, EmbedsThroughThePlainInterface) {
  auto network = Imported();
  const torch::Tensor expected = Infer(*network);
  auto model = LoadEmbeddingModel(temp_ / "m", "cpu");
  ASSERT_TRUE(model.ok()) << model.status();
  auto clone = (*model)->Clone();
  ASSERT_TRUE(clone.ok());
  const torch::Tensor bytes = Images().contiguous();
  torch::Tensor out = torch::empty({3, kScriptDimension});
  const absl::Status status = (*clone)->Embed({bytes.data_ptr<uint8_t>(), static_cast<size_t>(bytes.numel())},
                                              3, out.data_ptr<float>());
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(torch::allclose(out, expected, 1e-4, 1e-4));
}

TEST_F(TorchScriptTest, NormalisesWhenTheSpecSaysSo) {
  ModelSpec spec = Spec();
  spec.normalize = true;
  ASSERT_TRUE(ImportTorchScript(temp_ / "net.pt", spec, temp_ / "unit").ok());
  auto network = LoadNetwork(temp_ / "unit", torch::kCPU);
  EXPECT_TRUE(torch::allclose(Infer(**network).norm(2, {1}), torch::ones(3)));
}

TEST_F(TorchScriptTest, WrongDimensionIsRefusedAtImport) {
  ModelSpec spec = Spec();
  spec.dimension = 7;
  const auto imported = ImportTorchScript(temp_ / "net.pt", spec, temp_ / "m");
  EXPECT_EQ(imported.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(imported.status().message()), HasSubstr("[2, 5]"));
  EXPECT_FALSE(PosixFileSystem().Exists(temp_ / "m"));
}

TEST_F(TorchScriptTest, WrongInputSizeIsRefusedAtImport) {
  ModelSpec spec = Spec();
  spec.height = 9;
  const auto imported = ImportTorchScript(temp_ / "net.pt", spec, temp_ / "m");
  EXPECT_EQ(imported.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(imported.status().message()), HasSubstr("[2, 1, 9, 8]"));
}

TEST_F(TorchScriptTest, OtherFilesAreDataLossNamingTheFile) {
  auto file = PosixFileSystem().Create(temp_ / "text.pt");
  ASSERT_TRUE((*file)->Append("not a module").ok());
  ASSERT_TRUE((*file)->Close().ok());
  const auto imported = ImportTorchScript(temp_ / "text.pt", Spec(), temp_ / "m");
  EXPECT_EQ(imported.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(imported.status().message()), HasSubstr("text.pt"));
}

TEST_F(TorchScriptTest, ModuleWithoutTrainingFlagWorks) {
  torch::jit::Module module("plain");
  module.register_parameter("weight", torch::ones({kScriptDimension, kScriptSide * kScriptSide}),
                            /*is_buffer=*/false);
  module.define("def forward(self, x):\n    return torch.matmul(x.flatten(1), self.weight.t())\n");
  module.save(temp_ / "plain.pt");
  ASSERT_TRUE(ImportTorchScript(temp_ / "plain.pt", Spec(), temp_ / "m").ok());
  EXPECT_TRUE(LoadEmbeddingModel(temp_ / "m", "cpu").ok());
}

}  // namespace
}  // namespace doppel
