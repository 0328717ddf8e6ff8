#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/catalog/readers/reader.h"

namespace doppel {

// WebDataset: tar shards whose members with the same path up to the first dot of the last component are one
// sample; the path is the sample's key. The image is the member with an image extension (the shortest such
// extension, then the first in the archive). Identity: the text of `.cls`, else the field "identity", "label"
// or "class" of `.json` (text or integer). Split: the field "split" of `.json`. Members without a dot, hidden
// ones and `__meta__` ones are passed over, as WebDataset does. One shard is one part; memory: about 150
// bytes per member of a shard that is being read.
//
// `path`: one tar, a folder of *.tar, or a pattern as `train-{000000..000146}.tar` or `{a,b}-{0..9}.tar`.
absl::StatusOr<std::unique_ptr<DatasetReader>> OpenWebDataset(const std::string& path);

// "x-{08..10}.tar" → x-08.tar, x-09.tar, x-10.tar. INVALID_ARGUMENT says what is wrong with the pattern.
absl::StatusOr<std::vector<std::string>> ExpandBraces(const std::string& pattern);

}  // namespace doppel
