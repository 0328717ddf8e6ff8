#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/catalog/readers/reader.h"
#include "common/io/file_system.h"
#include "common/io/record_file.h"

namespace doppel {

// What an import has read so far, part by part, so that one that was killed goes on where it stopped: the
// file "DIR.journal", one checksummed record per finished part, removed when the catalog is there. A part is
// taken from the journal only if its stamp (DatasetReader::PartStamp) is the same as then. Thread-safe.
class ImportJournal {
 public:
  struct Part {
    std::vector<SampleEntry> entries;
    std::vector<SkippedRecord> skipped;
  };

  // Goes on with the journal of an earlier import of the same data set; one of another data set, or one that
  // is damaged, is replaced.
  static absl::StatusOr<std::unique_ptr<ImportJournal>> Open(FileSystem& fs, const std::string& directory,
                                                             const DatasetReader& dataset);

  // True if the part is in the journal: it is moved into `part`.
  bool Take(const std::string& stamp, Part* part);
  absl::Status Add(const std::string& stamp, const Part& part);
  // Parts that an earlier import has read.
  size_t resumable() const { return resumable_; }
  // The catalog is there: the journal is not needed any more.
  absl::Status Remove();

 private:
  ImportJournal(FileSystem& fs, std::string path) : fs_(fs), path_(std::move(path)) {}

  FileSystem& fs_;
  const std::string path_;
  size_t resumable_ = 0;
  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, std::string> parts_ ABSL_GUARDED_BY(mutex_);  // by stamp, as written
  std::unique_ptr<RecordWriter> writer_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace doppel
