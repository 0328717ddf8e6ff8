#include "miner/generation/mapped_generation.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"
#include "common/io/mapped_file.h"
#include "miner/generation/generation_codec.h"

namespace doppel {
namespace {

using Files = std::map<std::string, std::shared_ptr<const MappedFile>>;

absl::StatusOr<Files> MapFiles(const std::string& directory, const v1::GenerationManifest& manifest) {
  Files files;
  for (const v1::FileDigest& digest : manifest.files()) {
    const std::string path = absl::StrCat(directory, "/", digest.name());
    absl::StatusOr<std::shared_ptr<const MappedFile>> file = MappedFile::Open(path);
    if (!file.ok())
      return absl::DataLossError(absl::StrCat(path, ": ", std::string(file.status().message())));
    if ((*file)->size() != digest.size()) {
      return absl::DataLossError(
          absl::StrCat(path, ": ", (*file)->size(), " bytes, the manifest says ", digest.size()));
    }
    if (Crc32c((*file)->data()) != digest.crc32c()) {
      return absl::DataLossError(absl::StrCat(path, ": damaged, its CRC32C differs from the manifest's"));
    }
    files[digest.name()] = *std::move(file);
  }
  return files;
}

template <typename T>
absl::StatusOr<absl::Span<const T>> Array(const Files& files, const std::string& directory,
                                          const std::string& name, absl::string_view header, uint64_t count) {
  const std::string path = absl::StrCat(directory, "/", name);
  const auto it = files.find(name);
  if (it == files.end()) return absl::DataLossError(absl::StrCat(path, ": the manifest does not list it"));
  absl::string_view data = it->second->data();
  // Divided, not multiplied: a count may be any number.
  if (!absl::StartsWith(data, header) || (data.size() - header.size()) % sizeof(T) != 0 ||
      (data.size() - header.size()) / sizeof(T) != count) {
    return absl::DataLossError(
        absl::StrCat(path, ": its size or header does not fit the manifest's numbers"));
  }
  data.remove_prefix(header.size());
  return absl::Span<const T>(reinterpret_cast<const T*>(data.data()), count);
}

class MappedGeneration : public Generation {
 public:
  MappedGeneration(v1::GenerationInfo info, Files files) : info_(std::move(info)), files_(std::move(files)) {}

  absl::Status Open(const std::string& directory) {
    const uint64_t n = info_.identities();
    const uint64_t m = info_.subspaces();
    const uint64_t d = info_.dimension();
    if (n == 0 || m == 0 || d == 0) {
      return absl::DataLossError(
          absl::StrCat(directory, "/", kManifestFile, ": a generation without identities"));
    }
    ASSIGN_OR_RETURN(assignment_, Array<uint32_t>(files_, directory, kAssignmentFile, "", n));
    ASSIGN_OR_RETURN(members_, Array<uint32_t>(files_, directory, kMembersFile, "", n));
    ASSIGN_OR_RETURN(offsets_, Array<uint64_t>(files_, directory, kOffsetsFile, "", m + 1));
    const int columns = static_cast<int>(d);
    ASSIGN_OR_RETURN(centroids_, Array<float>(files_, directory, kCentroidsFile,
                                              NpyFloatHeader(static_cast<int64_t>(m), columns), m * d));
    ASSIGN_OR_RETURN(representations_, Array<float>(files_, directory, kRepresentationsFile,
                                                    NpyFloatHeader(static_cast<int64_t>(n), columns), n * d));
    RETURN_IF_ERROR(Check(directory));
    RETURN_IF_ERROR(OpenNeighbours(directory));
    return OpenGuardList(directory);
  }

  const v1::GenerationInfo& info() const override { return info_; }
  uint64_t first_identity() const override { return rows_.first(); }
  IdentityRows rows() const override { return rows_; }
  bool Covers(uint64_t identity) const override { return rows_.Contains(identity); }
  uint64_t num_identities() const override { return assignment_.size(); }
  uint32_t num_subspaces() const override { return info_.subspaces(); }
  int dimension() const override { return static_cast<int>(info_.dimension()); }
  absl::Span<const uint32_t> Members(uint32_t subspace) const override {
    return members_.subspan(offsets_[subspace], offsets_[subspace + 1] - offsets_[subspace]);
  }
  uint32_t SubspaceOf(uint64_t identity) const override { return assignment_[rows_.Row(identity)]; }
  absl::Span<const float> Centroid(uint32_t subspace) const override {
    return centroids_.subspan(uint64_t{subspace} * info_.dimension(), info_.dimension());
  }
  absl::Span<const float> Representation(uint64_t identity) const override {
    return representations_.subspan(rows_.Row(identity) * info_.dimension(), info_.dimension());
  }
  int num_neighbours() const override { return static_cast<int>(info_.neighbours()); }
  absl::Span<const uint32_t> Neighbours(uint64_t identity) const override {
    return neighbours_.subspan(rows_.Row(identity) * info_.neighbours(), info_.neighbours());
  }
  absl::Span<const float> NeighbourSimilarities(uint64_t identity) const override {
    return similarities_.subspan(rows_.Row(identity) * info_.neighbours(), info_.neighbours());
  }
  const GuardList& guard_list() const override { return guard_list_; }

 private:
  absl::Status OpenNeighbours(const std::string& directory) {
    const uint64_t n = assignment_.size();
    const uint64_t k = info_.neighbours();
    if (k == 0) return absl::OkStatus();
    if (k >= n) {
      return absl::DataLossError(
          absl::StrCat(directory, "/", kManifestFile, ": ", k, " neighbours of ", n, " identities"));
    }
    ASSIGN_OR_RETURN(neighbours_, Array<uint32_t>(files_, directory, kNeighboursFile, "", n * k));
    ASSIGN_OR_RETURN(similarities_, Array<float>(files_, directory, kSimilaritiesFile, "", n * k));
    for (uint64_t i = 0; i < n; ++i) {
      for (uint64_t j = i * k; j < (i + 1) * k; ++j) {
        const uint32_t neighbour = neighbours_[j];
        if (!rows_.Contains(neighbour) || neighbour == rows_.Identity(i)) {
          return Contradiction(directory, kNeighboursFile);
        }
        // Not a number is no order either.
        if (j > i * k && !(similarities_[j] <= similarities_[j - 1])) {
          return Contradiction(directory, kSimilaritiesFile);
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status OpenGuardList(const std::string& directory) {
    std::vector<GuardList::Pair> pairs;
    std::vector<uint64_t> samples;
    if (const uint64_t count = info_.guarded_pairs(); count > 0) {
      if (count > std::numeric_limits<uint64_t>::max() / 2) return Contradiction(directory, kGuardPairsFile);
      ASSIGN_OR_RETURN(const absl::Span<const uint32_t> numbers,
                       Array<uint32_t>(files_, directory, kGuardPairsFile, "", 2 * count));
      pairs.reserve(count);
      for (uint64_t i = 0; i < count; ++i) pairs.push_back({numbers[2 * i], numbers[2 * i + 1]});
    }
    if (const uint64_t count = info_.dropped_samples(); count > 0) {
      ASSIGN_OR_RETURN(const absl::Span<const uint64_t> numbers,
                       Array<uint64_t>(files_, directory, kGuardSamplesFile, "", count));
      samples.assign(numbers.begin(), numbers.end());
    }
    absl::StatusOr<GuardList> list = GuardList::Make(std::move(pairs), std::move(samples));
    if (!list.ok()) return Contradiction(directory, kGuardPairsFile);
    guard_list_ = *std::move(list);
    if (guard_list_.pairs().size() != info_.guarded_pairs()) return Contradiction(directory, kGuardPairsFile);
    if (guard_list_.samples().size() != info_.dropped_samples()) {
      return Contradiction(directory, kGuardSamplesFile);
    }
    return absl::OkStatus();
  }

  static absl::Status Contradiction(const std::string& directory, const char* file) {
    return absl::DataLossError(absl::StrCat(directory, "/", file, ": contradicts the other files"));
  }

  // The CRCs say that the bytes are the writer's; this, that no reader can run out of an array.
  absl::Status Check(const std::string& directory) {
    const auto bad = [&directory](const char* file) { return Contradiction(directory, file); };
    const uint64_t n = assignment_.size();
    if (offsets_.front() != 0 || offsets_.back() != n) return bad(kOffsetsFile);
    for (size_t m = 0; m + 1 < offsets_.size(); ++m) {
      if (offsets_[m] > offsets_[m + 1]) return bad(kOffsetsFile);
    }
    if (info_.covered_size() == 0) {
      // The covered identities are consecutive, so the lowest member is the first of them.
      rows_ = IdentityRows(*std::min_element(members_.begin(), members_.end()), n);
    } else {
      for (const v1::IdentitySpan& span : info_.covered()) {
        if (span.first() < rows_.end() || span.count() > n) return bad(kManifestFile);
        rows_.Append(span.first(), span.count());
      }
      if (rows_.size() != n) return bad(kManifestFile);
    }
    for (uint32_t m = 0; m < num_subspaces(); ++m) {
      const absl::Span<const uint32_t> members = Members(m);
      for (size_t i = 0; i < members.size(); ++i) {
        if (i > 0 && members[i] <= members[i - 1]) return bad(kMembersFile);
        if (!rows_.Contains(members[i]) || SubspaceOf(members[i]) != m) return bad(kMembersFile);
      }
    }
    return absl::OkStatus();
  }

  const v1::GenerationInfo info_;
  const Files files_;
  absl::Span<const uint32_t> assignment_;
  absl::Span<const uint32_t> members_;
  absl::Span<const uint64_t> offsets_;
  absl::Span<const float> centroids_;
  absl::Span<const float> representations_;
  absl::Span<const uint32_t> neighbours_;
  absl::Span<const float> similarities_;
  GuardList guard_list_;
  IdentityRows rows_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Generation>> MapGeneration(const std::string& directory,
                                                                const v1::GenerationManifest& manifest) {
  ASSIGN_OR_RETURN(Files files, MapFiles(directory, manifest));
  auto generation = std::make_shared<MappedGeneration>(manifest.info(), std::move(files));
  RETURN_IF_ERROR(generation->Open(directory));
  return generation;
}

}  // namespace doppel
