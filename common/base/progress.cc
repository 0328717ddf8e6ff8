#include "common/base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace doppel {
namespace {

constexpr absl::Duration kSilence = absl::Seconds(2);
constexpr absl::Duration kRedraw = absl::Milliseconds(100);
constexpr absl::Duration kLineInterval = absl::Seconds(5);
constexpr int kBarWidth = 24;

size_t TerminalWidth(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) return size.ws_col;
  return 80;
}

}  // namespace

struct Progress::Impl {
  Impl(Options given, const Clock& given_clock)
      : options(std::move(given)),
        clock(given_clock),
        terminal(!options.quiet && isatty(fileno(options.out)) == 1),
        start(clock.Now()),
        total(options.total) {}

  std::string Line(absl::Time now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const double seconds = absl::ToDoubleSeconds(now - start);
    const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
    std::string line = absl::StrCat(options.label, " ");
    if (total > 0) {
      const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
      if (terminal) {
        const int filled = static_cast<int>(share * kBarWidth);
        absl::StrAppend(&line, "[", std::string(filled, '#'), std::string(kBarWidth - filled, '.'), "] ");
      }
      absl::StrAppend(&line, absl::StrFormat("%3d%% ", static_cast<int>(share * 100)), FormatCount(done), "/",
                      FormatCount(total));
    } else {
      absl::StrAppend(&line, FormatCount(done));
    }
    absl::StrAppend(&line, " ", options.unit, ", ",
                    rate >= 10 ? FormatCount(std::llround(rate)) : absl::StrFormat("%.2g", rate), "/s, ");
    if (finished || total == 0 || rate <= 0) {
      absl::StrAppend(&line, doppel::FormatDuration(now - start));
    } else {
      absl::StrAppend(
          &line, "ETA ",
          doppel::FormatDuration(absl::Seconds(static_cast<double>(total - std::min(done, total)) / rate)));
    }
    if (!note.empty()) absl::StrAppend(&line, ", ", note);
    return line;
  }

  void Draw(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::string line = Line(now);
    if (terminal) {
      const size_t width = TerminalWidth(fileno(options.out)) - 1;
      if (line.size() > width) line.resize(width);
      line = absl::StrCat("\r", line, "\x1b[K", finished ? "\n" : "");
    } else {
      line.push_back('\n');
    }
    std::fwrite(line.data(), 1, line.size(), options.out);
    std::fflush(options.out);
    drawn = true;
    last = now;
  }

  void MaybeDraw() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (options.quiet || finished) return;
    const absl::Time now = clock.Now();
    if (now - start < kSilence) return;
    if (drawn && now - last < (terminal ? kRedraw : kLineInterval)) return;
    Draw(now);
  }

  const Options options;
  const Clock& clock;
  const bool terminal;
  const absl::Time start;

  absl::Mutex mutex;
  uint64_t total ABSL_GUARDED_BY(mutex);
  uint64_t done ABSL_GUARDED_BY(mutex) = 0;
  std::string note ABSL_GUARDED_BY(mutex);
  bool drawn ABSL_GUARDED_BY(mutex) = false;
  bool finished ABSL_GUARDED_BY(mutex) = false;
  absl::Time last ABSL_GUARDED_BY(mutex);
};

Progress::Progress(Options options, const Clock& clock)
    : impl_(std::make_unique<Impl>(std::move(options), clock)) {}

Progress::~Progress() { Finish(); }

void Progress::Add(uint64_t n) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->done += n;
  impl_->MaybeDraw();
}

void Progress::Set(uint64_t done) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->done = done;
  impl_->MaybeDraw();
}

void Progress::SetTotal(uint64_t total) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->total = total;
}

void Progress::SetNote(absl::string_view note) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->note = std::string(note);
}

void Progress::Finish() {
  absl::MutexLock lock(&impl_->mutex);
  if (impl_->finished) return;
  impl_->finished = true;
  if (impl_->options.quiet) return;
  const absl::Time now = impl_->clock.Now();
  if (impl_->drawn || now - impl_->start >= kSilence) impl_->Draw(now);
}

std::string FormatDuration(absl::Duration d) {
  if (d == absl::InfiniteDuration()) return "-";
  const int64_t seconds = std::max<int64_t>(0, absl::ToInt64Seconds(d));
  if (seconds >= 86400) return absl::StrFormat("%dd%02dh", seconds / 86400, seconds % 86400 / 3600);
  if (seconds >= 3600) return absl::StrFormat("%dh%02dm", seconds / 3600, seconds % 3600 / 60);
  if (seconds >= 60) return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  return absl::StrFormat("%ds", seconds);
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < sizeof(kUnits) / sizeof(kUnits[0])) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string FormatCount(uint64_t n) {
  const std::string digits = absl::StrCat(n);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out.push_back(' ');
    out.push_back(digits[i]);
  }
  return out;
}

}  // namespace doppel
