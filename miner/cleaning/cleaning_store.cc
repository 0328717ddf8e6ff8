#include "miner/cleaning/cleaning_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"

namespace doppel {

absl::StatusOr<std::unique_ptr<CleaningStore>> CleaningStore::Open(FileSystem& fs, std::string path,
                                                                   const Clock& clock) {
  std::unique_ptr<CleaningStore> store(new CleaningStore(fs, std::move(path), clock));
  RETURN_IF_ERROR(store->Load());
  return store;
}

absl::Status CleaningStore::Load() {
  absl::MutexLock lock(&mutex_);
  if (!fs_.Exists(path_)) return absl::OkStatus();
  ASSIGN_OR_RETURN(RecordFileContents contents, ReadRecordFile(fs_, path_));
  if (contents.torn_tail) {
    DOPPEL_LOG(kWarning, path_, ": cutting off an unfinished record after ", contents.valid_bytes, " bytes");
  }
  std::vector<std::string> kept;
  size_t findings = 0, last_findings = 0;
  for (size_t i = 0; i < contents.records.size(); ++i) {
    v1::CleaningUpdate update;
    absl::Status status = absl::InvalidArgumentError("it cannot be parsed");
    if (update.ParseFromString(contents.records[i])) status = state_.Apply(update);
    if (!status.ok()) {
      return absl::DataLossError(absl::StrCat(path_, ": record ", i, ": ", status.message()));
    }
    if (update.has_findings_replaced()) {
      // Only the last ones matter; decisions all stay, as a history.
      if (findings++ > 0) kept[last_findings].clear();
      last_findings = kept.size();
    }
    kept.push_back(std::move(contents.records[i]));
  }
  if (findings > 1) RETURN_IF_ERROR(Rewrite(kept));
  return absl::OkStatus();
}

absl::Status CleaningStore::Rewrite(const std::vector<std::string>& records) const {
  const std::string temporary = path_ + ".tmp";
  if (fs_.Exists(temporary)) RETURN_IF_ERROR(fs_.Remove(temporary));
  ASSIGN_OR_RETURN(const std::unique_ptr<RecordWriter> writer, RecordWriter::Open(fs_, temporary));
  for (const std::string& record : records) {
    if (!record.empty()) RETURN_IF_ERROR(writer->Append(record));
  }
  RETURN_IF_ERROR(writer->Sync());
  RETURN_IF_ERROR(fs_.Rename(temporary, path_));
  return fs_.SyncDirectory(DirectoryOf(path_));
}

absl::Status CleaningStore::Record(const v1::CleaningUpdate& update) {
  // On a copy first: what does not fit is not journalled.
  CleaningState next = state_;
  RETURN_IF_ERROR(next.Apply(update));
  absl::Status status;
  if (writer_ == nullptr) {
    RETURN_IF_ERROR(fs_.MakeDirectories(DirectoryOf(path_)));
    ASSIGN_OR_RETURN(writer_, RecordWriter::Open(fs_, path_));
    status = fs_.SyncDirectory(DirectoryOf(path_));
  }
  if (status.ok()) status = writer_->Append(update.SerializeAsString());
  if (status.ok()) status = writer_->Sync();
  if (!status.ok()) {
    return absl::UnavailableError(absl::StrCat(path_, ": cannot be written (", status.message(),
                                               "); mend the disk and start the miner again"));
  }
  state_ = std::move(next);
  return absl::OkStatus();
}

absl::Status CleaningStore::ReplaceFindings(v1::FindingsReplaced findings) {
  v1::CleaningUpdate update;
  *update.mutable_findings_replaced() = std::move(findings);
  update.mutable_findings_replaced()->set_found_at(
      absl::FormatTime(absl::RFC3339_sec, clock_.Now(), absl::UTCTimeZone()));
  absl::MutexLock lock(&mutex_);
  return Record(update);
}

absl::StatusOr<std::vector<v1::Decision>> CleaningStore::Decide(
    const std::vector<v1::CleaningSubject>& subjects, v1::Decision::Verdict verdict,
    const std::string& note) {
  if (subjects.empty()) return absl::InvalidArgumentError("ids: none given");
  absl::MutexLock lock(&mutex_);
  v1::CleaningUpdate update;
  uint64_t number = state_.next_number();
  for (const v1::CleaningSubject& subject : subjects) {
    v1::Decision* decision = update.mutable_decisions_made()->add_decisions();
    decision->set_number(number++);
    *decision->mutable_subject() = subject;
    decision->set_verdict(verdict);
    decision->set_note(note);
    decision->set_decided_at(absl::FormatTime(absl::RFC3339_sec, clock_.Now(), absl::UTCTimeZone()));
  }
  RETURN_IF_ERROR(Record(update));
  const auto& made = update.decisions_made().decisions();
  return std::vector<v1::Decision>(made.begin(), made.end());
}

absl::StatusOr<v1::Decision> CleaningStore::Undo(uint64_t number) {
  absl::MutexLock lock(&mutex_);
  const v1::Decision* const last = state_.LastDecision();
  if (last == nullptr) return absl::NotFoundError("there is no decision to undo");
  v1::Decision undone = *last;
  if (number != 0 && number != last->number()) {
    const v1::Decision* const found = state_.FindDecision(number);
    if (found == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("decision ", number, " does not hold: it was undone, or never made"));
    }
    undone = *found;
  }
  v1::CleaningUpdate update;
  update.mutable_decision_undone()->set_number(undone.number());
  RETURN_IF_ERROR(Record(update));
  return undone;
}

CleaningState CleaningStore::State() const {
  absl::MutexLock lock(&mutex_);
  return state_;
}

}  // namespace doppel
