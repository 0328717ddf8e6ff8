#include "services/trainer_worker/eval_data_files.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/io/npy.h"

namespace doppel {
namespace {

using ::nlohmann::ordered_json;

absl::Status InFile(const std::string& path, const absl::Status& status) {
  if (status.ok() || absl::StrContains(status.message(), path)) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::StatusOr<NpyArray> ReadShaped(FileSystem& fs, const std::string& path, size_t axes, const char* shape) {
  auto array = ReadNpy(fs, path);
  if (!array.ok()) return InFile(path, array.status());
  if (array->shape.size() == axes) return array;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": shape (", absl::StrJoin(array->shape, ", "), ") where ", shape, " is expected"));
}

void Flatten(const ordered_json& json, const std::string& prefix,
             std::vector<std::pair<std::string, std::string>>* lines) {
  for (const auto& [key, value] : json.items()) {
    const std::string name = prefix.empty() ? key : absl::StrCat(prefix, " ", key);
    if (value.is_object()) {
      Flatten(value, name, lines);
    } else if (value.is_number_float()) {
      lines->emplace_back(name, absl::StrFormat("%.6f", value.get<double>()));
    } else {
      lines->emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
}

}  // namespace

absl::StatusOr<EvalData> ReadEvalData(FileSystem& fs, const std::string& embeddings,
                                      const std::string& labels, const std::string& cameras) {
  EvalData data;
  {
    ASSIGN_OR_RETURN(const NpyArray array, ReadShaped(fs, embeddings, 2, "[rows, dimension]"));
    if (array.shape[1] < 1 || array.shape[1] > 1 << 20) {
      return absl::InvalidArgumentError(
          absl::StrCat(embeddings, ": embeddings of dimension ", array.shape[1]));
    }
    auto values = NpyToFloats(array);
    if (!values.ok()) return InFile(embeddings, values.status());
    data.dimension = static_cast<int>(array.shape[1]);
    data.vectors = *std::move(values);
  }
  if (data.vectors.empty()) return absl::InvalidArgumentError(absl::StrCat(embeddings, ": holds no row"));
  const auto rows = static_cast<size_t>(data.rows());
  for (const bool camera : {false, true}) {
    const std::string& path = camera ? cameras : labels;
    if (path.empty()) continue;
    ASSIGN_OR_RETURN(std::vector<int64_t> values, ReadNpyInts(fs, path));
    if (values.size() != rows) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", values.size(),
                                                     camera ? " cameras" : " labels", ", but ", embeddings,
                                                     " holds ", rows, " rows"));
    }
    (camera ? data.cameras : data.labels) = std::move(values);
  }
  // Values are looked at here, where the file's name is known.
  EvalData shell;
  std::swap(shell.vectors, data.vectors);
  shell.dimension = data.dimension;
  shell.labels.resize(rows);
  const absl::Status finite = CheckEvalData(shell, embeddings);
  std::swap(shell.vectors, data.vectors);
  RETURN_IF_ERROR(finite);
  return data;
}

absl::StatusOr<std::vector<int64_t>> ReadNpyInts(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const NpyArray array, ReadShaped(fs, path, 1, "[rows]"));
  if (array.dtype == "|b1") {
    std::vector<int64_t> values;
    values.reserve(array.data.size());
    for (const char bit : array.data) values.push_back(bit != 0 ? 1 : 0);
    return values;
  }
  auto values = NpyToInts(array);
  if (!values.ok()) return InFile(path, values.status());
  return values;
}

absl::StatusOr<std::vector<double>> ReadNpyDoubles(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const NpyArray array, ReadShaped(fs, path, 1, "[rows]"));
  if (array.dtype == "<f8") {
    std::vector<double> values(static_cast<size_t>(array.size()));
    std::memcpy(values.data(), array.data.data(), values.size() * sizeof(double));
    return values;
  }
  auto values = NpyToFloats(array);
  if (!values.ok()) return InFile(path, values.status());
  return std::vector<double>(values->begin(), values->end());
}

absl::StatusOr<std::vector<LabelledPair>> ReadNpyPairs(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const NpyArray array, ReadShaped(fs, path, 2, "[pairs, 3]"));
  if (array.shape[1] != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", array.shape[1], " columns where row, row, same (0 or 1) are expected"));
  }
  const auto values = NpyToInts(array);
  if (!values.ok()) return InFile(path, values.status());
  std::vector<LabelledPair> pairs(values->size() / 3);
  for (size_t i = 0; i < pairs.size(); ++i) {
    const int64_t same = (*values)[3 * i + 2];
    if (same != 0 && same != 1) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": row ", i, " says ", same, " where 1 (the same ",
                                                     "identity) or 0 is expected"));
    }
    pairs[i] = {(*values)[3 * i], (*values)[3 * i + 1], same == 1};
  }
  return pairs;
}

absl::StatusOr<std::vector<std::string>> ReadLines(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, fs.ReadFile(path));
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  for (std::string& line : lines) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
  }
  return lines;
}

absl::StatusOr<Similarity> ParseDistance(const std::string& distance) {
  if (distance == "cosine") return Similarity::kInnerProduct;
  if (distance == "euclidean") return Similarity::kEuclidean;
  return absl::InvalidArgumentError(
      absl::StrCat("--distance is \"", distance, "\": choose cosine or euclidean"));
}

std::string JsonToTable(const std::string& json) {
  std::vector<std::pair<std::string, std::string>> lines;
  Flatten(ordered_json::parse(json), "", &lines);
  size_t width = 0;
  for (const auto& [name, value] : lines) width = std::max(width, name.size());
  std::string text;
  for (const auto& [name, value] : lines) {
    absl::StrAppend(&text, name, std::string(width + 2 - name.size(), ' '), value, "\n");
  }
  return text;
}

}  // namespace doppel
