#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "examples/glyphs/renderings.h"
#include "examples/glyphs/unicode.h"

namespace doppel::glyphs {

// Two identities that are known to be one and the same, or cannot be told apart. A yardstick for cleaning.
struct DuplicatePair {
  uint32_t a = 0;  // a < b
  uint32_t b = 0;
  // "canonical": equal by Unicode's canonical decompositions; "compatibility": one decomposes into the other
  // with a tag; "identical_bitmap": drawn with the same pixels somewhere.
  std::string reason;
  std::string tag;                 // of the compatibility decomposition: "compat", "font", "wide", …
  uint32_t shared_typefaces = 0;   // typefaces that draw both
  uint32_t identical_bitmaps = 0;  // of these, with the same pixels
};

// By (a, b). Every pair once, with the strongest reason. More than 32 code points with one picture in one
// typeface are taken for that font's placeholder and not paired.
std::vector<DuplicatePair> FindDuplicates(const std::vector<Identity>& identities,
                                          const UnicodeData& unicode);

// With a header line.
std::string DuplicatesCsv(const std::vector<DuplicatePair>& pairs);

}  // namespace doppel::glyphs
