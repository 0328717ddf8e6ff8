#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// The two macros of the project. Errors are values: `absl::Status` with what, where and what to do.

#define RETURN_IF_ERROR(expr)                      \
  do {                                             \
    absl::Status doppel_status = (expr);           \
    if (!doppel_status.ok()) return doppel_status; \
  } while (false)

#define DOPPEL_CONCAT_INNER(a, b) a##b
#define DOPPEL_CONCAT(a, b) DOPPEL_CONCAT_INNER(a, b)

// ASSIGN_OR_RETURN(auto x, F()): `lhs` must hold no unprotected comma.
#define ASSIGN_OR_RETURN(lhs, expr) DOPPEL_ASSIGN_OR_RETURN(DOPPEL_CONCAT(doppel_or_, __LINE__), lhs, expr)
#define DOPPEL_ASSIGN_OR_RETURN(statusor, lhs, expr) \
  auto statusor = (expr);                            \
  if (!statusor.ok()) return statusor.status();      \
  lhs = std::move(statusor).value()
