#include "services/security/rate_limiter.h"

#include <algorithm>

namespace doppel {

bool RateLimiter::Allow(const std::string& client, absl::Time now) {
  if (per_second_ <= 0) return true;
  absl::MutexLock lock(&mutex_);
  if (buckets_.size() >= forget_at_) ForgetTheQuiet(now);
  Bucket& bucket = buckets_.try_emplace(client, Bucket{burst_, now}).first->second;
  const double since = std::max(0.0, absl::ToDoubleSeconds(now - bucket.filled));
  bucket.left = std::min(burst_, bucket.left + since * per_second_);
  bucket.filled = now;
  if (bucket.left < 1) return false;
  bucket.left -= 1;
  return true;
}

void RateLimiter::ForgetTheQuiet(absl::Time now) {
  const absl::Duration full = absl::Seconds(burst_ / per_second_);
  for (auto it = buckets_.begin(); it != buckets_.end();) {
    if (now - it->second.filled >= full) {
      buckets_.erase(it++);
    } else {
      ++it;
    }
  }
  forget_at_ = std::max<size_t>(1024, 2 * buckets_.size());
}

}  // namespace doppel
