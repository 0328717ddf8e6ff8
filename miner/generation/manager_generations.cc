// GenerationManager: the generations that there are.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "miner/generation/facts.h"
#include "miner/generation/generation_manager.h"

namespace doppel {
namespace {

absl::Status CheckGuardList(const GuardList& list, const Catalog& catalog) {
  // Pairs are ascending within themselves, samples among one another.
  for (const GuardList::Pair& pair : list.pairs()) {
    if (pair.second < catalog.num_identities()) continue;
    return absl::InvalidArgumentError(absl::StrCat("guard list: identity ", pair.second,
                                                   ", but the catalog has ", catalog.num_identities()));
  }
  if (list.samples().empty() || list.samples().back() < catalog.num_samples()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("guard list: sample ", list.samples().back(),
                                                 ", but the catalog has ", catalog.num_samples()));
}

bool SameGuardList(const GuardList& a, const GuardList& b) {
  return a.pairs() == b.pairs() && a.samples() == b.samples();
}

}  // namespace

v1::GenerationInfo GenerationManager::WithState(v1::GenerationInfo info) const {
  const std::shared_ptr<const Generation> active = active_.Get();
  info.set_active(active != nullptr && active->number() == info.generation());
  info.set_pinned(state_.pinned().count(info.generation()) > 0);
  return info;
}

absl::StatusOr<std::shared_ptr<const Generation>> GenerationManager::GetGeneration(uint64_t number) const {
  std::shared_ptr<const Generation> active = active_.Get();
  if (number == 0 && active == nullptr) {
    return absl::FailedPreconditionError("no generation is active yet; recluster first");
  }
  if (active != nullptr && (number == 0 || number == active->number())) return active;
  const auto known = [this, number]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) -> absl::Status {
    if (state_.published().count(number) > 0) return absl::OkStatus();
    return absl::NotFoundError(absl::StrCat(
        "generation ", number, state_.retired().count(number) > 0 ? " was retired" : " does not exist",
        "; list the generations"));
  };
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(known());
    if (std::shared_ptr<const Generation> generation = loaded_[number].lock()) return generation;
  }
  // Reads every byte: without the lock.
  absl::StatusOr<std::shared_ptr<const Generation>> generation = LoadFiles(number);
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(known());
  if (generation.ok()) loaded_[number] = *generation;
  return generation;
}

std::vector<v1::GenerationInfo> GenerationManager::ListGenerations() const {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::GenerationInfo> list;
  for (const auto& [number, info] : infos_) {
    if (damaged_.count(number) == 0) list.push_back(WithState(info));
  }
  return list;
}

absl::StatusOr<v1::GenerationInfo> GenerationManager::DescribeGeneration(uint64_t number) const {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Generation> generation, GetGeneration(number));
  absl::MutexLock lock(&mutex_);
  return WithState(generation->info());
}

void GenerationManager::Serve(std::shared_ptr<const Generation> generation) {
  const v1::GenerationInfo info = generation->info();
  active_.Publish(std::move(generation));
  counted_from_ = training_ ? training_().batches_acknowledged : 0;
  v1::WatchResponse event;
  *event.mutable_activated() = WithState(info);
  events_.Add(std::move(event));
}

absl::StatusOr<v1::GenerationInfo> GenerationManager::Activate(uint64_t number) {
  if (number == 0) return absl::InvalidArgumentError("generation: 0; name the generation to activate");
  ASSIGN_OR_RETURN(std::shared_ptr<const Generation> generation, GetGeneration(number));
  absl::MutexLock lock(&mutex_);
  if (state_.active() != number) RETURN_IF_ERROR(Record({ActivatedFact(number)}));
  // An operator may have restored the files of a damaged one.
  damaged_.erase(number);
  infos_[number] = generation->info();
  Serve(generation);
  return WithState(generation->info());
}

absl::StatusOr<v1::GenerationInfo> GenerationManager::Rollback(bool dry_run) {
  uint64_t number = 0;
  {
    absl::MutexLock lock(&mutex_);
    number = state_.previously_active();
  }
  if (number == 0) {
    return absl::FailedPreconditionError(
        "no generation was active before this one, or it was retired; activate one by its number");
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const Generation> generation, GetGeneration(number));
  absl::MutexLock lock(&mutex_);
  if (dry_run) return WithState(generation->info());
  if (state_.previously_active() != number) {
    return absl::AbortedError("another generation was activated meanwhile; look and try again");
  }
  RETURN_IF_ERROR(Record({ActivatedFact(number, /*rollback=*/true)}));
  damaged_.erase(number);
  infos_[number] = generation->info();
  Serve(generation);
  return WithState(generation->info());
}

absl::Status GenerationManager::CheckRetirable(uint64_t number) const {
  const std::shared_ptr<const Generation> active = active_.Get();
  if (state_.published().count(number) == 0) {
    return absl::NotFoundError(absl::StrCat(
        "generation ", number, state_.retired().count(number) > 0 ? " was retired before" : " does not exist",
        "; list the generations"));
  }
  if (number == state_.active() || (active != nullptr && active->number() == number)) {
    return absl::FailedPreconditionError(
        absl::StrCat("generation ", number, " is active; activate another one before it is retired"));
  }
  if (state_.pinned().count(number) > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("generation ", number, " is pinned; unpin it before it is retired"));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::GenerationInfo> GenerationManager::Retire(uint64_t number, bool dry_run) {
  v1::GenerationInfo info;
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(CheckRetirable(number));
    const auto found = infos_.find(number);
    if (found != infos_.end()) info = found->second;
    info.set_generation(number);  // a damaged one has nothing else to say
    if (dry_run) return WithState(info);
    RETURN_IF_ERROR(Record({RetiredFact(number)}));
    infos_.erase(number);
    damaged_.erase(number);
    loaded_.erase(number);
  }
  RemoveFiles({number});
  return info;
}

std::vector<uint64_t> GenerationManager::RetireOld() {
  if (options_.keep_generations == 0) return {};
  std::vector<v1::MinerUpdate> facts;
  std::vector<uint64_t> retired;
  uint32_t kept = 0;
  for (auto it = state_.published().rbegin(); it != state_.published().rend(); ++it) {
    const uint64_t number = *it;
    if (!CheckRetirable(number).ok() || number == state_.previously_active()) continue;
    const auto loaded = loaded_.find(number);
    if (loaded != loaded_.end() && !loaded->second.expired()) continue;
    if (++kept <= options_.keep_generations) continue;
    facts.push_back(RetiredFact(number));
    retired.push_back(number);
  }
  if (facts.empty()) return {};
  const absl::Status recorded = Record(facts);
  if (!recorded.ok()) {
    DOPPEL_LOG(kError, "old generations remain: ", recorded.ToString());
    return {};
  }
  for (const uint64_t number : retired) {
    infos_.erase(number);
    damaged_.erase(number);
    loaded_.erase(number);
  }
  return retired;
}

void GenerationManager::RemoveFiles(const std::vector<uint64_t>& numbers) {
  for (const uint64_t number : numbers) {
    // What remains is removed at the next start: the journal says that it is retired.
    const absl::Status removed = store_->Remove(number);
    if (!removed.ok()) DOPPEL_LOG(kWarning, "generation ", number, " is retired: ", removed.ToString());
    DOPPEL_LOG(kInfo, "retired generation ", number);
    v1::WatchResponse event;
    event.set_retired(number);
    events_.Add(std::move(event));
  }
}

absl::StatusOr<v1::GenerationInfo> GenerationManager::Pin(uint64_t number, bool pinned) {
  absl::MutexLock lock(&mutex_);
  if (number == 0) {
    return absl::InvalidArgumentError("generation: 0; name the generation to pin");
  }
  if (state_.published().count(number) == 0) {
    return absl::NotFoundError(absl::StrCat("generation ", number, " does not exist; list the generations"));
  }
  v1::GenerationInfo info;
  const auto found = infos_.find(number);
  if (found != infos_.end()) info = found->second;
  info.set_generation(number);
  if ((state_.pinned().count(number) > 0) != pinned) {
    RETURN_IF_ERROR(Record({PinnedFact(number, pinned)}));
    v1::WatchResponse event;
    *event.mutable_pinned() = WithState(info);
    events_.Add(std::move(event));
  }
  return WithState(info);
}

absl::StatusOr<v1::GenerationInfo> GenerationManager::PublishGuardList(uint64_t base,
                                                                       const GuardList& guard_list,
                                                                       const std::string& note) {
  RETURN_IF_ERROR(CheckGuardList(guard_list, *catalog_.Get()));
  absl::MutexLock deriving(&deriving_);
  ASSIGN_OR_RETURN(const std::shared_ptr<const Generation> from, GetGeneration(base));
  v1::GenerationInfo info = from->info();
  {
    absl::MutexLock lock(&mutex_);
    ASSIGN_OR_RETURN(reserved_number_, NextNumber());
    info.set_generation(reserved_number_);
  }
  const uint64_t number = info.generation();
  info.set_base(from->number());
  info.set_note(note);
  info.set_created_at(absl::FormatTime("%Y-%m-%d%ET%H:%M:%SZ", options_.clock->Now(), absl::UTCTimeZone()));
  RETURN_IF_ERROR(store_->Derive(from->number(), info, guard_list));
  absl::StatusOr<std::shared_ptr<const Generation>> derived = LoadFiles(number);
  std::vector<uint64_t> retired;
  {
    absl::MutexLock lock(&mutex_);
    const bool activate = state_.active() == from->number();
    if (!derived.ok()) {
      const absl::Status removed = store_->Remove(number);
      if (!removed.ok()) DOPPEL_LOG(kWarning, removed.ToString());
      return derived.status();
    }
    std::vector<v1::MinerUpdate> facts = {PublishedFact(number, from->number())};
    if (activate) facts.push_back(ActivatedFact(number));
    // After an error the facts may have reached the disk all the same: the files stay.
    RETURN_IF_ERROR(Record(facts));
    info = (*derived)->info();
    infos_[number] = info;
    loaded_[number] = *derived;
    v1::WatchResponse event;
    *event.mutable_published() = info;
    events_.Add(std::move(event));
    if (activate) Serve(*derived);
    info = WithState(info);
    DOPPEL_LOG(kInfo, "published generation ", number, " of ", from->number(), " with another guard list (",
               note, "): ", info.guarded_pairs(), " pairs, ", info.dropped_samples(), " samples");
    retired = RetireOld();
  }
  RemoveFiles(retired);
  return info;
}

absl::StatusOr<std::shared_ptr<const Generation>> GenerationManager::LoadWritten(uint64_t number) {
  ASSIGN_OR_RETURN(std::shared_ptr<const Generation> generation, LoadFiles(number));
  const std::shared_ptr<const Generation> active = active_.Get();
  if (active == nullptr || SameGuardList(active->guard_list(), generation->guard_list())) return generation;
  RETURN_IF_ERROR(store_->Derive(number, generation->info(), active->guard_list()));
  return LoadFiles(number);
}

}  // namespace doppel
