#include "trainer/stream/batch_assembler.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

absl::Status Unexpected(uint64_t cursor, absl::string_view what, uint64_t expected, uint64_t got) {
  return absl::InternalError(
      absl::StrCat("batch ", cursor, " of the stream: ", what, " is ", got, " where ", expected, " was due"));
}

absl::Status CheckWhole(const ReceivedBatch& batch) {
  const uint64_t samples =
      uint64_t{batch.header.identities_per_batch()} * batch.header.samples_per_identity();
  if (batch.samples.size() == samples) return absl::OkStatus();
  return Unexpected(batch.cursor(), "the number of samples", samples, batch.samples.size());
}

}  // namespace

absl::StatusOr<std::optional<ReceivedBatch>> BatchAssembler::Add(ReceivedBatch part) {
  const uint64_t cursor = part.cursor();
  if (stride_ == 0 && !joined_.has_value()) next_cursor_ = cursor;
  if (cursor != next_cursor_) return Unexpected(cursor, "the cursor", next_cursor_, cursor);
  const uint32_t index = part.header.part_index();
  const uint32_t due = joined_.has_value() ? joined_->header.part_index() + 1 : 0;
  if (index != due) return Unexpected(cursor, "the part", due, index);
  if (index >= part.header.part_count()) {
    return Unexpected(cursor, "the number of parts", index + 1, part.header.part_count());
  }
  if (!joined_.has_value()) {
    joined_ = std::move(part);
  } else {
    if (part.header.part_count() != joined_->header.part_count()) {
      return Unexpected(cursor, "the number of parts", joined_->header.part_count(),
                        part.header.part_count());
    }
    if (part.header.generation() != joined_->header.generation()) {
      return Unexpected(cursor, "the generation", joined_->header.generation(), part.header.generation());
    }
    joined_->header.set_part_index(index);
    joined_->wire_bytes += part.wire_bytes;
    const auto first = static_cast<uint32_t>(joined_->parts.size());
    for (ReceivedSample& sample : part.samples) sample.part += first;
    joined_->samples.insert(joined_->samples.end(), part.samples.begin(), part.samples.end());
    for (MessageBytes& bytes : part.parts) joined_->parts.push_back(std::move(bytes));
  }
  if (joined_->header.part_index() + 1 < joined_->header.part_count()) return std::optional<ReceivedBatch>();
  std::optional<ReceivedBatch> whole = std::move(joined_);
  joined_.reset();
  RETURN_IF_ERROR(CheckWhole(*whole));
  whole->header.set_part_index(0);
  whole->header.set_part_count(1);
  next_cursor_ += stride_;
  return whole;
}

}  // namespace doppel
