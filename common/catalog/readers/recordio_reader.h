#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/catalog/readers/reader.h"

namespace doppel {

// RecordIO (MXNet's .rec, with `key\toffset` in the .idx of the same name if there is one), in place. A
// record is a header (flag, label, id, id2), `flag` more labels, and the image. Three layouts:
//  * InsightFace: record 0 has flag 2 and no image; records without an image carry an identity's range of
//  keys.
//  * shuffled: images in any order, each with its label;
//  * im2rec: the same, keys in order.
// The identity is always the image's own label (the first of several). Ranges are float32, exact to 2^24
// only, so they are held against the labels of the images that they name: those that disagree are named as
// "identity range differs", and nothing else depends on them. A label that float32 cannot tell from its
// neighbours (2^24 and more), that is negative or no whole number, is "inexact label". Records without an
// index are found from header to header; behind a damaged one the next magic number is looked for.
//
// The key is the index's key, or the record's number. A record in parts (its payload holds the magic number)
// has no contiguous bytes: it points to a source of the kind KIND_RECORD_PARTS, one for each file, behind all
// others. With an index 8192 records are one part, else a file is.
//
// `path`: a .rec file, or a folder of them.
absl::StatusOr<std::unique_ptr<DatasetReader>> OpenRecordIo(const std::string& path);

}  // namespace doppel
