// Our clusterer against the library's own loop, in the same run on the same rows, from the same first
// centroids: time, objective and memory; and a moved model clustered again, ours from the clustering that
// there was. Both train on all rows; ours also checks them, assigns exactly with the final centroids and
// balances, so the library is given its search with the final centroids, too. Needs OMP_WAIT_POLICY=passive
// in the environment to mean anything.

#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>
#include <malloc.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/executor.h"
#include "common/base/philox.h"
#include "common/base/process_environment.h"
#include "common/io/file_system.h"
#include "common/io/npy.h"
#include "miner/clustering/alignment.h"
#include "miner/clustering/faiss_clusterer.h"
#include "miner/clustering/seeding.h"

// The processor that OpenBLAS took this one for: the library's loop stands and falls with it.
extern "C" char* openblas_get_corename();

namespace doppel {
namespace {

struct Arguments {
  int64_t identities = 100000;
  std::vector<int> dimensions = {128, 512};
  std::vector<int> subspaces = {10, 100, 1000};
  int rounds = 2;
  bool million = false;
  bool two_levels = false;
  std::string before, after, keep, out;
};

struct Outcome {
  double seconds = 1e30;
  double cpu_seconds = 1e30;  // of all threads: what a shared machine does not change
  double objective = 0;
  double megabytes = 0;  // at most, beyond what was there before
};

double ProcessSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// A line of /proc/self/status, in MB.
double StatusMegabytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::atof(line.c_str() + name.size() + 1) / 1024;
  }
  return 0;
}

template <typename Body>
void Time(Outcome* outcome, const Body& body) {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts anew
  const double there = StatusMegabytes("VmRSS");
  const auto start = std::chrono::steady_clock::now();
  const double cpu = ProcessSeconds();
  outcome->objective = body();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  outcome->seconds = std::min(outcome->seconds, passed.count());
  outcome->cpu_seconds = std::min(outcome->cpu_seconds, ProcessSeconds() - cpu);
  outcome->megabytes = std::max(outcome->megabytes, StatusMegabytes("VmHWM") - there);
}

// Identities around centres that lie around centres: clusters at more than one scale.
Matrix Synthetic(int64_t n, int dimension) {
  const Philox coarse(1), fine(2), own(3);
  Matrix rows{n, dimension, {}};
  rows.values.resize(n * dimension);
  ParallelFor(n, 1024, static_cast<int>(std::thread::hardware_concurrency()),
              [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) {
                  const uint64_t child = fine.Below(2000, i, 1), parent = child % 50;
                  for (int j = 0; j < dimension; ++j) {
                    rows.row(i)[j] = static_cast<float>(coarse.Uniform(parent * dimension + j) - 0.5 +
                                                        0.7 * (fine.Uniform(child * dimension + j) - 0.5) +
                                                        0.7 * (own.Uniform(i * dimension + j) - 0.5));
                  }
                }
              });
  NormalizeRows(rows);
  return rows;
}

// The same identities as a later model has them: every row is pushed off, and the space drifts as a whole.
Matrix Moved(const Matrix& rows) {
  const Philox push(5), drift(6);
  Matrix moved = rows;
  for (int64_t i = 0; i < rows.rows; ++i) {
    for (int j = 0; j < rows.dimension; ++j) {
      const double scale = 2.0 / std::sqrt(rows.dimension);
      moved.row(i)[j] += static_cast<float>(0.5 * scale * (push.Uniform(i * rows.dimension + j) - 0.5) +
                                            0.4 * scale * (drift.Uniform(j) - 0.5));
    }
  }
  NormalizeRows(moved);
  return moved;
}

absl::StatusOr<Matrix> ReadRows(const std::string& path) {
  const auto array = ReadNpy(PosixFileSystem(), path);
  if (!array.ok()) return array.status();
  if (array->shape.size() != 2) return absl::InvalidArgumentError(path + ": not a matrix");
  auto values = NpyToFloats(*array);
  if (!values.ok()) return values.status();
  Matrix rows{array->shape[0], static_cast<int>(array->shape[1]), *std::move(values)};
  NormalizeRows(rows);
  return rows;
}

double Sum(const std::vector<float>& similarity) {
  double sum = 0;
  for (float s : similarity) sum += 1.0 - s;
  return sum;
}

double Stock(const Matrix& rows, int subspaces, int iterations, uint64_t seed = 0) {
  faiss::ClusteringParameters parameters;
  parameters.niter = iterations;
  parameters.spherical = true;
  parameters.seed = FaissSeed(seed);
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

double Ours(const Matrix& rows, const ClusterOptions& options, ClusterResult* result = nullptr) {
  ClusterResult clusters = MakeFaissClusterer()->Cluster(rows, options).value();
  const double objective = Sum(clusters.similarity);
  if (result != nullptr) *result = std::move(clusters);
  return objective;
}

ClusterOptions OptionsFor(int subspaces, int iterations) {
  ClusterOptions options;
  options.subspaces = subspaces;
  options.iterations = iterations;
  options.on_iteration = [](int, int, double) { return true; };
  return options;
}

nlohmann::json ToJson(const Outcome& outcome, double rows_megabytes) {
  return {{"seconds", outcome.seconds},
          {"cpu_seconds", outcome.cpu_seconds},
          {"objective", outcome.objective},
          {"peak_over_rows_ratio", 1 + outcome.megabytes / rows_megabytes}};
}

void Print(const char* who, const std::string& what, const Outcome& outcome, const Outcome& stock,
           double rows_megabytes) {
  std::printf("%-26s %-24s %9.3f %9.3f %7.2f %13.1f %9.4f %7.2f\n", what.c_str(), who, outcome.seconds,
              outcome.cpu_seconds, stock.seconds / outcome.seconds, outcome.objective,
              outcome.objective / stock.objective, 1 + outcome.megabytes / rows_megabytes);
}

class Bench {
 public:
  explicit Bench(Arguments arguments) : arguments_(std::move(arguments)) {
    report_ = {{"name", "cluster"},
               {"baseline", "faiss::Clustering with IndexFlatIP, same rows, iterations and first centroids"},
               {"openblas_core", openblas_get_corename()},
               {"rows", nlohmann::json::array()},
               {"ratios", nlohmann::json::object()}};
  }

  int Run() {
    std::printf("OpenBLAS core: %s\n", openblas_get_corename());
    std::printf("%-26s %-24s %9s %9s %7s %13s %9s %7s\n", "n x D, M, iterations", "", "s", "CPU s", "faster",
                "objective", "ratio", "memory");
    for (int dimension : arguments_.dimensions) {
      const Matrix rows = Synthetic(arguments_.identities, dimension);
      Keep(rows, dimension);
      for (int subspaces : arguments_.subspaces) {
        FromScratch(rows, subspaces, subspaces <= 10 ? 20 : subspaces <= 100 ? 10 : 5);
      }
    }
    if (arguments_.million) FromScratch(Synthetic(1000000, 128), 1000, 20);
    if (arguments_.two_levels) TwoLevels(Synthetic(2 * arguments_.identities, 128), 20000);
    if (!Moving()) return 1;
    if (arguments_.out.empty()) return 0;
    if (std::ofstream(arguments_.out) << report_.dump(2) << "\n") return 0;
    std::cerr << "bench_cluster: cannot write " << arguments_.out << "\n";
    return 1;
  }

 private:
  static std::string Name(const Matrix& rows, int subspaces, int iterations) {
    return std::to_string(rows.rows) + " x " + std::to_string(rows.dimension) + ", " +
           std::to_string(subspaces) + ", " + std::to_string(iterations);
  }
  static double Megabytes(const Matrix& rows) {
    return static_cast<double>(rows.values.size()) * sizeof(float) / (1 << 20);
  }

  // For other libraries to cluster the same.
  void Keep(const Matrix& rows, int dimension) const {
    if (arguments_.keep.empty()) return;
    const std::string path = arguments_.keep + "/rows-" + std::to_string(dimension) + ".npy";
    const absl::Status status =
        WriteNpy(PosixFileSystem(), path, {rows.rows, dimension}, absl::MakeConstSpan(rows.values));
    if (!status.ok()) std::cerr << "bench_cluster: " << status << "\n";
  }

  struct Ran {
    const char* what;
    const char* key;
    Outcome outcome;
  };
  // Prints a line for each, the library's first, and adds a row to the report.
  nlohmann::json& Add(const Matrix& rows, int subspaces, int iterations, const std::vector<Ran>& all) {
    nlohmann::json row = {{"subspaces", subspaces},
                          {"iterations", iterations},
                          {"identities", rows.rows},
                          {"dimension", rows.dimension}};
    const std::string name = Name(rows, subspaces, iterations);
    const double megabytes = Megabytes(rows);
    for (const Ran& ran : all) {
      Print(ran.what, name, ran.outcome, all[0].outcome, megabytes);
      row[ran.key] = ToJson(ran.outcome, megabytes);
    }
    return report_["rows"].emplace_back(std::move(row));
  }

  void FromScratch(const Matrix& rows, int subspaces, int iterations) {
    Outcome stock, ours, plus;
    ClusterOptions options = OptionsFor(subspaces, iterations);
    options.seeding = Seeding::kRandom;
    ClusterOptions plus_options = options;
    plus_options.seeding = Seeding::kPlusPlus;
    for (int round = 0; round < arguments_.rounds; ++round) {  // in turns: the machine is shared
      Time(&stock, [&] { return Stock(rows, subspaces, iterations); });
      Time(&ours, [&] { return Ours(rows, options); });
      Time(&plus, [&] { return Ours(rows, plus_options); });
    }
    Add(rows, subspaces, iterations,
        {{"faiss", "faiss", stock},
         {"doppel", "doppel", ours},
         {"doppel, k-means++", "doppel_plus_plus", plus}});
    const double megabytes = Megabytes(rows);
    std::string key = "_M" + std::to_string(subspaces) + "_D" + std::to_string(rows.dimension);
    if (rows.rows != arguments_.identities) key += "_n" + std::to_string(rows.rows);
    report_["ratios"]["speed" + key] = stock.seconds / ours.seconds;
    report_["ratios"]["cpu" + key] = stock.cpu_seconds / ours.cpu_seconds;
    report_["ratios"]["objective" + key] = ours.objective / stock.objective;
    report_["ratios"]["peak_over_rows" + key] = 1 + ours.megabytes / megabytes;
  }

  // As the miner does it above 10 000 subspaces, against all centroids for every row. Once: it is long.
  void TwoLevels(const Matrix& rows, int subspaces) {
    constexpr int kIterations = 5;
    ClusterOptions options = OptionsFor(subspaces, kIterations);
    Outcome stock, one, two;
    Time(&stock, [&] { return Stock(rows, subspaces, kIterations); });
    Time(&two, [&] { return Ours(rows, options); });
    options.two_level_above = 0;
    options.seeding = Seeding::kRandom;
    Time(&one, [&] { return Ours(rows, options); });
    Add(rows, subspaces, kIterations,
        {{"faiss", "faiss", stock},
         {"doppel, one level", "doppel", one},
         {"doppel, two levels", "doppel_two_levels", two}});
    report_["ratios"]["speed_two_levels"] = stock.seconds / two.seconds;
    report_["ratios"]["speed_one_level"] = stock.seconds / one.seconds;
    report_["ratios"]["objective_two_levels"] = two.objective / stock.objective;
  }

  // A moved model: the library from scratch, ours from the clustering of the model before.
  bool Moving() {
    Matrix before, after;
    if (arguments_.before.empty()) {
      before = Synthetic(arguments_.identities, arguments_.dimensions[0]);
      after = Moved(before);
    } else {
      auto first = ReadRows(arguments_.before);
      if (first.ok()) before = *std::move(first);
      auto second =
          arguments_.after.empty() ? absl::StatusOr<Matrix>(Moved(before)) : ReadRows(arguments_.after);
      if (!first.ok() || !second.ok()) {
        std::cerr << "bench_cluster: " << first.status() << " " << second.status() << "\n";
        return false;
      }
      after = *std::move(second);
    }
    for (int subspaces : arguments_.subspaces) Move(before, after, subspaces);
    return true;
  }

  void Move(const Matrix& before, const Matrix& after, int subspaces) {
    constexpr int kIterations = 20;
    constexpr double kEqual = 1.001;
    ClusterResult clusters, again;
    Ours(before, OptionsFor(subspaces, kIterations), &clusters);
    Outcome stock, equal, whole;
    ClusterOptions options = OptionsFor(subspaces, kIterations);
    options.initial_assignment = &clusters.assignment;
    for (int round = 0; round < arguments_.rounds; ++round) {
      Time(&stock, [&] { return Stock(after, subspaces, kIterations, 1); });
      // Until the objective is what the library ended with, to a thousandth.
      ClusterOptions until = options;
      double reached = 0;
      until.on_iteration = [&](int, int, double objective) {
        reached = objective;
        return objective > kEqual * stock.objective;
      };
      Time(&equal, [&] {
        const auto result = MakeFaissClusterer()->Cluster(after, until);
        return result.ok() ? Sum(result->similarity) : reached;
      });
      // As an operator would run it.
      options.tolerance = 3e-4;
      Time(&whole, [&] { return Ours(after, options, &again); });
    }
    nlohmann::json& row = Add(after, subspaces, kIterations,
                              {{"faiss, moved model", "faiss", stock},
                               {"doppel, warm, to equal", "doppel_to_equal", equal},
                               {"doppel, warm, tolerance", "doppel_warm", whole}});
    const SubspaceAlignment alignment =
        AlignSubspaces(clusters.assignment, static_cast<int32_t>(clusters.centroids.rows), again.assignment,
                       static_cast<int32_t>(again.centroids.rows));
    row["moved"] = arguments_.after.empty() ? "simulated" : arguments_.after;
    row["churn"] = alignment.churn();
    const std::string key = "_M" + std::to_string(subspaces);
    report_["ratios"]["recluster_to_equal" + key] =
        equal.objective <= kEqual * stock.objective ? stock.seconds / equal.seconds : 0;
    report_["ratios"]["recluster_warm" + key] = stock.seconds / whole.seconds;
    report_["ratios"]["recluster_warm_objective" + key] = whole.objective / stock.objective;
  }

  const Arguments arguments_;
  nlohmann::json report_;
};

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  doppel::RestartWithComputeEnvironment(argv);
  CLI::App app("Spherical k-means: ours against the library's own loop.", "bench_cluster");
  doppel::Arguments arguments;
  bool quick = false;
  app.add_option("--identities", arguments.identities, "Rows")->capture_default_str();
  app.add_option("--dimension", arguments.dimensions, "D")->capture_default_str();
  app.add_option("--subspaces", arguments.subspaces, "M")->capture_default_str();
  app.add_option("--rounds", arguments.rounds, "The best of so many")->capture_default_str();
  app.add_flag("--million", arguments.million, "Also a million rows of 128 into 1000, 20 iterations");
  app.add_flag("--two-levels", arguments.two_levels, "Also 200 000 rows of 128 into 20 000");
  app.add_flag("--quick", quick, "20 000 rows of 128, one round");
  app.add_option("--before", arguments.before,
                 "Representations (.npy) to cluster first, instead of drawn ones");
  app.add_option("--after", arguments.after,
                 "The same identities' representations by a later model; without: simulated");
  app.add_option("--keep", arguments.keep, "Write the drawn rows there, as rows-D.npy");
  app.add_option("--out", arguments.out, "Write the results there as JSON");
  CLI11_PARSE(app, argc, argv);
  if (quick) {
    arguments.identities = 20000;
    arguments.dimensions = {128};
    arguments.rounds = 1;
  }
  return doppel::Bench(arguments).Run();
}
