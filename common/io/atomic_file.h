#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/io/file_system.h"

namespace doppel {

// Replaces `path` whole: temporary name in the same folder, sync, rename, sync of the folder. A crash leaves
// the old content or the new, never a part.
absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, absl::string_view data);

}  // namespace doppel
