// Our clusterer against the library's own loop, in the same run on the same rows: time and objective. Both
// train on all rows; ours also checks them, assigns exactly with the final centroids and balances, so the
// library is given its search with the final centroids, too. Needs OMP_WAIT_POLICY=passive in the environment
// to mean anything.

#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/base/philox.h"
#include "common/base/process_environment.h"
#include "miner/clustering/faiss_clusterer.h"

// The processor that OpenBLAS took this one for: the library's loop stands and falls with it.
extern "C" char* openblas_get_corename();

namespace doppel {
namespace {

struct Outcome {
  double seconds = 1e30;
  double objective = 0;
};

// Identities around centres that lie around centres: clusters at more than one scale.
Matrix Synthetic(int64_t n, int dimension) {
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

template <typename Body>
void Time(Outcome* outcome, const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  outcome->objective = body();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  outcome->seconds = std::min(outcome->seconds, passed.count());
}

double Sum(const std::vector<float>& similarity) {
  double sum = 0;
  for (float s : similarity) sum += 1.0 - s;
  return sum;
}

double Stock(const Matrix& rows, int subspaces, int iterations) {
  faiss::ClusteringParameters parameters;
  parameters.niter = iterations;
  parameters.spherical = true;
  parameters.min_points_per_centroid = 1;
  parameters.max_points_per_centroid = std::numeric_limits<int>::max();
  faiss::Clustering clustering(rows.dimension, subspaces, parameters);
  faiss::IndexFlatIP index(rows.dimension);
  clustering.train(rows.rows, rows.values.data(), index);
  std::vector<float> similarity(rows.rows);
  std::vector<faiss::Index::idx_t> labels(rows.rows);
  index.search(rows.rows, rows.values.data(), 1, similarity.data(), labels.data());
  return Sum(similarity);
}

double Ours(const Matrix& rows, int subspaces, int iterations) {
  ClusterOptions options;
  options.subspaces = subspaces;
  options.iterations = iterations;
  options.on_iteration = [](int, int, double) { return true; };
  return Sum(MakeFaissClusterer()->Cluster(rows, options).value().similarity);
}

int Run(int64_t n, int dimension, int rounds, const std::string& out) {
  const Matrix rows = Synthetic(n, dimension);
  nlohmann::json report = {
      {"name", "cluster"}, {"rows", nlohmann::json::array()}, {"ratios", nlohmann::json::object()}};
  report["openblas_core"] = openblas_get_corename();
  std::printf("OpenBLAS core: %s\n", openblas_get_corename());
  std::printf("%8s %11s %12s %12s %8s %14s %14s %8s\n", "M", "iterations", "stock s", "doppel s", "ratio",
              "stock obj", "doppel obj", "ratio");
  for (const auto& [subspaces, iterations] : {std::pair{10, 20}, std::pair{100, 10}, std::pair{1000, 5}}) {
    Outcome stock, ours;
    for (int round = 0; round < rounds; ++round) {  // in turns: the machine is shared
      Time(&stock, [&, m = subspaces, it = iterations] { return Stock(rows, m, it); });
      Time(&ours, [&, m = subspaces, it = iterations] { return Ours(rows, m, it); });
    }
    const double time_ratio = stock.seconds / ours.seconds,
                 objective_ratio = ours.objective / stock.objective;
    std::printf("%8d %11d %12.3f %12.3f %8.2f %14.1f %14.1f %8.4f\n", subspaces, iterations, stock.seconds,
                ours.seconds, time_ratio, stock.objective, ours.objective, objective_ratio);
    report["rows"].push_back({{"subspaces", subspaces},
                              {"iterations", iterations},
                              {"identities", n},
                              {"dimension", dimension},
                              {"stock_seconds", stock.seconds},
                              {"doppel_seconds", ours.seconds},
                              {"stock_objective", stock.objective},
                              {"doppel_objective", ours.objective}});
    report["ratios"]["speed_M" + std::to_string(subspaces)] = time_ratio;
    report["ratios"]["objective_M" + std::to_string(subspaces)] = objective_ratio;
  }
  if (!out.empty() && !(std::ofstream(out) << report.dump(2) << "\n")) {
    std::cerr << "bench_cluster: cannot write " << out << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  doppel::RestartWithComputeEnvironment(argv);
  CLI::App app("Spherical k-means: ours against the library's own loop.", "bench_cluster");
  int64_t n = 100000;
  int dimension = 128, rounds = 3;
  std::string out;
  app.add_option("--identities", n, "Rows")->capture_default_str();
  app.add_option("--dimension", dimension, "D")->capture_default_str();
  app.add_option("--rounds", rounds, "The best of so many")->capture_default_str();
  app.add_option("--out", out, "Write the results there as JSON");
  CLI11_PARSE(app, argc, argv);
  return doppel::Run(n, dimension, rounds, out);
}
