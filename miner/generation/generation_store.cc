#include "miner/generation/generation_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"
#include "miner/generation/mapped_generation.h"

namespace doppel {
namespace {

constexpr char kTemporaryPrefix[] = ".tmp-";
constexpr size_t kBlockBytes = size_t{8} << 20;

}  // namespace

absl::Status GenerationStore::Initialize() {
  RETURN_IF_ERROR(fs_.MakeDirectories(root_));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.List(root_));
  for (const std::string& name : names) {
    if (!absl::StartsWith(name, kTemporaryPrefix)) continue;
    RETURN_IF_ERROR(fs_.RemoveRecursively(absl::StrCat(root_, "/", name)));
  }
  return absl::OkStatus();
}

std::string GenerationStore::Directory(uint64_t number) const {
  return absl::StrFormat("%s/%06d", root_, number);
}

absl::Status GenerationStore::Write(const GenerationContents& contents, const WriteHooks& hooks) {
  return Replace(contents.info.generation(),
                 [&](const std::string& directory) { return WriteAll(directory, contents, hooks); });
}

absl::Status GenerationStore::Derive(uint64_t base, v1::GenerationInfo info, const GuardList& guard_list) {
  ASSIGN_OR_RETURN(const v1::GenerationManifest from, ReadManifest(base));
  DescribeGuardList(guard_list, info);
  return Replace(info.generation(), [&](const std::string& directory) -> absl::Status {
    v1::GenerationManifest manifest;
    manifest.set_format_version(kGenerationFormatVersion);
    for (const v1::FileDigest& file : from.files()) {
      if (file.name() == kGuardPairsFile || file.name() == kGuardSamplesFile) continue;
      RETURN_IF_ERROR(fs_.LinkOrCopy(absl::StrCat(Directory(base), "/", file.name()),
                                     absl::StrCat(directory, "/", file.name())));
      *manifest.add_files() = file;
    }
    for (const EncodedFile& file : GuardListFiles(guard_list)) {
      ASSIGN_OR_RETURN(*manifest.add_files(), WriteFile(directory, file, {}));
    }
    *manifest.mutable_info() = info;
    return WriteManifest(directory, manifest, {});
  });
}

absl::Status GenerationStore::Replace(uint64_t number,
                                      const std::function<absl::Status(const std::string&)>& write) {
  if (number == 0) return absl::InvalidArgumentError("generation numbers begin at 1");
  const std::string temporary = absl::StrCat(root_, "/", kTemporaryPrefix, number);
  const std::string directory = Directory(number);
  if (fs_.Exists(temporary)) RETURN_IF_ERROR(fs_.RemoveRecursively(temporary));
  absl::Status status = fs_.MakeDirectories(temporary);
  if (status.ok()) status = write(temporary);
  if (status.ok() && fs_.Exists(directory)) status = fs_.RemoveRecursively(directory);
  if (status.ok()) status = fs_.Rename(temporary, directory);
  if (status.ok()) return fs_.SyncDirectory(root_);
  if (fs_.Exists(temporary)) {
    const absl::Status removed = fs_.RemoveRecursively(temporary);
    if (!removed.ok()) DOPPEL_LOG(kWarning, "could not clean up: ", removed.ToString());
  }
  return status;
}

absl::Status GenerationStore::WriteAll(const std::string& directory, const GenerationContents& contents,
                                       const WriteHooks& hooks) {
  ASSIGN_OR_RETURN(const EncodedGeneration encoded, EncodedGeneration::Encode(contents));
  v1::GenerationManifest manifest;
  manifest.set_format_version(kGenerationFormatVersion);
  for (const EncodedFile& file : encoded.Files()) {
    ASSIGN_OR_RETURN(*manifest.add_files(), WriteFile(directory, file, hooks));
  }
  *manifest.mutable_info() = contents.info;
  hooks.before_manifest(*manifest.mutable_info());
  DescribeGuardList(contents.guard_list, *manifest.mutable_info());
  return WriteManifest(directory, manifest, hooks);
}

absl::Status GenerationStore::WriteManifest(const std::string& directory,
                                            const v1::GenerationManifest& manifest, const WriteHooks& hooks) {
  ASSIGN_OR_RETURN(const std::string json, EncodeManifest(manifest));
  const std::string done = EncodeDone(json);
  RETURN_IF_ERROR(WriteFile(directory, {kManifestFile, {json}}, hooks).status());
  RETURN_IF_ERROR(WriteFile(directory, {kDoneFile, {done}}, hooks).status());
  return fs_.SyncDirectory(directory);
}

absl::StatusOr<v1::FileDigest> GenerationStore::WriteFile(const std::string& directory,
                                                          const EncodedFile& file, const WriteHooks& hooks) {
  v1::FileDigest digest;
  digest.set_name(file.name);
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> out, fs_.Create(absl::StrCat(directory, "/", file.name)));
  uint64_t size = 0;
  uint32_t crc = 0;
  for (absl::string_view part : file.parts) {
    for (size_t at = 0; at < part.size(); at += kBlockBytes) {
      if (!hooks.keep_going()) return absl::CancelledError("writing the generation was given up");
      const absl::string_view block = part.substr(at, kBlockBytes);
      RETURN_IF_ERROR(out->Append(block));
      crc = ExtendCrc32c(crc, block);
      size += block.size();
    }
  }
  RETURN_IF_ERROR(out->Sync());
  RETURN_IF_ERROR(out->Close());
  digest.set_size(size);
  digest.set_crc32c(crc);
  return digest;
}

absl::StatusOr<v1::GenerationManifest> GenerationStore::ReadManifest(uint64_t number) const {
  const std::string directory = Directory(number);
  if (!fs_.Exists(directory))
    return absl::NotFoundError(absl::StrCat("generation ", number, ": no ", directory));
  const std::string manifest_path = absl::StrCat(directory, "/", kManifestFile);
  const std::string done_path = absl::StrCat(directory, "/", kDoneFile);
  const auto damaged = [](const std::string& path, absl::string_view what) {
    return absl::DataLossError(absl::StrCat(path, ": ", what));
  };
  const absl::StatusOr<std::string> done = fs_.ReadFile(done_path);
  if (!done.ok()) return damaged(done_path, std::string(done.status().message()));
  const absl::StatusOr<std::string> json = fs_.ReadFile(manifest_path);
  if (!json.ok()) return damaged(manifest_path, std::string(json.status().message()));
  if (*done != EncodeDone(*json)) {
    return damaged(manifest_path,
                   absl::StrCat("it or ", done_path, " is damaged: they contradict each other"));
  }
  absl::StatusOr<v1::GenerationManifest> manifest = DecodeManifest(*json);
  if (!manifest.ok()) {
    return absl::Status(manifest.status().code(),
                        absl::StrCat(manifest_path, ": ", std::string(manifest.status().message())));
  }
  if (manifest->info().generation() != number) {
    return damaged(manifest_path,
                   absl::StrCat("is the manifest of generation ", manifest->info().generation()));
  }
  return manifest;
}

absl::StatusOr<std::shared_ptr<const Generation>> GenerationStore::Load(
    uint64_t number, const std::string& catalog_fingerprint) const {
  ASSIGN_OR_RETURN(const v1::GenerationManifest manifest, ReadManifest(number));
  if (manifest.info().catalog_fingerprint() != catalog_fingerprint) {
    return absl::FailedPreconditionError(
        absl::StrCat("generation ", number, " was made of the catalog with fingerprint ",
                     manifest.info().catalog_fingerprint(), ", this catalog has ", catalog_fingerprint,
                     "; give each catalog a state directory of its own"));
  }
  return MapGeneration(Directory(number), manifest);
}

absl::Status GenerationStore::Remove(uint64_t number) {
  const std::string directory = Directory(number);
  // A removal that died may not be durable.
  if (!fs_.Exists(directory)) return fs_.SyncDirectory(root_);
  // Out of sight first: a crash in the middle of the removal must not leave half a generation.
  const std::string temporary = absl::StrCat(root_, "/", kTemporaryPrefix, number);
  if (fs_.Exists(temporary)) RETURN_IF_ERROR(fs_.RemoveRecursively(temporary));
  RETURN_IF_ERROR(fs_.Rename(directory, temporary));
  RETURN_IF_ERROR(fs_.RemoveRecursively(temporary));
  return fs_.SyncDirectory(root_);
}

absl::StatusOr<std::vector<uint64_t>> GenerationStore::Numbers() const {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.List(root_));
  std::vector<uint64_t> numbers;
  for (const std::string& name : names) {
    uint64_t number = 0;
    if (absl::SimpleAtoi(name, &number) && Directory(number) == absl::StrCat(root_, "/", name)) {
      numbers.push_back(number);
    }
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

}  // namespace doppel
