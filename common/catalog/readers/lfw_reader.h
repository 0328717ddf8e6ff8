#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/catalog/readers/reader.h"

namespace doppel {

// Labeled Faces in the Wild and what is laid out like it: root/<Name>/<Name>_0001.jpg, one folder per
// identity, or all of that in a single folder below `root` ("lfw", "lfw-deepfunneled", …). Read as an
// ImageFolder without splits. If root, or that folder, holds pairs.txt, images that its pairs name and that
// are not there are named as "missing pair image". The key is "<Name>/<Name>_0001.jpg" below the folder of
// the identities, so a pair's images are found by key.
absl::StatusOr<std::unique_ptr<DatasetReader>> OpenLfw(const std::string& root, bool follow_links = false);

}  // namespace doppel
