#include "services/ctl/interrupt.h"

#include <ctime>

namespace doppel {

InterruptGuard::InterruptGuard() {
  sigemptyset(&interrupt_);
  sigaddset(&interrupt_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &interrupt_, &before_);
}

InterruptGuard::~InterruptGuard() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

bool InterruptGuard::Take() const {
  const timespec at_once{};
  return sigtimedwait(&interrupt_, nullptr, &at_once) == SIGINT;
}

}  // namespace doppel
