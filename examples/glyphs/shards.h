#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/progress.h"
#include "examples/glyphs/fonts.h"
#include "examples/glyphs/renderings.h"

namespace doppel::glyphs {

struct ShardInfo {
  std::string name;
  uint64_t samples = 0;
  uint64_t size = 0;
  std::string xxh3;  // of the file, 32 hex digits
};

// Where shards end: identities [result[i], result[i + 1]) go to shard i. A shard takes whole identities until
// it has `shard_samples` samples.
std::vector<size_t> PlanShards(const std::vector<Identity>& identities, uint64_t shard_samples);

// Writes dir/glyphs-000000.tar, … on several threads: per rendering a .png and a .json under one key,
// "U+672A_noto-sans-cjk". `test`: the code points of the test split, ascending. `progress` gets one per
// sample.
absl::StatusOr<std::vector<ShardInfo>> WriteShards(const std::vector<Identity>& identities,
                                                   absl::Span<const uint32_t> test,
                                                   const std::vector<TypefaceSpec>& typefaces,
                                                   const Renderings& renderings, uint64_t shard_samples,
                                                   const std::string& dir, int threads, Progress& progress);

}  // namespace doppel::glyphs
