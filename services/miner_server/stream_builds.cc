// How a stream's batches come to be: when they are begun, where their memory comes from, what happens when
// others wait for it. The other half of StreamReactor decides what is sent.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/log.h"
#include "services/miner_server/stream_reactor.h"

namespace doppel {

size_t StreamReactor::BuildsToStart() const {
  const AheadPolicy policy = Ahead();
  // One without a credit, so that a new one is answered at once.
  size_t allowed = is_dynamic() ? credits_ : std::max<uint64_t>(1, credits_);
  // Others do not read theirs: nothing ahead, and nothing at all before it may be sent.
  if (environment_.queued->IsTight(ExpectedBytes()))
    allowed = std::min<size_t>(allowed, credits_ > 0 ? 1 : 0);
  if (spec_->max_batches() > 0) allowed = std::min<size_t>(allowed, spec_->max_batches() - sent_);
  return policy.ToStart(slots_.size(), allowed);
}

AheadPolicy StreamReactor::Ahead() const {
  if (bound_->spec.payload() == v1::PAYLOAD_KIND_DECODED) {
    return AheadPolicy::Decoding(environment_.core->limits().decode_threads);
  }
  return is_dynamic() ? AheadPolicy::Leasing() : AheadPolicy::Forwarding(last_batch_bytes_);
}

void StreamReactor::StartBuilds(Slots slots) {
  if (slots.empty()) return;
  if (Ahead().together()) return BuildWhenThereIsMemory(std::move(slots));
  for (std::shared_ptr<Slot>& slot : slots) BuildWhenThereIsMemory({std::move(slot)});
}

void StreamReactor::BuildWhenThereIsMemory(Slots slots) {
  for (const std::shared_ptr<Slot>& slot : slots) {
    slot->bound = bound_;
    slot->begun = absl::Now();
  }
  const uint64_t bytes = slots.size() * ExpectedBytes();
  // Weak: a stream that is over is not to wait for memory.
  environment_.queued->Take(
      bytes, weak_from_this(),
      [weak = weak_from_this(), slots = std::move(slots), bound = bound_](MemoryBudget::Hold hold) {
        const std::shared_ptr<StreamReactor> self = weak.lock();
        if (self != nullptr) self->ScheduleBuilds(slots, bound, std::move(hold));
      });
}

void StreamReactor::Rebuild(const std::shared_ptr<Slot>& slot) {
  // In the memory that it has: others behind it may have the rest.
  MemoryBudget::Hold hold = std::move((*slot->batch)->hold);
  slot->batch.reset();
  slot->bound = bound_;
  ScheduleBuilds({slot}, bound_, std::move(hold));
}

void StreamReactor::ScheduleBuilds(const Slots& slots, const std::shared_ptr<const BoundStream>& bound,
                                   MemoryBudget::Hold hold) {
  const bool decodes = bound->spec.payload() == v1::PAYLOAD_KIND_DECODED;
  FairExecutor* const executor = decodes ? environment_.decode_executor : environment_.executor;
  executor->Schedule(decodes ? decode_flow_ : flow_,
                     [self = shared_from_this(), slots, bound, hold = std::move(hold)] {
                       for (const std::shared_ptr<Slot>& slot : slots) self->BuildSlot(slot, bound, hold);
                     });
}

void StreamReactor::MakeRoom() {
  {
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    LetGoOfWhatCannotBeSent();
    if (!writing_ || absl::Now() - write_began_ < environment_.max_unread) return;
    if (!failure_.has_value()) {
      DOPPEL_LOG(kWarning, "stream of ", spec_.has_value() ? spec_->client_name() : "", " (", peer_,
                 ") has not read for max_unread_seconds = ", absl::ToDoubleSeconds(environment_.max_unread),
                 ", and others wait for memory: cut off");
      environment_.metrics->unread.Add();
    }
  }
  absl::MutexLock lock(&context_mutex_);
  if (context_ != nullptr) context_->TryCancel();
}

void StreamReactor::LetGoOfWhatCannotBeSent() {
  // Nobody has asked for them.
  while (!is_dynamic() && slots_.size() > credits_ && slots_.back()->batch.has_value()) {
    next_to_build_ = slots_.back()->cursor;
    slots_.pop_back();
  }
  // The first one may wait for what those behind it hold, here or by way of another stream.
  if (slots_.empty() || slots_[0]->batch.has_value()) return;
  if (absl::Now() - slots_[0]->begun < environment_.max_unread) return;
  Slots again;
  for (const std::shared_ptr<Slot>& slot : slots_) {
    if (!slot->batch.has_value()) continue;
    slot->batch.reset();
    again.push_back(slot);
  }
  StartBuilds(std::move(again));
}

void StreamReactor::BuildSlot(const std::shared_ptr<Slot>& slot, std::shared_ptr<const BoundStream> bound,
                              const MemoryBudget::Hold& hold) {
  {
    absl::MutexLock lock(&mutex_);
    if (finished_ || failure_.has_value()) return;
  }
  absl::StatusOr<WireBatch> batch = MoveAndBuild(bound, slot->cursor);
  absl::MutexLock lock(&mutex_);
  if (finished_) return;
  // Another slot may have moved on further.
  if (bound_->generation_number() < bound->generation_number() || !environment_.core->IsCurrent(*bound_)) {
    bound_ = bound;
  }
  slot->bound = std::move(bound);
  if (batch.ok()) batch->hold = hold;
  slot->batch = std::move(batch);
  Advance();
}

absl::StatusOr<WireBatch> StreamReactor::MoveAndBuild(std::shared_ptr<const BoundStream>& bound,
                                                      uint64_t cursor) {
  if (!environment_.core->IsCurrent(*bound)) {
    absl::StatusOr<std::shared_ptr<const BoundStream>> moved = environment_.core->Bind(bound->spec);
    if (!moved.ok()) {
      return absl::Status(moved.status().code(), absl::StrCat("moving to the generation that is active now: ",
                                                              moved.status().message()));
    }
    bound = *std::move(moved);
  }
  const absl::Time start = absl::Now();
  absl::StatusOr<WireBatch> batch = environment_.core->Build(*bound, cursor, BatchEnvelope::kStreamBatches);
  environment_.metrics->build_seconds.Observe(absl::ToDoubleSeconds(absl::Now() - start));
  return batch;
}

}  // namespace doppel
