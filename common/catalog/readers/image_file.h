#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "common/catalog/readers/reader.h"

namespace doppel {

// CheckImage and the image's size, as a record's reason and detail.
struct ImageVerdict {
  std::string reason;  // empty: usable. "corrupt image", "image too large"
  std::string detail;
};
ImageVerdict JudgeImage(absl::string_view bytes);

// Where a data set's files lie, and whether links may lead out of there.
struct FileRoot {
  std::string path;  // absolute
  std::string real;  // the same without links
  bool follow_links = false;
};
// NOT_FOUND if it is no folder.
absl::StatusOr<FileRoot> OpenFileRoot(const std::string& path, bool follow_links);

// True unless root/key is, or lies below, a link that leads out of the root, which `root` does not permit.
// Only called for links: it asks the file system for every part of the path.
bool StaysInRoot(const FileRoot& root, const std::string& key);

// Reads and sums up one image file, root/key, into `entry` (its size and crc32c); what is wrong with it is a
// SkippedRecord with reason "missing file", "unreadable", "empty image", "image too large", "corrupt image"
// or "link out of the root". Of links only the file itself is looked at.
ReaderItem ReadImageFile(const FileRoot& root, SampleEntry entry);

// For lists of paths, which may name folders that are links: looks at a file's folder as well. Paths of one
// folder should follow one another. Not thread-safe.
class ListedFileReader {
 public:
  // `root` must outlive it.
  explicit ListedFileReader(const FileRoot& root) : root_(root) {}
  // entry.key: relative to the root, or absolute; it becomes the path below the root. A path that leads
  // elsewhere is "outside of the root".
  ReaderItem Read(SampleEntry entry);

 private:
  const FileRoot& root_;
  std::string folder_ = "/";
  bool folder_stays_ = false;
};

// Names in a folder, sorted bytewise, hidden ones left out; links count as what they lead to.
struct FolderListing {
  std::vector<std::string> folders;
  std::vector<std::string> files;
};
absl::StatusOr<FolderListing> ListFolder(const std::string& path);

// Goes by the name alone.
bool IsImageName(absl::string_view name);

}  // namespace doppel
