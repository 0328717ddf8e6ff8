// What cleaning finds on Glyphs, against what is known: duplicate identities against Unicode's list and pixel
// equality, identities split in two, and samples whose labels were flipped. The list is the yardstick, and
// no input: the finders see embeddings and labels alone.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/philox.h"
#include "common/base/process_environment.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "common/io/file_system.h"
#include "common/io/npy.h"
#include "miner/cleaning/calibration.h"
#include "miner/cleaning/duplicate_identities.h"
#include "miner/cleaning/outlier_samples.h"
#include "services/ctl/report/html.h"
#include "services/ctl/report/line_plot.h"
#include "services/ctl/report/page.h"

namespace doppel {
namespace {

constexpr size_t kCurvePoints = 200;

struct BenchOptions {
  std::string embeddings, labels, catalog, known, out;
  double share = 0.1, precision = 0.9;
  int neighbours = 10, threads = 0;
  uint64_t seed = 1;
  bool skip_flips = false;
};

using IdentityPair = std::pair<uint32_t, uint32_t>;

struct KnownPair {
  std::string reason;
  int shared = 0, identical = 0;
};

struct Judged {
  double probability = 0;
  bool positive = false;
};

struct Outcome {
  std::string name;
  uint64_t positives = 0;   // that there are, found as candidates or not
  uint64_t candidates = 0;  // of them
  double average_precision = 0;
  double threshold = 0, expected_precision = 0, precision = 0, recall = 0;
  std::vector<report::Point> curve;
};

// `judged` is best first; those that count neither way have been left out.
Outcome Judge(const std::string& name, const std::vector<Judged>& judged, uint64_t positives,
              double threshold) {
  Outcome outcome;
  outcome.name = name;
  outcome.positives = positives;
  outcome.threshold = threshold;
  double hits = 0, sum = 0, above = 0, hits_above = 0, probability = 0;
  const double all = static_cast<double>(std::max<uint64_t>(positives, 1));
  for (size_t i = 0; i < judged.size(); ++i) {
    if (judged[i].positive) {
      ++hits;
      sum += hits / static_cast<double>(i + 1);
      outcome.curve.push_back({hits / all, hits / static_cast<double>(i + 1)});
    }
    if (judged[i].probability < threshold) continue;
    ++above;
    probability += judged[i].probability;
    hits_above += judged[i].positive ? 1 : 0;
  }
  outcome.candidates = static_cast<uint64_t>(hits);
  outcome.average_precision = sum / all;
  outcome.precision = above > 0 ? hits_above / above : 0;
  outcome.expected_precision = above > 0 ? probability / above : 0;
  outcome.recall = hits_above / all;
  return outcome;
}

absl::StatusOr<std::map<IdentityPair, KnownPair>> ReadKnown(const std::string& path, const Catalog& catalog) {
  ASSIGN_OR_RETURN(const std::string text, PosixFileSystem().ReadFile(path));
  std::map<IdentityPair, KnownPair> known;
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    const std::vector<std::string> fields = absl::StrSplit(line, ',');
    if (fields.size() != 6) return absl::InvalidArgumentError(absl::StrCat(path, ": not six fields: ", line));
    const auto a = catalog.FindIdentity(fields[0]), b = catalog.FindIdentity(fields[1]);
    if (!a.ok() || !b.ok()) continue;
    KnownPair pair{fields[2], 0, 0};
    if (!absl::SimpleAtoi(fields[4], &pair.shared) || !absl::SimpleAtoi(fields[5], &pair.identical)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": not a number: ", line));
    }
    known[{static_cast<uint32_t>(std::min(*a, *b)), static_cast<uint32_t>(std::max(*a, *b))}] = pair;
  }
  return known;
}

bool IsKind(const KnownPair& pair, const std::string& kind) {
  if (kind == "exact shape") return pair.identical > 0 && 2 * pair.identical >= pair.shared;
  if (kind == "identical somewhere") return pair.identical > 0;
  if (kind == "known, identical nowhere") return pair.identical == 0;
  return pair.reason == kind;
}

// The pairs of one kind are right, known ones of other kinds count neither way, all others are wrong.
std::vector<Outcome> JudgeDuplicates(const std::string& method, const DuplicateReport& report,
                                     const std::map<IdentityPair, KnownPair>& known, double threshold) {
  std::vector<Outcome> outcomes;
  for (const char* kind : {"exact shape", "identical somewhere", "canonical", "identical_bitmap",
                           "compatibility", "known, identical nowhere", "any"}) {
    const bool any = std::string(kind) == "any";
    uint64_t positives = 0;
    for (const auto& [key, pair] : known) positives += any || IsKind(pair, kind) ? 1 : 0;
    std::vector<Judged> judged;
    judged.reserve(report.findings.size());
    for (const DuplicateFinding& finding : report.findings) {
      const auto found = known.find({finding.first, finding.second});
      const bool positive = found != known.end() && (any || IsKind(found->second, kind));
      if (found != known.end() && !positive) continue;
      judged.push_back({finding.probability, positive});
    }
    outcomes.push_back(Judge(absl::StrCat(method, ": ", kind), judged, positives, threshold));
  }
  return outcomes;
}

double ThresholdOf(const DuplicateReport& report, double precision) {
  std::vector<double> probabilities;
  probabilities.reserve(report.findings.size());
  for (const DuplicateFinding& finding : report.findings) probabilities.push_back(finding.probability);
  return ThresholdForPrecision(probabilities, precision);
}

DuplicateOptions OptionsOf(const BenchOptions& options) {
  DuplicateOptions duplicates;
  duplicates.neighbours = options.neighbours;
  duplicates.threads = options.threads;
  return duplicates;
}

// A share of the identities loses every other image, in random order, to a new identity.
absl::StatusOr<Outcome> RunSplit(const BenchOptions& options, const Matrix& rows, std::vector<int64_t> labels,
                                 const std::map<IdentityPair, KnownPair>& known) {
  const int64_t identities = *std::max_element(labels.begin(), labels.end()) + 1;
  std::vector<std::vector<size_t>> images(identities);
  for (size_t i = 0; i < labels.size(); ++i) images[labels[i]].push_back(i);
  const Philox draw(options.seed);
  std::set<IdentityPair> split;
  int64_t next = identities;
  std::map<int64_t, int64_t> origin;
  for (int64_t i = 0; i < identities; ++i) {
    if (images[i].size() < 2 || draw.Uniform(i) >= options.share) continue;
    std::sort(images[i].begin(), images[i].end(),
              [&](size_t a, size_t b) { return draw.Bits(a, 1) < draw.Bits(b, 1); });
    for (size_t j = 0; j < images[i].size(); j += 2) labels[images[i][j]] = next;
    split.insert({static_cast<uint32_t>(i), static_cast<uint32_t>(next)});
    origin[next++] = i;
  }
  ASSIGN_OR_RETURN(const EmbeddingSet set, MakeEmbeddingSet(rows, labels));
  ASSIGN_OR_RETURN(const DuplicateReport report, FindDuplicateIdentities(set, OptionsOf(options)));
  std::vector<Judged> judged;
  for (const DuplicateFinding& finding : report.findings) {
    const bool positive = split.count({finding.first, finding.second}) != 0;
    const auto back = [&](uint32_t i) {
      const auto found = origin.find(i);
      return found == origin.end() ? i : static_cast<uint32_t>(found->second);
    };
    const uint32_t a = back(finding.first), b = back(finding.second);
    if (!positive && known.count({std::min(a, b), std::max(a, b)}) != 0) continue;
    judged.push_back({finding.probability, positive});
  }
  return Judge("identities split in two", judged, split.size(), ThresholdOf(report, options.precision));
}

// A share of the samples gets the label of another sample drawn at random.
absl::StatusOr<Outcome> RunFlips(const BenchOptions& options, const Matrix& rows,
                                 const std::vector<int64_t>& labels) {
  const Philox draw(options.seed + 1);
  std::vector<int64_t> noisy = labels;
  std::vector<char> flipped(labels.size());
  uint64_t positives = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (draw.Uniform(i) >= options.share) continue;
    noisy[i] = labels[draw.Below(labels.size(), i, 1)];
    flipped[i] = noisy[i] != labels[i] ? 1 : 0;
    positives += flipped[i] != 0 ? 1 : 0;
  }
  ASSIGN_OR_RETURN(const EmbeddingSet set, MakeEmbeddingSet(rows, noisy));
  OutlierOptions outliers;
  outliers.threads = options.threads;
  ASSIGN_OR_RETURN(const OutlierReport report, FindOutlierSamples(set, outliers));
  std::vector<Judged> judged;
  std::vector<double> probabilities;
  for (const OutlierFinding& finding : report.findings) {
    judged.push_back({finding.probability, flipped[set.source[finding.row]] != 0});
    probabilities.push_back(finding.probability);
  }
  std::printf("flipped labels: share %.4f, estimated from above %.4f\n",
              static_cast<double>(positives) / static_cast<double>(labels.size()), report.share);
  return Judge("flipped labels", judged, positives, ThresholdForPrecision(probabilities, options.precision));
}

std::string WritePlot(const std::vector<Outcome>& outcomes) {
  report::LinePlot plot;
  plot.title = "Precision over recall";
  plot.x_label = "recall";
  plot.y_label = "precision";
  plot.percent = true;
  int color = 0;
  for (const Outcome& outcome : outcomes) {
    const std::string& name = outcome.name;
    if (name != "images: exact shape" && name != "images: any" && name != "centres alone: exact shape" &&
        name != "identities split in two" && name != "flipped labels") {
      continue;
    }
    report::Series series;
    series.name = name;
    series.color = color++;
    const size_t step = std::max<size_t>(1, outcome.curve.size() / kCurvePoints);
    for (size_t i = 0; i < outcome.curve.size(); i += step) series.points.push_back(outcome.curve[i]);
    plot.series.push_back(std::move(series));
  }
  return report::Page("Cleaning", report::Section("curves", "Cleaning",
                                                  report::Figure(report::RenderLinePlot(plot),
                                                                 "Found against known, every threshold.")));
}

absl::Status Write(const BenchOptions& options, const std::vector<Outcome>& outcomes,
                   const std::map<std::string, double>& seconds) {
  nlohmann::json json = {{"name", "cleaning"},
                         {"rows", nlohmann::json::array()},
                         {"ratios", nlohmann::json::object()},
                         {"seconds", seconds},
                         {"target_precision", options.precision}};
  std::printf("%-42s %9s %9s %7s | %9s %9s %9s %7s\n", "", "positives", "candidates", "AP", "threshold",
              "expected", "precision", "recall");
  for (const Outcome& outcome : outcomes) {
    std::printf("%-42s %9llu %9llu %7.4f | %9.4f %9.4f %9.4f %7.4f\n", outcome.name.c_str(),
                static_cast<unsigned long long>(outcome.positives),
                static_cast<unsigned long long>(outcome.candidates), outcome.average_precision,
                outcome.threshold, outcome.expected_precision, outcome.precision, outcome.recall);
    nlohmann::json row = {{"name", outcome.name},
                          {"positives", outcome.positives},
                          {"candidates", outcome.candidates},
                          {"average_precision", outcome.average_precision},
                          {"threshold", outcome.threshold},
                          {"expected_precision", outcome.expected_precision},
                          {"precision", outcome.precision},
                          {"recall", outcome.recall},
                          {"curve", nlohmann::json::array()}};
    const size_t step = std::max<size_t>(1, outcome.curve.size() / kCurvePoints);
    for (size_t i = 0; i < outcome.curve.size(); i += step) {
      row["curve"].push_back({outcome.curve[i].x, outcome.curve[i].y});
    }
    json["rows"].push_back(std::move(row));
    json["ratios"]["ap " + outcome.name] = outcome.average_precision;
  }
  for (const auto& [name, value] : seconds) std::printf("%s: %.1f s\n", name.c_str(), value);
  if (options.out.empty()) return absl::OkStatus();
  const std::string page = options.out.substr(0, options.out.rfind('.')) + ".html";
  if (!(std::ofstream(options.out) << json.dump(2) << "\n") ||
      !(std::ofstream(page) << WritePlot(outcomes))) {
    return absl::UnavailableError(absl::StrCat("cannot write ", options.out, " and ", page));
  }
  return absl::OkStatus();
}

absl::Status Run(const BenchOptions& options) {
  FileSystem& fs = PosixFileSystem();
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(options.catalog));
  ASSIGN_OR_RETURN(const auto known, ReadKnown(options.known, *catalog));
  Matrix rows;
  {
    ASSIGN_OR_RETURN(const NpyArray array, ReadNpy(fs, options.embeddings));
    if (array.shape.size() != 2) return absl::InvalidArgumentError(options.embeddings + ": not [N, D]");
    rows.rows = array.shape[0];
    rows.dimension = static_cast<int>(array.shape[1]);
    ASSIGN_OR_RETURN(rows.values, NpyToFloats(array));
  }
  ASSIGN_OR_RETURN(const NpyArray label_array, ReadNpy(fs, options.labels));
  ASSIGN_OR_RETURN(const std::vector<int64_t> labels, NpyToInts(label_array));

  std::vector<Outcome> outcomes;
  std::map<std::string, double> seconds;
  auto start = std::chrono::steady_clock::now();
  const auto lap = [&](const std::string& name) {
    const auto now = std::chrono::steady_clock::now();
    seconds[name] = std::chrono::duration<double>(now - start).count();
    start = now;
  };
  {
    ASSIGN_OR_RETURN(const EmbeddingSet set, MakeEmbeddingSet(rows, labels));
    lap("prepare");
    ASSIGN_OR_RETURN(const DuplicateReport report, FindDuplicateIdentities(set, OptionsOf(options)));
    lap("duplicate identities");
    for (Outcome& o : JudgeDuplicates("images", report, known, ThresholdOf(report, options.precision))) {
      outcomes.push_back(std::move(o));
    }
    NeighbourOptions nearest;
    nearest.neighbours = 1;
    nearest.threads = options.threads;
    ASSIGN_OR_RETURN(const IdentityNeighbours neighbours,
                     FindIdentityNeighbours(IdentityCentres(set), nearest));
    const DuplicateReport light = FindDuplicatesByCentres(neighbours, 0);
    lap("by centres alone");
    for (Outcome& o : JudgeDuplicates("centres alone", light, known, ThresholdOf(light, options.precision))) {
      outcomes.push_back(std::move(o));
    }
  }
  ASSIGN_OR_RETURN(Outcome split, RunSplit(options, rows, labels, known));
  outcomes.push_back(std::move(split));
  lap("identities split in two");
  if (options.skip_flips) return Write(options, outcomes, seconds);
  ASSIGN_OR_RETURN(Outcome flips, RunFlips(options, rows, labels));
  outcomes.push_back(std::move(flips));
  lap("flipped labels");
  return Write(options, outcomes, seconds);
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  doppel::RestartWithComputeEnvironment(argv);
  CLI::App app("Cleaning on Glyphs against what is known.", "bench_cleaning");
  doppel::BenchOptions options;
  app.add_option("--embeddings", options.embeddings, "Of all samples of the catalog, .npy")->required();
  app.add_option("--labels", options.labels, "The catalog's numbers of their identities, .npy")->required();
  app.add_option("--catalog", options.catalog, "Catalog of Glyphs")->required();
  app.add_option("--known", options.known, "known_duplicates.csv")->required();
  app.add_option("--share", options.share, "Of labels to flip, and of identities to split")
      ->capture_default_str();
  app.add_option("--min-precision", options.precision, "Of the set above the threshold")
      ->capture_default_str();
  app.add_option("--neighbours", options.neighbours, "Candidates per identity")->capture_default_str();
  app.add_option("--threads", options.threads, "0: all cores")->capture_default_str();
  app.add_option("--seed", options.seed, "Of flips and splits")->capture_default_str();
  app.add_flag("--skip-flips", options.skip_flips, "Duplicates only");
  app.add_option("--out", options.out,
                 "Write the results there as JSON, and a page with the curves beside it");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = doppel::Run(options);
  if (!status.ok()) std::cerr << "bench_cleaning: " << status.message() << "\n";
  return status.ok() ? 0 : 1;
}
