#include "miner/cleaning/cleaning_store.h"

#include <algorithm>
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

absl::Status CleaningStore::Replay(const std::string& path, const std::vector<std::string>& records,
                                   CleaningState& state) {
  for (size_t i = 0; i < records.size(); ++i) {
    v1::CleaningUpdate update;
    absl::Status status = absl::InvalidArgumentError("it cannot be parsed");
    if (update.ParseFromString(records[i])) status = state.Apply(update);
    if (!status.ok()) {
      return absl::DataLossError(absl::StrCat(path, ": record ", i, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status CleaningStore::Load() {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(MirroredLog::Contents contents, MirroredLog::Read(fs_, path_));
  for (const std::string& torn : contents.torn) {
    DOPPEL_LOG(kWarning, torn, ": cutting off an unfinished record after ", contents.records.size(),
               " good ones");
  }
  RETURN_IF_ERROR(Replay(path_, contents.records, state_));
  if (!contents.damage.empty()) {
    for (const std::string& damage : contents.damage) {
      DOPPEL_LOG(kError, damage, ". The other of the two files is intact and mends it");
    }
    ASSIGN_OR_RETURN(log_, MirroredLog::Open(fs_, path_, &contents));
    log_.reset();
  }
  return DropOldFindings(std::move(contents.records));
}

absl::Status CleaningStore::DropOldFindings(std::vector<std::string> records) const {
  std::vector<std::string> kept;
  kept.reserve(records.size());
  size_t findings = 0, last_findings = 0;
  for (std::string& record : records) {
    v1::CleaningUpdate update;
    if (update.ParseFromString(record) && update.has_findings_replaced()) {
      // Only the last ones matter; decisions all stay, as a history.
      if (findings++ > 0) kept[last_findings].clear();
      last_findings = kept.size();
    }
    kept.push_back(std::move(record));
  }
  if (findings <= 1) return absl::OkStatus();
  kept.erase(std::remove(kept.begin(), kept.end(), std::string()), kept.end());
  return MirroredLog::Replace(fs_, path_, kept);
}

absl::Status CleaningStore::Record(const v1::CleaningUpdate& update) {
  // On a copy first: what does not fit is not journalled.
  CleaningState next = state_;
  RETURN_IF_ERROR(next.Apply(update));
  if (log_ == nullptr) {
    RETURN_IF_ERROR(fs_.MakeDirectories(DirectoryOf(path_)));
    MirroredLog::Contents contents;
    ASSIGN_OR_RETURN(log_, MirroredLog::Open(fs_, path_, &contents));
  }
  absl::Status status = log_->Append(update.SerializeAsString());
  if (status.ok()) status = log_->Sync();
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
