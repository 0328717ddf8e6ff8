#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace doppel {

// Counts bytes that are held for peers. Never refuses: who can wait asks IsFull first. Thread-safe; outlives
// its holds.
class MemoryBudget {
 public:
  using Hold = std::shared_ptr<void>;

  // limit 0: never full.
  explicit MemoryBudget(uint64_t limit) : limit_(limit) {}

  // Counted until the last copy of the hold is gone.
  Hold Take(uint64_t bytes) {
    held_ += bytes;
    return Hold(nullptr, [this, bytes](void*) { held_ -= bytes; });
  }
  uint64_t held() const { return held_; }
  bool IsFull() const { return limit_ > 0 && held_ >= limit_; }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> held_{0};
};

}  // namespace doppel
