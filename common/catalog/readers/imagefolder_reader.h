#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/catalog/readers/reader.h"

namespace doppel {

// ImageFolder: root/<identity>/<image>, images of folders below an identity's included. If all top-level
// folders are among train, val and test, and hold folders, these are the splits:
// root/<split>/<identity>/<image>. The key is the path below the root. Links are followed (a folder within
// itself is not entered twice); names may hold any byte. Files that have no image extension, hidden ones and
// files beside the identities are passed over; an identity's folder without an image is named. One identity's
// folder is one part.
absl::StatusOr<std::unique_ptr<DatasetReader>> OpenImageFolder(const std::string& root);

}  // namespace doppel
