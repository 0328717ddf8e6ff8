#include "common/io/record_file.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

constexpr absl::string_view kRecordMagic = "DPLREC01";
constexpr uint64_t kHeaderBytes = 8;
// The unit in which a file system may leave a hole of zeros where data did not reach the disk.
constexpr uint64_t kPageBytes = 4096;

uint32_t LoadU32(const char* p) {
  const auto byte = [p](int i) { return static_cast<uint32_t>(static_cast<uint8_t>(p[i])); };
  return byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
}

void StoreU32(uint32_t value, char* p) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<char>(value >> (8 * i));
}

enum class Found { kRecord, kIncomplete, kBadCrc };

// Looks at the record that starts at `at` < data.size().
Found Inspect(absl::string_view data, uint64_t at, absl::string_view* payload) {
  const uint64_t left = data.size() - at;
  if (left < kHeaderBytes) return Found::kIncomplete;
  const uint64_t length = LoadU32(data.data() + at);
  if (length > left - kHeaderBytes) return Found::kIncomplete;
  *payload = data.substr(at + kHeaderBytes, length);
  const uint32_t crc = ExtendCrc32c(Crc32c(data.substr(at, 4)), *payload);
  return crc == LoadU32(data.data() + at + 4) ? Found::kRecord : Found::kBadCrc;
}

// True if a good record starts anywhere after `at`: then what is at `at` is damage and not the end.
bool GoodRecordFollows(absl::string_view data, uint64_t at) {
  absl::string_view payload;
  for (uint64_t next = at + 1; next + kHeaderBytes <= data.size(); ++next) {
    if (Inspect(data, next, &payload) == Found::kRecord) return true;
  }
  return false;
}

// True if the file's last pages, from within the record at `at`, were never written.
bool EndsInHole(absl::string_view data, uint64_t at) {
  const size_t last = data.find_last_not_of('\0');
  const uint64_t zeros = last == absl::string_view::npos ? 0 : last + 1;
  if (zeros <= at) return true;
  return (zeros + kPageBytes - 1) / kPageBytes * kPageBytes < data.size();
}

absl::Status Damaged(const std::string& path, uint64_t at, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat(path, ": ", what, " at byte ", at, ": restore the file from a copy"));
}

absl::Status Parse(const std::string& path, absl::string_view data, RecordFileContents& contents) {
  if (data.size() < kRecordMagic.size()) {
    if (kRecordMagic.substr(0, data.size()) != data) return Damaged(path, 0, "not a record file");
    contents.torn_tail = !data.empty();
    return absl::OkStatus();
  }
  if (data.substr(0, kRecordMagic.size()) != kRecordMagic) return Damaged(path, 0, "not a record file");
  contents.valid_bytes = kRecordMagic.size();
  while (contents.valid_bytes < data.size()) {
    absl::string_view payload;
    const uint64_t at = contents.valid_bytes;
    const Found found = Inspect(data, at, &payload);
    if (found == Found::kRecord) {
      contents.records.emplace_back(payload);
      contents.valid_bytes += kHeaderBytes + payload.size();
      continue;
    }
    const bool torn = found == Found::kIncomplete || EndsInHole(data, at);
    if (!torn || GoodRecordFollows(data, at)) {
      return Damaged(path, at, absl::StrCat("record ", contents.records.size(), ": damaged record"));
    }
    contents.torn_tail = true;
    break;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<IntactRecords> ReadIntactRecords(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string data, fs.ReadFile(path));
  IntactRecords read;
  read.damage = Parse(path, data, read.contents);
  return read;
}

absl::StatusOr<RecordFileContents> ReadRecordFile(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(IntactRecords read, ReadIntactRecords(fs, path));
  RETURN_IF_ERROR(read.damage);
  return std::move(read.contents);
}

absl::StatusOr<std::unique_ptr<RecordWriter>> RecordWriter::Open(FileSystem& fs, const std::string& path) {
  uint64_t size = 0;
  uint64_t keep = 0;
  if (fs.Exists(path)) {
    ASSIGN_OR_RETURN(const std::string data, fs.ReadFile(path));
    RecordFileContents contents;
    RETURN_IF_ERROR(Parse(path, data, contents));
    size = data.size();
    keep = contents.valid_bytes;
  }
  if (keep < size) RETURN_IF_ERROR(fs.Truncate(path, keep));
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.OpenAppend(path));
  if (keep == 0) RETURN_IF_ERROR(file->Append(kRecordMagic));
  // Also what was there: a process that died may not have come to it, and whoever has read it here relies on
  // it.
  RETURN_IF_ERROR(file->Sync());
  RETURN_IF_ERROR(fs.SyncDirectory(DirectoryOf(path)));
  return std::unique_ptr<RecordWriter>(new RecordWriter(path, std::move(file)));
}

absl::Status RecordWriter::Append(absl::string_view record) {
  if (!status_.ok()) return status_;
  if (record.size() > std::numeric_limits<uint32_t>::max() - kHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": a record of ", record.size(), " bytes is too large: split it below 4 GiB"));
  }
  std::string bytes(kHeaderBytes, '\0');
  StoreU32(static_cast<uint32_t>(record.size()), &bytes[0]);
  StoreU32(ExtendCrc32c(Crc32c(absl::string_view(bytes.data(), 4)), record), &bytes[4]);
  bytes.append(record.data(), record.size());
  return Remember(file_->Append(bytes));
}

absl::Status RecordWriter::Sync() {
  if (!status_.ok()) return status_;
  return Remember(file_->Sync());
}

absl::Status RecordWriter::Remember(absl::Status status) {
  if (!status.ok()) {
    status_ = absl::FailedPreconditionError(
        absl::StrCat(path_, ": not writable after an earlier error (", status.message(), "): open it again"));
  }
  return status;
}

}  // namespace doppel
