#include "miner/generation/journal.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"

namespace doppel {

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(FileSystem& fs, const std::string& path,
                                                       MinerState& state) {
  if (fs.Exists(path)) {
    ASSIGN_OR_RETURN(const RecordFileContents contents, ReadRecordFile(fs, path));
    if (contents.torn_tail) {
      DOPPEL_LOG(kWarning, path, ": cutting off an unfinished record after ", contents.valid_bytes, " bytes");
    }
    for (size_t i = 0; i < contents.records.size(); ++i) {
      v1::MinerUpdate update;
      absl::Status status = absl::InvalidArgumentError("it cannot be parsed");
      if (update.ParseFromString(contents.records[i])) status = state.Apply(update);
      if (!status.ok()) {
        return absl::DataLossError(absl::StrCat(path, ": record ", i, ": ", std::string(status.message())));
      }
    }
  }
  ASSIGN_OR_RETURN(std::unique_ptr<RecordWriter> writer, RecordWriter::Open(fs, path));
  RETURN_IF_ERROR(writer->Sync());
  return std::unique_ptr<Journal>(new Journal(path, std::move(writer)));
}

absl::Status Journal::Append(absl::Span<const v1::MinerUpdate> updates) {
  RETURN_IF_ERROR(broken_);
  absl::Status status;
  for (const v1::MinerUpdate& update : updates) {
    if (status.ok()) status = writer_->Append(update.SerializeAsString());
  }
  if (status.ok()) status = writer_->Sync();
  if (!status.ok()) {
    broken_ = absl::UnavailableError(absl::StrCat(path_, ": the journal cannot be written (",
                                                  std::string(status.message()),
                                                  "); mend the disk and start the miner again"));
  }
  return broken_;
}

}  // namespace doppel
