#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/progress.h"
#include "examples/glyphs/fonts.h"

namespace doppel::glyphs {

// A code point drawn in one typeface: what its pixels hash to, and where the PNG lies.
struct Rendering {
  int typeface = 0;
  std::pair<uint64_t, uint64_t> hash;  // XXH3-128 of the pixels
  int spill = 0;
  uint64_t offset = 0;
  uint32_t size = 0;
};

struct Identity {
  uint32_t code_point = 0;
  std::vector<Rendering> renderings;  // by typeface
};

// Fewer typefaces than this make no identity.
inline constexpr size_t kMinTypefaces = 3;

// Draws on several threads. The PNGs wait in unnamed files of the scratch folder, so that memory stays small:
// 32 bytes and a few per rendering.
class Renderings {
 public:
  struct Options {
    std::string fonts_root;
    std::string scratch;
    int size = 48;
    int threads = 1;
  };
  static absl::StatusOr<std::unique_ptr<Renderings>> Create(const std::vector<TypefaceSpec>& typefaces,
                                                            Options options);
  ~Renderings();

  // Code points (ascending) that at least kMinTypefaces typefaces say they have.
  std::vector<uint32_t> Candidates() const;
  // Those of `code_points` with at least kMinTypefaces visible renderings, in the order given. `progress`
  // gets one per code point.
  absl::StatusOr<std::vector<Identity>> Draw(absl::Span<const uint32_t> code_points, Progress& progress);
  // Thread-safe, but not during Draw.
  absl::StatusOr<std::string> ReadPng(const Rendering& rendering) const;

 private:
  struct Worker;
  explicit Renderings(Options options);
  const Options options_;
  int num_typefaces_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace doppel::glyphs
