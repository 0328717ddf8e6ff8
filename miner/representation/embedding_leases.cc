#include "miner/representation/embedding_leases.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"

namespace doppel {

EmbeddingLeases::EmbeddingLeases(IdentityRange all, IdentityRanges committed, Options options,
                                 const Clock& clock)
    : all_(all),
      options_(options),
      clock_(clock),
      committed_(std::move(committed)),
      next_id_(static_cast<uint64_t>(std::max<int64_t>(1, absl::ToUnixMicros(clock.Now())))) {
  for (const IdentityRange& range : committed_.Missing(all_)) pending_.push_back(range);
}

std::optional<EmbeddingLeases::Lease> EmbeddingLeases::Acquire(absl::string_view worker) {
  Expire();
  while (!pending_.empty()) {
    const IdentityRange front = pending_.front();
    pending_.pop_front();
    // A straggler may have committed some of it meanwhile.
    ReturnToPending(front);
    if (pending_.empty() || pending_.front().first >= front.end() || pending_.front().first < front.first)
      continue;
    IdentityRange& rest = pending_.front();
    const IdentityRange range = {rest.first,
                                 std::min(rest.count, std::max<uint64_t>(1, options_.lease_identities))};
    rest.first += range.count;
    rest.count -= range.count;
    if (rest.count == 0) pending_.pop_front();
    const uint64_t id = next_id_++;
    held_[id] = {range, clock_.Now() + options_.duration, std::string(worker)};
    return Lease{id, range};
  }
  return std::nullopt;
}

absl::Status EmbeddingLeases::Renew(uint64_t id) {
  Expire();
  const auto it = held_.find(id);
  if (it == held_.end()) {
    return absl::NotFoundError(absl::StrCat("lease ", id, " has expired or was committed; drop its work"));
  }
  it->second.expires = clock_.Now() + options_.duration;
  return absl::OkStatus();
}

uint64_t EmbeddingLeases::Commit(IdentityRange range) {
  const uint64_t added = committed_.Add(range);
  for (auto it = held_.begin(); it != held_.end();) {
    it = committed_.Contains(it->second.range) ? held_.erase(it) : std::next(it);
  }
  return added;
}

size_t EmbeddingLeases::open_leases() {
  Expire();
  return held_.size();
}

void EmbeddingLeases::Expire() {
  const absl::Time now = clock_.Now();
  for (auto it = held_.begin(); it != held_.end();) {
    if (it->second.expires > now) {
      ++it;
      continue;
    }
    DOPPEL_LOG(kWarning, "lease ", it->first, " of ", it->second.worker, " on identities [",
               it->second.range.first, ", ", it->second.range.end(), ") expired; leasing it anew");
    ReturnToPending(it->second.range);
    it = held_.erase(it);
  }
}

void EmbeddingLeases::ReturnToPending(IdentityRange range) {
  const std::vector<IdentityRange> missing = committed_.Missing(range);
  pending_.insert(pending_.begin(), missing.begin(), missing.end());
}

}  // namespace doppel
