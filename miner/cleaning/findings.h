#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "doppel/v1/cleaning.pb.h"
#include "miner/cleaning/duplicate_identities.h"
#include "miner/cleaning/outlier_samples.h"

namespace doppel {

struct FindingLimits {
  double min_precision = 0.9;     // what the set above the threshold is expected to hold
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
