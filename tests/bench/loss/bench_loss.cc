// Forward and backward of every metric loss, against the same loss written with tensor operations in the same
// process: time (the best of several) and peak memory. One thread unless told.

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/base/process_environment.h"
#include "counted_memory.h"
#include "plain_losses.h"
#include "trainer/loss/loss_factory.h"

namespace doppel {
namespace {

struct BenchSettings {
  std::vector<int64_t> batches = {256, 1024, 2048, 4096, 8192};
  std::vector<int64_t> dimensions = {128, 512};
  std::vector<std::string> losses;
  int samples = 4;
  int rounds = 7;
  double seconds = 1.5;  // no further rounds of a measurement after so long
  double gigabytes = 6;  // formulations that would need more are left out
  std::string distance = "euclidean", margin = "0.3", out;
};

struct BenchFigure {
  double seconds = 1e30;
  int64_t bytes = 0;
  double value = 0;
};

// Identities around centres, so that some negatives are near.
torch::Tensor Embeddings(int64_t batch, int64_t dimension, int samples) {
  torch::manual_seed(1);
  const torch::Tensor centres = torch::randn({batch / samples, dimension});
  const torch::Tensor own = torch::randn({batch, dimension}) * 0.8;
  const torch::Tensor x = centres.repeat_interleave(samples, 0) + own;
  return x / x.square().sum(1, true).sqrt();
}

template <typename Body>
BenchFigure MeasureLoss(const torch::Tensor& x, const BenchSettings& settings, const Body& body) {
  BenchFigure figure;
  double spent = 0;
  for (int round = 0; round < settings.rounds && (round == 0 || spent < settings.seconds); ++round) {
    torch::Tensor leaf = x.clone().requires_grad_(true);
    const int64_t before = MemoryInUse();
    ResetMemoryPeak();
    const auto start = std::chrono::steady_clock::now();
    const torch::Tensor loss = body(leaf);
    loss.backward();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    figure.bytes = std::max(figure.bytes, MemoryPeak() - before);
    figure.seconds = std::min(figure.seconds, passed.count());
    figure.value = loss.item<double>();
    spent += passed.count();
  }
  return figure;
}

class LossBench {
 public:
  explicit LossBench(const BenchSettings& settings) : settings_(settings) {
    report_ = {{"name", "loss"},
               {"threads", at::get_num_threads()},
               {"samples_per_identity", settings.samples},
               {"memory", "tensors and operator new, through counting allocators"},
               {"rows", nlohmann::json::array()},
               {"ratios", nlohmann::json::object()}};
  }

  int Run() {
    std::printf("%6s %5s  %-18s %-8s %10s %10s %9s %9s\n", "B", "D", "loss", "written", "ms", "MiB",
                "matrices", "ratio");
    const std::vector<std::string> names = settings_.losses.empty() ? MetricLossNames() : settings_.losses;
    for (const int64_t dimension : settings_.dimensions) {
      for (const int64_t batch : settings_.batches) {
        for (const std::string& name : names) {
          if (!OneLoss(name, batch, dimension)) return 1;
        }
      }
    }
    if (!settings_.out.empty() && !(std::ofstream(settings_.out) << report_.dump(2) << "\n")) {
      std::cerr << "bench_loss: cannot write " << settings_.out << "\n";
      return 1;
    }
    return 0;
  }

 private:
  bool OneLoss(const std::string& name, int64_t batch, int64_t dimension) {
    LossOptions options;
    options.name = name;
    options.distance = settings_.distance;
    options.margin = settings_.margin;
    auto loss = MakeLoss(options);
    if (!loss.ok()) {
      std::cerr << "bench_loss: " << loss.status().ToString() << "\n";
      return false;
    }
    const torch::Tensor x = Embeddings(batch, dimension, settings_.samples);
    std::vector<int64_t> identities;
    for (int64_t i = 0; i < batch; ++i) identities.push_back(i / settings_.samples);
    absl::Status status;
    const BenchFigure ours = MeasureLoss(x, settings_, [&](const torch::Tensor& leaf) {
      auto result = (*loss)->Compute({leaf, identities});
      status = result.status();
      return result.ok() ? result->loss : leaf.sum();
    });
    if (!status.ok()) {
      std::cerr << "bench_loss: " << name << ": " << status.ToString() << "\n";
      return false;
    }
    Report(name, "doppel", batch, dimension, ours, 0);
    if (settings_.distance != "euclidean" || settings_.margin == "soft") return true;
    const torch::Tensor labels = torch::tensor(identities);
    for (const PlainLoss& plain :
         PlainLosses(std::stod(settings_.margin), options.negatives, settings_.samples)) {
      if (plain.loss != name) continue;
      const double cube = std::pow(static_cast<double>(batch), 3);
      if (plain.cubic && cube * (plain.label == "plain" ? 20 : 2) > settings_.gigabytes * 1e9) continue;
      const BenchFigure theirs =
          MeasureLoss(x, settings_, [&](const torch::Tensor& leaf) { return plain.compute(leaf, labels); });
      Report(name, plain.label, batch, dimension, theirs, theirs.seconds / ours.seconds);
      // One negative per pair is another loss than five.
      const bool comparable = !(name == "batch_ohnm" && plain.label == "indices");
      if (comparable && std::abs(theirs.value - ours.value) > 1e-3 * std::max(1e-3, std::abs(ours.value))) {
        std::cerr << "bench_loss: " << name << " is " << ours.value << ", written " << plain.label
                  << " it is " << theirs.value << "\n";
        return false;
      }
    }
    return true;
  }

  void Report(const std::string& name, const std::string& written, int64_t batch, int64_t dimension,
              const BenchFigure& figure, double ratio) {
    const double matrices = static_cast<double>(figure.bytes) / (4.0 * static_cast<double>(batch * batch));
    std::printf("%6ld %5ld  %-18s %-8s %10.3f %10.1f %9.2f ", static_cast<long>(batch),
                static_cast<long>(dimension), name.c_str(), written.c_str(), figure.seconds * 1e3,
                static_cast<double>(figure.bytes) / 1048576.0, matrices);
    ratio > 0 ? std::printf("%8.1fx\n", ratio) : std::printf("%9s\n", "");
    std::fflush(stdout);
    report_["rows"].push_back({{"loss", name},
                               {"written", written},
                               {"batch", batch},
                               {"dimension", dimension},
                               {"seconds", figure.seconds},
                               {"peak_bytes", figure.bytes},
                               {"distance_matrices", matrices},
                               {"value", figure.value}});
    if (ratio <= 0) return;
    report_["ratios"][name + "_over_" + written + "_B" + std::to_string(batch) + "_D" +
                      std::to_string(dimension)] = ratio;
  }

  const BenchSettings& settings_;
  nlohmann::json report_;
};

// LibTorch's number of threads does not reach an OpenBLAS with threads of its own.
void SetThreads(int threads) {
  at::set_num_threads(threads);
  const auto set = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (set != nullptr) set(threads);
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  doppel::RestartWithComputeEnvironment(argv);
  CLI::App app("Every metric loss: time and peak memory of forward and backward.", "bench_loss");
  doppel::BenchSettings settings;
  int threads = 1;
  bool quick = false;
  app.add_option("--batch", settings.batches, "B")->capture_default_str();
  app.add_option("--dimension", settings.dimensions, "D")->capture_default_str();
  app.add_option("--samples", settings.samples, "K")->capture_default_str()->check(CLI::Range(2, 4096));
  app.add_option("--loss", settings.losses, "These losses only");
  app.add_option("--distance", settings.distance, "euclidean, squared or cosine")->capture_default_str();
  app.add_option("--margin", settings.margin, "A number or soft")->capture_default_str();
  app.add_option("--rounds", settings.rounds, "The best of so many")->capture_default_str();
  app.add_option("--gigabytes", settings.gigabytes, "Leaves out cubic formulations above")
      ->capture_default_str();
  app.add_option("--threads", threads, "Of LibTorch and BLAS")->capture_default_str();
  app.add_flag("--quick", quick, "B = 256 and 1024, D = 128 only");
  app.add_option("--out", settings.out, "Write the results there as JSON");
  CLI11_PARSE(app, argc, argv);
  if (quick) {
    settings.batches = {256, 1024};
    settings.dimensions = {128};
    settings.rounds = 3;
  }
  // As the trainer does: without it page faults of large tensors weigh on every formulation alike.
  doppel::KeepFreedMemory();
  doppel::StartCountingMemory();
  doppel::SetThreads(threads);
  return doppel::LossBench(settings).Run();
}
