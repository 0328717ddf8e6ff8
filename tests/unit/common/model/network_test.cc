#include "common/model/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "common/model/model_directory.h"
#include "common/model/network_internal.h"
#include "tests/unit/common/model/temp_dir.h"

namespace doppel {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

ModelSpec Spec(const std::string& architecture, int height = 48, int width = 48, int channels = 1,
               int dimension = 16) {
  ModelSpec spec;
  spec.architecture = architecture;
  spec.height = height;
  spec.width = width;
  spec.channels = channels;
  spec.dimension = dimension;
  return spec;
}

std::unique_ptr<Network> Create(const ModelSpec& spec, uint64_t seed = 1) {
  auto network = CreateNetwork(spec, seed);
  EXPECT_TRUE(network.ok()) << network.status();
  return std::move(network).value();
}

torch::Tensor SomeImages(const ModelSpec& spec, int64_t n) {
  const torch::Tensor bytes = torch::arange(n * spec.height * spec.width * spec.channels, torch::kInt64)
                                  .mul(2654435761)
                                  .bitwise_right_shift(7)
                                  .remainder(256)
                                  .to(torch::kUInt8);
  return bytes.view({n, spec.height, spec.width, spec.channels});
}

torch::Tensor Infer(Network& network, int64_t n = 3) {
  torch::NoGradGuard no_grad;
  network.Train(false);
  return network.Forward(ToInput(network.spec(), SomeImages(network.spec(), n)));
}

int64_t Parameters(Network& network) {
  int64_t count = 0;
  for (const auto& [name, tensor] : network.NamedParameters()) count += tensor.numel();
  return count;
}

std::vector<std::string> Names(const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// Batch statistics away from 0 and 1, and weights that differ from the initial ones.
void TrainABit(Network& network) {
  network.Train(true);
  std::vector<torch::Tensor> parameters;
  for (auto& [name, tensor] : network.NamedParameters()) parameters.push_back(tensor);
  for (int step = 0; step < 2; ++step) {
    const torch::Tensor out = network.Forward(ToInput(network.spec(), SomeImages(network.spec(), 4)));
    out.select(1, 0).sum().backward();
    torch::NoGradGuard no_grad;
    for (torch::Tensor& p : parameters) {
      p.sub_(p.grad(), 0.01);
      p.mutable_grad() = torch::Tensor();
    }
  }
}

class EveryNet : public ::testing::TestWithParam<const char*> {
 protected:
  // Small inputs: the nets work out their own linear layers.
  ModelSpec SmallSpec() const { return Spec(GetParam(), 32, 32, 1, 12); }
};
INSTANTIATE_TEST_SUITE_P(Nets, EveryNet, ::testing::Values("glyph_cnn", "lunet", "resnet18"));

TEST_P(EveryNet, GivesUnitVectorsOfDimensionD) {
  auto network = Create(SmallSpec());
  const torch::Tensor out = Infer(*network);
  EXPECT_EQ(out.sizes(), at::IntArrayRef({3, 12}));
  EXPECT_TRUE(torch::allclose(out.norm(2, {1}), torch::ones(3)));
}

TEST_P(EveryNet, WithoutNormalisationNormsDiffer) {
  ModelSpec spec = SmallSpec();
  spec.normalize = false;
  auto plain = Create(spec);
  auto unit = Create(SmallSpec());
  const torch::Tensor out = Infer(*plain);
  EXPECT_FALSE(torch::allclose(out.norm(2, {1}), torch::ones(3)));
  EXPECT_TRUE(torch::allclose(out / out.norm(2, {1}, true), Infer(*unit), 1e-4, 1e-5));
}

TEST_P(EveryNet, TakesColourAndOtherSizes) {
  auto network = Create(Spec(GetParam(), 40, 24, 3, 12));
  EXPECT_EQ(Infer(*network, 2).sizes(), at::IntArrayRef({2, 12}));
}

TEST_P(EveryNet, SaveAndLoadGiveTheSameOutputToTheBit) {
  TempDir temp;
  auto network = Create(SmallSpec());
  const torch::Tensor before = Infer(*network);
  const auto spec = SaveNetwork(*network, 77, temp / "m");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->step, 77);
  auto loaded = LoadNetwork(temp / "m", torch::kCPU);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(torch::equal(Infer(**loaded), before));
  EXPECT_EQ((*loaded)->spec().step, 77);
  EXPECT_EQ((*loaded)->spec().fingerprint, spec->fingerprint);
}

TEST_P(EveryNet, FoldedForInferenceIsTheSameNet) {
  TempDir temp;
  auto network = Create(SmallSpec());
  TrainABit(*network);
  const torch::Tensor before = Infer(*network);
  ASSERT_TRUE(static_cast<SavableNetwork&>(*network).Freeze().ok());
  torch::NoGradGuard no_grad;
  const torch::Tensor after = network->Forward(ToInput(network->spec(), SomeImages(network->spec(), 3)));
  EXPECT_TRUE(torch::allclose(before, after, 1e-3, 1e-4)) << (before - after).abs().max();
}

TEST_P(EveryNet, EveryParameterGetsAGradient) {
  ModelSpec spec = SmallSpec();
  auto network = Create(spec);
  network->Train(true);
  network->Forward(ToInput(spec, SomeImages(spec, 4))).select(1, 0).sum().backward();
  for (const auto& [name, tensor] : network->NamedParameters()) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
  }
}

TEST(CreateNetwork, SameSeedSameWeights) {
  auto a = Create(Spec("glyph_cnn"), 5);
  auto b = Create(Spec("glyph_cnn"), 5);
  auto c = Create(Spec("glyph_cnn"), 6);
  EXPECT_TRUE(torch::equal(Infer(*a), Infer(*b)));
  EXPECT_FALSE(torch::equal(Infer(*a), Infer(*c)));
}

TEST(CreateNetwork, WeightsHaveHesVariance) {
  auto network = Create(Spec("resnet18", 32, 32, 3));
  for (const auto& [name, tensor] : network->NamedParameters()) {
    if (name != "layer4.1.conv2.weight") continue;
    EXPECT_NEAR(tensor.std().item<double>(), std::sqrt(2.0 / (512 * 9)), 2e-4);
    EXPECT_NEAR(tensor.mean().item<double>(), 0, 1e-4);
    return;
  }
  FAIL() << "no layer4.1.conv2.weight";
}

TEST(CreateNetwork, UnknownArchitectureListsThoseThereAre) {
  const auto network = CreateNetwork(Spec("resnet"), 1);
  EXPECT_EQ(network.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(network.status()), HasSubstr("\"resnet\""));
  EXPECT_THAT(Message(network.status()), HasSubstr("glyph_cnn, lunet, resnet18, resnet34, resnet50"));
}

TEST(CreateNetwork, BadSpecIsRefused) {
  EXPECT_EQ(CreateNetwork(Spec("glyph_cnn", 0), 1).status().code(), absl::StatusCode::kInvalidArgument);
}

// torchvision's counts with its 1000 classes.
TEST(ResNet, ParameterCountsAreTorchvisions) {
  EXPECT_EQ(Parameters(*Create(Spec("resnet18", 32, 32, 3, 1000))), 11689512);
  EXPECT_EQ(Parameters(*Create(Spec("resnet34", 32, 32, 3, 1000))), 21797672);
  EXPECT_EQ(Parameters(*Create(Spec("resnet50", 32, 32, 3, 1000))), 25557032);
}

// The bottleneck blocks, folded, saved and loaded.
TEST(ResNet, FiftyLayersFoldedAreTheSameNet) {
  TempDir temp;
  auto network = Create(Spec("resnet50", 32, 32, 1, 12));
  const torch::Tensor before = Infer(*network, 2);
  ASSERT_TRUE(SaveNetwork(*network, 1, temp / "m").ok());
  auto loaded = LoadNetwork(temp / "m", torch::kCPU);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(torch::equal(Infer(**loaded, 2), before));
  ASSERT_TRUE(static_cast<SavableNetwork&>(**loaded).Freeze().ok());
  EXPECT_TRUE(torch::allclose(Infer(**loaded, 2), before, 1e-3, 1e-4));
}

TEST(ResNet, NamesAndShapesAreTorchvisions) {
  auto network = Create(Spec("resnet50", 32, 32, 3, 1000));
  const auto parameters = network->NamedParameters();
  EXPECT_EQ(parameters.size(), 161);
  EXPECT_EQ(parameters.front().first, "conv1.weight");
  EXPECT_EQ(parameters.back().first, "fc.bias");
  const auto names = Names(parameters);
  for (const char* name : {"bn1.weight", "layer1.0.conv1.weight", "layer1.0.downsample.0.weight",
                           "layer1.0.downsample.1.bias", "layer4.2.bn3.bias"}) {
    EXPECT_THAT(names, Contains(name));
  }
  const auto buffers = Names(network->NamedBuffers());
  EXPECT_THAT(buffers, Contains("layer1.0.downsample.1.running_mean"));
  EXPECT_THAT(buffers, Contains("bn1.num_batches_tracked"));
  for (const auto& [name, tensor] : parameters) {
    if (name == "layer2.0.conv2.weight") {
      EXPECT_EQ(tensor.sizes(), at::IntArrayRef({128, 128, 3, 3}));
    }
  }
}

TEST(LuNet, HasTheFiveMillionParametersOfThePaper) {
  const int64_t count = Parameters(*Create(Spec("lunet", 128, 64, 3, 128)));
  EXPECT_NEAR(static_cast<double>(count), 5.0e6, 0.03e6);
}

TEST(GlyphCnn, NamesAreStable) {
  auto network = Create(Spec("glyph_cnn"));
  EXPECT_THAT(Names(network->NamedParameters()),
              ::testing::ElementsAre("conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight",
                                     "bn2.bias", "conv3.weight", "bn3.weight", "bn3.bias", "conv4.weight",
                                     "bn4.weight", "bn4.bias", "conv5.weight", "bn5.weight", "bn5.bias",
                                     "fc.weight", "fc.bias"));
}

TEST(ToInput, NormalisesEveryChannel) {
  ModelSpec spec = Spec("glyph_cnn", 1, 2, 3);
  const float mean[] = {0.1F, 0.2F, 0.3F};
  const float std[] = {0.5F, 0.25F, 1.0F};
  std::copy(mean, mean + 3, spec.mean);
  std::copy(std, std + 3, spec.std);
  const torch::Tensor bytes = torch::tensor({0, 51, 102, 153, 204, 255}, torch::kUInt8).view({1, 1, 2, 3});
  const torch::Tensor input = ToInput(spec, bytes);
  ASSERT_EQ(input.sizes(), at::IntArrayRef({1, 3, 1, 2}));
  for (int c = 0; c < 3; ++c) {
    for (int x = 0; x < 2; ++x) {
      const double pixel = bytes[0][0][x][c].item<double>();
      EXPECT_NEAR(input[0][c][0][x].item<double>(), (pixel / 255 - mean[c]) / std[c], 1e-6);
    }
  }
}

TEST(ToInput, GreyGoesFromMinusOneToOne) {
  const torch::Tensor input =
      ToInput(Spec("glyph_cnn", 1, 2), torch::tensor({0, 255}, torch::kUInt8).view({1, 1, 2, 1}));
  EXPECT_FLOAT_EQ(input.flatten()[0].item<float>(), -1);
  EXPECT_FLOAT_EQ(input.flatten()[1].item<float>(), 1);
}

TEST(SaveNetwork, SameWeightsGiveTheSameBytes) {
  TempDir temp;
  auto network = Create(Spec("glyph_cnn"));
  const auto a = SaveNetwork(*network, 1, temp / "a");
  const auto b = SaveNetwork(*network, 2, temp / "b");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->fingerprint, b->fingerprint);
  EXPECT_EQ(network->spec().fingerprint, b->fingerprint);
  EXPECT_EQ(network->spec().step, 2);
}

TEST(SaveNetwork, TrainedWeightsAndStatisticsComeBack) {
  TempDir temp;
  auto network = Create(Spec("glyph_cnn"));
  TrainABit(*network);
  const torch::Tensor before = Infer(*network);
  ASSERT_TRUE(SaveNetwork(*network, 2, temp / "m").ok());
  auto loaded = LoadNetwork(temp / "m", torch::kCPU);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(torch::equal(Infer(**loaded), before));
  EXPECT_FALSE(torch::equal(Infer(*Create(Spec("glyph_cnn"))), before));
}

TEST(LoadNetwork, WeightsOfAnotherNetNameWhatDoesNotFit) {
  TempDir temp;
  auto network = Create(Spec("glyph_cnn", 48, 48, 1, 16));
  ASSERT_TRUE(SaveNetwork(*network, 0, temp / "m").ok());
  const std::string weights = *PosixFileSystem().ReadFile(temp / "m/weights.pt");
  ASSERT_TRUE(WriteModelFiles(Spec("glyph_cnn", 48, 48, 1, 32), weights, temp / "shape").ok());
  const auto shape = LoadNetwork(temp / "shape", torch::kCPU);
  EXPECT_EQ(shape.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(shape.status()), HasSubstr("shape/weights.pt"));
  EXPECT_THAT(Message(shape.status()), HasSubstr("fc.weight [16, 1728] instead of [32, 1728]"));

  ASSERT_TRUE(WriteModelFiles(Spec("resnet18"), weights, temp / "net").ok());
  const auto net = LoadNetwork(temp / "net", torch::kCPU);
  EXPECT_THAT(Message(net.status()), HasSubstr("missing: "));
  EXPECT_THAT(Message(net.status()), HasSubstr("layer1.0.conv1.weight"));
  EXPECT_THAT(Message(net.status()), HasSubstr("not in the net: conv2.weight"));
}

TEST(LoadNetwork, FilesThatAreNoWeightsAreDataLoss) {
  TempDir temp;
  auto network = Create(Spec("glyph_cnn"));
  ASSERT_TRUE(SaveNetwork(*network, 0, temp / "m").ok());
  const std::string weights = *PosixFileSystem().ReadFile(temp / "m/weights.pt");
  for (const std::string& bad : {std::string(), std::string("PK\x03\x04 not quite"),
                                 weights.substr(0, weights.size() / 2), std::string(4096, 'x')}) {
    ASSERT_TRUE(WriteModelFiles(Spec("glyph_cnn"), bad, temp / "bad").ok());
    const auto loaded = LoadNetwork(temp / "bad", torch::kCPU);
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kDataLoss) << loaded.status();
    EXPECT_THAT(Message(loaded.status()), HasSubstr("bad/weights.pt"));
  }
}

TEST(LoadNetwork, PickleThatIsNoDictIsRefused) {
  TempDir temp;
  const std::vector<char> bytes = torch::jit::pickle_save(torch::ones(3));
  ASSERT_TRUE(WriteModelFiles(Spec("glyph_cnn"), {bytes.data(), bytes.size()}, temp / "m").ok());
  EXPECT_EQ(LoadNetwork(temp / "m", torch::kCPU).status().code(), absl::StatusCode::kDataLoss);
}

TEST(ParseDevice, KnowsAutoCpuAndRefusesOthers) {
  EXPECT_EQ(*ParseDevice("cpu"), torch::Device(torch::kCPU));
  EXPECT_TRUE(ParseDevice("auto").ok());
  for (const char* bad : {"", "gpu", "cuda:", "cuda:x", "mps", "cpu:0:1"}) {
    EXPECT_EQ(ParseDevice(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(ParseDevice, DeviceThatIsNotThereIsUnavailable) {
  const auto device = ParseDevice("cuda:63");
  EXPECT_EQ(device.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(device.status()), HasSubstr("cuda:63"));
}

}  // namespace
}  // namespace doppel
