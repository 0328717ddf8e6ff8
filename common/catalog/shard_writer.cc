#include "common/catalog/shard_writer.h"

#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr uint64_t kTarBlock = 512;
constexpr size_t kWriteBytes = 4 << 20;
constexpr size_t kNameBytes = 100, kChecksumAt = 148;
constexpr uint64_t kMaxContent = uint64_t{8} << 30;

void PutField(char* block, size_t at, absl::string_view text) {
  std::memcpy(block + at, text.data(), text.size());
}

std::string TarHeader(absl::string_view name, uint64_t size) {
  std::string header(kTarBlock, '\0');
  char* block = header.data();
  PutField(block, 0, name);
  PutField(block, 100, "0000644");
  PutField(block, 108, "0000000");
  PutField(block, 116, "0000000");
  PutField(block, 124, absl::StrFormat("%011o", size));
  PutField(block, 136, "00000000000");
  PutField(block, kChecksumAt, "        ");
  block[156] = '0';
  PutField(block, 257,
           absl::string_view("ustar\0"
                             "00",
                             8));
  uint32_t sum = 0;
  for (const char c : header) sum += static_cast<uint8_t>(c);
  PutField(block, kChecksumAt, absl::StrFormat("%06o", sum));
  block[kChecksumAt + 6] = '\0';
  return header;
}

}  // namespace

uint64_t TarMemberBytes(uint64_t content) {
  return kTarBlock + (content + kTarBlock - 1) / kTarBlock * kTarBlock;
}

absl::StatusOr<std::unique_ptr<ShardWriter>> ShardWriter::Create(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.Create(path));
  return std::unique_ptr<ShardWriter>(new ShardWriter(std::move(file)));
}

absl::Status ShardWriter::Append(absl::string_view bytes) {
  size_ += bytes.size();
  buffer_.append(bytes.data(), bytes.size());
  if (buffer_.size() < kWriteBytes) return absl::OkStatus();
  RETURN_IF_ERROR(file_->Append(buffer_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status ShardWriter::Add(const std::string& name, absl::string_view content, uint64_t* offset) {
  if (name.size() >= kNameBytes || content.size() >= kMaxContent) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tar member with a name of ", name.size(), " and ", content.size(), " bytes"));
  }
  RETURN_IF_ERROR(Append(TarHeader(name, content.size())));
  *offset = size_;
  RETURN_IF_ERROR(Append(content));
  return Append(std::string(TarMemberBytes(content.size()) - kTarBlock - content.size(), '\0'));
}

absl::Status ShardWriter::Finish() {
  RETURN_IF_ERROR(Append(std::string(2 * kTarBlock, '\0')));
  RETURN_IF_ERROR(file_->Append(buffer_));
  RETURN_IF_ERROR(file_->Sync());
  return file_->Close();
}

}  // namespace doppel
