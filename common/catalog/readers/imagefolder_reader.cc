#include "common/catalog/readers/imagefolder_reader.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

namespace fs = std::filesystem;

class FolderReader : public SampleReader {
 public:
  FolderReader(const FileRoot& root, IdentityFolder folder, std::vector<SkippedRecord> skips)
      : root_(root), folder_(std::move(folder)), skips_(std::move(skips)) {}

  absl::StatusOr<ReaderItem> Next() override {
    if (!listed_) {
      const size_t before = skips_.size();
      std::set<std::string> ancestors;
      Collect(folder_.key, &ancestors);
      std::sort(keys_.begin(), keys_.end());
      if (keys_.empty() && skips_.size() == before) {
        skips_.push_back({absl::StrCat(root_.path, "/", folder_.key), "", "no image",
                          "the identity's folder has no image"});
      }
      listed_ = true;
    }
    if (next_skip_ < skips_.size()) return ReaderItem(std::move(skips_[next_skip_++]));
    if (next_ == keys_.size()) return ReaderItem(ReaderEnd{});
    SampleEntry entry;
    entry.identity = folder_.identity;
    entry.split = folder_.split;
    entry.key = keys_[next_++];
    return ReadImageFile(root_, std::move(entry));
  }

  uint64_t work_done() const override { return listed_ && next_ == keys_.size() ? 1 : 0; }

 private:
  void Collect(const std::string& key, std::set<std::string>* ancestors);

  const FileRoot root_;
  const IdentityFolder folder_;
  bool listed_ = false;
  std::vector<std::string> keys_;
  std::vector<SkippedRecord> skips_;
  size_t next_ = 0;
  size_t next_skip_ = 0;
};

void FolderReader::Collect(const std::string& key, std::set<std::string>* ancestors) {
  const std::string path = absl::StrCat(root_.path, "/", key);
  std::error_code error;
  const std::string real = fs::canonical(path, error).string();
  if (error || !ancestors->insert(real).second) return;  // a link to a folder that we are in
  absl::StatusOr<FolderListing> listing = ListFolder(path);
  if (!StaysInRoot(root_, key)) {
    skips_.push_back({path, "", "link out of the root",
                      absl::StrCat("leads out of ", root_.path, ": --follow-links permits it")});
  } else if (!listing.ok()) {
    skips_.push_back({path, "", "unreadable", std::string(listing.status().message())});
  } else {
    for (const std::string& name : listing->files) {
      if (IsImageName(name)) keys_.push_back(absl::StrCat(key, "/", name));
    }
    for (const std::string& name : listing->folders) Collect(absl::StrCat(key, "/", name), ancestors);
  }
  ancestors->erase(real);
}

class FolderDataset : public DatasetReader {
 public:
  FolderDataset(std::string format, const FileRoot& root, std::vector<IdentityFolder> folders,
                std::vector<std::string> notes, std::vector<SkippedRecord> skipped)
      : format_(std::move(format)),
        root_(root),
        folders_(std::move(folders)),
        notes_(std::move(notes)),
        skipped_(std::move(skipped)) {
    v1::CatalogSource& source = sources_.emplace_back();
    source.set_kind(v1::CatalogSource::KIND_DIRECTORY);
    source.set_path(root.path);
  }
  std::string format() const override { return format_; }
  const std::vector<v1::CatalogSource>& sources() const override { return sources_; }
  size_t num_parts() const override { return folders_.size(); }
  absl::StatusOr<std::unique_ptr<SampleReader>> OpenPart(size_t part) const override {
    return std::make_unique<FolderReader>(root_, folders_[part],
                                          part == 0 ? skipped_ : std::vector<SkippedRecord>());
  }
  std::string work_unit() const override { return "folders"; }
  uint64_t total_work() const override { return folders_.size(); }
  std::vector<std::string> notes() const override { return notes_; }
  std::string PartStamp(size_t part) const override {
    return absl::StrCat(root_.follow_links, "|", folders_[part].split, "|", part == 0 ? skipped_.size() : 0,
                        "|", FileStamp(absl::StrCat(root_.path, "/", folders_[part].key)));
  }

 private:
  const std::string format_;
  const FileRoot root_;
  std::vector<v1::CatalogSource> sources_;
  const std::vector<IdentityFolder> folders_;
  const std::vector<std::string> notes_;
  const std::vector<SkippedRecord> skipped_;
};

bool AreSplits(const std::string& root, const std::vector<std::string>& folders) {
  for (const std::string& name : folders) {
    if (name != "train" && name != "val" && name != "test") return false;
    const absl::StatusOr<FolderListing> listing = ListFolder(absl::StrCat(root, "/", name));
    if (!listing.ok() || listing->folders.empty()) return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<DatasetReader> MakeFolderDataset(std::string format, const FileRoot& root,
                                                 std::vector<IdentityFolder> folders,
                                                 std::vector<std::string> notes,
                                                 std::vector<SkippedRecord> skipped) {
  return std::make_unique<FolderDataset>(std::move(format), root, std::move(folders), std::move(notes),
                                         std::move(skipped));
}

absl::StatusOr<std::unique_ptr<DatasetReader>> OpenImageFolder(const std::string& root, bool follow_links) {
  ASSIGN_OR_RETURN(const FileRoot files, OpenFileRoot(root, follow_links));
  ASSIGN_OR_RETURN(const FolderListing top, ListFolder(files.path));
  if (top.folders.empty()) {
    return absl::NotFoundError(
        absl::StrCat(root, " holds no folders: an ImageFolder is root/<identity>/<image>"));
  }
  std::vector<IdentityFolder> folders;
  if (AreSplits(files.path, top.folders)) {
    for (const std::string& split : top.folders) {
      ASSIGN_OR_RETURN(const FolderListing listing, ListFolder(absl::StrCat(files.path, "/", split)));
      for (const std::string& name : listing.folders) {
        folders.push_back({split, name, absl::StrCat(split, "/", name)});
      }
    }
  } else {
    folders.reserve(top.folders.size());
    for (const std::string& name : top.folders) folders.push_back({"", name, name});
  }
  return MakeFolderDataset("imagefolder", files, std::move(folders));
}

}  // namespace doppel
