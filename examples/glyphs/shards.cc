#include "examples/glyphs/shards.h"

#include <xxhash.h>

#include <algorithm>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "common/base/executor.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"
#include "examples/glyphs/tar.h"
#include "examples/glyphs/unicode.h"

namespace doppel::glyphs {
namespace {

// Nothing in it needs escaping: names are ours.
std::string SampleJson(uint32_t code_point, const std::string& typeface, bool test) {
  return absl::StrFormat(R"({"identity":"%s","code_point":%d,"typeface":"%s","split":"%s"})",
                         CodePointName(code_point), code_point, typeface, test ? "test" : "train");
}

absl::StatusOr<uint64_t> AppendIdentity(const Identity& identity, bool test,
                                        const std::vector<TypefaceSpec>& typefaces,
                                        const Renderings& renderings, std::string& tar) {
  for (const Rendering& rendering : identity.renderings) {
    const std::string& typeface = typefaces[rendering.typeface].name;
    const std::string key = absl::StrCat(CodePointName(identity.code_point), "_", typeface);
    ASSIGN_OR_RETURN(const std::string png, renderings.ReadPng(rendering));
    AppendTarFile(key + ".png", png, tar);
    AppendTarFile(key + ".json", SampleJson(identity.code_point, typeface, test), tar);
  }
  return identity.renderings.size();
}

absl::Status WriteShard(const std::string& path, const std::string& tar) {
  FileSystem& fs = PosixFileSystem();
  ASSIGN_OR_RETURN(auto file, fs.Create(path));
  RETURN_IF_ERROR(file->Append(tar));
  return file->Close();
}

}  // namespace

std::vector<size_t> PlanShards(const std::vector<Identity>& identities, uint64_t shard_samples) {
  std::vector<size_t> borders = {0};
  uint64_t samples = 0;
  for (size_t i = 0; i < identities.size(); ++i) {
    samples += identities[i].renderings.size();
    if (samples < shard_samples && i + 1 < identities.size()) continue;
    borders.push_back(i + 1);
    samples = 0;
  }
  return borders;
}

absl::StatusOr<std::vector<ShardInfo>> WriteShards(const std::vector<Identity>& identities,
                                                   absl::Span<const uint32_t> test,
                                                   const std::vector<TypefaceSpec>& typefaces,
                                                   const Renderings& renderings, uint64_t shard_samples,
                                                   const std::string& dir, int threads, Progress& progress) {
  const std::vector<size_t> borders = PlanShards(identities, shard_samples);
  std::vector<ShardInfo> shards(borders.size() - 1);
  absl::Mutex mutex;
  absl::Status first_error;

  auto write = [&](size_t shard) -> absl::Status {
    std::string tar;
    ShardInfo& info = shards[shard];
    info.name = absl::StrFormat("glyphs-%06d.tar", shard);
    for (size_t i = borders[shard]; i < borders[shard + 1]; ++i) {
      const bool in_test = std::binary_search(test.begin(), test.end(), identities[i].code_point);
      ASSIGN_OR_RETURN(const uint64_t samples,
                       AppendIdentity(identities[i], in_test, typefaces, renderings, tar));
      info.samples += samples;
    }
    AppendTarEnd(tar);
    info.size = tar.size();
    const XXH128_hash_t hash = XXH3_128bits(tar.data(), tar.size());
    info.xxh3 = absl::StrFormat("%016x%016x", hash.high64, hash.low64);
    progress.Add(info.samples);
    return WriteShard(absl::StrCat(dir, "/", info.name), tar);
  };
  ParallelFor(static_cast<int64_t>(shards.size()), 1, threads, [&](int64_t begin, int64_t end) {
    for (int64_t shard = begin; shard < end; ++shard) {
      const absl::Status status = write(static_cast<size_t>(shard));
      absl::MutexLock lock(&mutex);
      first_error.Update(status);
    }
  });
  RETURN_IF_ERROR(first_error);
  return shards;
}

}  // namespace doppel::glyphs
