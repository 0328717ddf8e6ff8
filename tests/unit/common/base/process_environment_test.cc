#include "common/base/process_environment.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {

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

}  // namespace
}  // namespace doppel
