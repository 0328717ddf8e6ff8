#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "common/io/mapped_file.h"
#include "doppel/v1/models.pb.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

class ModelUpload;

// Models by the hash of their weights, each immutable, on the real file system:
//
//   <root>/<hash>/model.json, weights.pt   a model directory
//   <root>/<hash>/MANIFEST                 ModelManifest, in a record file
//   <root>/incoming/<hash>.weights         what has arrived of a model
//
// A model is put in place by one rename, when all of it is on disk and its hash is right; so a crash leaves
// it whole, or as bytes to go on from. Which one is the latest is the highest sequence number of the
// manifests. The same weights with another description (but for `step`) are refused. Thread-safe.
class ModelStore {
 public:
  struct Options {
    std::string root;
    FileSystem* fs = nullptr;      // not owned
    const Clock* clock = nullptr;  // not owned
    // Kept, newest first; 0: all.
    size_t keep = 0;
    // Models that must stay even so. Called without locks.
    std::function<bool(const std::string& hash)> in_use = [](const std::string&) { return false; };
    // Of the names in incoming/, where several processes share a root.
    std::string suffix;
  };
  // Removes what a crash left half in place. Damaged models are logged, listed and not served.
  static absl::StatusOr<std::unique_ptr<ModelStore>> Open(Options options);

  // "latest", a hash, or 8 digits or more of its beginning: what a path that is meant must not look like.
  static bool IsName(absl::string_view name);
  // NOT_FOUND; FAILED_PRECONDITION if there is no latest yet; INVALID_ARGUMENT if several begin like this;
  // DATA_LOSS names the damaged file.
  absl::StatusOr<v1::StoredModel> Find(absl::string_view name) const ABSL_LOCKS_EXCLUDED(mutex_);
  // The same, with every byte of the weights checked.
  absl::StatusOr<v1::StoredModel> FindChecked(absl::string_view name) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Newest first.
  v1::ListModelsResponse List() const ABSL_LOCKS_EXCLUDED(mutex_);
  // INVALID_ARGUMENT: no hash.
  absl::StatusOr<v1::QueryModelResponse> Query(const std::string& hash) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Fine if it is not there.
  absl::Status Remove(const std::string& hash) ABSL_LOCKS_EXCLUDED(mutex_);

  // Begins to receive a model, or goes on with it. INVALID_ARGUMENT: the description; OUT_OF_RANGE: `offset`
  // is not where it stands; ABORTED: another upload of it is open; ALREADY_EXISTS: the weights are here with
  // another description.
  absl::StatusOr<std::unique_ptr<ModelUpload>> Begin(const v1::ModelDescription& model, uint64_t offset)
      ABSL_LOCKS_EXCLUDED(mutex_);

  struct Result {
    v1::StoredModel model;
    bool created = false;
  };

 private:
  friend class ModelUpload;
  explicit ModelStore(Options options) : options_(std::move(options)) {}
  absl::Status Load() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<v1::StoredModel> ReadStored(const std::string& hash) const;
  std::string Directory(const std::string& hash) const;
  std::string Incoming(const std::string& hash) const;
  absl::StatusOr<uint64_t> Arrived(const std::string& hash) const;
  absl::Status CheckDescription(const v1::ModelDescription& model) const;
  absl::Status CheckSame(const v1::ModelDescription& model, const v1::StoredModel& stored) const;
  absl::Status DropStrayUploads() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Result> Place(const v1::ModelDescription& model) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status WriteManifest(const std::string& directory, const v1::ModelManifest& manifest);
  absl::StatusOr<v1::StoredModel> MakeLatest(const std::string& hash) ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t LastSequence() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Never the same twice: a manifest whose writing failed may lie on the disk all the same.
  uint64_t TakeSequence() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  v1::StoredModel Marked(v1::StoredModel model) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Prune() ABSL_LOCKS_EXCLUDED(mutex_);
  void EndUpload(const std::string& hash) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;

  mutable absl::Mutex mutex_;
  std::map<std::string, v1::StoredModel> models_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> damaged_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> uploading_ ABSL_GUARDED_BY(mutex_);
  uint64_t taken_sequence_ ABSL_GUARDED_BY(mutex_) = 0;
};

// One model on its way in. What was appended stays when it is destroyed before Finish. Not thread-safe; the
// store outlives it.
class ModelUpload {
 public:
  ~ModelUpload();
  // OUT_OF_RANGE beyond the bytes that the description promised.
  absl::Status Append(absl::string_view bytes);
  // DATA_LOSS: they are not the bytes of that hash; all of them are dropped. FAILED_PRECONDITION: some are
  // missing.
  absl::StatusOr<ModelStore::Result> Finish();

 private:
  friend class ModelStore;
  ModelUpload(ModelStore& store, v1::ModelDescription model) : store_(store), model_(std::move(model)) {}
  ModelStore& store_;
  const v1::ModelDescription model_;
  bool present_ = false;  // complete before we came
  std::unique_ptr<WritableFile> file_;
  uint64_t bytes_ = 0;
};

// A model directory to be sent: checked, and its weights mapped.
struct ModelContent {
  v1::ModelDescription description;
  std::shared_ptr<const MappedFile> weights;
};
// DATA_LOSS if the weights are not those of model.json; NOT_FOUND, INVALID_ARGUMENT.
absl::StatusOr<ModelContent> ReadModelContent(const std::string& directory);

}  // namespace doppel
