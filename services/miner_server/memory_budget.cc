#include "services/miner_server/memory_budget.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

namespace doppel {
namespace {

// Each order of size is sixteen times the one below it, and the largest ends where the limit does.
constexpr uint64_t kStep = 16;

}  // namespace

size_t MemoryBudget::RoomOf(uint64_t bytes) const {
  size_t room = kRooms - 1;
  for (uint64_t most = limit_ / (2 * kStep); room > 0 && bytes <= most; most /= kStep) --room;
  return room;
}

bool MemoryBudget::Fits(const Room& room, uint64_t bytes) const {
  return limit_ == 0 || room.held == 0 || room.held + bytes <= limit_ / kRooms;
}

MemoryBudget::Hold MemoryBudget::Grant(size_t room, uint64_t bytes, std::weak_ptr<MemoryHolder> holder) {
  rooms_[room].held += bytes;
  const auto place = rooms_[room].holders.insert(rooms_[room].holders.end(), std::move(holder));
  return Hold(this, [this, room, bytes, place](void*) { Return(room, bytes, place); });
}

MemoryBudget::Grants MemoryBudget::GrantWaiting(size_t room) {
  Grants grants;
  std::deque<Waiter>& waiting = rooms_[room].waiting;
  while (!waiting.empty() && Fits(rooms_[room], waiting.front().bytes)) {
    Waiter& first = waiting.front();
    grants.emplace_back(std::move(first.granted), Grant(room, first.bytes, std::move(first.holder)));
    waiting.pop_front();
  }
  return grants;
}

void MemoryBudget::Take(uint64_t bytes, std::weak_ptr<MemoryHolder> holder, Granted granted) {
  Hold hold;
  {
    absl::MutexLock lock(&mutex_);
    const size_t room = RoomOf(bytes);
    if (closed_) return;
    if (!rooms_[room].waiting.empty() || !Fits(rooms_[room], bytes)) {
      rooms_[room].waiting.push_back({bytes, std::move(holder), std::move(granted)});
      return;
    }
    hold = Grant(room, bytes, std::move(holder));
  }
  granted(std::move(hold));
}

void MemoryBudget::Return(size_t room, uint64_t bytes,
                          std::list<std::weak_ptr<MemoryHolder>>::iterator holder) {
  Grants next;
  {
    absl::MutexLock lock(&mutex_);
    Room& here = rooms_[room];
    here.held -= bytes;
    here.holders.erase(holder);
    next = GrantWaiting(room);
  }
  for (auto& [granted, hold] : next) granted(std::move(hold));
}

uint64_t MemoryBudget::held() const {
  absl::MutexLock lock(&mutex_);
  uint64_t held = 0;
  for (const Room& room : rooms_) held += room.held;
  return held;
}

bool MemoryBudget::IsTight(uint64_t bytes) const {
  absl::MutexLock lock(&mutex_);
  const Room& room = rooms_[RoomOf(bytes)];
  if (limit_ == 0 || room.held == 0) return false;
  return !room.waiting.empty() || room.held + bytes > limit_ / kRooms / 2;
}

MemoryBudget::Grants MemoryBudget::ForgetThoseGone(size_t room, std::vector<Waiter>* gone) {
  std::deque<Waiter>& waiting = rooms_[room].waiting;
  const auto over = std::stable_partition(waiting.begin(), waiting.end(),
                                          [](const Waiter& one) { return !one.holder.expired(); });
  std::move(over, waiting.end(), std::back_inserter(*gone));
  waiting.erase(over, waiting.end());
  return GrantWaiting(room);
}

void MemoryBudget::AskForRoom() {
  std::vector<std::shared_ptr<MemoryHolder>> holders;
  std::vector<Waiter> gone;  // what they hold goes without the lock
  Grants next;
  {
    absl::MutexLock lock(&mutex_);
    for (size_t room = 0; room < kRooms; ++room) {
      Grants grants = ForgetThoseGone(room, &gone);
      std::move(grants.begin(), grants.end(), std::back_inserter(next));
      if (rooms_[room].waiting.empty()) continue;
      for (const std::weak_ptr<MemoryHolder>& one : rooms_[room].holders) {
        std::shared_ptr<MemoryHolder> holder = one.lock();
        if (holder != nullptr && (holders.empty() || holders.back() != holder))
          holders.push_back(std::move(holder));
      }
    }
  }
  for (auto& [granted, hold] : next) granted(std::move(hold));
  for (const std::shared_ptr<MemoryHolder>& holder : holders) holder->MakeRoom();
}

void MemoryBudget::Close() {
  std::array<std::deque<Waiter>, kRooms> gone;
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  for (size_t room = 0; room < kRooms; ++room) gone[room].swap(rooms_[room].waiting);
}

}  // namespace doppel
