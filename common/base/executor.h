#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace doppel {

// Runs closures. Schedule never blocks on the closure; closures run in any order. Thread-safe.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual void Schedule(std::function<void()> work) = 0;
};

// `threads` == 0 runs inline in Schedule (for tests). The destructor finishes what was scheduled and joins.
std::unique_ptr<Executor> MakeThreadPool(int threads);

// body(begin, end) over disjoint chunks of [0, n) of at most `grain`, on `threads` threads (the caller's
// included); returns when all are done. Which thread takes which chunk is not defined, the chunk borders are.
void ParallelFor(int64_t n, int64_t grain, int threads, const std::function<void(int64_t, int64_t)>& body);

}  // namespace doppel
