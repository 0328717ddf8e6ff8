#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/catalog/readers/webdataset_reader.h"

namespace doppel {
namespace {

constexpr uint64_t kMaxFiles = 10'000'000;

// "a,b" or "000..146".
absl::StatusOr<std::vector<std::string>> Alternatives(const std::string& pattern, const std::string& inside) {
  const size_t dots = inside.find("..");
  if (dots == std::string::npos) return std::vector<std::string>(absl::StrSplit(inside, ','));
  const std::string first = inside.substr(0, dots), last = inside.substr(dots + 2);
  const auto digits = [](const std::string& text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  };
  uint64_t from, to;
  if (!digits(first) || !digits(last) || !absl::SimpleAtoi(first, &from) || !absl::SimpleAtoi(last, &to) ||
      from > to || to - from >= kMaxFiles) {
    return absl::InvalidArgumentError(
        absl::StrCat("{", inside, "} in ", pattern,
                     " is not a range: write two numbers, the smaller one first, as "
                     "{000000..000146}"));
  }
  std::vector<std::string> result;
  for (uint64_t i = from; i <= to; ++i) {
    std::string number = absl::StrCat(i);
    if (number.size() < first.size()) number.insert(0, first.size() - number.size(), '0');
    result.push_back(std::move(number));
  }
  return result;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ExpandBraces(const std::string& pattern) {
  std::vector<std::string> result = {""};
  for (size_t at = 0; at < pattern.size();) {
    const size_t open = std::min(pattern.find('{', at), pattern.size());
    for (std::string& path : result) path.append(pattern, at, open - at);
    if (open == pattern.size()) break;
    const size_t close = pattern.find('}', open);
    if (close == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(pattern, " has a { without its }: close it"));
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> choices,
                     Alternatives(pattern, pattern.substr(open + 1, close - open - 1)));
    if (result.size() * choices.size() > kMaxFiles) {
      return absl::InvalidArgumentError(absl::StrCat(pattern, " names more than ", kMaxFiles,
                                                     " files: import them in a "
                                                     "folder"));
    }
    std::vector<std::string> longer;
    for (const std::string& path : result) {
      for (const std::string& choice : choices) longer.push_back(absl::StrCat(path, choice));
    }
    result = std::move(longer);
    at = close + 1;
  }
  return result;
}

}  // namespace doppel
