#include "common/io/mirrored_log.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

struct Half {
  std::string path;
  bool there = false;
  IntactRecords read;

  bool intact() const { return there && read.damage.ok(); }
  const std::vector<std::string>& records() const { return read.contents.records; }
};

absl::StatusOr<Half> ReadHalf(FileSystem& fs, std::string path) {
  Half half;
  half.path = std::move(path);
  half.there = fs.Exists(half.path);
  if (!half.there) return half;
  absl::StatusOr<IntactRecords> read = ReadIntactRecords(fs, half.path);
  // A sector that cannot be read is damage as well.
  if (read.ok()) {
    half.read = *std::move(read);
  } else {
    half.read.damage = absl::DataLossError(absl::StrCat(half.path, ": ", read.status().message()));
  }
  return half;
}

struct Halves {
  Half first, copy;
  // The one that has all records.
  const Half& full() const { return copy.records().size() > first.records().size() ? copy : first; }
};

bool IsPrefix(const std::vector<std::string>& prefix, const std::vector<std::string>& all) {
  return prefix.size() <= all.size() && std::equal(prefix.begin(), prefix.end(), all.begin());
}

absl::StatusOr<Halves> ReadHalves(FileSystem& fs, const std::string& path) {
  Halves halves;
  ASSIGN_OR_RETURN(halves.first, ReadHalf(fs, path));
  ASSIGN_OR_RETURN(halves.copy, ReadHalf(fs, MirroredLog::CopyPath(path)));
  const Half& full = halves.full();
  const Half& other = &full == &halves.first ? halves.copy : halves.first;
  if (!halves.first.intact() && !halves.copy.intact() && (halves.first.there || halves.copy.there)) {
    const auto what = [](const Half& half) {
      return half.there ? std::string(half.read.damage.message()) : absl::StrCat(half.path, ": is missing");
    };
    return absl::DataLossError(absl::StrCat(what(halves.first), "; and ", what(halves.copy)));
  }
  if (!IsPrefix(other.records(), full.records())) {
    return absl::DataLossError(
        absl::StrCat(path, " and ", halves.copy.path, " hold different records: restore them from a backup"));
  }
  return halves;
}

MirroredLog::Contents Summary(const Halves& halves) {
  MirroredLog::Contents contents;
  const size_t all = halves.full().records().size();
  for (const Half* half : {&halves.first, &halves.copy}) {
    if (half->there && !half->read.damage.ok()) {
      contents.damage.emplace_back(half->read.damage.message());
    } else if (half->there && half->read.contents.torn_tail) {
      contents.torn.push_back(half->path);
    }
  }
  // The copy is written last, so only it may be behind or not there yet.
  if (!halves.first.there && halves.copy.there) {
    contents.damage.push_back(absl::StrCat(halves.first.path, ": is missing"));
  } else if (halves.first.intact() && halves.first.records().size() < all) {
    contents.damage.push_back(absl::StrCat(halves.first.path, ": record ", halves.first.records().size(),
                                           ": lost; ", halves.copy.path, " has it"));
  }
  contents.records = halves.full().records();
  return contents;
}

absl::Status WriteRecords(FileSystem& fs, const std::string& path, const std::vector<std::string>& records) {
  if (fs.Exists(path)) RETURN_IF_ERROR(fs.Remove(path));
  ASSIGN_OR_RETURN(const std::unique_ptr<RecordWriter> writer, RecordWriter::Open(fs, path));
  for (const std::string& record : records) RETURN_IF_ERROR(writer->Append(record));
  return writer->Sync();
}

absl::StatusOr<std::unique_ptr<RecordWriter>> OpenHalf(FileSystem& fs, const Half& half,
                                                       const std::vector<std::string>& records) {
  if (half.there && !half.read.damage.ok()) {
    const std::string fresh = half.path + ".tmp";
    RETURN_IF_ERROR(WriteRecords(fs, fresh, records));
    RETURN_IF_ERROR(fs.Rename(half.path, half.path + ".damaged"));
    RETURN_IF_ERROR(fs.Rename(fresh, half.path));
    RETURN_IF_ERROR(fs.SyncDirectory(DirectoryOf(half.path)));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<RecordWriter> writer, RecordWriter::Open(fs, half.path));
  if (half.intact() || !half.there) {
    for (size_t i = half.records().size(); i < records.size(); ++i) {
      RETURN_IF_ERROR(writer->Append(records[i]));
    }
  }
  RETURN_IF_ERROR(writer->Sync());
  return writer;
}

}  // namespace

absl::StatusOr<MirroredLog::Contents> MirroredLog::Read(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const Halves halves, ReadHalves(fs, path));
  return Summary(halves);
}

absl::StatusOr<std::unique_ptr<MirroredLog>> MirroredLog::Open(FileSystem& fs, const std::string& path,
                                                               Contents* contents) {
  ASSIGN_OR_RETURN(const Halves halves, ReadHalves(fs, path));
  *contents = Summary(halves);
  // The good one stays as it is until the other is mended.
  const bool copy_first = !halves.first.intact() && halves.copy.intact();
  std::unique_ptr<RecordWriter> first, copy;
  if (copy_first) {
    ASSIGN_OR_RETURN(copy, OpenHalf(fs, halves.copy, contents->records));
  }
  ASSIGN_OR_RETURN(first, OpenHalf(fs, halves.first, contents->records));
  if (!copy_first) {
    ASSIGN_OR_RETURN(copy, OpenHalf(fs, halves.copy, contents->records));
  }
  return std::unique_ptr<MirroredLog>(new MirroredLog(std::move(first), std::move(copy)));
}

absl::Status MirroredLog::Append(absl::string_view record) {
  RETURN_IF_ERROR(broken_);
  broken_ = first_->Append(record);
  pending_.emplace_back(record);
  return broken_;
}

absl::Status MirroredLog::Sync() {
  RETURN_IF_ERROR(broken_);
  broken_ = SyncBoth();
  return broken_;
}

absl::Status MirroredLog::SyncBoth() {
  RETURN_IF_ERROR(first_->Sync());
  for (const std::string& record : pending_) RETURN_IF_ERROR(copy_->Append(record));
  pending_.clear();
  return copy_->Sync();
}

absl::Status MirroredLog::Replace(FileSystem& fs, const std::string& path,
                                  const std::vector<std::string>& records) {
  const std::string fresh = path + ".tmp";
  const std::string copy = CopyPath(path);
  RETURN_IF_ERROR(WriteRecords(fs, fresh, records));
  // With an old copy beside it the new file would be contradicted.
  if (fs.Exists(copy)) RETURN_IF_ERROR(fs.Remove(copy));
  RETURN_IF_ERROR(fs.SyncDirectory(DirectoryOf(path)));
  RETURN_IF_ERROR(fs.Rename(fresh, path));
  RETURN_IF_ERROR(fs.SyncDirectory(DirectoryOf(path)));
  return WriteRecords(fs, copy, records);
}

}  // namespace doppel
