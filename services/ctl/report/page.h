#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace doppel::report {

// The whole document around `body` (HTML): style for light and dark, wide and narrow; no script, no request.
std::string Page(absl::string_view title, absl::string_view body);

}  // namespace doppel::report
