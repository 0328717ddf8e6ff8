#include "common/base/process_environment.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/base/config.h"

namespace doppel {
namespace {

// Page faults of buffers that are made, filled and freed together, ten times after the first.
long FaultsOf(size_t bytes, size_t count) {
  const auto use = [&] {
    std::vector<void*> buffers;
    for (size_t i = 0; i < count; ++i) {
      buffers.push_back(std::malloc(bytes));
      std::memset(buffers.back(), 1, bytes);
      __asm__ volatile("" : : "r"(buffers.back()) : "memory");  // it is not to be optimised away
    }
    for (void* buffer : buffers) std::free(buffer);
  };
  const auto faults = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
  };
  use();
  const long before = faults();
  for (int i = 0; i < 10; ++i) use();
  return faults() - before;
}

TEST(ProcessEnvironmentTest, UnknownProcessorGetsTheBestKernelsItsFlagsAllow) {
  EXPECT_STREQ("SkylakeX", OpenBlasCoreFor("Prescott", true, true));
  EXPECT_STREQ("Haswell", OpenBlasCoreFor("Prescott", true, false));
}

TEST(ProcessEnvironmentTest, OldProcessorKeepsItsFallback) {
  EXPECT_STREQ("", OpenBlasCoreFor("Prescott", false, false));
}

TEST(ProcessEnvironmentTest, WhatOpenBlasKnowsIsLeftToIt) {
  EXPECT_STREQ("", OpenBlasCoreFor("Zen", true, false));
  EXPECT_STREQ("", OpenBlasCoreFor("SkylakeX", true, true));
  EXPECT_STREQ("", OpenBlasCoreFor("", true, true));
}

TEST(ProcessEnvironmentTest, BuffersOfMessagesKeepTheirPages) {
#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
  GTEST_SKIP() << "sanitizers have their own malloc";
#endif
  constexpr size_t kMessage = 2 << 20, kMessages = 12, kMatrix = 40 << 20;
  const long fresh = FaultsOf(kMessage, kMessages);
  KeepFreedMessages();
  EXPECT_LE(FaultsOf(kMessage, kMessages), fresh / 2);
  // What is large goes back.
  EXPECT_GE(FaultsOf(kMatrix, 1), 10);
}

TEST(ProcessEnvironmentTest, HeapInUseCountsWhatIsAllocatedNotWhatIsKept) {
#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
  GTEST_SKIP() << "sanitizers have their own malloc";
#endif
  constexpr size_t kSmall = 1 << 20, kCount = 16, kLarge = 64 << 20;
  const uint64_t before = HeapInUse();
  {
    std::vector<std::vector<char>> small(kCount, std::vector<char>(kSmall));
    const std::vector<char> large(kLarge);
    EXPECT_GE(HeapInUse() - before, kCount * kSmall + kLarge);
  }
  EXPECT_LT(HeapInUse(), before + kSmall);
}

}  // namespace
}  // namespace doppel
