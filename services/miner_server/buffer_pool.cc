#include "services/miner_server/buffer_pool.h"

#include <algorithm>
#include <utility>

namespace doppel {
namespace {

constexpr size_t kSmallestBuffer = size_t{64} << 10;

}  // namespace

BufferPool::Buffer::Buffer(std::shared_ptr<BufferPool> pool, std::unique_ptr<char[]> data, size_t capacity)
    : pool_(std::move(pool)), data_(std::move(data)), capacity_(capacity) {}

BufferPool::Buffer::~Buffer() { pool_->Return(std::move(data_), capacity_); }

std::shared_ptr<BufferPool> BufferPool::Create(size_t max_idle_bytes) {
  return std::shared_ptr<BufferPool>(new BufferPool(max_idle_bytes));
}

std::unique_ptr<BufferPool::Buffer> BufferPool::Take(size_t size) {
  // Rounded, so that messages of about the same size share.
  size_t capacity = kSmallestBuffer;
  while (capacity < size) capacity += std::max(kSmallestBuffer, capacity / 4);
  {
    absl::MutexLock lock(&mutex_);
    // The last one returned is the one most likely still in the cache.
    for (auto idle = idle_.rbegin(); idle != idle_.rend(); ++idle) {
      if (idle->capacity != capacity) continue;
      std::unique_ptr<char[]> data = std::move(idle->data);
      idle_bytes_ -= capacity;
      idle_.erase(std::next(idle).base());
      return std::make_unique<Buffer>(shared_from_this(), std::move(data), capacity);
    }
  }
  return std::make_unique<Buffer>(shared_from_this(), std::unique_ptr<char[]>(new char[capacity]), capacity);
}

size_t BufferPool::idle_bytes() const {
  absl::MutexLock lock(&mutex_);
  return idle_bytes_;
}

void BufferPool::Return(std::unique_ptr<char[]> data, size_t capacity) {
  std::vector<Idle> dropped;  // freed after the lock
  absl::MutexLock lock(&mutex_);
  if (capacity > max_idle_bytes_) return;
  // The oldest make room: sizes that are no longer asked for do not stay.
  while (idle_bytes_ + capacity > max_idle_bytes_) {
    idle_bytes_ -= idle_.front().capacity;
    dropped.push_back(std::move(idle_.front()));
    idle_.erase(idle_.begin());
  }
  idle_.push_back({std::move(data), capacity});
  idle_bytes_ += capacity;
}

}  // namespace doppel
