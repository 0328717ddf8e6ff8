#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/catalog/catalog.h"
#include "common/catalog/catalog_packer.h"
#include "common/catalog/entry_collector.h"
#include "common/catalog/readers/reader.h"
#include "common/catalog/shard_writer.h"
#include "common/catalog/source_files.h"
#include "common/catalog/version_writer.h"
#include "common/io/file_system.h"

namespace doppel {

// "pack-2-000000.tar": a shard that an append has written for the catalog's second version.
bool IsAppendedShard(absl::string_view name);

// The images of an append to a catalog of raw pixels: decoded to pixels of the catalog's size, as a packing
// does, and written to shards of their own beside those that are there. Not thread-safe.
class RawAppending {
 public:
  struct Options {
    PixelShape shape;
    PixelDecoder decode;
    uint32_t version = 2;       // the new one
    uint64_t first_sample = 0;  // the number of the first appended sample
    uint64_t shard_bytes = uint64_t{1} << 30;
    int threads = 2;
    bool dry_run = false;  // decode everything, write nothing
  };
  // `dataset` and `entries` say where the encoded images are.
  RawAppending(FileSystem& fs, const std::string& directory, const DatasetReader& dataset,
               const EntryCollector& entries, Options options);

  // Whether `record` of the catalog is what a sample of the collector becomes. INVALID_ARGUMENT: it cannot be
  // decoded; other errors: it cannot be read.
  absl::StatusOr<bool> Same(const SampleRecord& record, const EntryCollector::Sample& sample) const;

  // Writes and syncs the shards, but not their names. Samples that cannot be decoded are left out and named.
  absl::Status Write(const std::vector<IdentityAddition>& additions, std::vector<SkippedRecord>* skipped);
  // After Write: what was written, sorted, with the shards as its sources.
  const EntryCollector& converted() const { return converted_; }
  const std::vector<v1::CatalogSource>& sources() const { return sources_; }

 private:
  struct Pending;
  // A binary PNM file.
  absl::StatusOr<std::string> Convert(const EntryCollector::Sample& sample) const;
  absl::Status WriteBatch(std::vector<Pending>* batch, std::vector<SkippedRecord>* skipped);
  absl::Status WriteSample(const Pending& sample);
  absl::Status OpenShard();
  absl::Status CloseShard();

  FileSystem& fs_;
  const std::string directory_;
  const DatasetReader& dataset_;
  const EntryCollector& entries_;
  const Options options_;
  const SourceFiles files_;
  std::unique_ptr<ShardWriter> shard_;
  std::vector<v1::CatalogSource> sources_;
  EntryCollector converted_;
  uint64_t next_sample_;
};

}  // namespace doppel
