#include "common/catalog/readers/recordio_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/catalog/readers/image_file.h"
#include "common/catalog/readers/record_parts.h"
#include "common/io/crc32c.h"
#include "common/io/mapped_file.h"

namespace doppel {
namespace {

constexpr size_t kRecordsPerPart = 8192;
constexpr uint64_t kImageHeader = 24;  // <IfQQ
constexpr float kExactFloats = 1 << 24;

struct IndexEntry {
  uint64_t key = 0;
  uint64_t offset = 0;
};

struct RecordFile {
  std::string path;
  std::string index_path;  // empty: none
  std::shared_ptr<const MappedFile> file;
  std::vector<IndexEntry> by_key;  // sorted
  std::vector<IndexEntry> by_offset;
  uint64_t bad_index_lines = 0;
};

// The header of an image record.
struct RecordHeader {
  std::vector<float> labels;
  uint64_t image = 0;  // where it begins in the payload
};

bool ParseRecordHeader(absl::string_view payload, RecordHeader* header) {
  if (payload.size() < kImageHeader) return false;
  uint32_t flag;
  float label;
  std::memcpy(&flag, payload.data(), sizeof(flag));
  std::memcpy(&label, payload.data() + 4, sizeof(label));
  if (flag > (payload.size() - kImageHeader) / sizeof(float)) return false;
  header->labels.assign(std::max(flag, 1u), label);
  if (flag > 0) std::memcpy(header->labels.data(), payload.data() + kImageHeader, flag * sizeof(float));
  header->image = kImageHeader + flag * sizeof(float);
  return true;
}

bool IsExactLabel(float label) { return label >= 0 && label < kExactFloats && label == std::floor(label); }

// A record's place, whichever way it was found.
struct FoundRecord {
  uint64_t key = 0;
  uint64_t offset = 0;
};

class RecordReader : public SampleReader {
 public:
  // Without an index, the whole file; else records [first, last) of by_offset.
  RecordReader(const RecordFile& file, uint32_t source, uint32_t parts_source, size_t first, size_t last)
      : file_(file),
        data_(file.file->data()),
        source_(source),
        parts_source_(parts_source),
        next_(first),
        last_(last) {
    if (!file.by_offset.empty()) first_byte_ = file.by_offset[first].offset;
    if (first == 0 && file.bad_index_lines > 0) {
      pending_ = Skip(file.index_path, "", "bad index line",
                      absl::StrCat(file.bad_index_lines, " lines are not `key\\toffset` into the file"));
    }
  }

  absl::StatusOr<ReaderItem> Next() override {
    if (pending_) return ReaderItem(*std::exchange(pending_, std::nullopt));
    while (true) {
      FoundRecord record;
      if (!FindRecord(&record)) return End();
      std::optional<ReaderItem> item = Read(record);
      if (item) return *std::move(item);
    }
  }
  uint64_t work_done() const override { return (position_ - std::min(position_, first_byte_)) / 1000; }

 private:
  static SkippedRecord Skip(const std::string& file, std::string record, absl::string_view reason,
                            std::string detail) {
    return {file, std::move(record), std::string(reason), std::move(detail)};
  }
  bool FindRecord(FoundRecord* record);
  absl::StatusOr<ReaderItem> End();
  // Nothing: a record that is neither an image nor worth a word.
  std::optional<ReaderItem> Read(const FoundRecord& record);
  std::optional<ReaderItem> Damaged(const FoundRecord& record, const absl::Status& status);
  std::optional<ReaderItem> ReadRange(const FoundRecord& record, const RecordHeader& header);
  // The label of the image with this key; NaN if there is none.
  float LabelOfKey(uint64_t key) const;

  const RecordFile& file_;
  const absl::string_view data_;
  const uint32_t source_;
  const uint32_t parts_source_;
  size_t next_;
  const size_t last_;
  uint64_t first_byte_ = 0;
  uint64_t position_ = 0;  // of the next record, if there is no index
  uint64_t number_ = 0;    // the same
  uint64_t inexact_ranges_ = 0;
  std::optional<SkippedRecord> pending_;
};

bool RecordReader::FindRecord(FoundRecord* record) {
  if (!file_.by_offset.empty()) {
    if (next_ == last_) return false;
    *record = {file_.by_offset[next_].key, file_.by_offset[next_].offset};
    ++next_;
    position_ = record->offset;
    return true;
  }
  if (position_ >= data_.size()) return false;
  *record = {number_++, position_};
  return true;
}

absl::StatusOr<ReaderItem> RecordReader::End() {
  if (inexact_ranges_ == 0) return ReaderItem(ReaderEnd{});
  const uint64_t count = std::exchange(inexact_ranges_, 0);
  return ReaderItem(Skip(file_.path, "", "inexact identity ranges",
                         absl::StrCat(count,
                                      " ranges reach 2^24, where float32 is not exact: the images' own "
                                      "labels are used")));
}

std::optional<ReaderItem> RecordReader::Damaged(const FoundRecord& record, const absl::Status& status) {
  const std::string name = absl::StrCat("record ", record.key);
  const std::string detail = absl::StrCat("at byte ", record.offset, ": ", status.message());
  const bool truncated = absl::IsOutOfRange(status);
  if (file_.by_offset.empty()) {
    // The next magic number at a multiple of 4 that begins a record.
    uint64_t at = record.offset + 4;
    for (; at + 8 <= data_.size(); at += 4) {
      const auto part = ReadRecordPart(data_, at);
      if (part.ok() && part->cflag <= 1) break;
    }
    position_ = at + 8 <= data_.size() ? at : data_.size();
  }
  return ReaderItem(Skip(file_.path, name, truncated ? "truncated record" : "bad record", detail));
}

std::optional<ReaderItem> RecordReader::Read(const FoundRecord& record) {
  const auto part = ReadRecordPart(data_, record.offset);
  if (!part.ok()) return Damaged(record, part.status());
  absl::string_view payload = data_.substr(part->offset, part->size);
  JoinedRecord joined;
  const bool whole = part->cflag == 0;
  if (!whole) {
    absl::StatusOr<JoinedRecord> parts = JoinRecordParts(data_, record.offset);
    if (!parts.ok()) return Damaged(record, parts.status());
    joined = *std::move(parts);
    payload = joined.payload;
  }
  if (file_.by_offset.empty()) position_ = whole ? part->end : joined.end;
  const std::string name = absl::StrCat("record ", record.key);
  RecordHeader header;
  if (!ParseRecordHeader(payload, &header)) {
    return ReaderItem(Skip(file_.path, name, "bad record", "shorter than the header that it claims to have"));
  }
  const absl::string_view image = payload.substr(header.image);
  if (image.empty()) return ReadRange(record, header);
  if (!IsExactLabel(header.labels[0])) {
    return ReaderItem(Skip(
        file_.path, name, "inexact label",
        absl::StrCat("label ", header.labels[0], ": float32 tells whole numbers apart up to 2^24 only")));
  }
  const ImageVerdict verdict = JudgeImage(image);
  if (!verdict.reason.empty()) return ReaderItem(Skip(file_.path, name, verdict.reason, verdict.detail));
  SampleEntry entry;
  entry.identity = absl::StrCat(static_cast<uint64_t>(header.labels[0]));
  entry.key = absl::StrCat(record.key);
  entry.source = whole ? source_ : parts_source_;
  entry.offset = whole ? part->offset + header.image : record.offset;
  entry.size = static_cast<uint32_t>(image.size());
  entry.crc32c = Crc32c(image);
  return ReaderItem(std::move(entry));
}

float RecordReader::LabelOfKey(uint64_t key) const {
  const auto at = std::lower_bound(file_.by_key.begin(), file_.by_key.end(), key,
                                   [](const IndexEntry& entry, uint64_t k) { return entry.key < k; });
  RecordHeader header;
  if (at == file_.by_key.end() || at->key != key) return NAN;
  const auto part = ReadRecordPart(data_, at->offset);
  if (!part.ok() || !ParseRecordHeader(data_.substr(part->offset, part->size), &header)) return NAN;
  return part->size == header.image && part->cflag == 0 ? NAN : header.labels[0];
}

std::optional<ReaderItem> RecordReader::ReadRange(const FoundRecord& record, const RecordHeader& header) {
  if (header.labels.size() < 2) {
    return ReaderItem(Skip(file_.path, absl::StrCat("record ", record.key), "no image",
                           "the record has labels and nothing else"));
  }
  // Record 0 says where the identities' records are; they are known by having no image.
  if (record.key == 0 || file_.by_key.empty()) return std::nullopt;
  const float first = header.labels[0], end = header.labels[1];
  if (!(end < kExactFloats)) {
    ++inexact_ranges_;
    return std::nullopt;
  }
  if (IsExactLabel(first) && IsExactLabel(end) && first < end) {
    const auto from = static_cast<uint64_t>(first), to = static_cast<uint64_t>(end);
    const float label = LabelOfKey(from);
    const bool alone = LabelOfKey(from - 1) != label && LabelOfKey(to) != label;
    if (label == LabelOfKey(to - 1) && alone) return std::nullopt;  // NaN is never equal
  }
  return ReaderItem(Skip(file_.path, absl::StrCat("record ", record.key), "identity range differs",
                         absl::StrCat("says keys ", first, " to ", end,
                                      ", whose images have other labels: the images' own are used")));
}

class RecordDataset : public DatasetReader {
 public:
  explicit RecordDataset(std::vector<RecordFile> files) : files_(std::move(files)) {
    for (const auto kind : {v1::CatalogSource::KIND_FILE, v1::CatalogSource::KIND_RECORD_PARTS}) {
      for (const RecordFile& file : files_) {
        v1::CatalogSource& source = sources_.emplace_back();
        source.set_kind(kind);
        source.set_path(file.path);
        source.set_size(file.file->size());
      }
    }
    for (size_t f = 0; f < files_.size(); ++f) {
      total_ += files_[f].file->size() / 1000;
      const size_t records = files_[f].by_offset.size();
      if (records == 0) parts_.push_back({f, 0, 0});
      for (size_t first = 0; first < records; first += kRecordsPerPart) {
        parts_.push_back({f, first, std::min(first + kRecordsPerPart, records)});
      }
    }
  }
  std::string format() const override { return "recordio"; }
  const std::vector<v1::CatalogSource>& sources() const override { return sources_; }
  size_t num_parts() const override { return parts_.size(); }
  absl::StatusOr<std::unique_ptr<SampleReader>> OpenPart(size_t part) const override {
    const Part& place = parts_[part];
    return std::make_unique<RecordReader>(files_[place.file], static_cast<uint32_t>(place.file),
                                          static_cast<uint32_t>(files_.size() + place.file), place.first,
                                          place.last);
  }
  std::string work_unit() const override { return "KB"; }
  uint64_t total_work() const override { return total_; }
  std::vector<std::string> notes() const override {
    std::vector<std::string> notes;
    for (const RecordFile& file : files_) notes.push_back(Layout(file));
    return notes;
  }
  std::string PartStamp(size_t part) const override {
    const RecordFile& file = files_[parts_[part].file];
    return absl::StrCat(FileStamp(file.path), "|", FileStamp(file.index_path), "|", parts_[part].first);
  }

 private:
  struct Part {
    size_t file, first, last;
  };

  static std::string Layout(const RecordFile& file) {
    const absl::string_view data = file.file->data();
    const auto part = ReadRecordPart(data, 0);
    RecordHeader header;
    const bool read = part.ok() && ParseRecordHeader(data.substr(part->offset, part->size), &header);
    const bool insightface = read && header.labels.size() == 2 && header.image == part->size;
    return absl::StrCat(file.path, ": ",
                        insightface ? "InsightFace's layout (record 0 says where the identities' ranges are)"
                                    : "every image with its own label",
                        file.index_path.empty() ? ", no .idx: read from header to header" : "");
  }

  const std::vector<RecordFile> files_;
  std::vector<v1::CatalogSource> sources_;
  std::vector<Part> parts_;
  uint64_t total_ = 0;
};

// `key\toffset` per line.
absl::Status ReadIndex(RecordFile* file) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> text,
                   MappedFile::Open(file->index_path, MappedFile::Access::kSequential));
  for (const absl::string_view line : absl::StrSplit(text->data(), '\n')) {
    if (line.find_first_not_of(" \t\r") == absl::string_view::npos) continue;
    const std::pair<absl::string_view, absl::string_view> fields =
        absl::StrSplit(line, absl::MaxSplits('\t', 1));
    IndexEntry entry;
    if (!absl::SimpleAtoi(fields.first, &entry.key) || !absl::SimpleAtoi(fields.second, &entry.offset) ||
        entry.offset >= file->file->size()) {
      ++file->bad_index_lines;
      continue;
    }
    file->by_key.push_back(entry);
  }
  file->by_offset = file->by_key;
  std::sort(file->by_key.begin(), file->by_key.end(),
            [](const IndexEntry& a, const IndexEntry& b) { return a.key < b.key; });
  std::sort(file->by_offset.begin(), file->by_offset.end(), [](const IndexEntry& a, const IndexEntry& b) {
    return std::make_pair(a.offset, a.key) < std::make_pair(b.offset, b.key);
  });
  return absl::OkStatus();
}

absl::StatusOr<RecordFile> OpenRecordFile(const std::string& path) {
  std::error_code error;
  RecordFile file;
  file.path = std::filesystem::absolute(path, error).lexically_normal().string();
  ASSIGN_OR_RETURN(file.file, MappedFile::Open(file.path, MappedFile::Access::kSequential));
  if (file.file->size() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is empty: a .rec file with records is expected"));
  }
  const auto first = ReadRecordPart(file.file->data(), 0);
  if (absl::IsInvalidArgument(first.status())) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " does not start with RecordIO's magic number (0xced7230a): it is no .rec file"));
  }
  const std::string index = std::filesystem::path(file.path).replace_extension(".idx").string();
  if (index != file.path && std::filesystem::is_regular_file(index, error)) {
    file.index_path = index;
    RETURN_IF_ERROR(ReadIndex(&file));
    if (file.by_key.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(index, " holds no line `key\\toffset` into ", file.path,
                       ": remove it, and the records are found one after the other"));
    }
  }
  return file;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DatasetReader>> OpenRecordIo(const std::string& path) {
  std::vector<std::string> paths = {path};
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    ASSIGN_OR_RETURN(const FolderListing listing, ListFolder(path));
    paths.clear();
    for (const std::string& name : listing.files) {
      if (absl::EndsWith(name, ".rec")) paths.push_back(absl::StrCat(path, "/", name));
    }
    if (paths.empty())
      return absl::NotFoundError(absl::StrCat(path, " holds no *.rec: name the file itself"));
  }
  std::vector<RecordFile> files;
  files.reserve(paths.size());
  for (const std::string& name : paths) {
    ASSIGN_OR_RETURN(RecordFile file, OpenRecordFile(name));
    files.push_back(std::move(file));
  }
  return std::make_unique<RecordDataset>(std::move(files));
}

}  // namespace doppel
