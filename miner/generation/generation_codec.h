#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/identity_rows.h"
#include "doppel/v1/storage.pb.h"
#include "miner/cleaning/guard_list.h"
#include "miner/representation/matrix.h"

namespace doppel {

// The files of a generation directory (docs/formats-miner.md). Integers and floats are little endian.
inline constexpr char kAssignmentFile[] = "assignment.u32";
inline constexpr char kMembersFile[] = "members.u32";
inline constexpr char kOffsetsFile[] = "offsets.u64";
inline constexpr char kCentroidsFile[] = "centroids.npy";
inline constexpr char kRepresentationsFile[] = "representations.npy";
// Only in a generation that has such.
inline constexpr char kNeighboursFile[] = "neighbours.u32";
inline constexpr char kSimilaritiesFile[] = "neighbour_similarities.f32";
inline constexpr char kGuardPairsFile[] = "guard_pairs.u32";
inline constexpr char kGuardSamplesFile[] = "guard_samples.u64";
inline constexpr char kManifestFile[] = "manifest.json";
inline constexpr char kDoneFile[] = "DONE";
inline constexpr uint32_t kGenerationFormatVersion = 1;

// A generation before it is written.
struct GenerationContents {
  v1::GenerationInfo info;
  uint64_t first_identity = 0;
  IdentityRows covered;  // empty: [first_identity, first_identity + N)
  IdentityRows rows() const {
    return covered.size() > 0 ? covered : IdentityRows(first_identity, assignment.size());
  }
  std::vector<int32_t> assignment;  // [N], in [0, M)
  Matrix centroids;                 // [M, D]
  Matrix representations;           // [N, D]
  // [N, info.neighbours], catalog identity numbers, most similar first, and the cosines with them.
  std::vector<uint32_t> neighbours;
  std::vector<float> similarities;
  GuardList guard_list;
};

// One file to write: its parts one after the other. They point into the contents and the encoding.
struct EncodedFile {
  std::string name;
  std::vector<absl::string_view> parts;
};

// Big arrays are referenced, not copied: `contents` must outlive it.
class EncodedGeneration {
 public:
  // INVALID_ARGUMENT if sizes contradict one another or an assignment is out of range.
  static absl::StatusOr<EncodedGeneration> Encode(const GenerationContents& contents);
  std::vector<EncodedFile> Files() const;

 private:
  explicit EncodedGeneration(const GenerationContents& contents) : contents_(&contents) {}
  const GenerationContents* contents_;
  std::vector<uint32_t> members_;
  std::vector<uint64_t> offsets_;
  std::string centroids_header_;
  std::string representations_header_;
};

// The files of a guard list; none if it is empty. They point into it.
std::vector<EncodedFile> GuardListFiles(const GuardList& guard_list);
// Sets the fields of `info` that tell its size.
void DescribeGuardList(const GuardList& guard_list, v1::GenerationInfo& info);

// The header of a .npy file (version 1.0) of float32 [rows, columns] in C order: a multiple of 64 bytes.
std::string NpyFloatHeader(int64_t rows, int columns);

// Canonical JSON with the proto's field names.
absl::StatusOr<std::string> EncodeManifest(const v1::GenerationManifest& manifest);
// Errors do not name the file.
absl::StatusOr<v1::GenerationManifest> DecodeManifest(absl::string_view json);
// The content of DONE: it vouches for the manifest.
std::string EncodeDone(absl::string_view manifest_json);

}  // namespace doppel
