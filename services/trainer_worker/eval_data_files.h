#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "trainer/eval/eval_data.h"
#include "trainer/eval/lfw.h"

namespace doppel {

// What the commands that measure and search read. All errors are INVALID_ARGUMENT or the file system's, and
// begin with the path.

// Embeddings [N, D] of f4 or f8, labels and cameras [N] of an integer type; "" leaves them out.
absl::StatusOr<EvalData> ReadEvalData(FileSystem& fs, const std::string& embeddings,
                                      const std::string& labels, const std::string& cameras);

// [N] integers.
absl::StatusOr<std::vector<int64_t>> ReadNpyInts(FileSystem& fs, const std::string& path);

// [N] f4 or f8.
absl::StatusOr<std::vector<double>> ReadNpyDoubles(FileSystem& fs, const std::string& path);

// [N, 3] integers: row, row, 1 if they show the same identity, else 0.
absl::StatusOr<std::vector<LabelledPair>> ReadNpyPairs(FileSystem& fs, const std::string& path);

// Lines of a text file.
absl::StatusOr<std::vector<std::string>> ReadLines(FileSystem& fs, const std::string& path);

// "cosine" or "euclidean".
absl::StatusOr<Similarity> ParseDistance(const std::string& distance);

// JSON as aligned lines "key.key value".
std::string JsonToTable(const std::string& json);

}  // namespace doppel
