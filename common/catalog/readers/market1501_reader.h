#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/catalog/readers/reader.h"

namespace doppel {

// Market-1501 and DukeMTMC-reID: bounding_box_train, query and bounding_box_test become the splits "train",
// "query" and "gallery" (whichever are there), and files are called as 0002_c1s1_000451_03.jpg: person and
// camera by the expression ([-\d]+)_c(\d). MSMT17: list_train.txt, list_val.txt (folder train or
// mask_train_v2), list_query.txt and list_gallery.txt (test or mask_test_v2), lines "path person", become
// "train", "val", "query" and "gallery".
//
// The key is the path below the root, so the camera is CameraOfKey(key). Person -1 (detections that overlap a
// person badly) is left out as "junk (person -1)". Person 0 (background) stays in the gallery, an identity
// that nobody asks for, and is left out of the other splits as "background (person 0)". Names that do not fit
// are "unknown name". A part is a thousand images.
absl::StatusOr<std::unique_ptr<DatasetReader>> OpenMarket1501(const std::string& root,
                                                              bool follow_links = false);

// Person and camera in a Market-1501 file's name; false if it does not fit.
bool ParseMarketName(absl::string_view name, std::string* person, int* camera);

// Camera of a key of this format: Market-1501's "_c1s1_", MSMT17's third field. -1 if it cannot be told.
int CameraOfKey(absl::string_view key);

}  // namespace doppel
