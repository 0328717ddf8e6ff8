// How long Plan::At takes, and that it does not grow with N: medians of rounds in which every plan at every N
// has its turn. Beside it a loop that draws P identities and K images with mt19937 and promises nothing: what
// the memory accesses and the vectors alone cost.

#include <time.h>
#include <unistd.h>

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
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "common/base/philox.h"
#include "miner/planning/plan.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"

namespace doppel {
namespace {

constexpr double kTargetMicroseconds = 20;
constexpr uint64_t kSmallest = 100000;

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// µs of this thread's processor time per call of body(i), for i from `first` on: the machine may be shared.
template <typename Body>
double Microseconds(uint64_t first, uint64_t calls, const Body& body) {
  const double start = ThreadSeconds();
  for (uint64_t i = first; i < first + calls; ++i) body(i);
  return (ThreadSeconds() - start) * 1e6 / static_cast<double>(calls);
}

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
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
  int neighbours = 64, rounds = 9;
  uint64_t largest = 10000000, calls = 5000, guarded = 0;
  std::string out, only;
};

// A plan, or the bare loop, over one catalog, and what was measured of it.
struct Candidate {
  std::string name;
  uint64_t identities = 0;
  uint32_t subspaces = 0;
  std::shared_ptr<const Catalog> catalog;
  std::shared_ptr<const Plan> plan;  // null: bare
  double make = 0, megabytes = 0;
  std::vector<double> at;  // µs per batch, of each round
};

void AddCandidates(const BenchSettings& settings, uint64_t n, std::vector<Candidate>* candidates) {
  const auto catalog = MakeCatalog(n);
  std::shared_ptr<const FakeGeneration> generation =
      MakeGeneration(*catalog, settings.neighbours, settings.guarded);
  for (const std::string& name : PlanNames()) {
    if (name == "auto") continue;  // one of the others
    if (!settings.only.empty() && name != settings.only) continue;
    const v1::PlanSpec spec = SpecOf(name, settings.p, settings.k);
    Candidate candidate{name, n, name == "random" ? 0 : generation->num_subspaces(), catalog, nullptr, 0,
                        0,    {}};
    const double before = ResidentMegabytes();
    candidate.make = Microseconds(
        0, 1, [&](uint64_t) { candidate.plan = MakePlan(spec, 0, catalog, generation).value(); });
    candidate.megabytes = std::max(0.0, ResidentMegabytes() - before);
    // The first one of all pays for pages of code, too.
    for (int again = 0; again < 20 && candidate.make < 10000; ++again) {
      candidate.make = std::min(candidate.make, Microseconds(0, 1, [&](uint64_t) {
                                  candidate.plan = MakePlan(spec, 0, catalog, generation).value();
                                }));
    }
    candidates->push_back(std::move(candidate));
  }
  candidates->push_back({"(bare)", n, 0, catalog, nullptr, 0, 0, {}});
}

// One round of a candidate. Cursors far apart: as a server meets them that serves many trainers.
void Measure(const BenchSettings& settings, int round, Candidate* candidate, uint64_t* sink) {
  const uint64_t first = static_cast<uint64_t>(round) * settings.calls;
  if (candidate->plan == nullptr) {
    std::mt19937_64 random(first);
    candidate->at.push_back(Microseconds(first, settings.calls, [&](uint64_t) {
      *sink += Draw(*candidate->catalog, settings.p, settings.k, random).samples.back();
    }));
    return;
  }
  candidate->at.push_back(Microseconds(first, settings.calls, [&](uint64_t i) {
    *sink += candidate->plan->At(MixKey(7, i) >> 2).samples.back();
  }));
}

nlohmann::json Row(const BenchSettings& settings, const Candidate& candidate) {
  const auto [least, most] = std::minmax_element(candidate.at.begin(), candidate.at.end());
  std::printf("%12llu %-20s %10u %9.2f %9.2f %9.2f %12.1f %10.1f\n",
              static_cast<unsigned long long>(candidate.identities), candidate.name.c_str(),
              candidate.subspaces, MedianOf(candidate.at), *least, *most, candidate.make,
              candidate.megabytes);
  return {{"identities", candidate.identities},
          {"plan", candidate.name},
          {"subspaces", candidate.subspaces},
          {"P", settings.p},
          {"K", settings.k},
          {"us_per_batch", MedianOf(candidate.at)},
          {"us_per_batch_least", *least},
          {"us_per_batch_most", *most},
          {"us_to_make", candidate.make},
          {"plan_megabytes", candidate.megabytes}};
}

// The median over the rounds of what one took over the other.
double Ratio(const Candidate& a, const Candidate& b) {
  std::vector<double> ratios;
  for (size_t round = 0; round < a.at.size(); ++round) ratios.push_back(a.at[round] / b.at[round]);
  return MedianOf(std::move(ratios));
}

void Summarize(const std::vector<Candidate>& candidates, nlohmann::json* ratios) {
  const auto plans =
      static_cast<size_t>(std::count_if(candidates.begin(), candidates.end(), [](const Candidate& candidate) {
        return candidate.identities == kSmallest;
      }));
  const auto largest = candidates.end() - static_cast<int64_t>(plans);
  double worst = 0, most_growth = 0;
  std::string slowest, fastest_growing;
  for (size_t i = 0; i < plans; ++i) {
    const Candidate& plan = candidates[i];
    const double growth = Ratio(*(largest + static_cast<int64_t>(i)), plan);
    (*ratios)["growth_" + plan.name] = growth;
    if (plan.plan != nullptr && growth > most_growth) {
      most_growth = growth;
      fastest_growing = plan.name;
    }
  }
  for (const Candidate& candidate : candidates) {
    if (candidate.plan == nullptr || MedianOf(candidate.at) <= worst) continue;
    worst = MedianOf(candidate.at);
    slowest = candidate.name;
  }
  (*ratios)["target_over_worst"] = kTargetMicroseconds / worst;
  (*ratios)["most_growth"] = most_growth;
  std::printf(
      "worst %.2f us (%s; target %.0f); the largest N over the smallest: at most %.2f (%s), bare %.2f\n",
      worst, slowest.c_str(), kTargetMicroseconds, most_growth, fastest_growing.c_str(),
      (*ratios)["growth_(bare)"].get<double>());
}

int Run(const BenchSettings& settings) {
  std::vector<Candidate> candidates;
  for (uint64_t n = kSmallest; n <= settings.largest; n *= 10) AddCandidates(settings, n, &candidates);
  // All of them in every round, so that what disturbs the machine for a while disturbs all alike.
  uint64_t sink = 0;
  for (int round = 0; round < settings.rounds; ++round) {
    for (Candidate& candidate : candidates) Measure(settings, round, &candidate, &sink);
  }
  nlohmann::json report = {
      {"name", "plan"}, {"rows", nlohmann::json::array()}, {"ratios", nlohmann::json::object()}};
  std::printf("%12s %-20s %10s %9s %9s %9s %12s %10s\n", "identities", "plan", "subspaces", "us/batch",
              "least", "most", "us to make", "plan's MB");
  for (const Candidate& candidate : candidates) report["rows"].push_back(Row(settings, candidate));
  report["resident_megabytes"] = ResidentMegabytes();
  Summarize(candidates, &report["ratios"]);
  if (sink == 1) std::printf(".");  // so that nothing is left out as unused
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
  app.add_option("--neighbours", settings.neighbours, "Neighbours per identity; 4 bytes each")
      ->capture_default_str()
      ->check(CLI::Range(31, 4096));
  app.add_option("--guarded", settings.guarded, "Pairs and samples on the guard list")->capture_default_str();
  app.add_option("--largest", settings.largest, "The largest catalog, in identities")
      ->capture_default_str()
      ->check(CLI::Range(doppel::kSmallest, uint64_t{100000000}));
  app.add_option("--batches", settings.calls, "Batches per round")->capture_default_str();
  app.add_option("--rounds", settings.rounds, "Rounds over all plans and sizes; medians are printed")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--only", settings.only, "One plan");
  app.add_option("--out", settings.out, "Write the results there as JSON");
  CLI11_PARSE(app, argc, argv);
  return doppel::Run(settings);
}
