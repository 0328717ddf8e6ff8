#include "miner/generation/miner_state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace doppel {

absl::Status MinerState::Apply(const v1::MinerUpdate& update) {
  switch (update.update_case()) {
    case v1::MinerUpdate::kOperationStarted:
      return ApplyStarted(update.operation_started());
    case v1::MinerUpdate::kOperationEnded:
      return ApplyEnded(update.operation_ended());
    case v1::MinerUpdate::kGenerationPublished:
      return ApplyPublished(update.generation_published().generation());
    case v1::MinerUpdate::kGenerationActivated:
      return ApplyActivated(update.generation_activated().generation());
    case v1::MinerUpdate::UPDATE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("a journal record of a kind that this version does not know");
}

absl::Status MinerState::ApplyStarted(const v1::OperationStarted& started) {
  if (started.id().empty()) return absl::InvalidArgumentError("an operation starts without an id");
  if (Find(started.id()) != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("operation ", started.id(), " starts twice"));
  }
  if (Running() != nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("operation ", started.id(), " starts while ", Running()->started.id(), " runs"));
  }
  if (started.generation() <= last_number_) {
    return absl::InvalidArgumentError(absl::StrCat("operation ", started.id(), " is to make generation ",
                                                   started.generation(), ", but ", last_number_,
                                                   " was given out"));
  }
  last_number_ = started.generation();
  operations_.push_back({started, std::nullopt});
  return absl::OkStatus();
}

absl::Status MinerState::ApplyEnded(const v1::OperationEnded& ended) {
  const OperationRecord* running = Running();
  if (running == nullptr || running->started.id() != ended.id()) {
    return absl::InvalidArgumentError(absl::StrCat("operation ", ended.id(), " ends, but does not run"));
  }
  if (ended.state() == v1::Operation::STATE_SUCCEEDED &&
      published_.count(running->started.generation()) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("operation ", ended.id(), " succeeds without having published its generation"));
  }
  operations_.back().ended = ended;
  return absl::OkStatus();
}

absl::Status MinerState::ApplyPublished(uint64_t generation) {
  const OperationRecord* running = Running();
  if (running == nullptr || running->started.generation() != generation) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", generation, " is published, but no running operation makes it"));
  }
  if (!published_.insert(generation).second) {
    return absl::InvalidArgumentError(absl::StrCat("generation ", generation, " is published twice"));
  }
  return absl::OkStatus();
}

absl::Status MinerState::ApplyActivated(uint64_t generation) {
  if (published_.count(generation) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", generation, " is activated, but not published"));
  }
  active_ = generation;
  return absl::OkStatus();
}

const MinerState::OperationRecord* MinerState::Find(absl::string_view id) const {
  for (const OperationRecord& record : operations_) {
    if (record.started.id() == id) return &record;
  }
  return nullptr;
}

const MinerState::OperationRecord* MinerState::Running() const {
  // Only one runs at a time, so it is the last.
  if (operations_.empty() || operations_.back().ended.has_value()) return nullptr;
  return &operations_.back();
}

std::string MinerState::DebugString() const {
  std::string text = absl::StrCat("active ", active_, "\nlast number ", last_number_, "\npublished ",
                                  absl::StrJoin(published_, " "), "\n");
  for (const OperationRecord& record : operations_) {
    absl::StrAppend(&text, "started {", record.started.ShortDebugString(), "}\n");
    if (record.ended) absl::StrAppend(&text, "ended {", record.ended->ShortDebugString(), "}\n");
  }
  return text;
}

}  // namespace doppel
