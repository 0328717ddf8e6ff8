// The representation pass against the bare forward rate of the net, on the same catalog, batch size and
// threads.
#include <c10/core/InferenceMode.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/process_environment.h"
#include "common/catalog/catalog.h"
#include "common/image/image.h"
#include "common/model/network.h"
#include "services/embedder/embed_range.h"

namespace doppel {
namespace {

constexpr char kBareShared[] = "bare forward, threads share a batch";
constexpr char kBareApart[] = "bare forward, a batch per thread";
constexpr char kFolded[] = "folded forward from bytes, a batch per thread";
constexpr char kDecode[] = "read and decode";
constexpr char kPass[] = "representation pass";

struct Flags {
  std::string catalog;
  std::string model;
  int threads = 2;
  int batch_size = 192;
  double seconds = 20;
  int rounds = 4;
  std::string out;
};

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (value.ok()) return std::move(value).value();
  std::fprintf(stderr, "bench_embed: %s\n", std::string(value.status().message()).c_str());
  std::exit(1);
}

// Images per second of `threads` threads that call their own body (which returns images done) for `seconds`.
double Rate(int threads, double seconds, const std::function<std::function<int64_t()>()>& make_body) {
  std::vector<std::function<int64_t()>> bodies;
  for (int t = 0; t < threads; ++t) bodies.push_back(make_body());
  std::atomic<int64_t> images = 0;
  const absl::Time start = absl::Now();
  const absl::Time end = start + absl::Seconds(seconds);
  std::vector<std::thread> workers;
  for (auto& body : bodies) {
    workers.emplace_back([&, end] {
      SetComputeThreads(1);
      while (absl::Now() < end) images += body();
    });
  }
  for (std::thread& worker : workers) worker.join();
  return static_cast<double>(images) / absl::ToDoubleSeconds(absl::Now() - start);
}

std::function<int64_t()> BareForward(const Flags& flags) {
  std::shared_ptr<Network> network = Must(LoadNetwork(flags.model, torch::kCPU));
  network->Train(false);
  const ModelSpec& s = network->spec();
  const torch::Tensor bytes =
      torch::randint(256, {flags.batch_size, s.height, s.width, s.channels}, torch::kUInt8);
  return [network, input = ToInput(s, bytes)] {
    c10::InferenceMode inference;
    network->Forward(input);
    return input.size(0);
  };
}

std::function<int64_t()> FoldedForward(const EmbeddingModel& model, int batch_size) {
  std::shared_ptr<EmbeddingModel> clone = Must(model.Clone());
  const ModelSpec& s = clone->spec();
  std::vector<uint8_t> images(static_cast<size_t>(batch_size) * s.height * s.width * s.channels, 128);
  return [=, out = std::vector<float>(static_cast<size_t>(batch_size) * s.dimension)]() mutable {
    if (!clone->Embed(images, batch_size, out.data()).ok()) std::abort();
    return int64_t{batch_size};
  };
}

std::function<int64_t()> Decode(std::shared_ptr<const Catalog> catalog, const ModelSpec& spec,
                                std::shared_ptr<std::atomic<uint64_t>> next) {
  return [=, pixels = std::vector<uint8_t>(static_cast<size_t>(spec.height) * spec.width *
                                           spec.channels)]() mutable {
    for (int i = 0; i < 64; ++i) {
      const auto bytes = catalog->ReadChecked((*next)++ % catalog->num_samples());
      if (bytes.ok())
        (void)DecodeImageInto(bytes->data, spec.height, spec.width, spec.channels, pixels.data());
    }
    return int64_t{64};
  };
}

// Ranges of about `seconds` worth of samples, two in flight, as the embedder does.
double PassRate(std::shared_ptr<const Catalog> catalog, const EmbeddingModel& model, const Flags& flags,
                double seconds) {
  std::vector<std::unique_ptr<EmbeddingModel>> models;
  for (int t = 0; t < flags.threads; ++t) models.push_back(Must(model.Clone()));
  EmbedPool pool(std::move(models), flags.batch_size);
  const uint64_t identities = catalog->num_identities();
  EmbedRangeSpec range;
  range.identity_count = std::min<uint64_t>(1024, identities);
  auto submit = [&] {
    auto job = Must(pool.Submit(catalog, range));
    range.first_identity += range.identity_count;
    if (range.first_identity + range.identity_count > identities) range.first_identity = 0;
    return job;
  };
  uint64_t images = 0;
  const absl::Time start = absl::Now();
  std::deque<std::shared_ptr<EmbedJob>> jobs = {submit(), submit()};
  while (!jobs.empty()) {
    const Representations result = Must(jobs.front()->Take());
    jobs.pop_front();
    for (uint32_t n : result.samples) images += n;
    images += result.failed_samples;
    if (absl::Now() < start + absl::Seconds(seconds)) jobs.push_back(submit());
  }
  return static_cast<double>(images) / absl::ToDoubleSeconds(absl::Now() - start);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

void Report(const std::map<std::string, std::vector<double>>& rates, const Flags& flags) {
  nlohmann::json rows = nlohmann::json::array();
  for (const char* name : {kBareShared, kBareApart, kFolded, kDecode, kPass}) {
    const double median = Median(rates.at(name));
    const double best = *std::max_element(rates.at(name).begin(), rates.at(name).end());
    std::printf("%-48s %10.0f img/s (best %.0f)\n", name, median, best);
    rows.push_back(
        {{"name", name}, {"images_per_second", median}, {"best", best}, {"rounds", rates.at(name)}});
  }
  // Of the same round: the rows of one round ran within seconds of each other.
  std::vector<double> over_bare;
  std::vector<double> over_folded;
  for (size_t i = 0; i < rates.at(kPass).size(); ++i) {
    const double pass = rates.at(kPass)[i];
    over_bare.push_back(pass / std::max(rates.at(kBareShared)[i], rates.at(kBareApart)[i]));
    over_folded.push_back(pass / rates.at(kFolded)[i]);
  }
  std::printf("pass over bare forward   %.3f\npass over folded forward %.3f\n", Median(over_bare),
              Median(over_folded));
  if (flags.out.empty()) return;
  const nlohmann::json report = {
      {"name", "embed"},
      {"threads", flags.threads},
      {"batch_size", flags.batch_size},
      {"rows", rows},
      {"ratios",
       {{"pass_over_bare_forward", Median(over_bare)}, {"pass_over_folded_forward", Median(over_folded)}}}};
  std::ofstream(flags.out) << report.dump(2) << "\n";
}

void Run(const Flags& flags) {
  const auto catalog = Must(Catalog::Open(flags.catalog));
  const auto model = Must(LoadEmbeddingModel(flags.model, "cpu"));
  const double seconds = flags.seconds / flags.rounds / 5;
  auto next = std::make_shared<std::atomic<uint64_t>>(0);
  std::map<std::string, std::vector<double>> rates;
  for (int round = -1; round < flags.rounds; ++round) {
    const bool warm_up = round < 0;
    const double span = warm_up ? 0.2 : seconds;
    std::map<std::string, double> now;
    {
      // Operators share a batch in this thread alone.
      auto body = BareForward(flags);
      SetComputeThreads(flags.threads);
      const absl::Time start = absl::Now();
      int64_t images = 0;
      while (absl::Now() - start < absl::Seconds(span)) images += body();
      now[kBareShared] = static_cast<double>(images) / absl::ToDoubleSeconds(absl::Now() - start);
    }
    now[kBareApart] = Rate(flags.threads, span, [&] { return BareForward(flags); });
    now[kPass] = PassRate(catalog, *model, flags, span);
    now[kFolded] = Rate(flags.threads, span, [&] { return FoldedForward(*model, flags.batch_size); });
    now[kDecode] = Rate(flags.threads, span, [&] { return Decode(catalog, model->spec(), next); });
    if (warm_up) continue;
    for (const auto& [name, rate] : now) rates[name].push_back(rate);
  }
  Report(rates, flags);
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  doppel::RestartWithComputeEnvironment(argv);
  doppel::Flags flags;
  CLI::App app("Measures the representation pass against the bare forward rate of the net.", "bench_embed");
  app.add_option("--catalog", flags.catalog, "catalog directory")->required();
  app.add_option("--model", flags.model, "model directory")->required();
  app.add_option("--threads", flags.threads)->capture_default_str()->check(CLI::Range(1, 256));
  app.add_option("--batch-size", flags.batch_size)->capture_default_str()->check(CLI::Range(1, 65536));
  app.add_option("--seconds", flags.seconds, "in all")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--rounds", flags.rounds, "the rates are medians over them")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  app.add_option("--out", flags.out, "JSON file for the results");
  CLI11_PARSE(app, argc, argv);
  doppel::Run(flags);
  return 0;
}
