#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace doppel::report {

// For text and for quoted attributes.
std::string Escape(absl::string_view text);

struct Table {
  std::vector<std::string> header;  // plain text
  std::vector<std::vector<std::string>>
      rows;  // plain text; the first column is a heading, numbers align right
};
std::string RenderTable(const Table& table);

// Title and body (HTML) of one part of the page.
std::string Section(absl::string_view id, absl::string_view title, absl::string_view body);
// A paragraph of plain text.
std::string Paragraph(absl::string_view text);
// A plot with its caption below.
std::string Figure(absl::string_view svg, absl::string_view caption);

// 0.12345 → "12.3 %".
std::string Percent(double share);
// About four significant digits: "0.1235", "1234", "1.2e-06".
std::string Number(double value);

}  // namespace doppel::report
