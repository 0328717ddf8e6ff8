#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace doppel {

// CRC-32C (Castagnoli, as in RFC 3720). Hardware instruction where there is one, table otherwise.
// Extend(Crc32c(a), b) == Crc32c(a + b).
uint32_t Crc32c(absl::string_view data);
uint32_t ExtendCrc32c(uint32_t crc, absl::string_view data);
// The table alone: what machines without the instruction run.
uint32_t ExtendCrc32cPortable(uint32_t crc, absl::string_view data);

}  // namespace doppel
