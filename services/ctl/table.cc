#include "services/ctl/table.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace doppel {
namespace {

constexpr size_t kGap = 2;

// East Asian Wide and Fullwidth, by block.
bool IsWide(uint32_t c) {
  return (c >= 0x1100 && c <= 0x115F) || (c >= 0x2E80 && c <= 0xA4CF && c != 0x303F) ||
         (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0xFE30 && c <= 0xFE6F) ||
         (c >= 0xFF00 && c <= 0xFF60) || (c >= 0xFFE0 && c <= 0xFFE6) || (c >= 0x1F300 && c <= 0x1FAFF) ||
         (c >= 0x20000 && c <= 0x3FFFD);
}

std::string Printable(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (absl::ascii_iscntrl(c)) {
      out += absl::StrFormat("\\x%02x", static_cast<uint8_t>(c));
    } else {
      out += c;
    }
  }
  return out;
}

std::string Pad(const std::string& text, size_t width, Table::Align align) {
  const size_t own = DisplayWidth(text);
  const std::string blanks(width > own ? width - own : 0, ' ');
  return align == Table::Align::kLeft ? text + blanks : blanks + text;
}

}  // namespace

size_t DisplayWidth(absl::string_view utf8) {
  size_t width = 0;
  for (size_t i = 0; i < utf8.size();) {
    const auto lead = static_cast<uint8_t>(utf8[i]);
    const size_t length = lead < 0x80    ? 1
                          : lead >= 0xF8 ? 1
                          : lead >= 0xF0 ? 4
                          : lead >= 0xE0 ? 3
                          : lead >= 0xC0 ? 2
                                         : 1;
    uint32_t c = length == 1 ? lead : lead & (0x7F >> length);
    for (size_t k = 1; k < length && i + k < utf8.size(); ++k)
      c = c << 6 | (static_cast<uint8_t>(utf8[i + k]) & 0x3F);
    width += IsWide(c) ? 2 : 1;
    i += length;
  }
  return width;
}

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) cell = Printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::Render(bool colour) const {
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    widths.push_back(DisplayWidth(columns_[i].title));
    for (const auto& row : rows_) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  const auto line = [&](const auto& cell) {
    std::string text;
    for (size_t i = 0; i < columns_.size(); ++i) {
      absl::StrAppend(&text, i == 0 ? "" : std::string(kGap, ' '),
                      Pad(cell(i), widths[i], columns_[i].align));
    }
    return std::string(absl::StripTrailingAsciiWhitespace(text));
  };
  const std::string titles = line([&](size_t i) { return columns_[i].title; });
  std::string text = colour ? absl::StrCat("\x1b[1m", titles, "\x1b[0m\n") : absl::StrCat(titles, "\n");
  for (const auto& row : rows_) absl::StrAppend(&text, line([&](size_t i) { return row[i]; }), "\n");
  return text;
}

std::string RenderFields(const std::vector<std::pair<std::string, std::string>>& fields) {
  size_t width = 0;
  for (const auto& [name, value] : fields) width = std::max(width, DisplayWidth(name));
  std::string text;
  for (const auto& [name, value] : fields) {
    absl::StrAppend(&text, Pad(name, width + kGap, Table::Align::kLeft), Printable(value), "\n");
  }
  return text;
}

}  // namespace doppel
