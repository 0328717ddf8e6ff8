// Time, memory and recall of the identity neighbours. Truth is brute force in double for a sample of the
// rows; for the time, the exact index (products by the BLAS, no use of symmetry) does the same work for a
// part of the rows beside it.

#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/base/philox.h"
#include "common/base/process_environment.h"
#include "common/index/exact_scores.h"
#include "common/index/vector_index.h"
#include "common/io/file_system.h"
#include "common/io/npy.h"
#include "miner/neighbours/identity_neighbours.h"

namespace doppel {
namespace {

// Identities around centres that lie around centres: look-alikes at more than one scale.
Matrix Clouds(int64_t n, int dimension) {
  const Philox coarse(1), fine(2), own(3);
  Matrix rows{n, dimension, {}};
  rows.values.resize(n * dimension);
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t child = fine.Below(2000, i, 1), parent = child % 50;
    for (int j = 0; j < dimension; ++j) {
      rows.row(i)[j] = static_cast<float>(coarse.Uniform(parent * dimension + j) - 0.5 +
                                          0.7 * (fine.Uniform(child * dimension + j) - 0.5) +
                                          0.7 * (own.Uniform(i * dimension + j) - 0.5));
    }
  }
  NormalizeRows(rows);
  return rows;
}

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

double PeakMegabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

// Of `sample` rows, the share of the k truly nearest that was found. Rows that tie with the k-th count.
double Recall(const Matrix& rows, const IdentityNeighbours& found, int64_t sample) {
  const int k = found.neighbours;
  int64_t hits = 0;
  std::vector<float> scores(rows.rows);
  for (int64_t s = 0; s < sample; ++s) {
    const auto i = static_cast<int64_t>(Philox(9).Below(rows.rows, s));
    for (int64_t j = 0; j < rows.rows; ++j) {
      scores[j] =
          static_cast<float>(ExactScore(rows.row(i), rows.row(j), rows.dimension, Similarity::kInnerProduct));
    }
    scores[i] = -2;
    std::vector<float> sorted = scores;
    std::nth_element(sorted.begin(), sorted.begin() + k - 1, sorted.end(), std::greater<>());
    for (int j = 0; j < k; ++j) hits += scores[found.rows[i * k + j]] >= sorted[k - 1] ? 1 : 0;
  }
  return static_cast<double>(hits) / static_cast<double>(sample * k);
}

struct Settings {
  int64_t n = 100000;
  int dimension = 128;
  int k = 64;
  int threads = 2;
  int64_t sample = 200;
  bool approximate = false;
  int probes = 32;
  std::string rows, out;
};

int Run(const Settings& settings) {
  Matrix rows;
  if (settings.rows.empty()) {
    rows = Clouds(settings.n, settings.dimension);
  } else {
    const auto array = ReadNpy(PosixFileSystem(), settings.rows);
    auto values = array.ok() ? NpyToFloats(*array) : absl::StatusOr<std::vector<float>>(array.status());
    if (!values.ok() || array->shape.size() != 2) {
      std::cerr << "bench_neighbours: " << settings.rows << ": want [N, D] float32; " << values.status()
                << "\n";
      return 1;
    }
    rows = Matrix{array->shape[0], static_cast<int>(array->shape[1]), std::move(*values)};
    NormalizeRows(rows);
  }
  NeighbourOptions options;
  options.neighbours = settings.k;
  options.threads = settings.threads;
  options.approximate = settings.approximate;
  options.probes = settings.probes;
  const double before = PeakMegabytes();
  auto start = std::chrono::steady_clock::now();
  const auto found = FindIdentityNeighbours(rows, options);
  if (!found.ok()) {
    std::cerr << "bench_neighbours: " << found.status() << "\n";
    return 1;
  }
  const double seconds = Seconds(start), memory = PeakMegabytes() - before;

  const int64_t part = std::min<int64_t>(rows.rows, std::max<int64_t>(512, rows.rows / 50 / 512 * 512));
  start = std::chrono::steady_clock::now();
  const auto index = MakeExactIndex(rows.values, rows.dimension, settings.threads).value();
  const bool searched =
      index->Search(absl::MakeConstSpan(rows.values).first(part * rows.dimension), settings.k + 1).ok();
  const double index_seconds =
      searched ? Seconds(start) * static_cast<double>(rows.rows) / static_cast<double>(part) : 0;
  const double recall = Recall(rows, *found, std::min(settings.sample, rows.rows));

  std::printf("%10s %5s %4s %8s %12s %10s %10s %26s\n", "rows", "D", "k", "threads", "mode", "seconds", "MB",
              "exact index, extrapolated");
  std::printf("%10lld %5d %4d %8d %12s %10.2f %10.0f %25.1fs\n", static_cast<long long>(rows.rows),
              rows.dimension, found->neighbours, settings.threads,
              settings.approximate ? "approximate" : "exact", seconds, memory, index_seconds);
  std::printf("recall of %lld rows against brute force in double: %.6f\n",
              static_cast<long long>(std::min(settings.sample, rows.rows)), recall);
  const nlohmann::json report = {
      {"name", "neighbours"},
      {"rows",
       {{{"identities", rows.rows},
         {"dimension", rows.dimension},
         {"neighbours", found->neighbours},
         {"threads", settings.threads},
         {"approximate", settings.approximate},
         {"seconds", seconds},
         {"peak_megabytes_beyond_rows", memory},
         {"recall", recall},
         {"exact_index_seconds_extrapolated", index_seconds}}}},
      {"ratios", {{"exact_index_over_doppel", index_seconds / seconds}, {"recall", recall}}}};
  if (!settings.out.empty() && !(std::ofstream(settings.out) << report.dump(2) << "\n")) {
    std::cerr << "bench_neighbours: cannot write " << settings.out << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  doppel::RestartWithComputeEnvironment(argv);
  CLI::App app("Every identity's nearest neighbours: time, memory and recall.", "bench_neighbours");
  doppel::Settings settings;
  app.add_option("--identities", settings.n, "Rows")->capture_default_str();
  app.add_option("--dimension", settings.dimension, "D")->capture_default_str();
  app.add_option("--neighbours", settings.k, "k")->capture_default_str();
  app.add_option("--threads", settings.threads, "Threads")->capture_default_str();
  app.add_option("--sample", settings.sample, "Rows whose recall is measured")->capture_default_str();
  app.add_flag("--approximate", settings.approximate, "Inverted file instead of all pairs");
  app.add_option("--probes", settings.probes, "approximate: cells searched")->capture_default_str();
  app.add_option("--rows", settings.rows, "Rows from a .npy file instead, [N, D] float32");
  app.add_option("--out", settings.out, "Write the results there as JSON");
  CLI11_PARSE(app, argc, argv);
  return doppel::Run(settings);
}
