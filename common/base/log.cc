#include "common/base/log.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace doppel {
namespace {

struct Logger {
  std::shared_ptr<spdlog::logger> sink;
  std::string program;
  bool json = false;
};

std::shared_ptr<const Logger> MakeLogger(absl::string_view program, spdlog::level::level_enum level,
                                         bool json) {
  auto logger = std::make_shared<Logger>();
  logger->program = std::string(program);
  logger->json = json;
  logger->sink =
      std::make_shared<spdlog::logger>("doppel", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  const char* pattern =
      json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})" : "%Y-%m-%dT%H:%M:%S.%eZ %L %v";
  logger->sink->set_formatter(
      std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc));
  logger->sink->set_level(level);
  logger->sink->flush_on(spdlog::level::trace);
  return logger;
}

// The one logger of the process, replaced whole by SetupLogging.
class Holder {
 public:
  std::shared_ptr<const Logger> Get() {
    absl::MutexLock lock(&mutex_);
    return logger_;
  }
  void Set(std::shared_ptr<const Logger> logger) {
    absl::MutexLock lock(&mutex_);
    std::swap(logger_, logger);
  }

 private:
  absl::Mutex mutex_;
  std::shared_ptr<const Logger> logger_ ABSL_GUARDED_BY(mutex_) = MakeLogger("doppel", spdlog::level::info,
                                                                             false);
};

Holder& TheHolder() {
  static Holder& holder = *new Holder;  // never destroyed: threads may log while the process ends
  return holder;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::string JsonString(absl::string_view text) {
  return nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::string_view BaseName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

absl::Status SetupLogging(absl::string_view program, absl::string_view level, absl::string_view format) {
  spdlog::level::level_enum threshold = spdlog::level::info;
  if (level == "debug") {
    threshold = spdlog::level::debug;
  } else if (level == "warning") {
    threshold = spdlog::level::warn;
  } else if (level == "error") {
    threshold = spdlog::level::err;
  } else if (level != "info") {
    return absl::InvalidArgumentError(
        absl::StrCat("log level \"", level, "\": expected debug, info, warning or error"));
  }
  if (format != "text" && format != "json") {
    return absl::InvalidArgumentError(absl::StrCat("log format \"", format, "\": expected text or json"));
  }
  TheHolder().Set(MakeLogger(program, threshold, format == "json"));
  return absl::OkStatus();
}

void Log(LogLevel level, absl::string_view file, int line, absl::string_view message) {
  const std::shared_ptr<const Logger> logger = TheHolder().Get();
  if (!logger->sink->should_log(ToSpdlog(level))) return;
  const std::string source = absl::StrCat(BaseName(file), ":", line);
  const std::string text =
      logger->json ? absl::StrCat("\"program\":", JsonString(logger->program),
                                  ",\"source\":", JsonString(source), ",\"message\":", JsonString(message))
                   : absl::StrCat(logger->program, " ", source, "] ", message);
  logger->sink->log(ToSpdlog(level), spdlog::string_view_t(text.data(), text.size()));
}

}  // namespace doppel
