#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace doppel {

// Who holds memory for a peer.
class MemoryHolder {
 public:
  virtual ~MemoryHolder() = default;
  // Others wait for memory: let go of what nobody has asked for, and of a peer that does not read. From any
  // thread, without locks.
  virtual void MakeRoom() = 0;
};

// Bytes that are held for peers: never more than the limit, whatever is asked for. Large batches and small
// ones have room of their own, so that whoever holds many of one size stands in the way of those alone.
// Thread-safe; outlives its holds.
class MemoryBudget {
 public:
  // Counted until the last copy is gone.
  using Hold = std::shared_ptr<void>;
  // Called once, with or without a lock of the caller's held: must not block, nor call in here.
  using Granted = std::function<void(Hold)>;

  // limit 0: everything fits.
  explicit MemoryBudget(uint64_t limit) : limit_(limit) {}

  // `granted` is called when `bytes` fit: at once, or from whoever lets go, first come first served. What is
  // larger than its whole room goes alone.
  void Take(uint64_t bytes, std::weak_ptr<MemoryHolder> holder, Granted granted) ABSL_LOCKS_EXCLUDED(mutex_);

  uint64_t held() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Somebody waits for as much, or would soon: take no more than what is asked for right now.
  bool IsTight(uint64_t bytes) const ABSL_LOCKS_EXCLUDED(mutex_);
  // If somebody waits: asks those who hold as much to make room. Called now and then.
  void AskForRoom() ABSL_LOCKS_EXCLUDED(mutex_);
  // Who still waits is forgotten, and nobody waits from now on.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Waiter {
    uint64_t bytes = 0;
    std::weak_ptr<MemoryHolder> holder;
    Granted granted;
  };
  // Of batches of one order of size.
  struct Room {
    uint64_t held = 0;
    std::list<std::weak_ptr<MemoryHolder>> holders;
    std::deque<Waiter> waiting;
  };
  static constexpr size_t kRooms = 4;
  // To be called without the lock.
  using Grants = std::vector<std::pair<Granted, Hold>>;

  size_t RoomOf(uint64_t bytes) const;
  bool Fits(const Room& room, uint64_t bytes) const;
  Hold Grant(size_t room, uint64_t bytes, std::weak_ptr<MemoryHolder> holder)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Those who wait and fit, in their order.
  Grants GrantWaiting(size_t room) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Grants ForgetThoseGone(size_t room, std::vector<Waiter>* gone) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Return(size_t room, uint64_t bytes, std::list<std::weak_ptr<MemoryHolder>>::iterator holder)
      ABSL_LOCKS_EXCLUDED(mutex_);

  const uint64_t limit_;
  mutable absl::Mutex mutex_;
  std::array<Room, kRooms> rooms_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace doppel
