#include "common/catalog/readers/imagefolder_reader.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/readers/image_check.h"
#include "common/io/crc32c.h"
#include "common/io/file_system.h"

namespace doppel {
namespace {

namespace fs = std::filesystem;

struct Listing {
  std::vector<std::string> folders;
  std::vector<std::string> files;
};

// Names in a folder, sorted bytewise, hidden ones left out; links count as what they lead to.
absl::StatusOr<Listing> List(const std::string& path) {
  Listing listing;
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

struct IdentityFolder {
  std::string split;
  std::string identity;
  std::string key;  // path below the root
};

class FolderReader : public SampleReader {
 public:
  FolderReader(std::string root, IdentityFolder folder)
      : root_(std::move(root)), folder_(std::move(folder)) {}

  absl::StatusOr<ReaderItem> Next() override {
    if (!listed_) {
      std::set<std::string> ancestors;
      Collect(folder_.key, &ancestors);
      std::sort(keys_.begin(), keys_.end());
      if (keys_.empty() && skips_.empty()) {
        skips_.push_back(
            {absl::StrCat(root_, "/", folder_.key), "", "no image", "the identity's folder has no image"});
      }
      listed_ = true;
    }
    if (next_skip_ < skips_.size()) return ReaderItem(std::move(skips_[next_skip_++]));
    if (next_ < keys_.size()) return ReadImage(keys_[next_++]);
    return ReaderItem(ReaderEnd{});
  }

  uint64_t work_done() const override { return listed_ && next_ == keys_.size() ? 1 : 0; }

 private:
  void Collect(const std::string& key, std::set<std::string>* ancestors);
  ReaderItem ReadImage(const std::string& key) const;

  const std::string root_;
  const IdentityFolder folder_;
  bool listed_ = false;
  std::vector<std::string> keys_;
  std::vector<SkippedRecord> skips_;
  size_t next_ = 0;
  size_t next_skip_ = 0;
};

void FolderReader::Collect(const std::string& key, std::set<std::string>* ancestors) {
  const std::string path = absl::StrCat(root_, "/", key);
  std::error_code error;
  const std::string real = fs::canonical(path, error).string();
  if (error || !ancestors->insert(real).second) return;  // a link to a folder that we are in
  absl::StatusOr<Listing> listing = List(path);
  if (!listing.ok()) {
    skips_.push_back({path, "", "unreadable", std::string(listing.status().message())});
  } else {
    for (const std::string& name : listing->files) {
      const size_t dot = name.rfind('.');
      if (dot != std::string::npos && IsImageExtension(absl::AsciiStrToLower(name.substr(dot + 1)))) {
        keys_.push_back(absl::StrCat(key, "/", name));
      }
    }
    for (const std::string& name : listing->folders) Collect(absl::StrCat(key, "/", name), ancestors);
  }
  ancestors->erase(real);
}

ReaderItem FolderReader::ReadImage(const std::string& key) const {
  const std::string path = absl::StrCat(root_, "/", key);
  const auto skip = [&](absl::string_view reason, absl::string_view detail) {
    return SkippedRecord{path, "", std::string(reason), std::string(detail)};
  };
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return skip("unreadable", error ? error.message() : "not a file");
  const uint64_t size = fs::file_size(path, error);
  if (error) return skip("unreadable", error.message());
  if (size == 0) return skip("empty image", "the file has no bytes");
  if (size > std::numeric_limits<uint32_t>::max())
    return skip("image too large", absl::StrCat(size, " bytes"));
  const absl::StatusOr<std::string> bytes = PosixFileSystem().ReadFile(path);
  if (!bytes.ok()) return skip("unreadable", bytes.status().message());
  const absl::Status status = CheckImage(*bytes);
  if (!status.ok()) return skip("corrupt image", status.message());
  SampleEntry entry;
  entry.identity = folder_.identity;
  entry.split = folder_.split;
  entry.key = key;
  entry.size = static_cast<uint32_t>(bytes->size());
  entry.crc32c = Crc32c(*bytes);
  return entry;
}

class ImageFolder : public DatasetReader {
 public:
  ImageFolder(const std::string& root, std::vector<IdentityFolder> folders) : folders_(std::move(folders)) {
    v1::CatalogSource& source = sources_.emplace_back();
    source.set_kind(v1::CatalogSource::KIND_DIRECTORY);
    source.set_path(root);
  }
  std::string format() const override { return "imagefolder"; }
  const std::vector<v1::CatalogSource>& sources() const override { return sources_; }
  size_t num_parts() const override { return folders_.size(); }
  absl::StatusOr<std::unique_ptr<SampleReader>> OpenPart(size_t part) const override {
    return std::make_unique<FolderReader>(sources_[0].path(), folders_[part]);
  }
  std::string work_unit() const override { return "folders"; }
  uint64_t total_work() const override { return folders_.size(); }

 private:
  std::vector<v1::CatalogSource> sources_;
  const std::vector<IdentityFolder> folders_;
};

bool AreSplits(const std::string& root, const std::vector<std::string>& folders) {
  for (const std::string& name : folders) {
    if (name != "train" && name != "val" && name != "test") return false;
    const absl::StatusOr<Listing> listing = List(absl::StrCat(root, "/", name));
    if (!listing.ok() || listing->folders.empty()) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DatasetReader>> OpenImageFolder(const std::string& root) {
  std::error_code error;
  if (!fs::is_directory(root, error)) {
    return absl::NotFoundError(
        absl::StrCat(root, " is not a folder: an ImageFolder is root/<identity>/<image>"));
  }
  std::string path = fs::absolute(root, error).lexically_normal().string();
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  ASSIGN_OR_RETURN(const Listing top, List(path));
  if (top.folders.empty()) {
    return absl::NotFoundError(
        absl::StrCat(root, " holds no folders: an ImageFolder is root/<identity>/<image>"));
  }
  std::vector<IdentityFolder> folders;
  if (AreSplits(path, top.folders)) {
    for (const std::string& split : top.folders) {
      ASSIGN_OR_RETURN(const Listing listing, List(absl::StrCat(path, "/", split)));
      for (const std::string& name : listing.folders) {
        folders.push_back({split, name, absl::StrCat(split, "/", name)});
      }
    }
  } else {
    for (const std::string& name : top.folders) folders.push_back({"", name, name});
  }
  return std::make_unique<ImageFolder>(path, std::move(folders));
}

}  // namespace doppel
