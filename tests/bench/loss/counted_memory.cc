#include "counted_memory.h"

#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <utility>

namespace doppel {
namespace {

std::atomic<int64_t> in_use{0}, peak{0};

void Count(int64_t bytes) {
  const int64_t now = in_use.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t most = peak.load(std::memory_order_relaxed);
  while (now > most && !peak.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
  }
}

struct Counted {
  c10::DataPtr data;
  int64_t bytes;
};

class CountingAllocator : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* inner) : inner_(inner) {}
  c10::DataPtr allocate(size_t bytes) const override {
    auto* const counted = new Counted{inner_->allocate(bytes), static_cast<int64_t>(bytes)};
    Count(counted->bytes);
    return {counted->data.get(), counted, &Free, c10::Device(c10::kCPU)};
  }

 private:
  static void Free(void* context) {
    auto* const counted = static_cast<Counted*>(context);
    Count(-counted->bytes);
    delete counted;
  }
  c10::Allocator* const inner_;
};

void* Allocate(size_t bytes) {
  void* const memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  Count(static_cast<int64_t>(malloc_usable_size(memory)));
  return memory;
}

void Release(void* memory) noexcept {
  if (memory == nullptr) return;
  Count(-static_cast<int64_t>(malloc_usable_size(memory)));
  std::free(memory);
}

}  // namespace

void StartCountingMemory() {
  static CountingAllocator allocator(c10::GetDefaultCPUAllocator());
  c10::SetCPUAllocator(&allocator, /*priority=*/100);
}

int64_t MemoryInUse() { return in_use.load(); }
int64_t MemoryPeak() { return peak.load(); }
void ResetMemoryPeak() { peak = in_use.load(); }

}  // namespace doppel

void* operator new(size_t bytes) { return doppel::Allocate(bytes); }
void* operator new[](size_t bytes) { return doppel::Allocate(bytes); }
void operator delete(void* memory) noexcept { doppel::Release(memory); }
void operator delete[](void* memory) noexcept { doppel::Release(memory); }
void operator delete(void* memory, size_t) noexcept { doppel::Release(memory); }
void operator delete[](void* memory, size_t) noexcept { doppel::Release(memory); }
