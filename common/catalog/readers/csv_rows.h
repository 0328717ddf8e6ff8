#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace doppel {

// Reads one row of CSV (RFC 4180: fields in quotes may hold commas, doubled quotes and line ends) at *at and
// moves behind its line end. False at the end of the text. Blanks are kept; \r\n ends a row as \n does.
bool ReadCsvRow(absl::string_view text, size_t* at, std::vector<std::string>* fields);

// The same without the fields.
bool SkipCsvRow(absl::string_view text, size_t* at);

}  // namespace doppel
