#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace doppel {

// Rows of evidence, row-major [rows, features].
struct Evidence {
  int features = 0;
  std::vector<double> values;
  int64_t rows() const { return features == 0 ? 0 : static_cast<int64_t>(values.size()) / features; }
};

struct CalibratedScores {
  std::vector<double> score;        // log-odds against the mixture: orders the rows
  std::vector<double> probability;  // that the row is a positive; rises with the score
  double share = 0;                 // of positives among the rows, an estimate from above
};

// Scores from positives that are known by construction and rows of which nobody knows which are positives
// (learning from positive and unlabelled examples, Elkan and Noto 2008). A logistic regression tells the two
// apart; the share π of positives is the least ratio of the tails of the two score distributions (Blanchard,
// Lee and Scott 2010); the probability is π · density of positives / density of rows, made to rise with
// the score by pooling neighbours (isotonic regression). Deterministic. INVALID_ARGUMENT: no rows, sizes that
// differ. FAILED_PRECONDITION: fewer than 20 positives, too few to calibrate with.
absl::StatusOr<CalibratedScores> CalibrateAgainstPositives(const Evidence& positives, const Evidence& rows);

// Probability that a value lies beyond the tail of the ordinary ones: an exponential is fitted to the
// excesses over the median, up to the 95 % quantile, so that a few extraordinary ones do not matter; what is
// there beyond what it predicts is extraordinary. Rises with the value. For evidence of one number.
std::vector<double> ProbabilityBeyondTail(absl::Span<const double> values);

// The lowest probability at which all rows with it or more are expected to hold at least `precision`
// positives; infinity if there is none.
double ThresholdForPrecision(absl::Span<const double> probabilities, double precision);
// Mean of the probabilities that reach `threshold`; 0 if none does.
double ExpectedPrecision(absl::Span<const double> probabilities, double threshold);

}  // namespace doppel
