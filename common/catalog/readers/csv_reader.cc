#include "common/catalog/readers/csv_reader.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "common/catalog/readers/csv_rows.h"
#include "common/catalog/readers/image_file.h"
#include "common/io/mapped_file.h"

namespace doppel {
namespace {

constexpr uint64_t kRowsPerPart = 4096;
constexpr char kByteOrderMark[] = "\xEF\xBB\xBF";

// Where the columns are; -1: not there.
struct CsvColumns {
  int label = -1, path = -1, split = -1, is_query = -1, is_gallery = -1;
  bool header = false;
  std::vector<std::string> passed_over;
};

bool IsTrue(const std::string& text) {
  const std::string lower = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  return lower == "true" || lower == "1" || lower == "1.0" || lower == "yes";
}

// By the names in the first row, or two nameless columns.
bool FindColumns(const std::vector<std::string>& first, CsvColumns* columns) {
  for (size_t i = 0; i < first.size(); ++i) {
    const std::string name = absl::AsciiStrToLower(absl::StripAsciiWhitespace(first[i]));
    const int column = static_cast<int>(i);
    if (name == "label" || name == "pid" || name == "identity") {
      columns->label = column;
    } else if (name == "path") {
      columns->path = column;
    } else if (name == "split") {
      columns->split = column;
    } else if (name == "is_query") {
      columns->is_query = column;
    } else if (name == "is_gallery") {
      columns->is_gallery = column;
    } else if (!name.empty()) {
      columns->passed_over.push_back(name);
    }
  }
  columns->header = columns->label >= 0 && columns->path >= 0;
  if (columns->header) return true;
  *columns = CsvColumns{};
  columns->label = 0;
  columns->path = 1;
  return first.size() == 2;
}

class RowsReader : public SampleReader {
 public:
  RowsReader(absl::string_view text, std::string file, const FileRoot& root, const CsvColumns& columns,
             uint64_t first_row)
      : text_(text), file_(std::move(file)), columns_(columns), files_(root), row_(first_row) {}

  absl::StatusOr<ReaderItem> Next() override {
    do {
      if (rows_ == kRowsPerPart || !ReadCsvRow(text_, &at_, &fields_)) return ReaderItem(ReaderEnd{});
      ++rows_;
      ++row_;
    } while (fields_.size() == 1 && absl::StripAsciiWhitespace(fields_[0]).empty());
    const std::string record = absl::StrCat("row ", row_);
    const auto skip = [&](absl::string_view reason, absl::string_view detail) {
      return ReaderItem(SkippedRecord{file_, record, std::string(reason), std::string(detail)});
    };
    SampleEntry entry;
    entry.identity = std::string(absl::StripAsciiWhitespace(Field(columns_.label)));
    entry.key = std::string(absl::StripAsciiWhitespace(Field(columns_.path)));
    if (static_cast<int>(fields_.size()) <= std::max(columns_.label, columns_.path) || entry.key.empty()) {
      return skip("bad row", absl::StrCat("has ", fields_.size(), " fields and no path"));
    }
    if (entry.identity.empty()) return skip("no identity", "the label is empty");
    entry.split = SplitOfRow();
    ReaderItem item = files_.Read(std::move(entry));
    if (auto* skipped = std::get_if<SkippedRecord>(&item)) {
      skipped->detail = absl::StrCat(skipped->file, skipped->detail.empty() ? "" : ": ", skipped->detail);
      skipped->file = file_;
      skipped->record = record;
    }
    return item;
  }
  uint64_t work_done() const override { return rows_; }

 private:
  std::string Field(int column) const {
    return column >= 0 && column < static_cast<int>(fields_.size()) ? fields_[column] : std::string();
  }
  std::string SplitOfRow() const {
    std::string split(absl::StripAsciiWhitespace(Field(columns_.split)));
    if (split == "train") return split;
    const bool query = IsTrue(Field(columns_.is_query)), gallery = IsTrue(Field(columns_.is_gallery));
    if (query == gallery) return split;
    return query ? "query" : "gallery";
  }

  const absl::string_view text_;
  const std::string file_;
  const CsvColumns& columns_;
  ListedFileReader files_;
  uint64_t row_;
  uint64_t rows_ = 0;
  size_t at_ = 0;
  std::vector<std::string> fields_;
};

class CsvDataset : public DatasetReader {
 public:
  CsvDataset(std::shared_ptr<const MappedFile> file, FileRoot root, CsvColumns columns, size_t begin)
      : file_(std::move(file)), root_(std::move(root)), columns_(std::move(columns)) {
    v1::CatalogSource& source = sources_.emplace_back();
    source.set_kind(v1::CatalogSource::KIND_DIRECTORY);
    source.set_path(root_.path);
    for (size_t at = begin; at < file_->size();) {
      if (rows_ % kRowsPerPart == 0) parts_.push_back(at);
      SkipCsvRow(file_->data(), &at);
      ++rows_;
    }
  }
  std::string format() const override { return "csv"; }
  const std::vector<v1::CatalogSource>& sources() const override { return sources_; }
  size_t num_parts() const override { return parts_.size(); }
  absl::StatusOr<std::unique_ptr<SampleReader>> OpenPart(size_t part) const override {
    return std::make_unique<RowsReader>(file_->data().substr(parts_[part]), file_->path(), root_, columns_,
                                        part * kRowsPerPart + (columns_.header ? 1 : 0));
  }
  std::string work_unit() const override { return "rows"; }
  uint64_t total_work() const override { return rows_; }
  std::vector<std::string> notes() const override {
    std::vector<std::string> notes = {absl::StrCat("paths are taken from ", root_.path)};
    if (!columns_.header) notes.emplace_back("no header: read as pid,path");
    if (!columns_.passed_over.empty()) {
      notes.push_back(absl::StrCat("columns that are not kept: ", absl::StrJoin(columns_.passed_over, ", ")));
    }
    const auto box = std::find(columns_.passed_over.begin(), columns_.passed_over.end(), "x_1");
    if (box != columns_.passed_over.end()) {
      notes.emplace_back("bounding boxes (x_1 …) are not applied: images are taken whole");
    }
    return notes;
  }
  std::string PartStamp(size_t part) const override {
    return absl::StrCat(FileStamp(file_->path()), "|", root_.follow_links, "|", part);
  }

 private:
  const std::shared_ptr<const MappedFile> file_;
  const FileRoot root_;
  const CsvColumns columns_;
  std::vector<v1::CatalogSource> sources_;
  std::vector<uint64_t> parts_;  // where they begin
  uint64_t rows_ = 0;
};

// The only *.csv of a folder.
absl::StatusOr<std::string> FindCsv(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return path;
  ASSIGN_OR_RETURN(const FolderListing listing, ListFolder(path));
  std::vector<std::string> found;
  for (const std::string& name : listing.files) {
    if (absl::EndsWith(name, ".csv")) found.push_back(absl::StrCat(path, "/", name));
  }
  if (found.size() == 1) return found.front();
  return absl::NotFoundError(
      absl::StrCat(path, " holds ", found.size(), " CSV files: name the one that lists the images"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DatasetReader>> OpenCsv(const std::string& path, const std::string& root,
                                                       bool follow_links) {
  ASSIGN_OR_RETURN(const std::string csv, FindCsv(path));
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(csv, error).lexically_normal();
  ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file,
                   MappedFile::Open(absolute.string(), MappedFile::Access::kSequential));
  ASSIGN_OR_RETURN(FileRoot files,
                   OpenFileRoot(root.empty() ? absolute.parent_path().string() : root, follow_links));
  size_t begin = absl::StartsWith(file->data(), kByteOrderMark) ? 3 : 0;
  size_t second = begin;
  std::vector<std::string> first;
  CsvColumns columns;
  if (!ReadCsvRow(file->data(), &second, &first) || !FindColumns(first, &columns)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        " is neither `pid,path` nor a table whose first row names `label` and `path`: its first row has ",
        first.size(), " fields"));
  }
  if (columns.header) begin = second;
  return std::make_unique<CsvDataset>(std::move(file), std::move(files), std::move(columns), begin);
}

}  // namespace doppel
