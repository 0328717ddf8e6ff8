#include "common/catalog/readers/record_parts.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr uint64_t kPartHeader = 8;
constexpr uint32_t kWholeFlag = 0, kFirstFlag = 1, kMiddleFlag = 2, kLastFlag = 3;

uint32_t WordAt(absl::string_view file, uint64_t offset) {
  uint32_t word;
  std::memcpy(&word, file.data() + offset, sizeof(word));
  return word;
}

}  // namespace

absl::StatusOr<RecordPart> ReadRecordPart(absl::string_view file, uint64_t offset) {
  if (offset > file.size() || file.size() - offset < kPartHeader) {
    return absl::OutOfRangeError(
        absl::StrCat("the file ends after ", file.size(), " bytes, within a record's header"));
  }
  if (WordAt(file, offset) != kRecordMagic) return absl::InvalidArgumentError("no record's magic number");
  const uint32_t word = WordAt(file, offset + 4);
  RecordPart part;
  part.cflag = word >> 29;
  part.offset = offset + kPartHeader;
  part.size = word & ((1u << 29) - 1);
  if (part.size > file.size() - part.offset) {
    return absl::OutOfRangeError(absl::StrCat("the record has ", part.size, " bytes, the file ends after ",
                                              file.size() - part.offset));
  }
  // The padding of the very last one may be missing.
  part.end = std::min<uint64_t>(part.offset + (part.size + 3) / 4 * 4, file.size());
  return part;
}

absl::StatusOr<JoinedRecord> JoinRecordParts(absl::string_view file, uint64_t offset) {
  JoinedRecord record;
  record.end = offset;
  for (bool first = true;; first = false) {
    ASSIGN_OR_RETURN(const RecordPart part, ReadRecordPart(file, record.end));
    const bool fits = first ? part.cflag == kWholeFlag || part.cflag == kFirstFlag
                            : part.cflag == kMiddleFlag || part.cflag == kLastFlag;
    if (!fits) {
      return absl::InvalidArgumentError(absl::StrCat("a part with cflag ", part.cflag, " where ",
                                                     first ? "a record begins" : "a record goes on"));
    }
    if (!first) {
      record.payload.append(reinterpret_cast<const char*>(&kRecordMagic), sizeof(kRecordMagic));
    }
    record.payload.append(file.data() + part.offset, part.size);
    record.end = part.end;
    if (part.cflag == kWholeFlag || part.cflag == kLastFlag) return record;
  }
}

}  // namespace doppel
