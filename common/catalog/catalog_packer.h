#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/catalog/catalog.h"
#include "common/catalog/readers/reader.h"
#include "common/io/file_system.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

// Decodes an image to [height, width, channels] uint8 pixels into `out`, which has room for shape.bytes().
// Thread-safe.
using PixelDecoder =
    std::function<absl::Status(absl::string_view encoded, const PixelShape& shape, char* out)>;

// What is read, decoded and held at a time.
inline constexpr uint64_t kPackedAtOnceBytes = uint64_t{32} << 20;
inline constexpr uint64_t kPackedAtOnceSamples = 4096;

struct PackOptions {
  PixelShape raw;       // all zeros: the images as they are
  PixelDecoder decode;  // if `raw` is set
  uint64_t shard_bytes = uint64_t{1} << 30;
  bool skip_damaged = false;  // leave out what cannot be read or decoded, instead of failing
  bool force = false;         // replace another catalog
  int threads = 2;
  bool quiet = true;  // no progress bar on stderr
};

struct PackSummary {
  v1::CatalogManifest manifest;
  std::vector<SkippedRecord> skipped;
  std::map<std::string, uint64_t> skipped_by_reason;
  uint64_t shards = 0;
  uint64_t bytes = 0;  // of the shards
  double seconds = 0;
};

// Copies a catalog's images into tar shards and writes a catalog of them: the directory holds both and may be
// moved as a whole. Identities, splits, keys and their numbers stay as they are (but for what `skip_damaged`
// leaves out); without `raw` the fingerprint stays as well. An identity's samples follow one another in one
// shard, in the catalog's order: shards are cut between identities, at `shard_bytes` or where one identity is
// larger.
//
// Members: "<number of the sample, nine digits>.<png, jpg, …>" and ".json" with "identity", "split" and
// "key", so that the shards are a WebDataset too. With `raw`, images are binary PNM files of that size (.pgm,
// .ppm): catalogs tell them as SampleEncoding::kRawPixels.
//
// The same catalog gives the same bytes, with any number of threads. Never half-written: `directory`.tmp is
// renamed when all is synced. Errors name the sample.
absl::StatusOr<PackSummary> PackCatalog(const Catalog& catalog, const std::string& directory,
                                        const PackOptions& options, FileSystem& fs = PosixFileSystem());

// "P5\n48 48\n255\n": what stands before the pixels of a binary PNM file.
std::string PnmHeader(const PixelShape& shape);
// What stands in a sample's ".json".
std::string PackedMetadata(const std::string& identity, const std::string& split, const std::string& key);

}  // namespace doppel
