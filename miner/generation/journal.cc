#include "miner/generation/journal.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"

namespace doppel {

absl::Status Journal::Replay(const std::string& path, const std::vector<std::string>& records,
                             MinerState& state) {
  for (size_t i = 0; i < records.size(); ++i) {
    v1::MinerUpdate update;
    absl::Status status = absl::InvalidArgumentError("it cannot be parsed");
    if (update.ParseFromString(records[i])) status = state.Apply(update);
    if (!status.ok()) {
      return absl::DataLossError(absl::StrCat(path, ": record ", i, ": ", std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(FileSystem& fs, const std::string& path,
                                                       MinerState& state) {
  // Before anything is written: a journal of a newer version is left alone.
  ASSIGN_OR_RETURN(MirroredLog::Contents contents, MirroredLog::Read(fs, path));
  RETURN_IF_ERROR(Replay(path, contents.records, state));
  for (const std::string& torn : contents.torn) {
    DOPPEL_LOG(kWarning, torn, ": cutting off an unfinished record after ", contents.records.size(),
               " good ones");
  }
  for (const std::string& damage : contents.damage) {
    DOPPEL_LOG(kError, damage, ". The other of the two files is intact and mends it");
  }
  ASSIGN_OR_RETURN(std::unique_ptr<MirroredLog> log, MirroredLog::Open(fs, path, &contents));
  return std::unique_ptr<Journal>(new Journal(path, std::move(log)));
}

absl::Status Journal::Append(absl::Span<const v1::MinerUpdate> updates) {
  RETURN_IF_ERROR(broken_);
  absl::Status status;
  for (const v1::MinerUpdate& update : updates) {
    if (status.ok()) status = log_->Append(update.SerializeAsString());
  }
  if (status.ok()) status = log_->Sync();
  if (!status.ok()) {
    broken_ = absl::UnavailableError(absl::StrCat(path_, ": the journal cannot be written (",
                                                  std::string(status.message()),
                                                  "); mend the disk and start the miner again"));
  }
  return broken_;
}

}  // namespace doppel
