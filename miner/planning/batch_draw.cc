#include "miner/planning/batch_draw.h"

#include <algorithm>

namespace doppel {
namespace {

constexpr uint64_t kNobody = ~uint64_t{0};

uint64_t Spread(uint64_t identity) { return identity * 0x9E3779B97F4A7C15ULL >> 20; }

}  // namespace

KeptPositions::KeptPositions(uint64_t n, const std::vector<uint64_t>& left_out) : size_(n - left_out.size()) {
  before_.reserve(left_out.size());
  for (uint64_t position : left_out) before_.push_back(position - before_.size());
}

uint64_t KeptPositions::operator()(uint64_t i) const {
  if (before_.empty()) return i;
  return i + static_cast<uint64_t>(std::upper_bound(before_.begin(), before_.end(), i) - before_.begin());
}

BatchDraw::BatchDraw(const GuardList& guard_list, uint64_t most)
    : guard_list_(guard_list), guarded_(!guard_list.pairs().empty()), mask_(8) {
  while (mask_ < 2 * most) mask_ *= 2;
  table_.assign(mask_, kNobody);
  --mask_;
}

bool BatchDraw::Holds(uint64_t identity) const {
  for (uint64_t i = Spread(identity) & mask_; table_[i] != kNobody; i = (i + 1) & mask_) {
    if (table_[i] == identity) return true;
  }
  return false;
}

bool BatchDraw::Fits(uint64_t identity) const {
  if (Holds(identity)) return false;
  if (!guarded_) return true;
  const absl::Span<const uint32_t> partners = guard_list_.Partners(identity);
  return std::none_of(partners.begin(), partners.end(), [&](uint32_t partner) { return Holds(partner); });
}

bool BatchDraw::Add(uint64_t identity) {
  if (!Fits(identity)) return false;
  uint64_t i = Spread(identity) & mask_;
  while (table_[i] != kNobody) i = (i + 1) & mask_;
  table_[i] = identity;
  return true;
}

uint64_t SureToFit(uint64_t identities, const std::vector<GuardList::Pair>& pairs) {
  std::vector<uint32_t> named;
  named.reserve(2 * pairs.size());
  for (const GuardList::Pair& pair : pairs) {
    named.push_back(pair.first);
    named.push_back(pair.second);
  }
  std::sort(named.begin(), named.end());
  named.erase(std::unique(named.begin(), named.end()), named.end());
  std::vector<size_t> parent(named.size());
  for (size_t i = 0; i < parent.size(); ++i) parent[i] = i;
  const auto root = [&](uint32_t identity) {
    size_t i = static_cast<size_t>(std::lower_bound(named.begin(), named.end(), identity) - named.begin());
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  for (const GuardList::Pair& pair : pairs) {
    const size_t a = root(pair.first), b = root(pair.second);
    if (a == b) continue;
    parent[std::max(a, b)] = std::min(a, b);
    --identities;
  }
  return identities;
}

}  // namespace doppel
