#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace doppel {

// Memory of messages, used again: fresh memory of this size comes from the kernel page by page, which costs
// as much as filling it. Keeps at most `max_idle_bytes` that nobody uses. Thread-safe; buffers may outlive
// it.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  // Returns to the pool when it goes.
  class Buffer {
   public:
    Buffer(std::shared_ptr<BufferPool> pool, std::unique_ptr<char[]> data, size_t capacity);
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    char* data() const { return data_.get(); }

   private:
    const std::shared_ptr<BufferPool> pool_;
    std::unique_ptr<char[]> data_;
    const size_t capacity_;
  };

  static std::shared_ptr<BufferPool> Create(size_t max_idle_bytes = size_t{64} << 20);

  // At least `size` bytes, of undefined content.
  std::unique_ptr<Buffer> Take(size_t size);
  size_t idle_bytes() const;

 private:
  struct Idle {
    std::unique_ptr<char[]> data;
    size_t capacity = 0;
  };
  explicit BufferPool(size_t max_idle_bytes) : max_idle_bytes_(max_idle_bytes) {}
  void Return(std::unique_ptr<char[]> data, size_t capacity);

  const size_t max_idle_bytes_;
  mutable absl::Mutex mutex_;
  std::vector<Idle> idle_ ABSL_GUARDED_BY(mutex_);
  size_t idle_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace doppel
