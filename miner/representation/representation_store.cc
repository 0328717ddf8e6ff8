#include "miner/representation/representation_store.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

// Of a pass that is being removed.
constexpr char kRemoved[] = ".removed";

bool AllFinite(const std::string& bytes) {
  for (size_t at = 0; at < bytes.size(); at += sizeof(float)) {
    float value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    if (!std::isfinite(value)) return false;
  }
  return true;
}

std::string SegmentName(uint64_t segment) { return absl::StrFormat("ranges-%06d.rec", segment); }

// Of a range of another pass: the runs of what is to be taken, and missing, under this pass's numbers.
std::vector<v1::RepresentationRange> KeptParts(const v1::RepresentationRange& range,
                                               const v1::RepresentationPass& from,
                                               const std::function<uint64_t(uint64_t number)>& number_of,
                                               const RepresentationStore& store) {
  std::vector<v1::RepresentationRange> parts;
  const uint64_t row_bytes = range.dimension() * sizeof(float);
  const uint64_t count = range.identity_count();
  if (range.failed_samples() > 0 || range.representations().size() != count * row_bytes ||
      static_cast<uint64_t>(range.samples_size()) != count ||
      range.first_identity() < from.first_identity() ||
      range.first_identity() - from.first_identity() + count > from.identities()) {
    return parts;
  }
  const IdentityRanges committed = store.Committed();
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t number = number_of(range.first_identity() + i);
    if (number == IdentityRows::kNone || committed.Contains({number, 1})) continue;
    if (parts.empty() || parts.back().first_identity() + parts.back().identity_count() != number) {
      v1::RepresentationRange& part = parts.emplace_back();
      part.set_first_identity(number);
      part.set_dimension(range.dimension());
    }
    v1::RepresentationRange& part = parts.back();
    part.set_identity_count(part.identity_count() + 1);
    part.add_samples(range.samples(static_cast<int>(i)));
    part.mutable_representations()->append(range.representations(), i * row_bytes, row_bytes);
  }
  return parts;
}

}  // namespace

RepresentationStore::RepresentationStore(FileSystem& fs, std::string directory, v1::RepresentationPass pass,
                                         Options options)
    : fs_(fs), directory_(std::move(directory)), pass_(std::move(pass)), options_(options) {}

absl::StatusOr<std::unique_ptr<RepresentationStore>> RepresentationStore::Open(
    FileSystem& fs, const std::string& directory, const v1::RepresentationPass& pass, Options options) {
  if (pass.dimension() == 0 || pass.identities() == 0) {
    return absl::InvalidArgumentError("a representation pass needs at least one identity and one dimension");
  }
  std::unique_ptr<RepresentationStore> store(new RepresentationStore(fs, directory, pass, options));
  RETURN_IF_ERROR(store->Load());
  return store;
}

std::string RepresentationStore::SegmentPath(uint64_t segment) const {
  return absl::StrCat(directory_, "/", SegmentName(segment));
}

absl::Status RepresentationStore::Load() {
  RETURN_IF_ERROR(fs_.MakeDirectories(directory_));
  {
    absl::MutexLock lock(&mutex_);
    data_.rows.rows = static_cast<int64_t>(pass_.identities());
    data_.rows.dimension = static_cast<int>(pass_.dimension());
    data_.rows.values.resize(pass_.identities() * pass_.dimension());
    data_.samples.resize(pass_.identities());
  }
  uint64_t segments = 0;
  while (fs_.Exists(SegmentPath(segments))) ++segments;
  for (uint64_t i = 0; i < segments; ++i) RETURN_IF_ERROR(LoadSegment(i, i + 1 == segments));
  if (segments == 0) return OpenSegment(0, true);
  // A crash between creating a file and its first sync leaves it without a header.
  return OpenSegment(segments - 1, segment_size_ == 0);
}

absl::Status RepresentationStore::LoadSegment(uint64_t segment, bool last) {
  const std::string path = SegmentPath(segment);
  ASSIGN_OR_RETURN(const IntactRecords read, ReadIntactRecords(fs_, path));
  const RecordFileContents& contents = read.contents;
  if (!read.damage.ok() || (contents.torn_tail && !last)) {
    // What is lost is embedded again: nothing here is irreplaceable.
    DOPPEL_LOG(kError,
               read.damage.ok() ? absl::StrCat(path, ": cut off, and it is not the last file")
                                : std::string(read.damage.message()),
               ". Keeping the ", contents.records.size(), " records before the damage");
    // Without its header it says nothing; it stays as an empty link in the chain of files.
    RETURN_IF_ERROR(fs_.Truncate(path, contents.records.empty() ? 0 : contents.valid_bytes));
  }
  segment_size_ = 0;
  absl::MutexLock lock(&mutex_);
  for (const std::string& record : contents.records) {
    const bool is_header = segment_size_ == 0;
    segment_size_ += record.size();
    if (is_header) {
      v1::RepresentationPass header;
      if (!header.ParseFromString(record)) {
        return absl::DataLossError(absl::StrCat(path, ": the first record is no pass header; remove ",
                                                directory_, " to compute the representations again"));
      }
      if (RepresentationPassKey(header) != RepresentationPassKey(pass_)) {
        return absl::FailedPreconditionError(absl::StrCat(path, " belongs to another pass: {",
                                                          header.ShortDebugString(), "}, wanted {",
                                                          pass_.ShortDebugString(), "}"));
      }
      continue;
    }
    v1::RepresentationRange range;
    absl::Status valid = absl::InvalidArgumentError("it cannot be parsed");
    if (range.ParseFromString(record)) valid = Validate(range);
    if (!valid.ok()) {
      return absl::DataLossError(absl::StrCat(path, ": a record is no range of this pass (", valid.ToString(),
                                              "); remove ", directory_,
                                              " to compute the representations again"));
    }
    Apply(range);
  }
  return absl::OkStatus();
}

absl::Status RepresentationStore::OpenSegment(uint64_t segment, bool with_header) {
  ASSIGN_OR_RETURN(writer_, RecordWriter::Open(fs_, SegmentPath(segment)));
  segment_ = segment;
  if (!with_header) return absl::OkStatus();
  const std::string header = pass_.SerializeAsString();
  RETURN_IF_ERROR(writer_->Append(header));
  RETURN_IF_ERROR(writer_->Sync());
  segment_size_ = header.size();
  return fs_.SyncDirectory(directory_);
}

absl::Status RepresentationStore::Validate(const v1::RepresentationRange& range) const {
  const std::string name =
      absl::StrCat("range [", range.first_identity(), ", +", range.identity_count(), "): ");
  const uint64_t end = pass_.first_identity() + pass_.identities();
  if (range.identity_count() == 0 || range.first_identity() < pass_.first_identity() ||
      range.first_identity() >= end || range.identity_count() > end - range.first_identity()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, "the pass covers identities [", pass_.first_identity(), ", ", end, ")"));
  }
  if (range.dimension() != pass_.dimension()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, "dimension is ", range.dimension(), ", the model's is ", pass_.dimension()));
  }
  const uint64_t bytes = range.identity_count() * pass_.dimension() * sizeof(float);
  if (range.representations().size() != bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, "representations has ", range.representations().size(), " bytes, expected ", bytes));
  }
  if (static_cast<uint64_t>(range.samples_size()) != range.identity_count()) {
    return absl::InvalidArgumentError(absl::StrCat(name, "samples has ", range.samples_size(),
                                                   " entries, expected ", range.identity_count()));
  }
  if (!AllFinite(range.representations())) {
    return absl::InvalidArgumentError(absl::StrCat(name, "representations holds NaN or infinity"));
  }
  return absl::OkStatus();
}

bool RepresentationStore::Apply(const v1::RepresentationRange& range) {
  const IdentityRange identities = {range.first_identity(), range.identity_count()};
  const std::vector<IdentityRange> fresh = committed_.Missing(identities);
  if (fresh.empty()) return false;
  for (const IdentityRange& part : fresh) {
    const uint64_t from = part.first - range.first_identity();
    const uint64_t to = part.first - pass_.first_identity();
    std::memcpy(data_.rows.row(static_cast<int64_t>(to)),
                range.representations().data() + from * pass_.dimension() * sizeof(float),
                part.count * pass_.dimension() * sizeof(float));
    std::copy_n(range.samples().begin() + static_cast<int64_t>(from), part.count,
                data_.samples.begin() + static_cast<int64_t>(to));
  }
  data_.failed_samples += range.failed_samples();
  committed_.Add(identities);
  return true;
}

absl::StatusOr<bool> RepresentationStore::Commit(const v1::RepresentationRange& range) {
  RETURN_IF_ERROR(Validate(range));
  Waiting self;
  self.range = &range;
  self.record = range.SerializeAsString();
  absl::MutexLock lock(&mutex_);
  if (committed_.Contains({range.first_identity(), range.identity_count()})) return false;
  queue_.push_back(&self);
  const auto my_turn = [this, &self]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return self.done || (!writing_ && queue_.front() == &self);
  };
  mutex_.Await(absl::Condition(&my_turn));
  if (!self.done) {
    // First in the queue: write for everybody who waits.
    const std::vector<Waiting*> batch(queue_.begin(), queue_.end());
    queue_.clear();
    absl::Status status = broken_;
    if (status.ok()) {
      writing_ = true;
      mutex_.Unlock();
      status = Write(batch);
      mutex_.Lock();
      writing_ = false;
    }
    if (!status.ok()) broken_ = status;
    for (Waiting* waiting : batch) {
      waiting->accepted = status.ok() && Apply(*waiting->range);
      waiting->status = status;
      waiting->done = true;
    }
  }
  RETURN_IF_ERROR(self.status);
  return self.accepted;
}

absl::Status RepresentationStore::CommitTogether(const std::vector<v1::RepresentationRange>& ranges) {
  std::vector<Waiting> all(ranges.size());
  std::vector<Waiting*> batch;
  batch.reserve(ranges.size());
  for (size_t i = 0; i < ranges.size(); ++i) {
    RETURN_IF_ERROR(Validate(ranges[i]));
    all[i].range = &ranges[i];
    all[i].record = ranges[i].SerializeAsString();
    batch.push_back(&all[i]);
  }
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(broken_);
  writing_ = true;
  mutex_.Unlock();
  absl::Status status = Write(batch);
  mutex_.Lock();
  writing_ = false;
  if (!status.ok()) broken_ = status;
  RETURN_IF_ERROR(status);
  for (const Waiting& one : all) Apply(*one.range);
  return absl::OkStatus();
}

absl::Status RepresentationStore::Write(const std::vector<Waiting*>& batch) {
  if (segment_size_ >= options_.segment_bytes) RETURN_IF_ERROR(OpenSegment(segment_ + 1, true));
  for (const Waiting* waiting : batch) {
    RETURN_IF_ERROR(writer_->Append(waiting->record));
    segment_size_ += waiting->record.size();
  }
  return writer_->Sync();
}

IdentityRanges RepresentationStore::Committed() const {
  absl::MutexLock lock(&mutex_);
  return committed_;
}

std::vector<IdentityRange> RepresentationStore::Missing() const {
  absl::MutexLock lock(&mutex_);
  return committed_.Missing(all());
}

absl::StatusOr<FrozenRepresentations> RepresentationStore::Freeze() {
  FrozenRepresentations frozen;
  {
    absl::MutexLock lock(&mutex_);
    const std::vector<IdentityRange> missing = committed_.Missing(all());
    if (!missing.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          directory_, ": ", pass_.identities() - committed_.size(),
          " identities are not embedded yet, first [", missing[0].first, ", ", missing[0].end(), ")"));
    }
    if (frozen_)
      return absl::FailedPreconditionError(absl::StrCat(directory_, ": the pass was frozen before"));
    frozen_ = true;
    frozen = std::move(data_);
  }
  NormalizeRows(frozen.rows);
  return frozen;
}

std::string RepresentationPassKey(const v1::RepresentationPass& pass) {
  const std::string text = absl::StrCat(
      pass.catalog_fingerprint(), "\n", pass.model_fingerprint(), "\n", pass.samples_per_identity(), "\n",
      pass.seed(), "\n", pass.first_identity(), "\n", pass.identities(), "\n", pass.dimension());
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

absl::StatusOr<std::unique_ptr<RepresentationStore>> OpenRepresentationPass(
    FileSystem& fs, const std::string& root, uint64_t generation, const v1::RepresentationPass& pass) {
  RETURN_IF_ERROR(fs.MakeDirectories(root));
  const std::string key = RepresentationPassKey(pass);
  const std::string wanted = absl::StrFormat("%s/%010d-%s", root, generation, key);
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(root));
  for (const std::string& name : names) {
    const std::string found = absl::StrCat(root, "/", name);
    if (!absl::EndsWith(name, absl::StrCat("-", key)) || found == wanted) continue;
    RETURN_IF_ERROR(fs.Rename(found, wanted));
    break;
  }
  ASSIGN_OR_RETURN(std::unique_ptr<RepresentationStore> store, RepresentationStore::Open(fs, wanted, pass));
  RETURN_IF_ERROR(fs.SyncDirectory(root));
  return store;
}

absl::StatusOr<uint64_t> TakeOverPass(FileSystem& fs, const std::string& root,
                                      const v1::RepresentationPass& from,
                                      const std::function<uint64_t(uint64_t number)>& number_of,
                                      RepresentationStore& store) {
  const std::string suffix = absl::StrCat("-", RepresentationPassKey(from));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(root));
  const auto found = std::find_if(names.begin(), names.end(), [&suffix](const std::string& name) {
    return absl::EndsWith(name, suffix);
  });
  if (found == names.end()) return 0;
  uint64_t taken = 0;
  for (uint64_t segment = 0;; ++segment) {
    const std::string path = absl::StrFormat("%s/%s/%s", root, *found, SegmentName(segment));
    if (!fs.Exists(path)) return taken;
    ASSIGN_OR_RETURN(const RecordFileContents contents, ReadRecordFile(fs, path));
    // The first record is the pass's header.
    for (size_t i = 1; i < contents.records.size(); ++i) {
      v1::RepresentationRange range;
      if (!range.ParseFromString(contents.records[i]))
        return absl::DataLossError(absl::StrCat(path, ": a record cannot be parsed"));
      const std::vector<v1::RepresentationRange> parts = KeptParts(range, from, number_of, store);
      if (parts.empty()) continue;
      RETURN_IF_ERROR(store.CommitTogether(parts));
      for (const v1::RepresentationRange& part : parts) taken += part.identity_count();
    }
  }
}

absl::Status RemoveOldPasses(FileSystem& fs, const std::string& root, size_t keep) {
  if (!fs.Exists(root)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(root));
  std::vector<std::string> passes;
  passes.reserve(names.size());
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(root, "/", name);
    if (absl::EndsWith(name, kRemoved)) {
      RETURN_IF_ERROR(fs.RemoveRecursively(path));
    } else {
      passes.push_back(path);
    }
  }
  // Sorted by name, so by last use. Out of sight first: half a pass must not be taken for one.
  for (size_t i = 0; i + keep < passes.size(); ++i) {
    const std::string removed = absl::StrCat(passes[i], kRemoved);
    RETURN_IF_ERROR(fs.Rename(passes[i], removed));
    RETURN_IF_ERROR(fs.SyncDirectory(root));
    RETURN_IF_ERROR(fs.RemoveRecursively(removed));
  }
  return absl::OkStatus();
}

}  // namespace doppel
