#include "miner/generation/model_info.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace doppel {
namespace {

constexpr int kMaxDimension = 1 << 16;

}  // namespace

absl::StatusOr<ModelInfo> ReadModelInfo(FileSystem& fs, const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/model.json");
  const auto bad = [&path](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", what, "; model_path must be a model directory (model.json and weights.pt)"));
  };
  const absl::StatusOr<std::string> text = fs.ReadFile(path);
  if (!text.ok()) return bad(absl::StrCat("cannot be read: ", std::string(text.status().message())));
  const nlohmann::json json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return bad("is no JSON object");
  const auto field = [&json](const char* name) {
    return json.contains(name) ? json[name] : nlohmann::json();
  };
  ModelInfo info;
  if (!field("fingerprint").is_string()) return bad("has no string \"fingerprint\"");
  info.fingerprint = field("fingerprint").get<std::string>();
  if (info.fingerprint.empty()) return bad("\"fingerprint\" is empty");
  if (!field("dimension").is_number_integer()) return bad("has no integer \"dimension\"");
  const int64_t dimension = field("dimension").get<int64_t>();
  if (dimension < 1 || dimension > kMaxDimension) {
    return bad(absl::StrCat("\"dimension\" is ", dimension, ", expected 1 to ", kMaxDimension));
  }
  info.dimension = static_cast<int>(dimension);
  const nlohmann::json step = field("step");
  if (!step.is_null()) {
    if (!step.is_number_unsigned()) return bad("\"step\" is no number of steps");
    info.step = step.get<uint64_t>();
  }
  return info;
}

}  // namespace doppel
