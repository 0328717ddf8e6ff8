#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/catalog/readers/image_file.h"
#include "common/catalog/readers/reader.h"

namespace doppel {

// ImageFolder: root/<identity>/<image>, images of folders below an identity's included. If all top-level
// folders are among train, val and test, and hold folders, these are the splits:
// root/<split>/<identity>/<image>. The key is the path below the root. Names may hold any byte. Links are
// followed (a folder within itself is not entered twice), those that lead out of the root only with
// `follow_links`: they are named otherwise. Files that have no image extension, hidden ones and files beside
// the identities are passed over; an identity's folder without an image is named. One identity's folder is
// one part.
absl::StatusOr<std::unique_ptr<DatasetReader>> OpenImageFolder(const std::string& root,
                                                               bool follow_links = false);

struct IdentityFolder {
  std::string split;
  std::string identity;
  std::string key;  // path below the root
};

// Folders of identities, read as OpenImageFolder says. `skipped` is named once, before the first part.
std::unique_ptr<DatasetReader> MakeFolderDataset(std::string format, const FileRoot& root,
                                                 std::vector<IdentityFolder> folders,
                                                 std::vector<std::string> notes = {},
                                                 std::vector<SkippedRecord> skipped = {});

}  // namespace doppel
