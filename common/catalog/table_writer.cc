#include "common/catalog/table_writer.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {
constexpr size_t kBufferBytes = 1 << 20;
}  // namespace

absl::StatusOr<std::unique_ptr<TableWriter>> TableWriter::Create(FileSystem& fs, const std::string& directory,
                                                                 const std::string& name, const char* magic,
                                                                 uint32_t record_bytes, uint64_t records) {
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.Create(absl::StrCat(directory, "/", name)));
  std::unique_ptr<TableWriter> writer(new TableWriter(name, std::move(file)));
  catalog_format::TableHeader header{};
  std::memcpy(header.magic, magic, sizeof(header.magic));
  header.version = catalog_format::kVersion;
  header.record_bytes = record_bytes;
  header.records = records;
  RETURN_IF_ERROR(writer->AppendRow(header));
  return writer;
}

absl::Status TableWriter::Append(absl::string_view bytes) {
  buffer_.append(bytes.data(), bytes.size());
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status TableWriter::Flush() {
  crc32c_ = ExtendCrc32c(crc32c_, buffer_);
  size_ += buffer_.size();
  RETURN_IF_ERROR(file_->Append(buffer_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::StatusOr<v1::FileDigest> TableWriter::Finish() {
  RETURN_IF_ERROR(Flush());
  RETURN_IF_ERROR(file_->Sync());
  RETURN_IF_ERROR(file_->Close());
  v1::FileDigest digest;
  digest.set_name(name_);
  digest.set_size(size_);
  digest.set_crc32c(crc32c_);
  return digest;
}

}  // namespace doppel
