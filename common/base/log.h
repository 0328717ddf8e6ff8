#pragma once

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace doppel {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// To be called once, in main. level: debug|info|warning|error; format: text|json. Logs go to stderr.
absl::Status SetupLogging(absl::string_view program, absl::string_view level, absl::string_view format);

// Thread-safe. Before SetupLogging: text at info level.
void Log(LogLevel level, absl::string_view file, int line, absl::string_view message);

}  // namespace doppel

// DOPPEL_LOG(kInfo, "imported ", n, " samples"): arguments as of absl::StrCat. Prefixed: torch defines LOG.
#define DOPPEL_LOG(level, ...) \
  ::doppel::Log(::doppel::LogLevel::level, __FILE__, __LINE__, ::absl::StrCat(__VA_ARGS__))
