#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace doppel {

// One parser, or the server, under bytes that nobody meant. `run` returns, whatever the bytes are: a crash, a
// sanitizer's finding, a hang or a broken promise (FuzzCheck) is the failure.
struct FuzzTarget {
  const char* name;
  const char* what;
  void (*run)(absl::string_view input);
};

// All of them. Each has a folder of seeds, corpus/<name>.
std::vector<FuzzTarget> FuzzTargets();

// By family; FuzzTargets puts them together.
absl::Span<const FuzzTarget> DataFuzzTargets();
absl::Span<const FuzzTarget> StateFuzzTargets();
absl::Span<const FuzzTarget> ServerFuzzTargets();

// The target called `name`; nullptr: there is none, and stderr says which there are.
const FuzzTarget* FindFuzzTarget(absl::string_view name);

// Aborts with `promise` on stderr if it does not hold.
void FuzzCheck(bool holds, const char* promise);

// Several strings in one input: each behind its length in two bytes, little endian; the last may be cut off.
class FuzzPieces {
 public:
  explicit FuzzPieces(absl::string_view input) : rest_(input) {}
  bool empty() const { return rest_.empty(); }
  // Empty at the end.
  std::string Next();

 private:
  absl::string_view rest_;
};

// A folder of this process, in memory where there is such a place; removed when it ends.
const std::string& FuzzFolder();
// Writes `bytes` to FuzzFolder()/name and returns that path.
std::string FuzzFile(const std::string& name, absl::string_view bytes);

}  // namespace doppel
