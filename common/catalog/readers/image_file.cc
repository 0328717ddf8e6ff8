#include "common/catalog/readers/image_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/catalog/readers/image_check.h"
#include "common/catalog/readers/image_size.h"
#include "common/io/crc32c.h"
#include "common/io/file_system.h"

namespace doppel {

ImageVerdict JudgeImage(absl::string_view bytes) {
  const ImageSize size = ReadImageSize(bytes);
  if (size.height != 0 && size.width > kMaxImagePixels / size.height) {
    return {"image too large", absl::StrCat(size.width, "x", size.height, " pixels")};
  }
  const absl::Status status = CheckImage(bytes);
  if (!status.ok()) return {"corrupt image", std::string(status.message())};
  return {};
}

absl::StatusOr<FileRoot> OpenFileRoot(const std::string& path, bool follow_links) {
  std::error_code error;
  FileRoot root;
  root.follow_links = follow_links;
  root.path = std::filesystem::absolute(path, error).lexically_normal().string();
  while (root.path.size() > 1 && root.path.back() == '/') root.path.pop_back();
  root.real = std::filesystem::canonical(root.path, error).string();
  if (error || !std::filesystem::is_directory(root.real, error)) {
    return absl::NotFoundError(absl::StrCat(path, " is not a folder: name the folder of the images"));
  }
  return root;
}

bool StaysInRoot(const FileRoot& root, const std::string& key) {
  if (root.follow_links || root.real == "/") return true;
  std::error_code error;
  const std::string real = std::filesystem::canonical(absl::StrCat(root.path, "/", key), error).string();
  if (error) return true;  // reading it says what is wrong
  return real == root.real || absl::StartsWith(real, absl::StrCat(root.real, "/"));
}

ReaderItem ReadImageFile(const FileRoot& root, SampleEntry entry) {
  const std::string path = absl::StrCat(root.path, root.path == "/" ? "" : "/", entry.key);
  const auto skip = [&](absl::string_view reason, absl::string_view detail) {
    return SkippedRecord{path, "", std::string(reason), std::string(detail)};
  };
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) {
    return skip(errno == ENOENT || errno == ENOTDIR ? "missing file" : "unreadable", std::strerror(errno));
  }
  const bool link = S_ISLNK(info.st_mode);
  if (link && !StaysInRoot(root, entry.key)) {
    return skip("link out of the root",
                absl::StrCat("leads out of ", root.path, ": --follow-links permits it"));
  }
  if (link && stat(path.c_str(), &info) != 0) return skip("unreadable", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return skip("unreadable", "not a file");
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  if (size == 0) return skip("empty image", "the file has no bytes");
  if (size > std::numeric_limits<uint32_t>::max()) {
    return skip("image too large", absl::StrCat(size, " bytes"));
  }
  const absl::StatusOr<std::string> bytes = PosixFileSystem().ReadFile(path);
  if (!bytes.ok()) return skip("unreadable", bytes.status().message());
  const ImageVerdict verdict = JudgeImage(*bytes);
  if (!verdict.reason.empty()) return skip(verdict.reason, verdict.detail);
  entry.size = static_cast<uint32_t>(bytes->size());
  entry.crc32c = Crc32c(*bytes);
  return entry;
}

ReaderItem ListedFileReader::Read(SampleEntry entry) {
  namespace fs = std::filesystem;
  const fs::path given = entry.key;
  const fs::path root = root_.path;
  const fs::path path = (given.is_absolute() ? given : root / given).lexically_normal();
  const std::string below = path.lexically_relative(root).string();
  if (below.empty() || below == "." || below == ".." || absl::StartsWith(below, "../")) {
    return SkippedRecord{path.string(), "", "outside of the root",
                         absl::StrCat("the root is ", root_.path, ": name another one with --root")};
  }
  entry.key = below;
  const size_t slash = below.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : below.substr(0, slash);
  if (folder != folder_) {
    folder_ = folder;
    folder_stays_ = folder.empty() || StaysInRoot(root_, folder);
  }
  if (!folder_stays_) {
    return SkippedRecord{path.string(), "", "link out of the root",
                         absl::StrCat("leads out of ", root_.path, ": --follow-links permits it")};
  }
  return ReadImageFile(root_, std::move(entry));
}

absl::StatusOr<FolderListing> ListFolder(const std::string& path) {
  namespace fs = std::filesystem;
  FolderListing listing;
  std::error_code error;
  fs::directory_iterator entry(path, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (absl::StartsWith(name, ".")) continue;
    std::error_code broken;
    const bool folder = entry->is_directory(broken);
    (folder ? listing.folders : listing.files).push_back(std::move(name));
  }
  if (error) return absl::UnavailableError(absl::StrCat("cannot list ", path, ": ", error.message()));
  std::sort(listing.folders.begin(), listing.folders.end());
  std::sort(listing.files.begin(), listing.files.end());
  return listing;
}

bool IsImageName(absl::string_view name) {
  const size_t dot = name.rfind('.');
  return dot != absl::string_view::npos && IsImageExtension(absl::AsciiStrToLower(name.substr(dot + 1)));
}

}  // namespace doppel
