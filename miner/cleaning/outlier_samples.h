#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "miner/cleaning/embedding_set.h"

namespace doppel {

struct OutlierOptions {
  int threads = 0;    // 0: all cores
  uint64_t seed = 1;  // of the samples that are put under other identities to learn from
  // Called now and then with (samples done, samples); return false to cancel (CANCELLED).
  std::function<bool(int64_t, int64_t)> on_progress;
};

// A sample that may belong to another identity.
struct OutlierFinding {
  uint64_t row = 0;  // of the set
  uint32_t identity = 0;
  uint32_t nearest_identity = 0;  // the other identity whose centre is nearest
  double score = 0;               // orders the findings
  double probability = 0;         // calibrated
  float own_similarity = 0;       // cosine with the mean of its identity's other images
  float fellow_similarity = 0;    // best cosine with one of them: high for a member of a small mode
  float other_similarity = 0;     // cosine with the nearest other centre
};

struct OutlierReport {
  std::vector<OutlierFinding> findings;  // every sample of an identity with two or more, best first
  double share = 0;                      // of mislabelled samples, an estimate
  bool calibrated = true;                // false: too few samples to learn from, probabilities are 0
};

// Leave-one-out: a sample is compared with the mean of its identity's other images, with the nearest of them
// (identities have modes) and with the nearest other centre. What a wrong label looks like is learnt from
// samples put under identities drawn at random. Centres are searched through an inverted file when
// there are many, so the cost grows as N √identities, not N · identities. Deterministic, independent of
// threads. INVALID_ARGUMENT: fewer than two identities have samples.
absl::StatusOr<OutlierReport> FindOutlierSamples(const EmbeddingSet& set, const OutlierOptions& options);

}  // namespace doppel
