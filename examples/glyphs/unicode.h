#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel::glyphs {

// A decomposition into one other code point.
struct Decomposition {
  uint32_t target = 0;
  std::string tag;  // "" for canonical, else "compat", "font", "wide", …
};

// What UnicodeData.txt says, as far as it is needed here. Immutable.
class UnicodeData {
 public:
  // INVALID_ARGUMENT names the line.
  static absl::StatusOr<UnicodeData> Parse(absl::string_view text);

  // Assigned, and neither private use, surrogate, control, format nor space.
  bool IsDrawn(uint32_t code_point) const;
  const absl::flat_hash_map<uint32_t, Decomposition>& decompositions() const { return decompositions_; }
  // The end of the chain of canonical decompositions into one code point; the code point itself if it has
  // none.
  uint32_t CanonicalForm(uint32_t code_point) const;

 private:
  struct Range {
    uint32_t first;
    uint32_t last;
    bool drawn;
  };
  std::vector<Range> ranges_;  // ascending
  absl::flat_hash_map<uint32_t, Decomposition> decompositions_;
};

// "U+672A".
std::string CodePointName(uint32_t code_point);

}  // namespace doppel::glyphs
