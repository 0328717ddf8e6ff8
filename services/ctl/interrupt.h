#pragma once

#include <csignal>

namespace doppel {

// Turns Ctrl-C into a question. While it lives, SIGINT is held back in this thread and in those started from
// it, so make it before anything that starts threads.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  // True once per Ctrl-C.
  bool Take() const;

 private:
  sigset_t interrupt_;
  sigset_t before_;
};

}  // namespace doppel
