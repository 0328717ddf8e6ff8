#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "common/base/philox.h"
#include "miner/cleaning/guard_list.h"

namespace doppel {

// [0, n) without some positions, counted anew: O(log) of those that are left out, and nothing without any.
class KeptPositions {
 public:
  KeptPositions() = default;
  // `left_out`: ascending, each once, below n.
  KeptPositions(uint64_t n, const std::vector<uint64_t>& left_out);

  uint64_t size() const { return size_; }
  // The i-th that is kept, i < size().
  uint64_t operator()(uint64_t i) const;

 private:
  uint64_t size_ = 0;
  std::vector<uint64_t> before_;  // of each left out position, how many kept ones come before it
};

// Random numbers one after the other, a pure function of the key.
class DrawStream {
 public:
  explicit DrawStream(uint64_t key) : philox_(key) {}
  // In [0, bound), bound ≤ 2^32: the bias is below bound / 2^32.
  uint64_t Below(uint64_t bound) { return uint64_t{Next()} * bound >> 32; }
  uint32_t Next() {
    if (used_ == numbers_.size()) Refill();
    return numbers_[used_++];
  }

 private:
  static constexpr uint32_t kAtOnce = 8;  // blocks, which together cost little more than one

  void Refill() {
    philox_.Blocks(next_block_, kAtOnce, numbers_.data());
    next_block_ += kAtOnce;
    used_ = 0;
  }

  Philox philox_;
  uint32_t next_block_ = 0;
  std::array<uint32_t, size_t{4} * kAtOnce> numbers_;
  size_t used_ = numbers_.size();
};

// The identities of a batch as they are drawn: none twice, no two that the guard list keeps apart.
class BatchDraw {
 public:
  // `most`: identities that will be added. The guard list must outlive this.
  BatchDraw(const GuardList& guard_list, uint64_t most);

  // Neither in the batch nor guarded against one that is.
  bool Fits(uint64_t identity) const;
  // True if it fits and so has been added.
  bool Add(uint64_t identity);

  // Adds one of the `size` identities pool(0), pool(1), … that fits: at random, and if eight of them do not
  // fit, the first from a random place on that does. Terminates early: only those stand in the way that are
  // in the batch, or guarded against it. False if none fits.
  template <typename Pool>
  bool AddFrom(uint64_t size, const Pool& pool, DrawStream* random, uint64_t* identity) {
    constexpr int kTries = 8;
    for (int i = 0; i < kTries && size > 0; ++i) {
      *identity = pool(random->Below(size));
      if (Add(*identity)) return true;
    }
    const uint64_t start = size == 0 ? 0 : random->Below(size);
    for (uint64_t i = 0; i < size; ++i) {
      *identity = pool((start + i) % size);
      if (Add(*identity)) return true;
    }
    return false;
  }

 private:
  bool Holds(uint64_t identity) const;

  const GuardList& guard_list_;
  const bool guarded_;
  uint64_t mask_;
  std::vector<uint64_t> table_;  // open addressing
};

// A batch of this many of `identities` identities can always be completed, whichever of them stand in it
// already: there are so many groups in which none may meet another, directly or through others, or places
// enough beside all partners of the most guarded. `pairs`: those within the identities.
uint64_t SureToFit(uint64_t identities, const std::vector<GuardList::Pair>& pairs);

}  // namespace doppel
