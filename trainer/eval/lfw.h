#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "trainer/eval/eval_data.h"

namespace doppel {

// Two rows, and whether they show the same identity.
struct LabelledPair {
  int64_t first = 0;
  int64_t second = 0;
  bool same = false;
};

// The pairs.txt of LFW: header "folds n", then for every fold n lines "name i j" (same) and n lines
// "name1 i name2 j" (different); fields by tabs or, in a line without one, by blanks. Image i of a name is
// "name/name_%04d.jpg", returned without extension and folder: "name_0001".
struct NamedPairs {
  int folds = 0;
  std::vector<std::pair<std::string, std::string>> names;
  std::vector<bool> same;
};
// INVALID_ARGUMENT names `origin` and the line.
absl::StatusOr<NamedPairs> ParseLfwPairs(absl::string_view text, const std::string& origin);

// Finds the pairs among `names`, the path of every row; folders and extensions do not count. NOT_FOUND: a
// picture that a pair asks for is missing; INVALID_ARGUMENT: two rows have its name.
absl::StatusOr<std::vector<LabelledPair>> ResolvePairs(const NamedPairs& pairs,
                                                       absl::Span<const std::string> names);

// Protocol "lfw": ten fixed, unshuffled folds, in the order of the pairs (the first `pairs mod folds` folds
// are longer by one). For every fold the threshold is chosen on all others; a pair counts as the same if its
// squared distance is smaller.
struct LfwReport {
  int64_t pairs = 0;
  int64_t same = 0;
  int64_t different = 0;
  std::vector<double> fold_accuracy;
  std::vector<double> fold_threshold;
  // Of the folds: mean, standard deviation (of the population, as numpy's std), and standard error of the
  // mean, sqrt(Σ (a - mean)² / (folds - 1)) / sqrt(folds), as LFW asks for.
  double accuracy = 0;
  double deviation = 0;
  double standard_error = 0;
  // VAL@FAR: mean and deviation over folds of the share of same pairs accepted, and the mean share of
  // different pairs that really were.
  double far_target = 0;
  double val = 0;
  double val_deviation = 0;
  double val_far = 0;
};

// `squared_distances` of unit vectors. Threshold of the accuracy: of 0, 0.01, … 3.99 the lowest with the best
// accuracy on the other folds. Threshold of VAL: on the grid 0, 0.001, … 3.999, with FAR(t) on the other
// folds, a = the last t with FAR(t) ≤ far_target, b = the one behind it, by linear interpolation of FAR
// between them (0 if no t reaches the target, as in facenet). A fold without same pairs takes no part in VAL,
// one without different pairs none in its FAR. INVALID_ARGUMENT: fewer pairs than folds, folds < 2, a target
// not in (0, 1).
absl::StatusOr<LfwReport> EvaluateLfw(absl::Span<const double> squared_distances,
                                      const std::vector<bool>& same, int folds, double far_target);

// Of the rows of every pair, in double.
std::vector<double> SquaredDistances(const EvalData& data, absl::Span<const LabelledPair> pairs);

}  // namespace doppel
