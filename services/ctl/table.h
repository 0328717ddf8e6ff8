#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace doppel {

// Columns of text for people. Control characters are escaped; wide (CJK) letters count as two. No trailing
// blanks.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // Missing cells are empty, surplus ones dropped.
  void AddRow(std::vector<std::string> cells);
  // Titles first, in bold if `colour`. A table without rows has its titles alone.
  std::string Render(bool colour = false) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "name   value" lines, values aligned.
std::string RenderFields(const std::vector<std::pair<std::string, std::string>>& fields);

// Columns that the text takes on a terminal.
size_t DisplayWidth(absl::string_view utf8);

}  // namespace doppel
