#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "examples/glyphs/fonts.h"

namespace doppel::glyphs {

struct GenerateOptions {
  std::string out;
  std::string fonts_root = "/usr/share/fonts";
  std::string unicode_data = "/usr/share/unicode/UnicodeData.txt";
  uint64_t identities = 0;  // 0: all
  uint64_t test_identities = 3000;
  uint64_t seed = 0;
  uint64_t shard_samples = 8192;
  int size = 48;
  int threads = 2;
  bool quiet = false;
};

// Everything that the output depends on, as JSON: parameters, hashes of the fonts and of UnicodeData.txt,
// version of the rasteriser. Equal inputs, equal output. `threads` is not among them.
absl::StatusOr<std::string> DescribeInputs(const GenerateOptions& options,
                                           const std::vector<TypefaceSpec>& typefaces);

}  // namespace doppel::glyphs
