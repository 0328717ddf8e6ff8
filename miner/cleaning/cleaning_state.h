#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "doppel/v1/cleaning.pb.h"
#include "miner/cleaning/guard_list.h"

namespace doppel {

// "pair-12-57", "sample-345".
std::string SubjectId(const v1::CleaningSubject& subject);
// INVALID_ARGUMENT says what ids look like. A pair may be given either way round.
absl::StatusOr<v1::CleaningSubject> ParseSubjectId(absl::string_view id);

// Findings and decisions. Changes by Apply only, so that replaying the journal gives it again. Decisions
// belong to their subject, not to the findings of one pass: they outlast the next one. Not thread-safe.
class CleaningState {
 public:
  // INVALID_ARGUMENT: the update does not fit: a verdict that its subject cannot have (merge is of pairs,
  // drop of samples), a number out of turn, a decision that does not hold. Nothing has changed then.
  absl::Status Apply(const v1::CleaningUpdate& update);

  const v1::FindingsReplaced& findings() const { return findings_; }
  // The decision that holds; null: none.
  const v1::Decision* DecisionOn(const std::string& id) const;
  // The one with this number, if it was not undone; null: none.
  const v1::Decision* FindDecision(uint64_t number) const;
  // The last one that was not undone; null: none.
  const v1::Decision* LastDecision() const;
  // Those that hold, by subject.
  std::vector<v1::Decision> Decisions() const;
  uint64_t next_number() const { return next_number_; }
  double Threshold(v1::CleaningSubject::Kind kind) const;
  bool AboveThreshold(const v1::Finding& finding) const;

  // Findings at or above their threshold without a decision, and whatever was decided merge or drop.
  absl::StatusOr<GuardList> MakeGuardList() const;

 private:
  absl::Status Decide(const v1::DecisionsMade& made);
  absl::Status Undo(uint64_t number);

  v1::FindingsReplaced findings_;
  // By subject, all that were not undone, oldest first.
  std::map<std::string, std::vector<v1::Decision>> decisions_;
  std::map<uint64_t, std::string> subject_of_;  // of the decisions that were not undone
  uint64_t next_number_ = 1;
};

}  // namespace doppel
