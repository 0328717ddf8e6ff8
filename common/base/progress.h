#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "common/base/clock.h"

namespace doppel {

// A progress bar with rate and ETA on a terminal, plain lines (at most one every 5 s) elsewhere, nothing for
// work that ends within two seconds. Writes to `out` (stderr by default). Thread-safe.
class Progress {
 public:
  struct Options {
    std::string label;   // "import"
    std::string unit;    // "samples"
    uint64_t total = 0;  // 0: unknown
    std::FILE* out = stderr;
    bool quiet = false;
  };
  explicit Progress(Options options, const Clock& clock = Clock::Real());
  ~Progress();  // finishes the line

  void Add(uint64_t n);
  void Set(uint64_t done);
  void SetTotal(uint64_t total);
  // Text behind the numbers, for example "loss 0.41".
  void SetNote(absl::string_view note);
  void Finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// "1h02m", "3m20s", "12s". Call it as doppel::FormatDuration: the argument brings absl's into sight as well.
std::string FormatDuration(absl::Duration d);
// "1.2 GB".
std::string FormatBytes(uint64_t bytes);
// 101740 → "101 740".
std::string FormatCount(uint64_t n);

}  // namespace doppel
