#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace doppel {

// Pairs of identities that are probably one and the same, and samples that are probably mislabelled: what a
// generation's plans never use against each other. Immutable, thread-safe.
class GuardList {
 public:
  struct Pair {
    uint32_t first = 0;  // < second; catalog identity numbers
    uint32_t second = 0;
    bool operator==(const Pair& other) const { return first == other.first && second == other.second; }
    bool operator<(const Pair& other) const {
      return first != other.first ? first < other.first : second < other.second;
    }
  };

  GuardList() = default;
  // In any order, repetitions allowed. INVALID_ARGUMENT: a pair of an identity with itself.
  static absl::StatusOr<GuardList> Make(std::vector<Pair> pairs, std::vector<uint64_t> samples);

  // O(log partners).
  bool Guarded(uint64_t a, uint64_t b) const;
  // Never to be drawn. O(log samples).
  bool Dropped(uint64_t sample) const;
  // Of all guarded pairs of an identity the other one, ascending.
  absl::Span<const uint32_t> Partners(uint64_t identity) const;

  // Ascending, each once.
  const std::vector<Pair>& pairs() const { return pairs_; }
  const std::vector<uint64_t>& samples() const { return samples_; }
  bool empty() const { return pairs_.empty() && samples_.empty(); }

 private:
  std::vector<Pair> pairs_;
  std::vector<uint64_t> samples_;
  // Both directions, sorted by (identity, partner).
  std::vector<uint32_t> identities_;
  std::vector<uint32_t> partners_;
};

}  // namespace doppel
