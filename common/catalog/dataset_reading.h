#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/catalog/catalog_builder.h"
#include "common/catalog/entry_collector.h"
#include "common/catalog/import_journal.h"
#include "common/catalog/readers/reader.h"

// What importing a data set and appending one share.
namespace doppel {

// Reads all parts of a data set, side by side, and the journal's instead where it has them (it may be null).
// Adds to `entries`, which are sorted on return; skipped records, duplicates last, and the parts that were
// resumed go to the summary. `entries` may have been told of splits before.
absl::Status ReadDataset(const DatasetReader& dataset, const CatalogBuildOptions& options,
                         ImportJournal* journal, EntryCollector* entries, CatalogBuildSummary* summary);

// "FILE: RECORD: REASON: DETAIL".
std::string DescribeSkip(const SkippedRecord& skip);
// What --strict says to a record that cannot be used.
absl::Status StrictError(const SkippedRecord& skip);
// Of a data set that gave nothing.
absl::Status NothingFound(const DatasetReader& dataset, const std::vector<SkippedRecord>& skipped);

}  // namespace doppel
