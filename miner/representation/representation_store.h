#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/base/identity_rows.h"
#include "common/io/file_system.h"
#include "common/io/record_file.h"
#include "doppel/v1/storage.pb.h"
#include "miner/representation/identity_ranges.h"
#include "miner/representation/matrix.h"

namespace doppel {

// All representations of a pass, in identity order.
struct FrozenRepresentations {
  Matrix rows;  // [N, D], unit length; rows of zeros for identities without a readable sample
  std::vector<uint32_t> samples;  // [N], samples behind each row
  uint64_t failed_samples = 0;
};

// One durable representation pass: the vectors that embedders committed, in record files of at most
// `segment_bytes` (docs/formats-miner.md). What Commit acknowledged survives a crash; opening cuts a torn
// tail off and takes the rest up. Where a file is damaged, that is logged, what stands before it is kept, and
// the rest is missing again. Holds the vectors in memory until Freeze. Thread-safe.
class RepresentationStore {
 public:
  struct Options {
    uint64_t segment_bytes = uint64_t{128} << 20;
  };

  // Opens the pass in `directory`, or begins it. DATA_LOSS: an intact record that is no range of it;
  // FAILED_PRECONDITION if another pass lies there.
  static absl::StatusOr<std::unique_ptr<RepresentationStore>> Open(FileSystem& fs,
                                                                   const std::string& directory,
                                                                   const v1::RepresentationPass& pass,
                                                                   Options options);
  static absl::StatusOr<std::unique_ptr<RepresentationStore>> Open(FileSystem& fs,
                                                                   const std::string& directory,
                                                                   const v1::RepresentationPass& pass) {
    return Open(fs, directory, pass, Options());
  }

  // Durable when it returns; commits that meet share one sync. True if any identity of it was new; rows that
  // were committed before stay as they are. INVALID_ARGUMENT: borders, sizes or values are wrong, nothing was
  // changed. Any other error is for good: the file's state is unknown until it is opened again.
  absl::StatusOr<bool> Commit(const v1::RepresentationRange& range) ABSL_LOCKS_EXCLUDED(mutex_);

  // Several, with one sync. To be called while nobody commits. Errors as Commit's.
  absl::Status CommitTogether(const std::vector<v1::RepresentationRange>& ranges) ABSL_LOCKS_EXCLUDED(mutex_);

  IdentityRanges Committed() const ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<IdentityRange> Missing() const ABSL_LOCKS_EXCLUDED(mutex_);
  IdentityRange all() const { return {pass_.first_identity(), pass_.identities()}; }

  // Moves the vectors out, normalised; once. FAILED_PRECONDITION while ranges are missing. Afterwards Commit
  // acknowledges repetitions only.
  absl::StatusOr<FrozenRepresentations> Freeze() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Waiting {
    const v1::RepresentationRange* range = nullptr;
    std::string record;
    bool done = false;
    bool accepted = false;
    absl::Status status;
  };
  RepresentationStore(FileSystem& fs, std::string directory, v1::RepresentationPass pass, Options options);
  absl::Status Load();
  absl::Status LoadSegment(uint64_t segment, bool last) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status OpenSegment(uint64_t segment, bool with_header);
  absl::Status Validate(const v1::RepresentationRange& range) const;
  bool Apply(const v1::RepresentationRange& range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Write(const std::vector<Waiting*>& batch);
  std::string SegmentPath(uint64_t segment) const;

  FileSystem& fs_;
  const std::string directory_;
  const v1::RepresentationPass pass_;
  const Options options_;

  // Touched by Load, and then only by the thread that set writing_.
  std::unique_ptr<RecordWriter> writer_;
  uint64_t segment_ = 0;
  uint64_t segment_size_ = 0;

  mutable absl::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Waiting*> queue_ ABSL_GUARDED_BY(mutex_);
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
  IdentityRanges committed_ ABSL_GUARDED_BY(mutex_);
  FrozenRepresentations data_ ABSL_GUARDED_BY(mutex_);
  bool frozen_ ABSL_GUARDED_BY(mutex_) = false;
};

// Opens the pass below `root`: in the folder `<generation>-<key>`, where the key is a hash of the header's
// fields. A pass that an earlier generation used is taken over and its folder renamed, so that folders sort
// by last use.
absl::StatusOr<std::unique_ptr<RepresentationStore>> OpenRepresentationPass(
    FileSystem& fs, const std::string& root, uint64_t generation, const v1::RepresentationPass& pass);
// Commits to `store` what another pass below `root` has, and `store` has not: `number_of` gives what a number
// of that pass is called in this one, or IdentityRows::kNone if it is not to be taken. Ranges with failed
// samples are left out. Returns how many were taken: 0 if there is no such pass. DATA_LOSS names a damaged
// file of it; what came before is committed. To be called while nobody commits.
absl::StatusOr<uint64_t> TakeOverPass(FileSystem& fs, const std::string& root,
                                      const v1::RepresentationPass& from,
                                      const std::function<uint64_t(uint64_t number)>& number_of,
                                      RepresentationStore& store);
// Removes all passes below `root` but the `keep` last used.
absl::Status RemoveOldPasses(FileSystem& fs, const std::string& root, size_t keep);
// 32 hex digits.
std::string RepresentationPassKey(const v1::RepresentationPass& pass);

}  // namespace doppel
