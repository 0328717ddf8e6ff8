#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/io/file_system.h"
#include "doppel/v1/tensorboard.pb.h"
#include "trainer/train/histogram.h"

namespace doppel {

// A record of a TFRecord file: length, masked CRC32C of the length, data, masked CRC32C of the data; all
// little endian.
std::string FrameRecord(absl::string_view data);
// The data of the record that begins at `*position`, which moves behind it. OUT_OF_RANGE at the end,
// DATA_LOSS for a torn or damaged record.
absl::StatusOr<std::string> ReadRecord(absl::string_view file, size_t* position);

// A folder of TensorBoard event files. Not thread-safe.
class EventLog {
 public:
  // Cuts off all events of step `first_step` and later (and torn records) in the files that are there, and
  // starts a new file behind them that tells readers which are at it to forget those events as well. So a
  // resumed run has every step once, for readers old and new. `fs` is not owned.
  static absl::StatusOr<std::unique_ptr<EventLog>> Open(FileSystem& fs, const std::string& directory,
                                                        uint64_t first_step, absl::Time now);

  // Collected until Write.
  void AddScalar(const std::string& tag, double value);
  void AddHistogram(const std::string& tag, const Histogram& histogram);
  // `png`: encoded, of this size; channels 1 or 3.
  void AddImage(const std::string& tag, int height, int width, int channels, std::string png);
  // What was added, as one event of `step`. Nothing was: nothing is written. Not durable before Sync.
  absl::Status Write(uint64_t step, absl::Time now);
  absl::Status Sync();

 private:
  explicit EventLog(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  absl::Status Append(const v1::TensorBoardEvent& event);

  std::unique_ptr<WritableFile> file_;
  v1::TensorBoardSummary pending_;
};

}  // namespace doppel
