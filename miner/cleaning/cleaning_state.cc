#include "miner/cleaning/cleaning_state.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

absl::Status CheckDecision(const v1::Decision& decision, uint64_t expected_number) {
  const v1::CleaningSubject& subject = decision.subject();
  const std::string id = SubjectId(subject);
  if (decision.number() != expected_number) {
    return absl::InvalidArgumentError(
        absl::StrCat("decision ", decision.number(), " on ", id, ": its number should be ", expected_number));
  }
  const bool pair = subject.kind() == v1::CleaningSubject::KIND_DUPLICATE_IDENTITIES;
  switch (decision.verdict()) {
    case v1::Decision::VERDICT_MERGE:
      if (!pair) return absl::InvalidArgumentError(absl::StrCat(id, ": only pairs can be merged; drop it?"));
      break;
    case v1::Decision::VERDICT_DROP:
      if (pair) return absl::InvalidArgumentError(absl::StrCat(id, ": only samples can be dropped; merge?"));
      break;
    case v1::Decision::VERDICT_KEEP:
    case v1::Decision::VERDICT_IGNORE:
      break;
    default:
      return absl::InvalidArgumentError(absl::StrCat(id, ": no verdict; merge, keep, ignore or drop"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string SubjectId(const v1::CleaningSubject& subject) {
  if (subject.kind() == v1::CleaningSubject::KIND_MISLABELLED_SAMPLE) {
    return absl::StrCat("sample-", subject.sample());
  }
  return absl::StrCat("pair-", subject.first_identity(), "-", subject.second_identity());
}

absl::StatusOr<v1::CleaningSubject> ParseSubjectId(absl::string_view id) {
  const std::vector<absl::string_view> parts = absl::StrSplit(id, '-');
  v1::CleaningSubject subject;
  uint32_t a = 0, b = 0;
  uint64_t sample = 0;
  if (parts.size() == 3 && parts[0] == "pair" && absl::SimpleAtoi(parts[1], &a) &&
      absl::SimpleAtoi(parts[2], &b) && a != b) {
    subject.set_kind(v1::CleaningSubject::KIND_DUPLICATE_IDENTITIES);
    subject.set_first_identity(std::min(a, b));
    subject.set_second_identity(std::max(a, b));
    return subject;
  }
  if (parts.size() == 2 && parts[0] == "sample" && absl::SimpleAtoi(parts[1], &sample)) {
    subject.set_kind(v1::CleaningSubject::KIND_MISLABELLED_SAMPLE);
    subject.set_sample(sample);
    return subject;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", id, "\" is no finding: ids look like pair-12-57 (two identities) and sample-345"));
}

absl::Status CleaningState::Apply(const v1::CleaningUpdate& update) {
  switch (update.update_case()) {
    case v1::CleaningUpdate::kFindingsReplaced:
      findings_ = update.findings_replaced();
      return absl::OkStatus();
    case v1::CleaningUpdate::kDecisionsMade:
      return Decide(update.decisions_made());
    case v1::CleaningUpdate::kDecisionUndone:
      return Undo(update.decision_undone().number());
    case v1::CleaningUpdate::UPDATE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("an update of a kind that this version does not know");
}

absl::Status CleaningState::Decide(const v1::DecisionsMade& made) {
  uint64_t expected = next_number_;
  for (const v1::Decision& decision : made.decisions()) RETURN_IF_ERROR(CheckDecision(decision, expected++));
  for (const v1::Decision& decision : made.decisions()) {
    const std::string id = SubjectId(decision.subject());
    decisions_[id].push_back(decision);
    subject_of_[decision.number()] = id;
  }
  next_number_ = expected;
  return absl::OkStatus();
}

absl::Status CleaningState::Undo(uint64_t number) {
  const auto found = subject_of_.find(number);
  if (found == subject_of_.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("decision ", number, " does not hold: it was undone, or never made"));
  }
  std::vector<v1::Decision>& decisions = decisions_[found->second];
  decisions.erase(std::find_if(decisions.begin(), decisions.end(),
                               [number](const v1::Decision& d) { return d.number() == number; }));
  if (decisions.empty()) decisions_.erase(found->second);
  subject_of_.erase(found);
  return absl::OkStatus();
}

const v1::Decision* CleaningState::DecisionOn(const std::string& id) const {
  const auto found = decisions_.find(id);
  return found == decisions_.end() ? nullptr : &found->second.back();
}

const v1::Decision* CleaningState::FindDecision(uint64_t number) const {
  const auto found = subject_of_.find(number);
  if (found == subject_of_.end()) return nullptr;
  for (const v1::Decision& decision : decisions_.at(found->second)) {
    if (decision.number() == number) return &decision;
  }
  return nullptr;
}

const v1::Decision* CleaningState::LastDecision() const {
  return subject_of_.empty() ? nullptr : FindDecision(subject_of_.rbegin()->first);
}

std::vector<v1::Decision> CleaningState::Decisions() const {
  std::vector<v1::Decision> decisions;
  decisions.reserve(decisions_.size());
  for (const auto& [id, made] : decisions_) decisions.push_back(made.back());
  return decisions;
}

double CleaningState::Threshold(v1::CleaningSubject::Kind kind) const {
  for (const v1::FindSummary& summary : findings_.summaries()) {
    if (summary.kind() == kind) return summary.threshold();
  }
  return std::numeric_limits<double>::infinity();
}

bool CleaningState::AboveThreshold(const v1::Finding& finding) const {
  return finding.probability() >= Threshold(finding.subject().kind());
}

absl::StatusOr<GuardList> CleaningState::MakeGuardList() const {
  std::vector<GuardList::Pair> pairs;
  std::vector<uint64_t> samples;
  const auto guard = [&](const v1::CleaningSubject& subject) {
    if (subject.kind() == v1::CleaningSubject::KIND_MISLABELLED_SAMPLE) {
      samples.push_back(subject.sample());
    } else {
      pairs.push_back({subject.first_identity(), subject.second_identity()});
    }
  };
  for (const v1::Finding& finding : findings_.findings()) {
    if (AboveThreshold(finding) && DecisionOn(SubjectId(finding.subject())) == nullptr) {
      guard(finding.subject());
    }
  }
  for (const auto& [id, made] : decisions_) {
    const v1::Decision::Verdict verdict = made.back().verdict();
    if (verdict == v1::Decision::VERDICT_MERGE || verdict == v1::Decision::VERDICT_DROP) {
      guard(made.back().subject());
    }
  }
  return GuardList::Make(std::move(pairs), std::move(samples));
}

}  // namespace doppel
