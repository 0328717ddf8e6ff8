#include "trainer/stream/batch_assembler.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

absl::Status Unexpected(uint64_t cursor, absl::string_view what, uint64_t expected, uint64_t got) {
  return absl::InternalError(
      absl::StrCat("batch ", cursor, " of the stream: ", what, " is ", got, " where ", expected, " was due"));
}

absl::Status CheckWhole(const v1::Batch& batch) {
  const uint64_t samples = uint64_t{batch.identities_per_batch()} * batch.samples_per_identity();
  if (static_cast<uint64_t>(batch.samples_size()) != samples) {
    return Unexpected(batch.cursor(), "the number of samples", samples, batch.samples_size());
  }
  if (batch.payload() == v1::PAYLOAD_KIND_DECODED) {
    const uint64_t pixels =
        samples * batch.image().height() * batch.image().width() * batch.image().channels();
    if (batch.pixels().size() != pixels) {
      return Unexpected(batch.cursor(), "the number of pixel bytes", pixels, batch.pixels().size());
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<v1::Batch>> BatchAssembler::Add(v1::Batch part) {
  const uint64_t cursor = part.cursor();
  if (cursor != next_cursor_) return Unexpected(cursor, "the cursor", next_cursor_, cursor);
  const uint32_t due = joined_.has_value() ? joined_->part_index() + 1 : 0;
  if (part.part_index() != due) return Unexpected(cursor, "the part", due, part.part_index());
  if (part.part_index() >= part.part_count()) {
    return Unexpected(cursor, "the number of parts", part.part_index() + 1, part.part_count());
  }
  if (!joined_.has_value()) {
    joined_ = std::move(part);
  } else {
    if (part.part_count() != joined_->part_count()) {
      return Unexpected(cursor, "the number of parts", joined_->part_count(), part.part_count());
    }
    if (part.generation() != joined_->generation()) {
      return Unexpected(cursor, "the generation", joined_->generation(), part.generation());
    }
    joined_->set_part_index(part.part_index());
    for (v1::Sample& sample : *part.mutable_samples()) *joined_->add_samples() = std::move(sample);
    joined_->mutable_pixels()->append(part.pixels());
  }
  if (joined_->part_index() + 1 < joined_->part_count()) return std::optional<v1::Batch>();
  std::optional<v1::Batch> whole = std::move(joined_);
  joined_.reset();
  RETURN_IF_ERROR(CheckWhole(*whole));
  whole->set_part_index(0);
  whole->set_part_count(1);
  ++next_cursor_;
  return whole;
}

absl::Status VerifyChecksums(const v1::Batch& batch) {
  if (batch.payload() != v1::PAYLOAD_KIND_ENCODED) return absl::OkStatus();
  for (const v1::Sample& sample : batch.samples()) {
    const std::string& bytes = sample.encoded();
    if (Crc32c(absl::string_view(bytes.data(), bytes.size())) == sample.crc32c()) continue;
    return absl::DataLossError(
        absl::StrCat("sample ", sample.sample(), " of identity ", sample.identity(), " in batch ",
                     batch.cursor(), ": its ", bytes.size(),
                     " bytes do not match their checksum: was the source file changed after the "
                     "import? `doppel inspect --verify` on the miner's machine tells"));
  }
  return absl::OkStatus();
}

}  // namespace doppel
