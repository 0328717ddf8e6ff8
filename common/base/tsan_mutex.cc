// Built with -fsanitize=thread only. Debian's Abseil is a shared library that was not built with the
// sanitizer, so its mutexes would order nothing in the sanitizer's eyes, and every access that they guard
// would be reported as a race. The functions here stand before the library's own (symbols of the executable
// go first), tell the sanitizer, and call on. Conditions are evaluated here, by polling: the library
// evaluates them on whatever thread unlocks.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdlib>
#include <string>

#include "absl/base/options.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

#define DOPPEL_STRING_INNER(x) #x
#define DOPPEL_STRING(x) DOPPEL_STRING_INNER(x)
// The next definition of a function: the library's.
#define DOPPEL_REAL(type, ...) \
  static const auto real = reinterpret_cast<type>(doppel::RealFunction(__VA_ARGS__))

namespace doppel {
namespace {

constexpr absl::Duration kPoll = absl::Microseconds(200);
constexpr unsigned kRead = __tsan_mutex_read_lock;
constexpr unsigned kTry = __tsan_mutex_try_lock;

// `suffix`: the mangled name behind the namespace; `prefix`: what stands before it.
void* RealFunction(const char* suffix, const char* prefix = "_ZN") {
  std::string name = std::string(prefix) + "4absl";
#if ABSL_OPTION_USE_INLINE_NAMESPACE
  const std::string version = DOPPEL_STRING(ABSL_OPTION_INLINE_NAMESPACE_NAME);
  name += std::to_string(version.size()) + version;
#endif
  void* function = dlsym(RTLD_NEXT, (name + suffix).c_str());
  if (function == nullptr) abort();  // another Abseil than the one that this file was written for
  return function;
}

}  // namespace
}  // namespace doppel

namespace absl {
ABSL_NAMESPACE_BEGIN

using MutexFunction = void (*)(Mutex*);
using TryFunction = bool (*)(Mutex*);

void Mutex::Lock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DOPPEL_REAL(MutexFunction, "5Mutex4LockEv");
  __tsan_mutex_pre_lock(this, 0);
  real(this);
  __tsan_mutex_post_lock(this, 0, 0);
}

void Mutex::Unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DOPPEL_REAL(MutexFunction, "5Mutex6UnlockEv");
  __tsan_mutex_pre_unlock(this, 0);
  real(this);
  __tsan_mutex_post_unlock(this, 0);
}

bool Mutex::TryLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DOPPEL_REAL(TryFunction, "5Mutex7TryLockEv");
  __tsan_mutex_pre_lock(this, doppel::kTry);
  const bool locked = real(this);
  __tsan_mutex_post_lock(this, doppel::kTry | (locked ? 0 : __tsan_mutex_try_lock_failed), 0);
  return locked;
}

void Mutex::ReaderLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DOPPEL_REAL(MutexFunction, "5Mutex10ReaderLockEv");
  __tsan_mutex_pre_lock(this, doppel::kRead);
  real(this);
  __tsan_mutex_post_lock(this, doppel::kRead, 0);
}

void Mutex::ReaderUnlock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DOPPEL_REAL(MutexFunction, "5Mutex12ReaderUnlockEv");
  __tsan_mutex_pre_unlock(this, doppel::kRead);
  real(this);
  __tsan_mutex_post_unlock(this, doppel::kRead);
}

bool Mutex::ReaderTryLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  DOPPEL_REAL(TryFunction, "5Mutex13ReaderTryLockEv");
  constexpr unsigned kFlags = doppel::kRead | doppel::kTry;
  __tsan_mutex_pre_lock(this, kFlags);
  const bool locked = real(this);
  __tsan_mutex_post_lock(this, kFlags | (locked ? 0 : __tsan_mutex_try_lock_failed), 0);
  return locked;
}

// Await is for exclusive locks here: a reader cannot be told from a writer.
bool Mutex::AwaitWithDeadline(const Condition& cond, Time deadline) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  while (!cond.Eval()) {
    if (absl::Now() >= deadline) return false;
    Unlock();
    absl::SleepFor(doppel::kPoll);
    Lock();
  }
  return true;
}

void Mutex::Await(const Condition& cond) { AwaitWithDeadline(cond, InfiniteFuture()); }

bool Mutex::AwaitWithTimeout(const Condition& cond, Duration timeout) {
  return AwaitWithDeadline(cond, absl::Now() + timeout);
}

bool Mutex::LockWhenWithDeadline(const Condition& cond, Time deadline) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Lock();
  return AwaitWithDeadline(cond, deadline);
}

void Mutex::LockWhen(const Condition& cond) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  LockWhenWithDeadline(cond, InfiniteFuture());
}

bool Mutex::LockWhenWithTimeout(const Condition& cond, Duration timeout) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  return LockWhenWithDeadline(cond, absl::Now() + timeout);
}

bool Mutex::ReaderLockWhenWithDeadline(const Condition& cond, Time deadline) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  ReaderLock();
  while (!cond.Eval()) {
    if (absl::Now() >= deadline) return false;
    ReaderUnlock();
    absl::SleepFor(doppel::kPoll);
    ReaderLock();
  }
  return true;
}

void Mutex::ReaderLockWhen(const Condition& cond) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  ReaderLockWhenWithDeadline(cond, InfiniteFuture());
}

bool Mutex::ReaderLockWhenWithTimeout(const Condition& cond,
                                      Duration timeout) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  return ReaderLockWhenWithDeadline(cond, absl::Now() + timeout);
}

void CondVar::Wait(Mutex* mu) {
  using Function = void (*)(CondVar*, Mutex*);
  DOPPEL_REAL(Function, "7CondVar4WaitEPNS0_5MutexE");
  __tsan_mutex_pre_unlock(mu, 0);
  __tsan_mutex_post_unlock(mu, 0);
  __tsan_mutex_pre_lock(mu, 0);
  real(this, mu);
  __tsan_mutex_post_lock(mu, 0, 0);
}

// The library's WaitWithTimeout calls its WaitWithDeadline, so only the latter may be the one that calls on.
bool CondVar::WaitWithDeadline(Mutex* mu, Time deadline) {
  using Function = bool (*)(CondVar*, Mutex*, Time);
  DOPPEL_REAL(Function, "7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  __tsan_mutex_pre_unlock(mu, 0);
  __tsan_mutex_post_unlock(mu, 0);
  __tsan_mutex_pre_lock(mu, 0);
  const bool late = real(this, mu, deadline);
  __tsan_mutex_post_lock(mu, 0, 0);
  return late;
}

bool CondVar::WaitWithTimeout(Mutex* mu, Duration timeout) {
  return WaitWithDeadline(mu, timeout == InfiniteDuration() ? InfiniteFuture() : absl::Now() + timeout);
}

void Notification::Notify() {
  using Function = void (*)(Notification*);
  DOPPEL_REAL(Function, "12Notification6NotifyEv");
  __tsan_release(this);
  real(this);
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  using Function = bool (*)(const Notification*, Duration);
  DOPPEL_REAL(Function, "12Notification30WaitForNotificationWithTimeoutENS0_8DurationE", "_ZNK");
  const bool notified = real(this, timeout);
  __tsan_acquire(const_cast<Notification*>(this));
  return notified;
}

bool Notification::WaitForNotificationWithDeadline(Time deadline) const {
  return WaitForNotificationWithTimeout(deadline - absl::Now());
}

void Notification::WaitForNotification() const { WaitForNotificationWithTimeout(InfiniteDuration()); }

bool BlockingCounter::DecrementCount() {
  using Function = bool (*)(BlockingCounter*);
  DOPPEL_REAL(Function, "15BlockingCounter14DecrementCountEv");
  __tsan_release(this);
  return real(this);
}

void BlockingCounter::Wait() {
  using Function = void (*)(BlockingCounter*);
  DOPPEL_REAL(Function, "15BlockingCounter4WaitEv");
  real(this);
  __tsan_acquire(this);
}

ABSL_NAMESPACE_END
}  // namespace absl
