#include <cmath>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "trainer/eval/lfw.h"

namespace doppel {
namespace {

std::vector<absl::string_view> Fields(absl::string_view line) {
  if (absl::StrContains(line, "\t")) return absl::StrSplit(line, '\t', absl::SkipWhitespace());
  return absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipWhitespace());
}

absl::StatusOr<std::string> PictureName(absl::string_view name, absl::string_view number,
                                        absl::string_view where) {
  int i = 0;
  if (!absl::SimpleAtoi(number, &i) || i < 0) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": \"", number, "\" is no number of a picture"));
  }
  return absl::StrFormat("%s_%04d", absl::StripAsciiWhitespace(name), i);
}

absl::Status AddPair(absl::string_view line, bool same, absl::string_view where, NamedPairs* pairs) {
  const std::vector<absl::string_view> fields = Fields(line);
  if (fields.size() != (same ? 3U : 4U)) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": ", fields.size(), " fields where ",
        same ? "a pair of the same name, \"name i j\"," : "a pair of two names, \"name1 i name2 j\",",
        " is due"));
  }
  const absl::string_view other = same ? fields[0] : fields[2];
  ASSIGN_OR_RETURN(std::string first, PictureName(fields[0], fields[1], where));
  ASSIGN_OR_RETURN(std::string second, PictureName(other, fields.back(), where));
  pairs->names.emplace_back(std::move(first), std::move(second));
  pairs->same.push_back(same);
  return absl::OkStatus();
}

absl::string_view Stem(absl::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash != absl::string_view::npos) path.remove_prefix(slash + 1);
  const size_t dot = path.rfind('.');
  return dot == absl::string_view::npos || dot == 0 ? path : path.substr(0, dot);
}

}  // namespace

absl::StatusOr<NamedPairs> ParseLfwPairs(absl::string_view text, const std::string& origin) {
  std::vector<absl::string_view> lines;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    lines.push_back(absl::StripTrailingAsciiWhitespace(line));
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  NamedPairs pairs;
  int64_t n = 0;
  const std::vector<absl::string_view> header = lines.empty() ? lines : Fields(lines[0]);
  if (header.size() != 2 || !absl::SimpleAtoi(header[0], &pairs.folds) || !absl::SimpleAtoi(header[1], &n) ||
      pairs.folds < 2 || n < 1 || n > 100'000'000) {
    return absl::InvalidArgumentError(
        absl::StrCat(origin, ": line 1 must be \"folds pairs\", such as \"10 300\""));
  }
  if (static_cast<int64_t>(lines.size()) - 1 != 2 * n * pairs.folds) {
    return absl::InvalidArgumentError(absl::StrCat(origin, ": ", lines.size() - 1, " pairs, but the header ",
                                                   "promises ", pairs.folds, " folds of ", n, " + ", n));
  }
  for (size_t i = 1; i < lines.size(); ++i) {
    const bool same = static_cast<int64_t>(i - 1) % (2 * n) < n;
    RETURN_IF_ERROR(AddPair(lines[i], same, absl::StrCat(origin, ": line ", i + 1), &pairs));
  }
  return pairs;
}

absl::StatusOr<std::vector<LabelledPair>> ResolvePairs(const NamedPairs& pairs,
                                                       absl::Span<const std::string> names) {
  constexpr int64_t kTwice = -1;
  absl::flat_hash_map<std::string, int64_t> rows;
  rows.reserve(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    const auto [at, fresh] = rows.try_emplace(std::string(Stem(names[i])), static_cast<int64_t>(i));
    if (!fresh) at->second = kTwice;
  }
  const auto find = [&](const std::string& name) -> absl::StatusOr<int64_t> {
    const auto at = rows.find(name);
    if (at == rows.end()) {
      return absl::NotFoundError(absl::StrCat("the pairs ask for picture ", name, ", which is not among the ",
                                              names.size(),
                                              " there are: the figure would not be LFW's without it"));
    }
    if (at->second == kTwice) {
      return absl::InvalidArgumentError(
          absl::StrCat("two pictures are called ", name, ": which one is meant?"));
    }
    return at->second;
  };
  std::vector<LabelledPair> resolved(pairs.names.size());
  for (size_t i = 0; i < pairs.names.size(); ++i) {
    ASSIGN_OR_RETURN(resolved[i].first, find(pairs.names[i].first));
    ASSIGN_OR_RETURN(resolved[i].second, find(pairs.names[i].second));
    resolved[i].same = pairs.same[i];
  }
  return resolved;
}

}  // namespace doppel
