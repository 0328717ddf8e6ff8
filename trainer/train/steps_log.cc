#include "trainer/train/steps_log.h"

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

std::optional<uint64_t> StepOf(absl::string_view line) {
  constexpr absl::string_view kStart = "{\"step\":";
  if (!absl::StartsWith(line, kStart) || !absl::EndsWith(line, "}")) return std::nullopt;
  line.remove_prefix(kStart.size());
  size_t digits = 0;
  while (digits < line.size() && absl::ascii_isdigit(line[digits])) ++digits;
  uint64_t step = 0;
  if (!absl::SimpleAtoi(line.substr(0, digits), &step)) return std::nullopt;
  return step;
}

// Bytes of the whole lines up to `last_step`.
uint64_t BytesToKeep(absl::string_view text, uint64_t last_step) {
  size_t kept = 0;
  while (kept < text.size()) {
    const size_t end = text.find('\n', kept);
    if (end == absl::string_view::npos) break;
    const std::optional<uint64_t> step = StepOf(text.substr(kept, end - kept));
    if (!step.has_value() || *step > last_step) break;
    kept = end + 1;
  }
  return kept;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StepsLog>> StepsLog::Open(FileSystem& fs, const std::string& path,
                                                         uint64_t last_step) {
  if (fs.Exists(path)) {
    ASSIGN_OR_RETURN(const std::string text, fs.ReadFile(path));
    const uint64_t keep = BytesToKeep(text, last_step);
    if (keep < text.size()) RETURN_IF_ERROR(fs.Truncate(path, keep));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.OpenAppend(path));
  return std::unique_ptr<StepsLog>(new StepsLog(std::move(file)));
}

absl::Status StepsLog::Append(const std::string& line) { return file_->Append(line + "\n"); }

absl::Status StepsLog::Sync() { return file_->Sync(); }

}  // namespace doppel
