#include "miner/generation/miner_state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"

namespace doppel {

absl::Status MinerState::Apply(const v1::MinerUpdate& update) {
  RETURN_IF_ERROR(ApplyFact(update));
  const v1::GenerationPublished& published = update.generation_published();
  half_derived_ = published.base() != 0 && published.base() == active() ? published.generation() : 0;
  return absl::OkStatus();
}

absl::Status MinerState::ApplyFact(const v1::MinerUpdate& update) {
  switch (update.update_case()) {
    case v1::MinerUpdate::kOperationStarted:
      return ApplyStarted(update.operation_started());
    case v1::MinerUpdate::kOperationEnded:
      return ApplyEnded(update.operation_ended());
    case v1::MinerUpdate::kGenerationPublished:
      return ApplyPublished(update.generation_published());
    case v1::MinerUpdate::kGenerationActivated:
      return ApplyActivated(update.generation_activated());
    case v1::MinerUpdate::kGenerationRetired:
      return ApplyRetired(update.generation_retired().generation());
    case v1::MinerUpdate::kGenerationPinned:
      return ApplyPinned(update.generation_pinned());
    case v1::MinerUpdate::kPolicyChanged:
      policy_ = update.policy_changed().policy();
      return absl::OkStatus();
    case v1::MinerUpdate::kOperationQueued:
      return ApplyQueued(update.operation_queued().operation());
    case v1::MinerUpdate::UPDATE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("a journal record of a kind that this version does not know");
}

absl::Status MinerState::CheckNew(const v1::OperationStarted& started) const {
  if (started.id().empty()) return absl::InvalidArgumentError("an operation starts without an id");
  if (Find(started.id()) != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("operation ", started.id(), " starts twice"));
  }
  if (started.generation() > last_number_) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("operation ", started.id(), " is to make generation ",
                                                 started.generation(), ", but ", last_number_,
                                                 " was given out"));
}

absl::Status MinerState::ApplyQueued(const v1::OperationStarted& started) {
  RETURN_IF_ERROR(CheckNew(started));
  last_number_ = started.generation();
  queued_.push_back({started, std::nullopt, true});
  return absl::OkStatus();
}

absl::Status MinerState::ApplyStarted(const v1::OperationStarted& started) {
  const auto queued = FindQueued(started.id());
  if (queued == queued_.end()) RETURN_IF_ERROR(CheckNew(started));
  if (Running() != nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("operation ", started.id(), " starts while ", Running()->started.id(), " runs"));
  }
  if (queued != queued_.end()) {
    if (queued->started.generation() != started.generation()) {
      return absl::InvalidArgumentError(
          absl::StrCat("operation ", started.id(), " was queued for generation ",
                       queued->started.generation(), ", not for ", started.generation()));
    }
    queued_.erase(queued);
  }
  last_number_ = std::max(last_number_, started.generation());
  operations_.push_back({started, std::nullopt});
  return absl::OkStatus();
}

absl::Status MinerState::ApplyEnded(const v1::OperationEnded& ended) {
  const auto queued = FindQueued(ended.id());
  if (queued != queued_.end() && ended.state() != v1::Operation::STATE_SUCCEEDED) {
    // The running one stays the last.
    operations_.insert(operations_.end() - (Running() == nullptr ? 0 : 1), {queued->started, ended});
    queued_.erase(queued);
    return absl::OkStatus();
  }
  const OperationRecord* running = Running();
  if (running == nullptr || running->started.id() != ended.id()) {
    return absl::InvalidArgumentError(absl::StrCat("operation ", ended.id(), " ends, but does not run"));
  }
  if (ended.state() == v1::Operation::STATE_SUCCEEDED && !running->started.request().dry_run() &&
      published_.count(running->started.generation()) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("operation ", ended.id(), " succeeds without having published its generation"));
  }
  operations_.back().ended = ended;
  return absl::OkStatus();
}

absl::Status MinerState::ApplyPublished(const v1::GenerationPublished& published) {
  const uint64_t generation = published.generation();
  if (published.base() != 0) return ApplyDerived(generation, published.base());
  const OperationRecord* running = Running();
  if (running == nullptr || running->started.generation() != generation) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", generation, " is published, but no running operation makes it"));
  }
  if (running->started.request().dry_run()) {
    return absl::InvalidArgumentError(absl::StrCat("a dry run publishes generation ", generation));
  }
  if (!published_.insert(generation).second) {
    return absl::InvalidArgumentError(absl::StrCat("generation ", generation, " is published twice"));
  }
  return absl::OkStatus();
}

absl::Status MinerState::ApplyDerived(uint64_t generation, uint64_t base) {
  const auto promised = [generation](const OperationRecord& record) {
    return record.started.generation() == generation;
  };
  if (generation == 0 || published_.count(generation) > 0 || retired_.count(generation) > 0 ||
      std::any_of(operations_.begin(), operations_.end(), promised) ||
      std::any_of(queued_.begin(), queued_.end(), promised)) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", generation, " is made of ", base, ", but the number was given out"));
  }
  if (published_.count(base) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", generation, " is made of ", base, ", which is not published"));
  }
  published_.insert(generation);
  last_number_ = std::max(last_number_, generation);
  return absl::OkStatus();
}

absl::Status MinerState::ApplyActivated(const v1::GenerationActivated& activated) {
  const uint64_t generation = activated.generation();
  if (published_.count(generation) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", generation, " is activated, but not published"));
  }
  if (!activated.rollback()) {
    activations_.push_back(generation);
    return absl::OkStatus();
  }
  if (previously_active() != generation) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", generation, " is rolled back to, but was not active before"));
  }
  while (active() != generation) activations_.pop_back();
  return absl::OkStatus();
}

uint64_t MinerState::previously_active() const {
  for (auto it = activations_.rbegin(); it != activations_.rend(); ++it) {
    if (*it != active()) return *it;
  }
  return 0;
}

absl::Status MinerState::ApplyRetired(uint64_t generation) {
  if (published_.count(generation) == 0 || generation == active() || pinned_.count(generation) > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", generation, " is retired, but it is not published, active or pinned"));
  }
  published_.erase(generation);
  retired_.insert(generation);
  activations_.erase(std::remove(activations_.begin(), activations_.end(), generation), activations_.end());
  return absl::OkStatus();
}

absl::Status MinerState::ApplyPinned(const v1::GenerationPinned& pinned) {
  if (published_.count(pinned.generation()) == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("generation ", pinned.generation(), " is pinned, but not published"));
  }
  if (pinned.pinned()) {
    pinned_.insert(pinned.generation());
  } else {
    pinned_.erase(pinned.generation());
  }
  return absl::OkStatus();
}

const MinerState::OperationRecord* MinerState::Find(absl::string_view id) const {
  for (const OperationRecord& record : operations_) {
    if (record.started.id() == id) return &record;
  }
  for (const OperationRecord& record : queued_) {
    if (record.started.id() == id) return &record;
  }
  return nullptr;
}

std::vector<MinerState::OperationRecord>::iterator MinerState::FindQueued(absl::string_view id) {
  return std::find_if(queued_.begin(), queued_.end(),
                      [id](const OperationRecord& record) { return record.started.id() == id; });
}

const MinerState::OperationRecord* MinerState::Running() const {
  // Only one runs at a time, so it is the last.
  if (operations_.empty() || operations_.back().ended.has_value()) return nullptr;
  return &operations_.back();
}

std::string MinerState::DebugString() const {
  std::string text =
      absl::StrCat("active ", active(), " of ", absl::StrJoin(activations_, " "), "\nlast number ",
                   last_number_, "\npublished ", absl::StrJoin(published_, " "), "\nretired ",
                   absl::StrJoin(retired_, " "), "\npinned ", absl::StrJoin(pinned_, " "), "\n");
  if (policy_) absl::StrAppend(&text, "policy {", policy_->ShortDebugString(), "}\n");
  for (const OperationRecord& record : operations_) {
    absl::StrAppend(&text, "started {", record.started.ShortDebugString(), "}\n");
    if (record.ended) absl::StrAppend(&text, "ended {", record.ended->ShortDebugString(), "}\n");
  }
  for (const OperationRecord& record : queued_) {
    absl::StrAppend(&text, "queued {", record.started.ShortDebugString(), "}\n");
  }
  return text;
}

}  // namespace doppel
