#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "doppel/v1/storage.pb.h"
#include "miner/generation/generation.h"
#include "miner/generation/generation_codec.h"

namespace doppel {

// Durable, immutable generations below `root`, one directory each. Thread-safe for different numbers.
class GenerationStore {
 public:
  // `fs` is not owned. Reading maps files, so `root` lies on the real file system.
  GenerationStore(FileSystem& fs, std::string root) : fs_(fs), root_(std::move(root)) {}

  // Creates the root and removes what a crash left of a Write.
  absl::Status Initialize();

  struct WriteHooks {
    // Asked between blocks; false gives the write up (CANCELLED) and removes its traces.
    std::function<bool()> keep_going = [] { return true; };
    // Called when the arrays are on disk, before the manifest is.
    std::function<void(v1::GenerationInfo&)> before_manifest = [](v1::GenerationInfo&) {};
  };
  // Writes contents.info.generation() whole or not at all: temporary name, sync, rename. A directory of that
  // number that lies there is replaced: so do it only for numbers that were never published.
  absl::Status Write(const GenerationContents& contents, const WriteHooks& hooks);

  // Makes info.generation() out of `base` with another guard list, whole or not at all like Write. The arrays
  // are shared with it (hard links) where the file system can. `info` is taken as it is, but for the sizes of
  // the guard list. `base` may be info.generation() itself, if it was never published: then it is replaced.
  absl::Status Derive(uint64_t base, v1::GenerationInfo info, const GuardList& guard_list);

  // Reads and checks the manifest alone. NOT_FOUND, DATA_LOSS.
  absl::StatusOr<v1::GenerationManifest> ReadManifest(uint64_t number) const;
  // Checks every byte and maps it. DATA_LOSS names the damaged file; FAILED_PRECONDITION names both
  // fingerprints if it was made of another catalog.
  absl::StatusOr<std::shared_ptr<const Generation>> Load(uint64_t number,
                                                         const std::string& catalog_fingerprint) const;

  absl::Status Remove(uint64_t number);
  // Ascending; complete or damaged ones alike.
  absl::StatusOr<std::vector<uint64_t>> Numbers() const;
  std::string Directory(uint64_t number) const;

 private:
  absl::StatusOr<v1::FileDigest> WriteFile(const std::string& directory, const EncodedFile& file,
                                           const WriteHooks& hooks);
  // Runs `write` on a temporary directory and renames it.
  absl::Status Replace(uint64_t number, const std::function<absl::Status(const std::string&)>& write);
  absl::Status WriteManifest(const std::string& directory, const v1::GenerationManifest& manifest,
                             const WriteHooks& hooks);
  absl::Status WriteAll(const std::string& directory, const GenerationContents& contents,
                        const WriteHooks& hooks);

  FileSystem& fs_;
  const std::string root_;
};

}  // namespace doppel
