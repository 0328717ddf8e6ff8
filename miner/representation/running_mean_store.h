#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

// Snapshots of the running means, one folder each:
//
//   <root>/<number>/rows-000000.rec …   RunningMeanRows
//   <root>/<number>/DONE                RunningMeanHeader, in a record file
//
// A snapshot is written to a temporary name, synced and renamed. The two newest are kept, so that a damaged
// one has another behind it. Not thread-safe.
class RunningMeanStore {
 public:
  RunningMeanStore(FileSystem& fs, std::string root, uint64_t part_bytes = uint64_t{128} << 20)
      : fs_(fs), root_(std::move(root)), part_bytes_(part_bytes) {}

  // nullopt is the end of the rows; an error ends the writing.
  using NextRows = std::function<absl::StatusOr<std::optional<v1::RunningMeanRows>>()>;
  // Fills in header.parts and header.rows.
  absl::Status Save(v1::RunningMeanHeader header, const NextRows& next);

  // Hands the newest good snapshot over: its header once, then its rows, all of them checked before. Damaged
  // ones are logged and passed over. False: there is none. What `header` returns as an error ends it.
  absl::StatusOr<bool> Load(const std::function<absl::Status(const v1::RunningMeanHeader&)>& on_header,
                            const std::function<void(const v1::RunningMeanRows&)>& on_rows);

  // Of the snapshots, rising.
  absl::StatusOr<std::vector<uint64_t>> Numbers() const;
  std::string Directory(uint64_t number) const;
  // Reads all of one. DATA_LOSS names the damaged file.
  absl::StatusOr<v1::RunningMeanHeader> Check(uint64_t number) const;

 private:
  absl::Status Write(const std::string& directory, v1::RunningMeanHeader header, const NextRows& next);
  // Reads all of it; the rows go to `on_rows`, if that is set.
  absl::StatusOr<v1::RunningMeanHeader> Read(
      const std::string& directory, const std::function<void(const v1::RunningMeanRows&)>& on_rows) const;

  FileSystem& fs_;
  const std::string root_;
  const uint64_t part_bytes_;
};

}  // namespace doppel
