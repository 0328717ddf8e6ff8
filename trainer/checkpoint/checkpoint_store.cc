#include "trainer/checkpoint/checkpoint_store.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

constexpr char kManifest[] = "MANIFEST";
constexpr char kPrefix[] = "step-";
constexpr char kTemporary[] = "tmp-";

// Files below `directory`, by their paths relative to it. A name that cannot be listed is a file.
absl::Status ListFiles(FileSystem& fs, const std::string& directory, const std::string& below,
                       std::vector<std::string>* files) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(directory));
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(directory, "/", name);
    if (fs.List(path).ok()) {
      RETURN_IF_ERROR(ListFiles(fs, path, absl::StrCat(below, name, "/"), files));
      RETURN_IF_ERROR(fs.SyncDirectory(path));
    } else {
      files->push_back(absl::StrCat(below, name));
    }
  }
  return absl::OkStatus();
}

// Line 1: JSON; line 2: its CRC32C.
std::string EncodeManifest(const nlohmann::ordered_json& manifest) {
  const std::string text = manifest.dump();
  return absl::StrFormat("%s\ncrc32c %08x\n", text, Crc32c(text));
}

absl::StatusOr<nlohmann::json> DecodeManifest(const std::string& data) {
  const size_t end = data.find('\n');
  if (end == std::string::npos ||
      data.substr(end + 1) != absl::StrFormat("crc32c %08x\n", Crc32c(data.substr(0, end)))) {
    return absl::DataLossError("MANIFEST is cut short or has the wrong CRC32C");
  }
  nlohmann::json manifest = nlohmann::json::parse(data.substr(0, end), nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object() || !manifest.contains("files") || !manifest["files"].is_array()) {
    return absl::DataLossError("MANIFEST is not one of a checkpoint");
  }
  return manifest;
}

absl::Status WriteManifest(FileSystem& fs, uint64_t step, const std::string& directory) {
  std::vector<std::string> files;
  RETURN_IF_ERROR(ListFiles(fs, directory, "", &files));
  nlohmann::ordered_json manifest = {
      {"format_version", 1}, {"step", step}, {"files", nlohmann::ordered_json::array()}};
  for (const std::string& name : files) {
    const std::string path = absl::StrCat(directory, "/", name);
    ASSIGN_OR_RETURN(const std::string data, fs.ReadFile(path));
    // The files may come from libraries that do not sync.
    ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.OpenAppend(path));
    RETURN_IF_ERROR(file->Sync());
    RETURN_IF_ERROR(file->Close());
    manifest["files"].push_back({{"name", name}, {"size", data.size()}, {"crc32c", Crc32c(data)}});
  }
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.Create(absl::StrCat(directory, "/", kManifest)));
  RETURN_IF_ERROR(file->Append(EncodeManifest(manifest)));
  RETURN_IF_ERROR(file->Sync());
  RETURN_IF_ERROR(file->Close());
  return fs.SyncDirectory(directory);
}

absl::Status Validate(FileSystem& fs, const std::string& directory) {
  absl::StatusOr<std::string> data = fs.ReadFile(absl::StrCat(directory, "/", kManifest));
  if (!data.ok()) return data.status();
  ASSIGN_OR_RETURN(const nlohmann::json manifest, DecodeManifest(*data));
  for (const nlohmann::json& entry : manifest["files"]) {
    const std::string name = entry.value("name", "");
    absl::StatusOr<std::string> content = fs.ReadFile(absl::StrCat(directory, "/", name));
    if (!content.ok()) return content.status();
    if (content->size() != entry.value("size", uint64_t{0})) {
      return absl::DataLossError(absl::StrCat(name, " has ", content->size(), " bytes instead of ",
                                              entry.value("size", uint64_t{0})));
    }
    if (Crc32c(*content) != entry.value("crc32c", uint32_t{0})) {
      return absl::DataLossError(absl::StrCat(name, " has the wrong CRC32C"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

CheckpointStore::CheckpointStore(FileSystem& fs, std::string root, int keep)
    : fs_(fs), root_(std::move(root)), keep_(static_cast<size_t>(std::max(keep, 1))) {}

std::string CheckpointStore::PathOf(uint64_t step) const {
  return absl::StrFormat("%s/%s%012d", root_, kPrefix, step);
}

absl::StatusOr<std::vector<uint64_t>> CheckpointStore::Steps() {
  std::vector<uint64_t> steps;
  if (!fs_.Exists(root_)) return steps;
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.List(root_));
  for (const std::string& name : names) {
    uint64_t step = 0;
    if (absl::StartsWith(name, kPrefix) && absl::SimpleAtoi(name.substr(sizeof(kPrefix) - 1), &step)) {
      steps.push_back(step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

absl::Status CheckpointStore::Save(uint64_t step,
                                   const std::function<absl::Status(const std::string&)>& write) {
  const std::string path = PathOf(step);
  if (fs_.Exists(path)) {
    if (Validate(fs_, path).ok()) {
      // By a process that may have died before its name was durable.
      RETURN_IF_ERROR(fs_.SyncDirectory(root_));
      return Prune(step);
    }
    RETURN_IF_ERROR(fs_.RemoveRecursively(path));
  }
  const std::string temporary = absl::StrCat(root_, "/", kTemporary, step);
  if (fs_.Exists(temporary)) RETURN_IF_ERROR(fs_.RemoveRecursively(temporary));
  RETURN_IF_ERROR(fs_.MakeDirectories(temporary));
  RETURN_IF_ERROR(write(temporary));
  RETURN_IF_ERROR(WriteManifest(fs_, step, temporary));
  RETURN_IF_ERROR(fs_.Rename(temporary, path));
  RETURN_IF_ERROR(fs_.SyncDirectory(root_));
  return Prune(step);
}

absl::Status CheckpointStore::Prune(uint64_t newest) {
  ASSIGN_OR_RETURN(std::vector<uint64_t> steps, Steps());
  // Later ones are damaged (or they would have been resumed from) and must not push good ones out.
  steps.erase(std::upper_bound(steps.begin(), steps.end(), newest), steps.end());
  for (size_t i = 0; i + keep_ < steps.size(); ++i) RETURN_IF_ERROR(fs_.RemoveRecursively(PathOf(steps[i])));
  // What a killed process left half-written.
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.List(root_));
  for (const std::string& name : names) {
    if (absl::StartsWith(name, kTemporary))
      RETURN_IF_ERROR(fs_.RemoveRecursively(absl::StrCat(root_, "/", name)));
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointStore::Scan> CheckpointStore::FindNewest() {
  ASSIGN_OR_RETURN(const std::vector<uint64_t> steps, Steps());
  Scan scan;
  for (auto it = steps.rbegin(); it != steps.rend(); ++it) {
    const std::string path = PathOf(*it);
    const absl::Status status = Validate(fs_, path);
    if (status.ok()) {
      scan.newest = Found{*it, path};
      break;
    }
    scan.damaged.push_back(absl::StrCat(path, ": ", status.message()));
  }
  return scan;
}

absl::Status CheckpointStore::Clear() {
  if (!fs_.Exists(root_)) return absl::OkStatus();
  return fs_.RemoveRecursively(root_);
}

}  // namespace doppel
