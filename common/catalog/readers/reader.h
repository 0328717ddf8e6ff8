#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

// A sample found by a reader, its image looked at and summed up.
struct SampleEntry {
  std::string identity;
  std::string split;  // empty: the data names none
  std::string key;    // unique within the identity
  uint32_t source = 0;
  uint64_t offset = 0;
  uint32_t size = 0;
  uint32_t crc32c = 0;
};

// A record that is left out.
struct SkippedRecord {
  std::string file;
  std::string record;  // key, member or position; empty for the whole file
  std::string reason;  // one of few: what is counted. "no image", "corrupt image", …
  std::string detail;
};

struct ReaderEnd {};

using ReaderItem = std::variant<ReaderEnd, SampleEntry, SkippedRecord>;

// Pull iterator over one part of a data set. Not thread-safe.
class SampleReader {
 public:
  virtual ~SampleReader() = default;
  // After ReaderEnd: ReaderEnd again. Same data, same sequence. Damaged data is a SkippedRecord, not an
  // error.
  virtual absl::StatusOr<ReaderItem> Next() = 0;
  // How much of the part's work is done, in the data set's unit.
  virtual uint64_t work_done() const = 0;
};

// A data set in one of the formats, as parts that may be read side by side. One file per format. Thread-safe.
class DatasetReader {
 public:
  virtual ~DatasetReader() = default;
  // "webdataset", "imagefolder", …
  virtual std::string format() const = 0;
  // Absolute paths; SampleEntry::source points here.
  virtual const std::vector<v1::CatalogSource>& sources() const = 0;
  virtual size_t num_parts() const = 0;
  virtual absl::StatusOr<std::unique_ptr<SampleReader>> OpenPart(size_t part) const = 0;
  // For the progress bar: "folders" or "KB", and how many of them.
  virtual std::string work_unit() const = 0;
  virtual uint64_t total_work() const = 0;
  // What people should know of how the data was taken, for the summary.
  virtual std::vector<std::string> notes() const { return {}; }
  // Names a part and the state of what it is read from: with the same stamp the part gives the same items, so
  // what an earlier import has read of it holds.
  virtual std::string PartStamp(size_t part) const = 0;
};

struct DatasetOptions {
  // csv: the folder that relative paths start from, and that no path may leave. Empty: the CSV file's own.
  std::string root;
  // Formats of single files: take links that lead out of the data set's folder.
  bool follow_links = false;
};

// "webdataset", "imagefolder", "market1501", "lfw", "csv", "recordio", "auto".
std::vector<std::string> DatasetFormats();

struct GuessedFormat {
  std::string format;
  std::string reason;  // "PATH holds *.tar files"
};
// By the names of what is there, the first bytes of a single file, and no more. NOT_FOUND: no such path.
absl::StatusOr<GuessedFormat> GuessFormat(const std::string& path);

// `format`: one of DatasetFormats; "auto" is GuessFormat. INVALID_ARGUMENT names the formats there are;
// NOT_FOUND names the path.
absl::StatusOr<std::unique_ptr<DatasetReader>> OpenDataset(absl::string_view format, const std::string& path,
                                                           const DatasetOptions& options = {});

// "path|size|time of change" of a file or folder, for PartStamp; the path alone if there is none.
std::string FileStamp(const std::string& path);

// Lower-case extension (no dot) of an image file that we import: png jpg jpeg webp bmp ppm pgm.
bool IsImageExtension(absl::string_view extension);

}  // namespace doppel
