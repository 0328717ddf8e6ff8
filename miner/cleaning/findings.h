#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "doppel/v1/cleaning.pb.h"
#include "miner/cleaning/duplicate_identities.h"
#include "miner/cleaning/outlier_samples.h"

namespace doppel {

struct FindingLimits {
  // What the set above the threshold is expected to hold. Lower for pairs: one that is none costs a negative
  // of very many, a missed one is the hardest negative of two identities.
  double min_precision_of_pairs = 0.8;
  double min_precision_of_samples = 0.9;
  double min_probability = 0.05;  // findings below it are left out
  size_t most = 200000;           // of a kind
};

// What the finders report, as findings with their threshold: appended to `findings`.
void AddDuplicateFindings(const DuplicateReport& report, const FindingLimits& limits,
                          v1::FindingsReplaced* findings);
// `samples`: the catalog's number of every row of the set.
void AddOutlierFindings(const OutlierReport& report, absl::Span<const uint64_t> samples,
                        const FindingLimits& limits, v1::FindingsReplaced* findings);

}  // namespace doppel
