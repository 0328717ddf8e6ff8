#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace doppel::glyphs {

// Tar archives (POSIX ustar) that depend on their content alone: time 0, owner 0, mode 0644.
// Name: at most 100 bytes.
void AppendTarFile(absl::string_view name, absl::string_view data, std::string& tar);
// The two blocks of zeros at the end.
void AppendTarEnd(std::string& tar);

}  // namespace doppel::glyphs
