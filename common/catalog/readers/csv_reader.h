#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/catalog/readers/reader.h"

namespace doppel {

// CSV lists of image files, in two kinds that are told apart by the first row:
//  * triplet-reid: `pid,path`, no header (a header `pid,path` is understood as well).
//  * OML: a header with `label` and `path`, and optionally `split`, `is_query`, `is_gallery`, in any order.
//  The
//    split "train" is train; of "validation" rows those with is_query alone become the split "query", those
//    with is_gallery alone "gallery", the others "validation". Other columns (category, sequence, x_1 …) are
//    passed over, and a note says so.
//
// Relative paths start from `root` (empty: the CSV file's folder); none may lead out of it. The key is the
// path below the root. Files that are not there are named: "missing file". A part is 4096 rows; memory: 8
// bytes per part, the file itself is mapped.
absl::StatusOr<std::unique_ptr<DatasetReader>> OpenCsv(const std::string& path, const std::string& root,
                                                       bool follow_links = false);

}  // namespace doppel
