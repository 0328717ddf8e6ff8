#include "common/base/status_macros.h"

#include <gtest/gtest.h>

#include <memory>

namespace doppel {
namespace {

absl::Status Return(const absl::Status& status) {
  RETURN_IF_ERROR(status);
  return absl::InternalError("went on");
}

absl::StatusOr<int> AddOne(absl::StatusOr<int> value) {
  ASSIGN_OR_RETURN(const int x, value);
  return x + 1;
}

absl::StatusOr<int> Open(absl::StatusOr<std::unique_ptr<int>> value) {
  ASSIGN_OR_RETURN(const std::unique_ptr<int> p, std::move(value));
  return *p;
}

TEST(StatusMacrosTest, ReturnIfErrorReturnsTheError) {
  EXPECT_EQ(Return(absl::NotFoundError("x")), absl::NotFoundError("x"));
}

TEST(StatusMacrosTest, ReturnIfErrorGoesOnWhenOk) {
  EXPECT_EQ(Return(absl::OkStatus()), absl::InternalError("went on"));
}

TEST(StatusMacrosTest, AssignOrReturnAssigns) { EXPECT_EQ(*AddOne(1), 2); }

TEST(StatusMacrosTest, AssignOrReturnReturnsTheError) {
  EXPECT_EQ(AddOne(absl::DataLossError("y")).status(), absl::DataLossError("y"));
}

TEST(StatusMacrosTest, AssignOrReturnMoves) { EXPECT_EQ(*Open(std::make_unique<int>(3)), 3); }

}  // namespace
}  // namespace doppel
