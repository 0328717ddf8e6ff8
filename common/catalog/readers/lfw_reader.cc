#include "common/catalog/readers/lfw_reader.h"

#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/catalog/readers/imagefolder_reader.h"
#include "common/io/file_system.h"

namespace doppel {
namespace {

constexpr size_t kNamedPairs = 1000;

// The images that one line of pairs.txt names: "name a b" or "name a other b", apart by tabs or blanks.
std::vector<std::pair<std::string, uint32_t>> PairOfLine(absl::string_view line) {
  const std::vector<std::string> fields = absl::StrSplit(line, absl::ByAnyChar("\t \r"), absl::SkipEmpty());
  uint32_t first = 0, second = 0;
  if (fields.size() == 3 && absl::SimpleAtoi(fields[1], &first) && absl::SimpleAtoi(fields[2], &second)) {
    return {{fields[0], first}, {fields[0], second}};
  }
  if (fields.size() == 4 && absl::SimpleAtoi(fields[1], &first) && absl::SimpleAtoi(fields[3], &second)) {
    return {{fields[0], first}, {fields[2], second}};
  }
  return {};
}

bool PairImageExists(const std::string& root, const std::string& name, uint32_t number) {
  std::error_code error;
  const std::string stem = absl::StrFormat("%s/%s/%s_%04d.", root, name, name, number);
  for (const char* extension : {"jpg", "png", "jpeg", "JPG", "bmp", "webp"}) {
    if (std::filesystem::exists(stem + extension, error)) return true;
  }
  return false;
}

// What pairs.txt names and `root` does not have; and how many pairs there are.
absl::Status CheckPairs(const std::string& pairs, const std::string& root, std::vector<std::string>* notes,
                        std::vector<SkippedRecord>* skipped) {
  ASSIGN_OR_RETURN(const std::string text, PosixFileSystem().ReadFile(pairs));
  uint64_t count = 0, unreadable = 0, line_number = 0;
  std::set<std::pair<std::string, uint32_t>> missing;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    const auto images = PairOfLine(line);
    // The first line says how many folds and pairs there are.
    if (images.empty()) {
      unreadable += line_number > 1 && line.find_first_not_of(" \t\r") != absl::string_view::npos;
      continue;
    }
    ++count;
    for (const auto& image : images) {
      if (missing.size() >= kNamedPairs || PairImageExists(root, image.first, image.second)) continue;
      if (!missing.insert(image).second) continue;
      skipped->push_back({pairs, absl::StrCat("line ", line_number), "missing pair image",
                          absl::StrFormat("%s_%04d is not there", image.first, image.second)});
    }
  }
  notes->push_back(absl::StrCat(pairs, " names ", count, " pairs; the catalog does not keep them, and ",
                                missing.size(), " of their images are missing"));
  if (unreadable > 0) notes->push_back(absl::StrCat(pairs, ": ", unreadable, " lines are no pairs"));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DatasetReader>> OpenLfw(const std::string& root, bool follow_links) {
  ASSIGN_OR_RETURN(FileRoot files, OpenFileRoot(root, follow_links));
  const std::string top = files.path;
  ASSIGN_OR_RETURN(FolderListing listing, ListFolder(files.path));
  if (listing.folders.size() == 1) {
    const std::string inner = absl::StrCat(files.path, "/", listing.folders.front());
    ASSIGN_OR_RETURN(FolderListing below, ListFolder(inner));
    if (!below.folders.empty()) {
      ASSIGN_OR_RETURN(files, OpenFileRoot(inner, follow_links));
      listing = std::move(below);
    }
  }
  if (listing.folders.empty()) {
    return absl::NotFoundError(absl::StrCat(root, " holds no folders: LFW is root/<Name>/<Name>_0001.jpg"));
  }
  std::vector<std::string> notes;
  std::vector<SkippedRecord> skipped;
  for (const std::string& folder : std::set<std::string>{top, files.path}) {
    const std::string pairs = absl::StrCat(folder, "/pairs.txt");
    if (!PosixFileSystem().Exists(pairs)) continue;
    RETURN_IF_ERROR(CheckPairs(pairs, files.path, &notes, &skipped));
    break;
  }
  std::vector<IdentityFolder> folders;
  folders.reserve(listing.folders.size());
  for (const std::string& name : listing.folders) folders.push_back({"", name, name});
  return MakeFolderDataset("lfw", files, std::move(folders), std::move(notes), std::move(skipped));
}

}  // namespace doppel
