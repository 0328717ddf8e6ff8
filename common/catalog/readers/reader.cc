#include "common/catalog/readers/reader.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/catalog/readers/imagefolder_reader.h"
#include "common/catalog/readers/webdataset_reader.h"

namespace doppel {
namespace {

bool LooksLikeShards(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return true;
  std::filesystem::directory_iterator entry(path, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (absl::EndsWith(entry->path().string(), ".tar")) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DatasetReader>> OpenDataset(absl::string_view format,
                                                           const std::string& path) {
  if (format == "webdataset" || (format == "auto" && LooksLikeShards(path))) return OpenWebDataset(path);
  if (format == "imagefolder" || format == "auto") return OpenImageFolder(path);
  return absl::InvalidArgumentError(
      absl::StrCat("unknown format \"", format, "\": use webdataset, imagefolder or auto"));
}

bool IsImageExtension(absl::string_view extension) {
  for (const absl::string_view known : {"png", "jpg", "jpeg", "webp", "bmp", "ppm", "pgm"}) {
    if (extension == known) return true;
  }
  return false;
}

}  // namespace doppel
