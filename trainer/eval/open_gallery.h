#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace doppel {

struct IdentificationReport {
  uint64_t queries = 0;
  uint64_t gallery = 0;
  uint64_t negative_pairs = 0;
  uint64_t model_step = 0;
  std::vector<std::pair<int, double>> recall;  // (K, share)
  std::vector<std::pair<double, double>> tar;  // (FAR, TAR); targets below 1 / negative_pairs are left out
  std::vector<double> refused_far_targets;     // …and listed here
  double seconds = 0;
};

// {"protocol": "...", "rank1": …, "recall": {"1": …}, "tar": {"1e-06": …}, …}
std::string ToJson(const IdentificationReport& report);

// Rows of unit length, not owned: one of every identity, and queries of which each has its identity's row.
struct OpenGallery {
  absl::Span<const float> gallery;  // [n, dimension]
  absl::Span<const float> queries;  // [m, dimension]
  int dimension = 0;
  absl::Span<const int64_t> mates;  // [m]: the gallery's row of each query's identity
};

// Everything of the report but model step and seconds. Same result for any `threads`.
absl::StatusOr<IdentificationReport> IdentifyInOpenGallery(const OpenGallery& data,
                                                           absl::Span<const int> recall_at,
                                                           absl::Span<const double> far_targets, int threads);

// INVALID_ARGUMENT: none, or one below 1.
absl::Status CheckRecallAt(absl::Span<const int> recall_at);

}  // namespace doppel
