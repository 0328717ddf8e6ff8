// How long Plan::At takes, and that it does not grow with N. Beside it a loop that draws P identities and K
// images with mt19937 and promises nothing: what the memory accesses and the vectors alone cost.

#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
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

// A thousand categories: identities of one share a name, which is all that the plan looks at.
class NamedCatalog : public FakeCatalog {
 public:
  explicit NamedCatalog(const std::vector<uint32_t>& samples) : FakeCatalog(samples), n_(samples.size()) {
    names_.reserve(kCategories);
    for (uint64_t c = 0; c < kCategories; ++c) names_.push_back(absl::StrFormat("c%04d/x", c));
  }
  absl::string_view IdentityName(uint64_t identity) const override {
    return names_[identity * kCategories / n_];
  }

 private:
  static constexpr uint64_t kCategories = 1000;
  uint64_t n_;
  std::vector<std::string> names_;
};

double ResidentMegabytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t total = 0, resident = 0;
  statm >> total >> resident;
  return static_cast<double>(resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE))) / 1048576;
}

std::shared_ptr<const Catalog> MakeCatalog(uint64_t n) {
  const Philox philox(1);
  std::vector<uint32_t> samples(n);
  for (uint64_t i = 0; i < n; ++i) samples[i] = 3 + static_cast<uint32_t>(philox.Below(10, i));
  return std::make_shared<NamedCatalog>(samples);
}

std::shared_ptr<FakeGeneration> MakeGeneration(const Catalog& catalog, int neighbours, uint64_t guarded) {
  const uint64_t n = catalog.num_identities();
  const auto subspaces = static_cast<uint32_t>(n / 10000);
  const Philox philox(2);
  std::vector<uint32_t> assignment(n);
  for (uint64_t i = 0; i < n; ++i) assignment[i] = static_cast<uint32_t>(philox.Below(subspaces, i));
  auto generation = std::make_shared<FakeGeneration>(1, 0, std::move(assignment), subspaces, 8);
  generation->mutable_info().set_catalog_fingerprint(catalog.fingerprint());
  generation->mutable_info().set_split("all");
  generation->SetRandomNeighbours(neighbours, 3);
  if (guarded == 0) return generation;
  std::vector<GuardList::Pair> pairs;
  std::vector<uint64_t> samples;
  for (uint64_t g = 0; g < guarded; ++g) {
    const auto identity = static_cast<uint32_t>(Philox(5).Below(n, g));
    pairs.push_back({identity, generation->Neighbours(identity)[g % static_cast<uint64_t>(neighbours)]});
    samples.push_back(catalog.Samples(Philox(6).Below(n, g)).first);
  }
  generation->SetGuardList(GuardList::Make(std::move(pairs), std::move(samples)).value());
  return generation;
}

v1::PlanSpec SpecOf(const std::string& name, uint32_t p, uint32_t k) {
  v1::PlanSpec spec;
  spec.set_name(name);
  spec.set_identities_per_batch(p);
  spec.set_samples_per_identity(k);
  if (name == "mixture") {
    for (const char* part : {"random", "subspace", "look_alikes"}) {
      v1::PlanPart& added = *spec.add_part();
      added.mutable_plan()->set_name(part);
      added.set_weight(1);
    }
  }
  return spec;
}

struct BenchSettings {
  uint32_t p = 32, k = 4;
  int neighbours = 64;
  uint64_t largest = 10000000, calls = 20000, guarded = 0;
  std::string out;
};

int Run(const BenchSettings& settings) {
  nlohmann::json report = {
      {"name", "plan"}, {"rows", nlohmann::json::array()}, {"ratios", nlohmann::json::object()}};
  std::printf("%12s %-20s %10s %14s %14s %14s\n", "identities", "plan", "subspaces", "us per batch",
              "us to make", "plan's MB");
  uint64_t sink = 0;
  double worst = 0;
  std::map<std::string, std::vector<double>> times;
  for (uint64_t n = 100000; n <= settings.largest; n *= 10) {
    const auto catalog = MakeCatalog(n);
    // What lies in a generation, mapped, is no memory of the plans; ten million lists of 64 need not fit
    // here.
    const int neighbours = n > 1000000 ? std::min(settings.neighbours, 16) : settings.neighbours;
    std::shared_ptr<const FakeGeneration> generation = MakeGeneration(*catalog, neighbours, settings.guarded);
    auto row = [&](const std::string& name, uint32_t subspaces, double at, double make, double megabytes) {
      std::printf("%12llu %-20s %10u %14.2f %14.1f %14.1f\n", static_cast<unsigned long long>(n),
                  name.c_str(), subspaces, at, make, megabytes);
      report["rows"].push_back({{"identities", n},
                                {"plan", name},
                                {"subspaces", subspaces},
                                {"P", settings.p},
                                {"K", settings.k},
                                {"us_per_batch", at},
                                {"us_to_make", make},
                                {"plan_megabytes", megabytes},
                                {"resident_megabytes", ResidentMegabytes()}});
    };
    for (const std::string& name : PlanNames()) {
      if (name == "auto") continue;  // one of the others
      const v1::PlanSpec spec = SpecOf(
          name, name == "nearest_identities" ? std::min<uint32_t>(settings.p, neighbours + 1) : settings.p,
          settings.k);
      const double before = ResidentMegabytes();
      std::shared_ptr<const Plan> plan = MakePlan(spec, 0, catalog, generation).value();
      const double megabytes = std::max(0.0, ResidentMegabytes() - before);
      const bool slow = name == "subspace_overlap" || name == "category";
      const double make = Microseconds(
          slow ? 1 : 20, [&](uint64_t i) { plan = MakePlan(spec, i, catalog, generation).value(); });
      // Cursors far apart: as a server meets them that serves many trainers.
      const double at = Microseconds(settings.calls,
                                     [&](uint64_t i) { sink += plan->At(MixKey(7, i) >> 2).samples.back(); });
      row(name, name == "random" ? 0 : generation->num_subspaces(), at, make, megabytes);
      if (spec.identities_per_batch() == settings.p) {
        worst = std::max(worst, at);
        times[name].push_back(at);
      }
    }
    std::mt19937_64 random(1);
    const double bare = Microseconds(settings.calls, [&](uint64_t) {
      sink += Draw(*catalog, settings.p, settings.k, random).samples.back();
    });
    times["(bare)"].push_back(bare);
    row("(bare)", 0, bare, 0, 0);
  }
  double most_growth = 0;
  for (const auto& [name, at] : times) {
    report["ratios"]["growth_" + name] = at.back() / at.front();
    if (name != "(bare)") most_growth = std::max(most_growth, at.back() / at.front());
  }
  report["ratios"]["target_over_worst"] = kTargetMicroseconds / worst;
  report["ratios"]["largest_over_smallest"] = times["subspace"].back() / times["subspace"].front();
  report["ratios"]["subspace_over_bare"] = times["subspace"].back() / times["(bare)"].back();
  std::printf(
      "worst %.2f us (target %.0f); at the largest N over the smallest: at most %.2f, subspace %.2f, bare "
      "%.2f%s\n",
      worst, kTargetMicroseconds, most_growth, times["subspace"].back() / times["subspace"].front(),
      times["(bare)"].back() / times["(bare)"].front(), sink == 1 ? "." : "");
  if (!settings.out.empty() && !(std::ofstream(settings.out) << report.dump(2) << "\n")) {
    std::cerr << "bench_plan: cannot write " << settings.out << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  CLI::App app("Time per planned batch over the number of identities.", "bench_plan");
  doppel::BenchSettings settings;
  app.add_option("--identities-per-batch", settings.p, "P")->capture_default_str();
  app.add_option("--samples-per-identity", settings.k, "K")->capture_default_str();
  app.add_option("--neighbours", settings.neighbours, "Neighbours per identity (at most 16 beyond a million)")
      ->capture_default_str();
  app.add_option("--guarded", settings.guarded, "Pairs and samples on the guard list")->capture_default_str();
  app.add_option("--largest", settings.largest, "The largest catalog, in identities")->capture_default_str();
  app.add_option("--batches", settings.calls, "Batches per round")->capture_default_str();
  app.add_option("--out", settings.out, "Write the results there as JSON");
  CLI11_PARSE(app, argc, argv);
  return doppel::Run(settings);
}
