#include "examples/glyphs/duplicates.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace doppel::glyphs {
namespace {

constexpr size_t kPlaceholder = 32;

using Pairs = std::map<std::pair<uint32_t, uint32_t>, DuplicatePair>;
using ByCodePoint = absl::flat_hash_map<uint32_t, const Identity*>;

DuplicatePair& PairOf(Pairs& pairs, uint32_t x, uint32_t y) {
  const auto key = std::minmax(x, y);
  DuplicatePair& pair = pairs[key];
  pair.a = key.first;
  pair.b = key.second;
  return pair;
}

// All pairs within each class of code points that have one canonical form.
void AddCanonical(const std::vector<Identity>& identities, const UnicodeData& unicode, Pairs& pairs) {
  std::map<uint32_t, std::vector<uint32_t>> classes;
  for (const Identity& identity : identities) {
    classes[unicode.CanonicalForm(identity.code_point)].push_back(identity.code_point);
  }
  for (const auto& [form, members] : classes) {
    for (size_t i = 0; i < members.size(); ++i) {
      for (size_t j = i + 1; j < members.size(); ++j)
        PairOf(pairs, members[i], members[j]).reason = "canonical";
    }
  }
}

void AddCompatibility(const ByCodePoint& known, const UnicodeData& unicode, Pairs& pairs) {
  for (const auto& [code_point, decomposition] : unicode.decompositions()) {
    if (decomposition.tag.empty() || !known.contains(code_point) || !known.contains(decomposition.target))
      continue;
    DuplicatePair& pair = PairOf(pairs, code_point, decomposition.target);
    if (pair.reason.empty()) {
      pair.reason = "compatibility";
      pair.tag = decomposition.tag;
    }
  }
}

void AddIdenticalBitmaps(const std::vector<Identity>& identities, Pairs& pairs) {
  using Drawn = std::tuple<int, std::pair<uint64_t, uint64_t>, uint32_t>;  // typeface, hash, code point
  std::vector<Drawn> drawn;
  for (const Identity& identity : identities) {
    for (const Rendering& r : identity.renderings)
      drawn.emplace_back(r.typeface, r.hash, identity.code_point);
  }
  std::sort(drawn.begin(), drawn.end());
  auto same = [&](size_t i, size_t j) {
    return std::get<0>(drawn[i]) == std::get<0>(drawn[j]) && std::get<1>(drawn[i]) == std::get<1>(drawn[j]);
  };
  for (size_t begin = 0, end; begin < drawn.size(); begin = end) {
    for (end = begin + 1; end < drawn.size() && same(begin, end);) ++end;
    if (end - begin > kPlaceholder) continue;
    for (size_t i = begin; i < end; ++i) {
      for (size_t j = i + 1; j < end; ++j) {
        DuplicatePair& pair = PairOf(pairs, std::get<2>(drawn[i]), std::get<2>(drawn[j]));
        if (pair.reason.empty()) pair.reason = "identical_bitmap";
      }
    }
  }
}

// Both lists are by typeface.
void CountBitmaps(const Identity& a, const Identity& b, DuplicatePair& pair) {
  for (size_t i = 0, j = 0; i < a.renderings.size() && j < b.renderings.size();) {
    const Rendering& x = a.renderings[i];
    const Rendering& y = b.renderings[j];
    if (x.typeface == y.typeface) {
      ++pair.shared_typefaces;
      if (x.hash == y.hash) ++pair.identical_bitmaps;
    }
    i += x.typeface <= y.typeface;
    j += y.typeface <= x.typeface;
  }
}

}  // namespace

std::vector<DuplicatePair> FindDuplicates(const std::vector<Identity>& identities,
                                          const UnicodeData& unicode) {
  ByCodePoint known;
  for (const Identity& identity : identities) known[identity.code_point] = &identity;
  Pairs pairs;
  AddCanonical(identities, unicode, pairs);
  AddCompatibility(known, unicode, pairs);
  AddIdenticalBitmaps(identities, pairs);
  std::vector<DuplicatePair> result;
  for (auto& [key, pair] : pairs) {
    CountBitmaps(*known[pair.a], *known[pair.b], pair);
    result.push_back(std::move(pair));
  }
  return result;
}

std::string DuplicatesCsv(const std::vector<DuplicatePair>& pairs) {
  std::string csv = "code_point_a,code_point_b,reason,tag,shared_typefaces,identical_bitmaps\n";
  for (const DuplicatePair& pair : pairs) {
    absl::StrAppend(&csv, CodePointName(pair.a), ",", CodePointName(pair.b), ",", pair.reason, ",", pair.tag,
                    ",", pair.shared_typefaces, ",", pair.identical_bitmaps, "\n");
  }
  return csv;
}

}  // namespace doppel::glyphs
