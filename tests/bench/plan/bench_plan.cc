// How long Plan::At takes, and that it does not grow with N. Beside it a loop that draws P identities and K
// images with mt19937 and promises nothing: what the memory accesses and the vectors alone cost.

#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "common/base/philox.h"
#include "miner/planning/plan.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"

namespace doppel {
namespace {

constexpr double kTargetMicroseconds = 20;

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The least of several rounds, in µs of this thread's processor time per call of body(i): the machine may be
// shared.
template <typename Body>
double Microseconds(uint64_t calls, const Body& body) {
  double best = 1e30;
  uint64_t i = 0;
  for (int round = 0; round < 5; ++round) {
    const double start = ThreadSeconds();
    for (uint64_t end = i + calls; i < end; ++i) body(i);
    best = std::min(best, (ThreadSeconds() - start) * 1e6 / static_cast<double>(calls));
  }
  return best;
}

PlannedBatch Draw(const Catalog& catalog, uint32_t p, uint32_t k, std::mt19937_64& random) {
  PlannedBatch batch;
  for (uint32_t i = 0; i < p; ++i) {
    const uint64_t identity = random() % catalog.num_identities();
    batch.identities.push_back(identity);
    const IdentitySamples samples = catalog.Samples(identity);
    for (uint32_t j = 0; j < k; ++j) batch.samples.push_back(samples.first + random() % samples.count);
  }
  return batch;
}

int Run(uint32_t p, uint32_t k, uint64_t largest, uint64_t calls, const std::string& out) {
  nlohmann::json report = {
      {"name", "plan"}, {"rows", nlohmann::json::array()}, {"ratios", nlohmann::json::object()}};
  std::printf("%12s %-10s %10s %14s %12s\n", "identities", "plan", "subspaces", "us per batch", "us to make");
  uint64_t sink = 0;
  double worst = 0;
  std::vector<double> subspace, bare;
  for (uint64_t n = 100000; n <= largest; n *= 10) {
    const auto catalog = MakeFakeCatalog(n, 3, 12, 1);
    const auto generation = MakeFakeGeneration(*catalog, "", static_cast<uint32_t>(n / 10000), 2);
    auto row = [&](const std::string& name, uint32_t subspaces, double at, double make) {
      std::printf("%12llu %-10s %10u %14.2f %12.1f\n", static_cast<unsigned long long>(n), name.c_str(),
                  subspaces, at, make);
      report["rows"].push_back({{"identities", n},
                                {"plan", name},
                                {"subspaces", subspaces},
                                {"P", p},
                                {"K", k},
                                {"us_per_batch", at},
                                {"us_to_make", make}});
    };
    for (const std::string name : {"random", "subspace"}) {
      v1::PlanSpec spec;
      spec.set_name(name);
      spec.set_identities_per_batch(p);
      spec.set_samples_per_identity(k);
      std::shared_ptr<const Plan> plan;
      const double make =
          Microseconds(20, [&](uint64_t i) { plan = MakePlan(spec, i, catalog, generation).value(); });
      // Cursors far apart: as a server meets them that serves many trainers.
      const double at =
          Microseconds(calls, [&](uint64_t i) { sink += plan->At(MixKey(7, i) >> 2).samples.back(); });
      row(name, name == "random" ? 0 : generation->num_subspaces(), at, make);
      worst = std::max(worst, at);
      if (name == "subspace") subspace.push_back(at);
    }
    std::mt19937_64 random(1);
    bare.push_back(
        Microseconds(calls, [&](uint64_t) { sink += Draw(*catalog, p, k, random).samples.back(); }));
    row("(bare)", 0, bare.back(), 0);
  }
  report["ratios"] = {{"target_over_worst", kTargetMicroseconds / worst},
                      {"largest_over_smallest", subspace.back() / subspace.front()},
                      {"subspace_over_bare", subspace.back() / bare.back()}};
  std::printf(
      "worst %.2f us (target %.0f); subspace at the largest N over the smallest: %.2f; over bare: %.2f%s\n",
      worst, kTargetMicroseconds, subspace.back() / subspace.front(), subspace.back() / bare.back(),
      sink == 1 ? "." : "");
  if (!out.empty() && !(std::ofstream(out) << report.dump(2) << "\n")) {
    std::cerr << "bench_plan: cannot write " << out << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  CLI::App app("Time per planned batch over the number of identities.", "bench_plan");
  uint32_t p = 32, k = 4;
  uint64_t largest = 10000000, calls = 20000;
  std::string out;
  app.add_option("--identities-per-batch", p, "P")->capture_default_str();
  app.add_option("--samples-per-identity", k, "K")->capture_default_str();
  app.add_option("--largest", largest, "The largest catalog, in identities")->capture_default_str();
  app.add_option("--batches", calls, "Batches per round")->capture_default_str();
  app.add_option("--out", out, "Write the results there as JSON");
  CLI11_PARSE(app, argc, argv);
  return doppel::Run(p, k, largest, calls, out);
}
