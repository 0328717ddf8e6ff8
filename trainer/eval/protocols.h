#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/eval/coverage.h"
#include "trainer/eval/eval_data.h"
#include "trainer/eval/lfw.h"

namespace doppel {

// What a protocol is asked for; each reads what concerns it.
struct ProtocolRequest {
  // open_gallery, lfw, market1501, retrieval, verification, identification_distractors, coverage
  std::string protocol = "open_gallery";
  RankingOptions ranking;  // kInnerProduct: by cosine, all rows are normalised first; lfw always does so
  std::vector<int> top = {1, 5, 10};
  // Empty: 1e-6, 1e-5, … 1e-1; open_gallery, whose memory grows with the target: up to 1e-3.
  std::vector<double> far_targets;
  std::vector<double> precisions = {0.95};
  std::vector<int64_t> distractors = {10, 100, 1000, 10'000, 100'000, 1'000'000};
  uint64_t seed = 0;  // identification_distractors
  int folds = 10;     // lfw
  double val_far = 1e-3;
};

// What it is measured on. Taken over: rows are normalised in place.
struct ProtocolData {
  EvalData gallery;
  EvalData queries;  // dimension 0: the gallery is asked against itself
  bool has_pairs = false;
  std::vector<LabelledPair> pairs;  // of the gallery's rows; labels are not needed then
};

// The protocol's report as JSON: {"protocol": its name, "distance": "cosine" | "euclidean", counts, figures},
// see docs/evaluation.md. INVALID_ARGUMENT: no such protocol, data that does not fit it (says what is
// missing).
absl::StatusOr<std::string> RunProtocol(const ProtocolRequest& request, ProtocolData data);

// The report of coverage over given confidences.
std::string CoverageToJson(const CoverageReport& report);

// Whether there is such a protocol: INVALID_ARGUMENT that names them all.
absl::Status CheckProtocol(const std::string& protocol);

}  // namespace doppel
