#include "miner/generation/generation_codec.h"

#include <google/protobuf/util/json_util.h>

#include <limits>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are written as they lie in memory");

template <typename T>
absl::string_view Bytes(const std::vector<T>& values) {
  static_assert(std::is_arithmetic_v<T>);
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

absl::Status CheckContents(const GenerationContents& contents) {
  const size_t n = contents.assignment.size();
  const Matrix& rows = contents.representations;
  const Matrix& centroids = contents.centroids;
  if (n == 0 || centroids.rows == 0) return absl::InvalidArgumentError("a generation without identities");
  if (static_cast<size_t>(rows.rows) != n || rows.dimension != centroids.dimension ||
      rows.values.size() != n * rows.dimension ||
      centroids.values.size() != static_cast<size_t>(centroids.rows) * centroids.dimension) {
    return absl::InvalidArgumentError(absl::StrCat("a generation of ", n, " assigned identities, ", rows.rows,
                                                   " x ", rows.dimension, " representations and ",
                                                   centroids.rows, " x ", centroids.dimension, " centroids"));
  }
  const IdentityRows covered = contents.rows();
  const auto spans = static_cast<size_t>(contents.info.covered_size());
  if (covered.size() != n || spans != (covered.ranges().size() > 1 ? covered.ranges().size() : 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a generation of ", n, " assigned identities that covers ", covered.size()));
  }
  if (covered.end() > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError("identity numbers beyond 2^32 - 1 do not fit members.u32");
  }
  for (size_t i = 0; i < n; ++i) {
    if (contents.assignment[i] < 0 || contents.assignment[i] >= centroids.rows) {
      return absl::InvalidArgumentError(absl::StrCat("identity ", covered.Identity(i),
                                                     " is assigned to subspace ", contents.assignment[i],
                                                     " of ", centroids.rows));
    }
  }
  const uint64_t k = contents.info.neighbours();
  if (contents.neighbours.size() != n * k || contents.similarities.size() != n * k) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a generation of ", n, " identities with ", k, " neighbours each has ", contents.neighbours.size(),
        " neighbours and ", contents.similarities.size(), " similarities"));
  }
  for (const uint32_t neighbour : contents.neighbours) {
    if (!covered.Contains(neighbour)) {
      return absl::InvalidArgumentError(
          absl::StrCat("neighbour ", neighbour, " is not an identity of the generation"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EncodedGeneration> EncodedGeneration::Encode(const GenerationContents& contents) {
  const absl::Status valid = CheckContents(contents);
  if (!valid.ok()) return valid;
  EncodedGeneration encoded(contents);
  encoded.offsets_.assign(contents.centroids.rows + 1, 0);
  for (int32_t subspace : contents.assignment) ++encoded.offsets_[subspace + 1];
  for (int64_t m = 0; m < contents.centroids.rows; ++m) encoded.offsets_[m + 1] += encoded.offsets_[m];
  std::vector<uint64_t> next(encoded.offsets_.begin(), encoded.offsets_.end() - 1);
  encoded.members_.resize(contents.assignment.size());
  const IdentityRows covered = contents.rows();
  for (size_t i = 0; i < contents.assignment.size(); ++i) {
    encoded.members_[next[contents.assignment[i]]++] = static_cast<uint32_t>(covered.Identity(i));
  }
  encoded.centroids_header_ = NpyFloatHeader(contents.centroids.rows, contents.centroids.dimension);
  encoded.representations_header_ =
      NpyFloatHeader(contents.representations.rows, contents.representations.dimension);
  return encoded;
}

std::vector<EncodedFile> EncodedGeneration::Files() const {
  std::vector<EncodedFile> files = {
      {kAssignmentFile, {Bytes(contents_->assignment)}},
      {kMembersFile, {Bytes(members_)}},
      {kOffsetsFile, {Bytes(offsets_)}},
      {kCentroidsFile, {centroids_header_, Bytes(contents_->centroids.values)}},
      {kRepresentationsFile, {representations_header_, Bytes(contents_->representations.values)}}};
  if (!contents_->neighbours.empty()) {
    files.push_back({kNeighboursFile, {Bytes(contents_->neighbours)}});
    files.push_back({kSimilaritiesFile, {Bytes(contents_->similarities)}});
  }
  for (EncodedFile& file : GuardListFiles(contents_->guard_list)) files.push_back(std::move(file));
  return files;
}

std::vector<EncodedFile> GuardListFiles(const GuardList& guard_list) {
  static_assert(sizeof(GuardList::Pair) == 2 * sizeof(uint32_t));
  std::vector<EncodedFile> files;
  const std::vector<GuardList::Pair>& pairs = guard_list.pairs();
  if (!pairs.empty()) {
    const absl::string_view bytes(reinterpret_cast<const char*>(pairs.data()),
                                  pairs.size() * sizeof(GuardList::Pair));
    files.push_back({kGuardPairsFile, {bytes}});
  }
  if (!guard_list.samples().empty()) files.push_back({kGuardSamplesFile, {Bytes(guard_list.samples())}});
  return files;
}

void DescribeGuardList(const GuardList& guard_list, v1::GenerationInfo& info) {
  info.set_guarded_pairs(guard_list.pairs().size());
  info.set_dropped_samples(guard_list.samples().size());
}

std::string NpyFloatHeader(int64_t rows, int columns) {
  constexpr size_t kAlignment = 64;
  constexpr size_t kPrefix = 10;  // magic, version, length
  std::string dictionary =
      absl::StrCat("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", columns, "), }");
  const size_t unpadded = kPrefix + dictionary.size() + 1;
  dictionary.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  dictionary.push_back('\n');
  std::string header("\x93NUMPY\x01\x00", 8);
  header.push_back(static_cast<char>(dictionary.size() & 0xff));
  header.push_back(static_cast<char>(dictionary.size() >> 8));
  return header + dictionary;
}

absl::StatusOr<std::string> EncodeManifest(const v1::GenerationManifest& manifest) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.add_whitespace = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(manifest, &json, options);
  if (!status.ok()) return absl::InternalError(absl::StrCat("manifest to JSON: ", status.ToString()));
  return json;
}

absl::StatusOr<v1::GenerationManifest> DecodeManifest(absl::string_view json) {
  v1::GenerationManifest manifest;
  // Fields of a later minor version are left alone; a change of meaning raises format_version.
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto status = google::protobuf::util::JsonStringToMessage(std::string(json), &manifest, options);
  if (!status.ok())
    return absl::DataLossError(absl::StrCat("is no generation manifest: ", status.ToString()));
  if (manifest.format_version() != kGenerationFormatVersion) {
    return absl::FailedPreconditionError(absl::StrCat("has format version ", manifest.format_version(),
                                                      ", this program reads version ",
                                                      kGenerationFormatVersion));
  }
  return manifest;
}

std::string EncodeDone(absl::string_view manifest_json) {
  return absl::StrFormat("%s %d %08x\n", kManifestFile, manifest_json.size(), Crc32c(manifest_json));
}

}  // namespace doppel
