#include "common/catalog/readers/csv_rows.h"

#include <algorithm>

namespace doppel {

bool ReadCsvRow(absl::string_view text, size_t* at, std::vector<std::string>* fields) {
  fields->clear();
  if (*at >= text.size()) return false;
  std::string* field = &fields->emplace_back();
  bool quoted = false;
  for (; *at < text.size(); ++*at) {
    const char c = text[*at];
    if (quoted) {
      if (c != '"') {
        *field += c;
      } else if (*at + 1 < text.size() && text[*at + 1] == '"') {
        *field += text[++*at];
      } else {
        quoted = false;
      }
    } else if (c == '"' && field->empty()) {
      quoted = true;
    } else if (c == ',') {
      field = &fields->emplace_back();
    } else if (c == '\n') {
      ++*at;
      break;
    } else if (c != '\r' || (*at + 1 < text.size() && text[*at + 1] != '\n')) {
      *field += c;
    }
  }
  return true;
}

bool SkipCsvRow(absl::string_view text, size_t* at) {
  if (*at >= text.size()) return false;
  // A quote that opens a field swallows line ends up to the one that closes it; doubled ones open it again.
  bool quoted = false, field_starts = true;
  for (; *at < text.size(); ++*at) {
    const char c = text[*at];
    if (c == '"' && (quoted || field_starts)) {
      quoted = !quoted;
      // A doubled quote within a field.
      if (!quoted && *at + 1 < text.size() && text[*at + 1] == '"') {
        ++*at;
        quoted = true;
      }
    } else if (c == '\n' && !quoted) {
      ++*at;
      break;
    }
    field_starts = !quoted && c == ',';
  }
  return true;
}

}  // namespace doppel
