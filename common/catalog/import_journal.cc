#include "common/catalog/import_journal.h"

#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

// Little-endian numbers, and texts with their length in front.
class PartWriter {
 public:
  template <typename Number>
  void Add(Number number) {
    static_assert(std::is_unsigned_v<Number>);
    bytes_.append(reinterpret_cast<const char*>(&number), sizeof(number));
  }
  void Add(const std::string& text) {
    Add(uint64_t{text.size()});
    bytes_.append(text);
  }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reads what PartWriter wrote; ok() turns false at the first thing that does not fit.
class PartParser {
 public:
  explicit PartParser(absl::string_view bytes) : bytes_(bytes) {}
  template <typename Number>
  void Get(Number* number) {
    static_assert(std::is_unsigned_v<Number>);
    ok_ = ok_ && bytes_.size() >= sizeof(*number);
    if (!ok_) return;
    std::memcpy(number, bytes_.data(), sizeof(*number));
    bytes_.remove_prefix(sizeof(*number));
  }
  void Get(std::string* text) {
    uint64_t size = 0;
    Get(&size);
    ok_ = ok_ && bytes_.size() >= size;
    if (!ok_) return;
    *text = std::string(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && bytes_.empty(); }

 private:
  absl::string_view bytes_;
  bool ok_ = true;
};

std::string EncodePart(const std::string& stamp, const ImportJournal::Part& part) {
  PartWriter out;
  out.Add(stamp);
  out.Add(uint64_t{part.entries.size()});
  for (const SampleEntry& entry : part.entries) {
    out.Add(entry.identity);
    out.Add(entry.split);
    out.Add(entry.key);
    out.Add(entry.source);
    out.Add(entry.offset);
    out.Add(entry.size);
    out.Add(entry.crc32c);
  }
  out.Add(uint64_t{part.skipped.size()});
  for (const SkippedRecord& skip : part.skipped) {
    out.Add(skip.file);
    out.Add(skip.record);
    out.Add(skip.reason);
    out.Add(skip.detail);
  }
  return out.Take();
}

bool DecodePart(absl::string_view bytes, std::string* stamp, ImportJournal::Part* part) {
  PartParser in(bytes);
  uint64_t entries = 0, skips = 0;
  in.Get(stamp);
  in.Get(&entries);
  for (uint64_t i = 0; i < entries && in.ok(); ++i) {
    SampleEntry& entry = part->entries.emplace_back();
    in.Get(&entry.identity);
    in.Get(&entry.split);
    in.Get(&entry.key);
    in.Get(&entry.source);
    in.Get(&entry.offset);
    in.Get(&entry.size);
    in.Get(&entry.crc32c);
  }
  in.Get(&skips);
  for (uint64_t i = 0; i < skips && in.ok(); ++i) {
    SkippedRecord& skip = part->skipped.emplace_back();
    in.Get(&skip.file);
    in.Get(&skip.record);
    in.Get(&skip.reason);
    in.Get(&skip.detail);
  }
  return in.at_end();
}

// The first record: entries name sources by number, so these must be the same ones.
std::string JournalHeader(const DatasetReader& dataset) {
  std::string header = absl::StrCat("import 1 ", dataset.format(), "\n");
  for (const v1::CatalogSource& source : dataset.sources()) {
    absl::StrAppend(&header, source.kind(), " ", source.path(), "\n");
  }
  return header;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ImportJournal>> ImportJournal::Open(FileSystem& fs,
                                                                   const std::string& directory,
                                                                   const DatasetReader& dataset) {
  std::unique_ptr<ImportJournal> journal(new ImportJournal(fs, absl::StrCat(directory, ".journal")));
  absl::MutexLock lock(&journal->mutex_);
  const std::string header = JournalHeader(dataset);
  bool usable = false;
  if (fs.Exists(journal->path_)) {
    absl::StatusOr<RecordFileContents> old = ReadRecordFile(fs, journal->path_);
    usable = old.ok() && !old->records.empty() && old->records[0] == header;
    for (size_t i = 1; usable && i < old->records.size(); ++i) {
      PartParser in(old->records[i]);
      std::string stamp;
      in.Get(&stamp);
      if (in.ok()) journal->parts_[std::move(stamp)] = std::move(old->records[i]);
    }
    if (!usable) RETURN_IF_ERROR(fs.Remove(journal->path_));
  }
  RETURN_IF_ERROR(fs.MakeDirectories(DirectoryOf(directory)));
  journal->resumable_ = journal->parts_.size();
  ASSIGN_OR_RETURN(journal->writer_, RecordWriter::Open(fs, journal->path_));
  if (!usable) RETURN_IF_ERROR(journal->writer_->Append(header));
  return journal;
}

bool ImportJournal::Take(const std::string& stamp, Part* part) {
  std::string bytes;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = parts_.find(stamp);
    if (found == parts_.end()) return false;
    bytes = std::move(found->second);
    parts_.erase(found);
  }
  std::string same;
  if (DecodePart(bytes, &same, part)) return true;
  *part = {};
  return false;
}

absl::Status ImportJournal::Add(const std::string& stamp, const Part& part) {
  const std::string record = EncodePart(stamp, part);
  absl::MutexLock lock(&mutex_);
  return writer_->Append(record);
}

absl::Status ImportJournal::Remove() {
  absl::MutexLock lock(&mutex_);
  writer_.reset();
  return fs_.Remove(path_);
}

}  // namespace doppel
