#include "examples/glyphs/unicode.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace doppel::glyphs {
namespace {

bool ParseHex(absl::string_view text, uint32_t& value) {
  return absl::SimpleHexAtoi(text, &value) && value <= 0x10FFFF;
}

bool IsDrawnCategory(absl::string_view category) {
  return !absl::StartsWith(category, "C") && !absl::StartsWith(category, "Z");
}

// "<compat> 0041" or "0041"; false if it is none, or one into several code points.
bool ParseDecomposition(absl::string_view text, Decomposition& out) {
  if (absl::ConsumePrefix(&text, "<")) {
    const size_t end = text.find("> ");
    if (end == absl::string_view::npos) return false;
    out.tag = std::string(text.substr(0, end));
    text.remove_prefix(end + 2);
  }
  return ParseHex(text, out.target);
}

}  // namespace

absl::StatusOr<UnicodeData> UnicodeData::Parse(absl::string_view text) {
  UnicodeData data;
  int number = 0;
  uint32_t range_start = 0;
  bool in_range = false;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ';');
    uint32_t code_point = 0;
    if (fields.size() < 6 || !ParseHex(fields[0], code_point)) {
      return absl::InvalidArgumentError(
          absl::StrCat("UnicodeData line ", number, ": expected fields apart by ';'"));
    }
    if (!data.ranges_.empty() && code_point <= data.ranges_.back().last) {
      return absl::InvalidArgumentError(
          absl::StrCat("UnicodeData line ", number, ": code points do not ascend"));
    }
    if (absl::EndsWith(fields[1], ", First>")) {
      range_start = code_point;
      in_range = true;
      continue;
    }
    const uint32_t first = in_range ? range_start : code_point;
    in_range = false;
    const bool drawn = IsDrawnCategory(fields[2]);
    if (!data.ranges_.empty() && data.ranges_.back().last + 1 == first &&
        data.ranges_.back().drawn == drawn) {
      data.ranges_.back().last = code_point;
    } else {
      data.ranges_.push_back({first, code_point, drawn});
    }
    Decomposition decomposition;
    if (ParseDecomposition(fields[5], decomposition))
      data.decompositions_[code_point] = std::move(decomposition);
  }
  if (data.ranges_.empty()) return absl::InvalidArgumentError("UnicodeData: holds no code points");
  return data;
}

bool UnicodeData::IsDrawn(uint32_t code_point) const {
  auto after = std::upper_bound(ranges_.begin(), ranges_.end(), code_point,
                                [](uint32_t value, const Range& range) { return value < range.first; });
  if (after == ranges_.begin()) return false;
  const Range& range = *--after;
  return code_point <= range.last && range.drawn;
}

uint32_t UnicodeData::CanonicalForm(uint32_t code_point) const {
  // Chains are short; the bound keeps a damaged file from going round in circles.
  for (int i = 0; i < 16; ++i) {
    const auto found = decompositions_.find(code_point);
    if (found == decompositions_.end() || !found->second.tag.empty()) break;
    code_point = found->second.target;
  }
  return code_point;
}

std::string CodePointName(uint32_t code_point) { return absl::StrFormat("U+%04X", code_point); }

}  // namespace doppel::glyphs
