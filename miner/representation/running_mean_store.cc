#include "miner/representation/running_mean_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/io/record_file.h"

namespace doppel {
namespace {

constexpr size_t kSnapshotsKept = 2;
constexpr char kSnapshotTemporary[] = "/writing.tmp";

std::string PartPath(const std::string& directory, uint32_t part) {
  return absl::StrFormat("%s/rows-%06d.rec", directory, part);
}

absl::Status SnapshotDamage(const std::string& path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(path, ": ", what));
}

bool SizesAgree(const v1::RunningMeanRows& rows, const v1::RunningMeanHeader& header) {
  const int n = rows.identities_size();
  return rows.weights_size() == n && rows.model_steps_size() == n && rows.samples_size() == n &&
         rows.means().size() == static_cast<size_t>(n) * header.dimension() * sizeof(float) &&
         std::all_of(rows.identities().begin(), rows.identities().end(),
                     [&header](uint64_t identity) { return identity < header.identities(); });
}

}  // namespace

std::string RunningMeanStore::Directory(uint64_t number) const {
  return absl::StrFormat("%s/%010d", root_, number);
}

absl::StatusOr<v1::RunningMeanHeader> RunningMeanStore::Check(uint64_t number) const {
  return Read(Directory(number), nullptr);
}

absl::StatusOr<std::vector<uint64_t>> RunningMeanStore::Numbers() const {
  std::vector<uint64_t> numbers;
  if (!fs_.Exists(root_)) return numbers;
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.List(root_));
  for (const std::string& name : names) {
    uint64_t number = 0;
    if (absl::SimpleAtoi(name, &number)) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

absl::Status RunningMeanStore::Save(v1::RunningMeanHeader header, const NextRows& next) {
  RETURN_IF_ERROR(fs_.MakeDirectories(root_));
  ASSIGN_OR_RETURN(const std::vector<uint64_t> numbers, Numbers());
  const std::string fresh = root_ + kSnapshotTemporary;
  RETURN_IF_ERROR(fs_.RemoveRecursively(fresh));
  RETURN_IF_ERROR(fs_.MakeDirectories(fresh));
  RETURN_IF_ERROR(Write(fresh, std::move(header), next));
  RETURN_IF_ERROR(fs_.SyncDirectory(fresh));
  RETURN_IF_ERROR(fs_.Rename(fresh, Directory(numbers.empty() ? 1 : numbers.back() + 1)));
  RETURN_IF_ERROR(fs_.SyncDirectory(root_));
  for (size_t i = 0; i + kSnapshotsKept - 1 < numbers.size(); ++i) {
    // Out of sight first: half a snapshot would count as a damaged one.
    RETURN_IF_ERROR(fs_.Rename(Directory(numbers[i]), fresh));
    RETURN_IF_ERROR(fs_.SyncDirectory(root_));
    RETURN_IF_ERROR(fs_.RemoveRecursively(fresh));
  }
  return absl::OkStatus();
}

absl::Status RunningMeanStore::Write(const std::string& directory, v1::RunningMeanHeader header,
                                     const NextRows& next) {
  std::unique_ptr<RecordWriter> writer;
  uint64_t bytes = 0;
  uint32_t parts = 0;
  uint64_t rows = 0;
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<v1::RunningMeanRows> block, next());
    if (!block) break;
    if (writer == nullptr || bytes >= part_bytes_) {
      if (writer != nullptr) RETURN_IF_ERROR(writer->Sync());
      ASSIGN_OR_RETURN(writer, RecordWriter::Open(fs_, PartPath(directory, parts)));
      ++parts;
      bytes = 0;
    }
    const std::string record = block->SerializeAsString();
    RETURN_IF_ERROR(writer->Append(record));
    bytes += record.size();
    rows += static_cast<uint64_t>(block->identities_size());
  }
  if (writer != nullptr) RETURN_IF_ERROR(writer->Sync());
  header.set_parts(parts);
  header.set_rows(rows);
  ASSIGN_OR_RETURN(const std::unique_ptr<RecordWriter> done, RecordWriter::Open(fs_, directory + "/DONE"));
  RETURN_IF_ERROR(done->Append(header.SerializeAsString()));
  return done->Sync();
}

absl::StatusOr<v1::RunningMeanHeader> RunningMeanStore::Read(
    const std::string& directory, const std::function<void(const v1::RunningMeanRows&)>& on_rows) const {
  const std::string done_path = directory + "/DONE";
  ASSIGN_OR_RETURN(const RecordFileContents done, ReadRecordFile(fs_, done_path));
  v1::RunningMeanHeader header;
  if (done.torn_tail || done.records.size() != 1 || !header.ParseFromString(done.records[0]))
    return SnapshotDamage(done_path, "holds no header of a snapshot");
  uint64_t total = 0;
  for (uint32_t part = 0; part < header.parts(); ++part) {
    const std::string path = PartPath(directory, part);
    ASSIGN_OR_RETURN(const RecordFileContents contents, ReadRecordFile(fs_, path));
    if (contents.torn_tail) return SnapshotDamage(path, "is cut off");
    for (const std::string& record : contents.records) {
      v1::RunningMeanRows rows;
      if (!rows.ParseFromString(record) || !SizesAgree(rows, header))
        return SnapshotDamage(path, "a record is no block of rows");
      total += static_cast<uint64_t>(rows.identities_size());
      if (on_rows) on_rows(rows);
    }
  }
  if (total != header.rows())
    return SnapshotDamage(directory, absl::StrCat("has ", total, " of ", header.rows(), " rows"));
  return header;
}

absl::StatusOr<bool> RunningMeanStore::Load(
    const std::function<absl::Status(const v1::RunningMeanHeader&)>& on_header,
    const std::function<void(const v1::RunningMeanRows&)>& on_rows) {
  ASSIGN_OR_RETURN(std::vector<uint64_t> numbers, Numbers());
  std::reverse(numbers.begin(), numbers.end());
  for (uint64_t number : numbers) {
    const std::string directory = Directory(number);
    // Once to check, once to take: half a snapshot must not be taken.
    const absl::StatusOr<v1::RunningMeanHeader> header = Read(directory, nullptr);
    if (!header.ok()) {
      DOPPEL_LOG(kError,
                 "snapshot of the running means passed over: ", std::string(header.status().message()));
      continue;
    }
    RETURN_IF_ERROR(on_header(*header));
    RETURN_IF_ERROR(Read(directory, on_rows).status());
    return true;
  }
  return false;
}

}  // namespace doppel
