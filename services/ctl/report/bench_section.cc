#include "services/ctl/report/bench_section.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"
#include "nlohmann/json.hpp"
#include "services/ctl/report/html.h"

namespace doppel::report {
namespace {

using Json = nlohmann::ordered_json;

std::string Cell(const Json& value) {
  if (value.is_number()) return Number(value.get<double>());
  if (value.is_string()) return value.get<std::string>();
  return value.dump();
}

// One column per key that any row has, in the order of their first appearance.
Table RowsTable(const Json& rows) {
  Table table;
  for (const Json& row : rows) {
    if (!row.is_object()) continue;
    for (const auto& [key, value] : row.items()) {
      if (std::find(table.header.begin(), table.header.end(), key) == table.header.end())
        table.header.push_back(key);
    }
  }
  for (const Json& row : rows) {
    if (!row.is_object()) continue;
    std::vector<std::string>& cells = table.rows.emplace_back();
    for (const std::string& key : table.header) cells.push_back(row.contains(key) ? Cell(row[key]) : "–");
  }
  return table;
}

}  // namespace

absl::StatusOr<std::string> BenchSection(const std::vector<std::string>& files) {
  if (files.empty()) return std::string();
  std::string body;
  for (const std::string& path : files) {
    ASSIGN_OR_RETURN(const std::string text, PosixFileSystem().ReadFile(path));
    const Json json = Json::parse(text, nullptr, false);
    if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(path, ": not a JSON object"));
    const Json name = json.value("name", Json(path));
    absl::StrAppend(&body, "<h3>", Escape(Cell(name)), "</h3>\n");
    if (json.contains("rows") && json["rows"].is_array() && !json["rows"].empty()) {
      absl::StrAppend(&body, RenderTable(RowsTable(json["rows"])));
    }
    if (!json.contains("ratios") || !json["ratios"].is_object()) continue;
    Table ratios;
    ratios.header = {"ratio", "value"};
    for (const auto& [key, value] : json["ratios"].items()) ratios.rows.push_back({key, Cell(value)});
    if (!ratios.rows.empty()) absl::StrAppend(&body, RenderTable(ratios));
  }
  return Section("bench", "Against the bare limits", body);
}

}  // namespace doppel::report
