#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace doppel {

// The real path (links resolved) of what a peer named, if it lies in one of the roots. `field` and `limit`
// are for messages: the request's field and the setting that holds the roots. PERMISSION_DENIED: it is
// outside, has a "..", or a link leads out; it says the same whether there is something or not. No roots:
// `path` as it is.
absl::StatusOr<std::string> ConfinePath(const std::string& path, const std::vector<std::string>& roots,
                                        const std::string& field, const std::string& limit);

}  // namespace doppel
