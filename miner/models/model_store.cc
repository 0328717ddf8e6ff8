#include "miner/models/model_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"
#include "common/io/record_file.h"
#include "common/model/model_directory.h"

namespace doppel {
namespace {

constexpr size_t kHashDigits = 32;
constexpr size_t kShortestPrefix = 8;
constexpr char kLatest[] = "latest";
constexpr char kManifest[] = "MANIFEST";
constexpr char kTemporary[] = ".tmp";
constexpr char kArrived[] = ".weights";
// Uploads that nobody goes on with would fill the disk.
constexpr size_t kMaxStrayUploads = 8;

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); });
}

bool IsHash(absl::string_view text) { return text.size() == kHashDigits && IsHex(text); }

absl::Status NoHash(absl::string_view hash) {
  return absl::InvalidArgumentError(
      absl::StrCat("hash: \"", hash, "\" is no XXH3-128 of weights: 32 digits of 0-9a-f"));
}

absl::Status WriteDurably(FileSystem& fs, const std::string& path, absl::string_view data) {
  ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, fs.Create(path));
  RETURN_IF_ERROR(file->Append(data));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

// The text of a description without its step, to compare by.
absl::StatusOr<std::string> WithoutStep(const std::string& json, const std::string& origin) {
  ASSIGN_OR_RETURN(ModelSpec spec, ModelSpecFromJson(json, origin));
  spec.step = 0;
  return ModelSpecToJson(spec);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelStore>> ModelStore::Open(Options options) {
  std::unique_ptr<ModelStore> store(new ModelStore(std::move(options)));
  absl::MutexLock lock(&store->mutex_);
  RETURN_IF_ERROR(store->Load());
  return store;
}

std::string ModelStore::Directory(const std::string& hash) const {
  return absl::StrCat(options_.root, "/", hash);
}

std::string ModelStore::Incoming(const std::string& hash) const {
  return absl::StrCat(options_.root, "/incoming/", hash, options_.suffix, kArrived);
}

absl::Status ModelStore::Load() {
  FileSystem& fs = *options_.fs;
  RETURN_IF_ERROR(fs.MakeDirectories(options_.root + "/incoming"));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(options_.root));
  for (const std::string& name : names) {
    if (absl::EndsWith(name, kTemporary) && options_.suffix.empty()) {
      RETURN_IF_ERROR(fs.RemoveRecursively(absl::StrCat(options_.root, "/", name)));
    }
    if (!IsHash(name)) continue;
    absl::StatusOr<v1::StoredModel> stored = ReadStored(name);
    if (stored.ok()) {
      models_[name] = *std::move(stored);
    } else {
      DOPPEL_LOG(kError, "model ", name, " cannot be used: ", stored.status().message());
      damaged_[name] = stored.status();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::StoredModel> ModelStore::ReadStored(const std::string& hash) const {
  FileSystem& fs = *options_.fs;
  const std::string directory = Directory(hash);
  const std::string manifest_path = absl::StrCat(directory, "/", kManifest);
  const std::string json_path = directory + "/model.json";
  const std::string weights_path = directory + "/weights.pt";
  ASSIGN_OR_RETURN(const RecordFileContents contents, ReadRecordFile(fs, manifest_path));
  v1::ModelManifest manifest;
  if (contents.records.size() != 1 || !manifest.ParseFromString(contents.records[0]) ||
      manifest.hash() != hash) {
    return absl::DataLossError(absl::StrCat(manifest_path, ": is not the manifest of model ", hash));
  }
  ASSIGN_OR_RETURN(const std::string json, fs.ReadFile(json_path));
  if (Crc32c(json) != manifest.model_json_crc32c())
    return absl::DataLossError(absl::StrCat(json_path, ": its checksum is wrong"));
  ASSIGN_OR_RETURN(const ModelSpec spec, ModelSpecFromJson(json, json_path));
  ASSIGN_OR_RETURN(const uint64_t bytes, fs.Size(weights_path));
  if (bytes != manifest.bytes()) {
    return absl::DataLossError(
        absl::StrCat(weights_path, ": has ", bytes, " bytes, ", manifest.bytes(), " were stored"));
  }
  v1::StoredModel stored;
  stored.set_hash(hash);
  stored.set_architecture(spec.architecture);
  stored.set_dimension(static_cast<uint32_t>(spec.dimension));
  stored.set_step(spec.step);
  stored.set_bytes(bytes);
  stored.set_publisher(manifest.publisher());
  stored.set_published_at(manifest.published_at());
  stored.set_sequence(manifest.sequence());
  stored.set_directory(directory);
  return stored;
}

// ---- looking

bool ModelStore::IsName(absl::string_view name) {
  return name == kLatest || (name.size() >= kShortestPrefix && name.size() <= kHashDigits && IsHex(name));
}

uint64_t ModelStore::LastSequence() const {
  uint64_t sequence = 0;
  for (const auto& [hash, model] : models_) sequence = std::max(sequence, model.sequence());
  return sequence;
}

uint64_t ModelStore::TakeSequence() {
  taken_sequence_ = std::max(taken_sequence_, LastSequence()) + 1;
  return taken_sequence_;
}

v1::StoredModel ModelStore::Marked(v1::StoredModel model) const {
  model.set_latest(model.sequence() == LastSequence());
  return model;
}

absl::StatusOr<v1::StoredModel> ModelStore::Find(absl::string_view name) const {
  absl::MutexLock lock(&mutex_);
  if (name == kLatest) {
    for (const auto& [hash, model] : models_) {
      if (model.sequence() == LastSequence()) return Marked(model);
    }
    return absl::FailedPreconditionError(
        "no model was published yet: train with --publish-every, or run `doppel publish-model DIR`");
  }
  if (!IsName(name)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model: \"", name, "\" is no name: \"latest\", a hash, or ", kShortestPrefix, " of its digits"));
  }
  const v1::StoredModel* found = nullptr;
  for (auto it = models_.lower_bound(std::string(name)); it != models_.end(); ++it) {
    if (!absl::StartsWith(it->first, name)) break;
    if (found != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("model: both ", found->hash(), " and ", it->first, " begin with ", name));
    }
    found = &it->second;
  }
  if (found != nullptr) return Marked(*found);
  for (const auto& [hash, status] : damaged_) {
    if (absl::StartsWith(hash, name)) return status;
  }
  return absl::NotFoundError(
      absl::StrCat("model: ", name, " is not in the store; `doppel models` lists what is"));
}

absl::StatusOr<v1::StoredModel> ModelStore::FindChecked(absl::string_view name) const {
  ASSIGN_OR_RETURN(v1::StoredModel found, Find(name));
  RETURN_IF_ERROR(ReadStored(found.hash()).status());
  RETURN_IF_ERROR(ReadModelContent(found.directory()).status());
  return found;
}

v1::ListModelsResponse ModelStore::List() const {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::StoredModel> models;
  models.reserve(models_.size());
  for (const auto& [hash, model] : models_) models.push_back(Marked(model));
  std::sort(models.begin(), models.end(),
            [](const v1::StoredModel& a, const v1::StoredModel& b) { return a.sequence() > b.sequence(); });
  v1::ListModelsResponse response;
  for (v1::StoredModel& model : models) *response.add_models() = std::move(model);
  for (const auto& [hash, status] : damaged_)
    response.add_damaged(absl::StrCat(hash, ": ", std::string(status.message())));
  return response;
}

absl::StatusOr<uint64_t> ModelStore::Arrived(const std::string& hash) const {
  const std::string path = Incoming(hash);
  if (!options_.fs->Exists(path)) return 0;
  return options_.fs->Size(path);
}

absl::StatusOr<v1::QueryModelResponse> ModelStore::Query(const std::string& hash) const {
  if (!IsHash(hash)) return NoHash(hash);
  v1::QueryModelResponse response;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = models_.find(hash);
    if (it != models_.end()) {
      response.set_complete(true);
      response.set_bytes(it->second.bytes());
      return response;
    }
  }
  ASSIGN_OR_RETURN(const uint64_t bytes, Arrived(hash));
  response.set_bytes(bytes);
  return response;
}

absl::Status ModelStore::Remove(const std::string& hash) {
  if (!IsHash(hash)) return NoHash(hash);
  absl::MutexLock lock(&mutex_);
  models_.erase(hash);
  damaged_.erase(hash);
  FileSystem& fs = *options_.fs;
  const std::string directory = Directory(hash);
  if (!fs.Exists(directory)) return absl::OkStatus();
  // Out of sight first: a crash must not leave half a model, which would count as a damaged one.
  const std::string removed = absl::StrCat(directory, options_.suffix, kTemporary);
  RETURN_IF_ERROR(fs.RemoveRecursively(removed));
  RETURN_IF_ERROR(fs.Rename(directory, removed));
  RETURN_IF_ERROR(fs.SyncDirectory(options_.root));
  return fs.RemoveRecursively(removed);
}

// ---- receiving

absl::Status ModelStore::CheckDescription(const v1::ModelDescription& model) const {
  if (!IsHash(model.hash())) return NoHash(model.hash());
  if (model.bytes() == 0) return absl::InvalidArgumentError("bytes: 0; a model has weights");
  ASSIGN_OR_RETURN(const ModelSpec spec, ModelSpecFromJson(model.model_json(), "model_json"));
  if (spec.fingerprint != model.hash()) {
    return absl::InvalidArgumentError(absl::StrCat("model_json: its fingerprint is \"", spec.fingerprint,
                                                   "\", the hash is ", model.hash()));
  }
  return absl::OkStatus();
}

absl::Status ModelStore::CheckSame(const v1::ModelDescription& model, const v1::StoredModel& stored) const {
  const std::string path = stored.directory() + "/model.json";
  ASSIGN_OR_RETURN(const std::string json, options_.fs->ReadFile(path));
  ASSIGN_OR_RETURN(const std::string here, WithoutStep(json, path));
  ASSIGN_OR_RETURN(const std::string there, WithoutStep(model.model_json(), "model_json"));
  if (here == there && stored.bytes() == model.bytes()) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("model ", model.hash(), " is here with another description (", path,
                   "): the same weights cannot be stored for two ways of feeding them"));
}

absl::Status ModelStore::DropStrayUploads() {
  const std::string directory = options_.root + "/incoming";
  ASSIGN_OR_RETURN(const std::vector<std::string> names, options_.fs->List(directory));
  std::vector<std::string> strays;
  for (const std::string& name : names) {
    const std::string hash = name.substr(0, kHashDigits);
    if (absl::EndsWith(name, absl::StrCat(options_.suffix, kArrived)) && uploading_.count(hash) == 0)
      strays.push_back(name);
  }
  if (strays.size() <= kMaxStrayUploads) return absl::OkStatus();
  for (const std::string& name : strays) {
    RETURN_IF_ERROR(options_.fs->Remove(absl::StrCat(directory, "/", name)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ModelUpload>> ModelStore::Begin(const v1::ModelDescription& model,
                                                               uint64_t offset) {
  RETURN_IF_ERROR(CheckDescription(model));
  std::unique_ptr<ModelUpload> upload(new ModelUpload(*this, model));
  absl::MutexLock lock(&mutex_);
  const auto stored = models_.find(model.hash());
  if (stored != models_.end()) {
    RETURN_IF_ERROR(CheckSame(model, stored->second));
    upload->present_ = true;
    return upload;
  }
  if (uploading_.count(model.hash()) > 0) {
    return absl::AbortedError(
        absl::StrCat("model ", model.hash(), " is being published by another stream; ask again"));
  }
  RETURN_IF_ERROR(DropStrayUploads());
  ASSIGN_OR_RETURN(const uint64_t arrived, Arrived(model.hash()));
  if (offset != arrived || arrived > model.bytes()) {
    return absl::OutOfRangeError(absl::StrCat("offset: ", offset, ", but ", arrived, " bytes of model ",
                                              model.hash(), " are here; ask QueryModel"));
  }
  ASSIGN_OR_RETURN(upload->file_, options_.fs->OpenAppend(Incoming(model.hash())));
  upload->bytes_ = arrived;
  uploading_.insert(model.hash());
  return upload;
}

void ModelStore::EndUpload(const std::string& hash) {
  absl::MutexLock lock(&mutex_);
  uploading_.erase(hash);
}

absl::Status ModelStore::WriteManifest(const std::string& directory, const v1::ModelManifest& manifest) {
  FileSystem& fs = *options_.fs;
  const std::string fresh = absl::StrCat(directory, "/", kManifest, kTemporary);
  if (fs.Exists(fresh)) RETURN_IF_ERROR(fs.Remove(fresh));
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<RecordWriter> writer, RecordWriter::Open(fs, fresh));
    RETURN_IF_ERROR(writer->Append(manifest.SerializeAsString()));
    RETURN_IF_ERROR(writer->Sync());
  }
  RETURN_IF_ERROR(fs.Rename(fresh, absl::StrCat(directory, "/", kManifest)));
  return fs.SyncDirectory(directory);
}

absl::StatusOr<ModelStore::Result> ModelStore::Place(const v1::ModelDescription& model) {
  FileSystem& fs = *options_.fs;
  const std::string directory = Directory(model.hash());
  const std::string fresh = absl::StrCat(directory, options_.suffix, kTemporary);
  if (fs.Exists(fresh)) RETURN_IF_ERROR(fs.RemoveRecursively(fresh));
  RETURN_IF_ERROR(fs.MakeDirectories(fresh));
  RETURN_IF_ERROR(fs.Rename(Incoming(model.hash()), fresh + "/weights.pt"));
  RETURN_IF_ERROR(WriteDurably(fs, fresh + "/model.json", model.model_json()));
  v1::ModelManifest manifest;
  manifest.set_hash(model.hash());
  manifest.set_bytes(model.bytes());
  manifest.set_model_json_crc32c(Crc32c(model.model_json()));
  manifest.set_publisher(model.publisher());
  manifest.set_published_at(
      absl::FormatTime("%Y-%m-%d%ET%H:%M:%SZ", options_.clock->Now(), absl::UTCTimeZone()));
  absl::MutexLock lock(&mutex_);
  manifest.set_sequence(TakeSequence());
  RETURN_IF_ERROR(WriteManifest(fresh, manifest));
  // A damaged one, or that of another process in a shared root.
  if (fs.Exists(directory) && ReadStored(model.hash()).ok()) {
    RETURN_IF_ERROR(fs.RemoveRecursively(fresh));
  } else {
    if (fs.Exists(directory)) RETURN_IF_ERROR(fs.RemoveRecursively(directory));
    RETURN_IF_ERROR(fs.Rename(fresh, directory));
  }
  RETURN_IF_ERROR(fs.SyncDirectory(options_.root));
  ASSIGN_OR_RETURN(models_[model.hash()], ReadStored(model.hash()));
  damaged_.erase(model.hash());
  return Result{Marked(models_[model.hash()]), true};
}

absl::StatusOr<v1::StoredModel> ModelStore::MakeLatest(const std::string& hash) {
  absl::MutexLock lock(&mutex_);
  const auto it = models_.find(hash);
  if (it == models_.end()) {
    return absl::AbortedError(absl::StrCat("model ", hash, " was removed just now; publish it again"));
  }
  v1::StoredModel& stored = it->second;
  if (Marked(stored).latest()) {
    // By a process that may have died before it was durable.
    RETURN_IF_ERROR(options_.fs->SyncDirectory(stored.directory()));
    RETURN_IF_ERROR(options_.fs->SyncDirectory(options_.root));
    return Marked(stored);
  }
  ASSIGN_OR_RETURN(const std::string json, options_.fs->ReadFile(stored.directory() + "/model.json"));
  v1::ModelManifest manifest;
  manifest.set_hash(hash);
  manifest.set_bytes(stored.bytes());
  manifest.set_model_json_crc32c(Crc32c(json));
  manifest.set_publisher(stored.publisher());
  manifest.set_published_at(stored.published_at());
  manifest.set_sequence(TakeSequence());
  RETURN_IF_ERROR(WriteManifest(stored.directory(), manifest));
  stored.set_sequence(manifest.sequence());
  return Marked(stored);
}

void ModelStore::Prune() {
  if (options_.keep == 0) return;
  std::vector<v1::StoredModel> old;
  {
    const v1::ListModelsResponse list = List();
    for (int i = static_cast<int>(options_.keep); i < list.models_size(); ++i) old.push_back(list.models(i));
  }
  for (const v1::StoredModel& model : old) {
    if (options_.in_use(model.hash())) continue;
    const absl::Status removed = Remove(model.hash());
    if (!removed.ok()) DOPPEL_LOG(kWarning, "an old model remains: ", removed.ToString());
  }
}

ModelUpload::~ModelUpload() {
  if (file_ == nullptr) return;
  file_.reset();
  store_.EndUpload(model_.hash());
}

absl::Status ModelUpload::Append(absl::string_view bytes) {
  if (present_) return absl::OkStatus();
  if (bytes.size() > model_.bytes() - bytes_) {
    return absl::OutOfRangeError(absl::StrCat("chunk: more than the ", model_.bytes(),
                                              " bytes that were promised for model ", model_.hash()));
  }
  RETURN_IF_ERROR(file_->Append(bytes));
  bytes_ += bytes.size();
  return absl::OkStatus();
}

absl::StatusOr<ModelStore::Result> ModelUpload::Finish() {
  if (present_) {
    ASSIGN_OR_RETURN(v1::StoredModel model, store_.MakeLatest(model_.hash()));
    return ModelStore::Result{std::move(model), false};
  }
  if (bytes_ < model_.bytes()) {
    return absl::FailedPreconditionError(absl::StrCat("model ", model_.hash(), ": ", bytes_, " of ",
                                                      model_.bytes(), " bytes have arrived; go on there"));
  }
  RETURN_IF_ERROR(file_->Sync());
  RETURN_IF_ERROR(file_->Close());
  const std::string path = store_.Incoming(model_.hash());
  {
    ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> weights,
                     MappedFile::Open(path, MappedFile::Access::kSequential));
    const std::string hash = WeightsFingerprint(weights->data());
    if (hash != model_.hash()) {
      RETURN_IF_ERROR(store_.options_.fs->Remove(path));
      return absl::DataLossError(absl::StrCat("model ", model_.hash(), ": the bytes that arrived have hash ",
                                              hash, "; they were dropped, send them again"));
    }
  }
  ASSIGN_OR_RETURN(ModelStore::Result result, store_.Place(model_));
  store_.Prune();
  return result;
}

absl::StatusOr<ModelContent> ReadModelContent(const std::string& directory) {
  ModelContent content;
  ASSIGN_OR_RETURN(const ModelSpec spec, ReadModelSpec(directory));
  ASSIGN_OR_RETURN(content.weights,
                   MappedFile::Open(directory + "/weights.pt", MappedFile::Access::kSequential));
  const std::string hash = WeightsFingerprint(content.weights->data());
  if (hash != spec.fingerprint) {
    return absl::DataLossError(absl::StrCat(content.weights->path(), ": fingerprint ", hash, " is not the ",
                                            spec.fingerprint, " of model.json; the file is damaged"));
  }
  content.description.set_hash(hash);
  content.description.set_model_json(ModelSpecToJson(spec));
  content.description.set_bytes(content.weights->size());
  return content;
}

}  // namespace doppel
