#include "common/base/process_environment.h"

#include <dlfcn.h>
#include <malloc.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>

#include "common/base/log.h"

namespace doppel {
namespace {

// Looked up at run time: only some binaries link OpenBLAS, and this library should not make more of them do
// so.
const char* DetectedOpenBlasCore() {
  using CoreName = char* (*)();
  void* symbol = dlsym(RTLD_DEFAULT, "openblas_get_corename");
  return symbol == nullptr ? "" : reinterpret_cast<CoreName>(symbol)();
}

bool SetIfAbsent(const char* name, const char* value) {
  return *value != '\0' && std::getenv(name) == nullptr && setenv(name, value, 1) == 0;
}

}  // namespace

const char* OpenBlasCoreFor(const char* detected, bool has_avx2, bool has_avx512) {
  if (std::strcmp(detected, "Prescott") != 0 || !has_avx2) return "";
  return has_avx512 ? "SkylakeX" : "Haswell";
}

void KeepFreedMemory() {
  constexpr int kNever = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kNever);
  mallopt(M_TRIM_THRESHOLD, kNever);
}

void KeepFreedMessages() {
  mallopt(M_MMAP_THRESHOLD, 16 << 20);
  mallopt(M_TRIM_THRESHOLD, 32 << 20);
}

uint64_t HeapInUse() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

void RestartWithComputeEnvironment(char** argv) {
  bool changed = SetIfAbsent("OMP_WAIT_POLICY", "passive");
#if defined(__x86_64__)
  const bool avx512 = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
                      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  changed |= SetIfAbsent("OPENBLAS_CORETYPE", OpenBlasCoreFor(DetectedOpenBlasCore(),
                                                              __builtin_cpu_supports("avx2") != 0, avx512));
#endif
  if (!changed) return;
  char path[PATH_MAX + 1] = "";
  const ssize_t size = readlink("/proc/self/exe", path, PATH_MAX);
  if (size > 0) execv(path, argv);
  DOPPEL_LOG(kWarning, "cannot restart with OMP_WAIT_POLICY=passive: set it in the environment");
}

}  // namespace doppel
