#include "services/ctl/report/html.h"

#include <cctype>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace doppel::report {
namespace {

bool LooksLikeNumber(absl::string_view text) {
  return !text.empty() &&
         (std::isdigit(static_cast<unsigned char>(text[0])) || text[0] == '-' || text[0] == '+');
}

}  // namespace

std::string Escape(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::string RenderTable(const Table& table) {
  std::string html = "<div class=\"scroll\"><table><thead><tr>";
  for (const std::string& cell : table.header) absl::StrAppend(&html, "<th>", Escape(cell), "</th>");
  absl::StrAppend(&html, "</tr></thead><tbody>");
  for (const auto& row : table.rows) {
    absl::StrAppend(&html, "<tr>");
    for (size_t i = 0; i < row.size(); ++i) {
      if (i == 0) {
        absl::StrAppend(&html, "<th scope=\"row\">", Escape(row[i]), "</th>");
      } else {
        absl::StrAppend(&html, LooksLikeNumber(row[i]) ? "<td class=\"n\">" : "<td>", Escape(row[i]),
                        "</td>");
      }
    }
    absl::StrAppend(&html, "</tr>");
  }
  absl::StrAppend(&html, "</tbody></table></div>\n");
  return html;
}

std::string Section(absl::string_view id, absl::string_view title, absl::string_view body) {
  return absl::StrCat("<section id=\"", Escape(id), "\"><h2>", Escape(title), "</h2>\n", body,
                      "</section>\n");
}

std::string Paragraph(absl::string_view text) { return absl::StrCat("<p>", Escape(text), "</p>\n"); }

std::string Figure(absl::string_view svg, absl::string_view caption) {
  return absl::StrCat("<figure>", svg, "<figcaption>", Escape(caption), "</figcaption></figure>\n");
}

std::string Percent(double share) { return absl::StrFormat("%.1f %%", share * 100); }

std::string Number(double value) {
  const double size = std::fabs(value);
  if (value == std::floor(value) && size < 1e15) return absl::StrFormat("%.0f", value);
  if (size >= 1000) return absl::StrFormat("%.0f", value);
  return absl::StrFormat("%.4g", value);
}

}  // namespace doppel::report
