#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

// The framing of RecordIO (.rec): each part is u32 magic, u32 (3 bits cflag, 29 bits length), the bytes, and
// padding to 4. cflag 0 is a whole record; 1, 2, 3 are the first, middle and last part of one that holds the
// magic at a multiple of 4: the magic stands between its parts and is not written.
inline constexpr uint32_t kRecordMagic = 0xced7230a;

struct RecordPart {
  uint32_t cflag = 0;
  uint64_t offset = 0;  // of the bytes
  uint64_t size = 0;
  uint64_t end = 0;  // where the next part begins; never beyond the file
};

// INVALID_ARGUMENT: no magic there. OUT_OF_RANGE: it ends beyond the file.
absl::StatusOr<RecordPart> ReadRecordPart(absl::string_view file, uint64_t offset);

struct JoinedRecord {
  std::string payload;
  uint64_t end = 0;
};

// The record in parts whose first one begins at `offset`. Errors as above; INVALID_ARGUMENT if the parts do
// not make a record.
absl::StatusOr<JoinedRecord> JoinRecordParts(absl::string_view file, uint64_t offset);

}  // namespace doppel
