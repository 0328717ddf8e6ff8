#include "trainer/stream/reference_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"

namespace doppel {

absl::StatusOr<std::shared_ptr<const MappedFile>> ReferenceReader::Open(const std::string& path) {
  {
    absl::MutexLock lock(&mutex_);
    auto found = files_.find(path);
    if (found != files_.end()) return found->second;
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file,
                   MappedFile::Open(path, MappedFile::Access::kRandom));
  absl::MutexLock lock(&mutex_);
  // Few shards fit for good; a folder of small files just passes through.
  if (files_.size() >= max_files_) files_.clear();
  files_.emplace(path, file);
  return file;
}

absl::StatusOr<ReferenceReader::Bytes> ReferenceReader::Read(const ReceivedBatch& batch, size_t position) {
  const ReceivedSample& sample = batch.samples[position];
  std::string scratch;
  const std::string path(batch.ReferencePath(position, &scratch));
  const auto where = [&] {
    return absl::StrCat("sample ", sample.sample, " of identity ", sample.identity, " at ", path, " + ",
                        sample.offset);
  };
  absl::StatusOr<std::shared_ptr<const MappedFile>> file = Open(path);
  if (!file.ok()) {
    return absl::Status(
        file.status().code(),
        absl::StrCat(where(), ": ", file.status().message(),
                     ": a REFERENCE payload needs the miner's file system; ask for ENCODED otherwise"));
  }
  const uint64_t size = (*file)->size();
  if (sample.offset > size || sample.size > size - sample.offset) {
    return absl::DataLossError(
        absl::StrCat(where(), ": the file ends at ", size, ", before the sample does"));
  }
  Bytes bytes{(*file)->data().substr(sample.offset, sample.size), *file};
  if (verify_ && Crc32c(bytes.data) != sample.crc32c) {
    return absl::DataLossError(absl::StrCat(where(),
                                            ": the bytes do not match their checksum: the file was changed "
                                            "after the import"));
  }
  return bytes;
}

}  // namespace doppel
