#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "examples/glyphs/fonts.h"
#include "examples/glyphs/inputs.h"

namespace doppel::glyphs {

struct GenerateResult {
  bool already_there = false;  // made before from the same inputs: left as it is
  uint64_t identities = 0;
  uint64_t samples = 0;
  uint64_t test_identities = 0;
  uint64_t shards = 0;
  uint64_t duplicate_pairs = 0;
};

// Makes options.out whole or not at all: shards, known_duplicates.csv, manifest.json. Errors:
// INVALID_ARGUMENT (options), NOT_FOUND (fonts), FAILED_PRECONDITION (options.out holds something else).
absl::StatusOr<GenerateResult> Generate(const GenerateOptions& options,
                                        const std::vector<TypefaceSpec>& typefaces);

}  // namespace doppel::glyphs
