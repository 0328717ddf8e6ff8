#include "common/catalog/readers/reader.h"

#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "common/catalog/readers/csv_reader.h"
#include "common/catalog/readers/image_file.h"
#include "common/catalog/readers/imagefolder_reader.h"
#include "common/catalog/readers/lfw_reader.h"
#include "common/catalog/readers/market1501_reader.h"
#include "common/catalog/readers/record_parts.h"
#include "common/catalog/readers/recordio_reader.h"
#include "common/catalog/readers/webdataset_reader.h"

namespace doppel {
namespace {

GuessedFormat GuessFile(const std::string& path) {
  const std::string name = absl::AsciiStrToLower(path);
  for (const auto& [extension, format] :
       {std::pair{".tar", "webdataset"}, {".csv", "csv"}, {".rec", "recordio"}}) {
    if (absl::EndsWith(name, extension)) return {format, absl::StrCat(path, " is called *", extension)};
  }
  char start[4] = {};
  std::ifstream(path, std::ios::binary).read(start, sizeof(start));
  uint32_t magic;
  std::memcpy(&magic, start, sizeof(magic));
  if (magic == kRecordMagic) return {"recordio", absl::StrCat(path, " starts with RecordIO's magic number")};
  return {"webdataset", absl::StrCat(path, " is a file, and neither CSV nor RecordIO")};
}

// "Aaron_Eckhart" holds "Aaron_Eckhart_0001.jpg".
bool LooksLikeLfw(const std::string& path, const std::vector<std::string>& folders) {
  const std::string& first = folders.front();
  const absl::StatusOr<FolderListing> inside = ListFolder(absl::StrCat(path, "/", first));
  return inside.ok() && !inside->files.empty() &&
         absl::StartsWith(inside->files.front(), absl::StrCat(first, "_000"));
}

GuessedFormat GuessFolder(const std::string& path, const FolderListing& listing) {
  const auto holds = [&](const std::vector<std::string>& names, absl::string_view ending) {
    for (const std::string& name : names) {
      if (absl::EndsWith(name, ending)) return true;
    }
    return false;
  };
  for (const auto& [ending, format] : {std::pair{".tar", "webdataset"}, {".rec", "recordio"}}) {
    if (holds(listing.files, ending)) return {format, absl::StrCat(path, " holds *", ending, " files")};
  }
  for (const char* name : {"bounding_box_train", "bounding_box_test"}) {
    if (holds(listing.folders, name)) return {"market1501", absl::StrCat(path, " holds ", name)};
  }
  if (holds(listing.files, "list_train.txt")) {
    return {"market1501", absl::StrCat(path, " holds MSMT17's list_train.txt")};
  }
  if (holds(listing.files, "pairs.txt")) return {"lfw", absl::StrCat(path, " holds pairs.txt")};
  if (!listing.folders.empty() && LooksLikeLfw(path, listing.folders)) {
    return {"lfw", absl::StrCat(path, " holds NAME/NAME_0001.*")};
  }
  return {"imagefolder", absl::StrCat(path, " is a folder of none of the other formats")};
}

}  // namespace

std::vector<std::string> DatasetFormats() {
  return {"webdataset", "imagefolder", "market1501", "lfw", "csv", "recordio", "auto"};
}

absl::StatusOr<GuessedFormat> GuessFormat(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    ASSIGN_OR_RETURN(const FolderListing listing, ListFolder(path));
    return GuessFolder(path, listing);
  }
  if (std::filesystem::exists(path, error)) return GuessFile(path);
  if (path.find('{') != std::string::npos) {
    return GuessedFormat{"webdataset", absl::StrCat(path, " is a pattern of shards")};
  }
  return absl::NotFoundError(absl::StrCat("no such file or folder: ", path));
}

absl::StatusOr<std::unique_ptr<DatasetReader>> OpenDataset(absl::string_view format, const std::string& path,
                                                           const DatasetOptions& options) {
  if (format == "auto") {
    ASSIGN_OR_RETURN(const GuessedFormat guessed, GuessFormat(path));
    return OpenDataset(guessed.format, path, options);
  }
  if (format == "webdataset") return OpenWebDataset(path);
  if (format == "imagefolder") return OpenImageFolder(path, options.follow_links);
  if (format == "market1501") return OpenMarket1501(path, options.follow_links);
  if (format == "lfw") return OpenLfw(path, options.follow_links);
  if (format == "csv") return OpenCsv(path, options.root, options.follow_links);
  if (format == "recordio") return OpenRecordIo(path);
  return absl::InvalidArgumentError(
      absl::StrCat("unknown format \"", format, "\": use one of ", absl::StrJoin(DatasetFormats(), ", ")));
}

std::string FileStamp(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return path;
  return absl::StrCat(path, "|", info.st_size, "|", info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec, "|",
                      info.st_ino);
}

bool IsImageExtension(absl::string_view extension) {
  for (const absl::string_view known : {"png", "jpg", "jpeg", "webp", "bmp", "ppm", "pgm"}) {
    if (extension == known) return true;
  }
  return false;
}

}  // namespace doppel
