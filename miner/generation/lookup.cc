#include "miner/generation/lookup.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr uint32_t kDefaultLookalikes = 16;
constexpr uint32_t kDefaultListed = 20;

// Similarity and number; the most similar first, of equal ones the lower number.
using Scored = std::pair<float, uint64_t>;

// Eight sums, so that the compiler may use vectors.
float InnerProduct(absl::Span<const float> a, absl::Span<const float> b) {
  float sums[8] = {};
  size_t i = 0;
  for (; i + 8 <= a.size(); i += 8) {
    for (size_t j = 0; j < 8; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (; i < a.size(); ++i) sums[0] += a[i] * b[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

void KeepBest(std::vector<Scored>& scored, uint64_t count) {
  const size_t keep = std::min<size_t>(scored.size(), count);
  std::partial_sort(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(keep), scored.end(),
                    [](const Scored& a, const Scored& b) {
                      return a.first != b.first ? a.first > b.first : a.second < b.second;
                    });
  scored.resize(keep);
}

// The code of the one letter that `text` is; 0 if it is not one.
uint32_t OnlyLetter(absl::string_view text) {
  if (text.empty() || text.size() > 4) return 0;
  const auto lead = static_cast<uint8_t>(text[0]);
  const size_t length = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (length != text.size()) return 0;
  uint32_t code = length == 1 ? lead : lead & (0x7FU >> length);
  for (size_t i = 1; i < length; ++i) {
    const auto next = static_cast<uint8_t>(text[i]);
    if ((next & 0xC0U) != 0x80U) return 0;
    code = code << 6 | (next & 0x3FU);
  }
  return code;
}

absl::StatusOr<v1::SimilarIdentity> Show(const Generation& generation, const Catalog& catalog,
                                         uint64_t identity, double similarity, bool picture) {
  v1::SimilarIdentity shown;
  shown.set_identity(identity);
  shown.set_name(std::string(catalog.IdentityName(identity)));
  shown.set_subspace(generation.SubspaceOf(identity));
  shown.set_similarity(similarity);
  const IdentitySamples samples = catalog.Samples(identity);
  if (picture && samples.count > 0) {
    ASSIGN_OR_RETURN(const SampleBytes bytes, catalog.Read(samples.first));
    shown.set_picture(std::string(bytes.data));
  }
  return shown;
}

}  // namespace

absl::StatusOr<uint64_t> ResolveIdentity(const Catalog& catalog, absl::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("identity: empty; give a name or a number");
  absl::StatusOr<uint64_t> found = catalog.FindIdentity(text);
  if (found.ok() || !absl::IsNotFound(found.status())) return found;
  if (const uint32_t code = OnlyLetter(text)) {
    absl::StatusOr<uint64_t> letter = catalog.FindIdentity(absl::StrFormat("U+%04X", code));
    if (letter.ok()) return letter;
  }
  uint64_t number = 0;
  if (absl::SimpleAtoi(text[0] == '#' ? text.substr(1) : text, &number)) {
    if (number < catalog.num_identities()) return number;
    return absl::NotFoundError(
        absl::StrCat("identity: ", number, ", but the catalog has ", catalog.num_identities()));
  }
  return found;
}

absl::StatusOr<v1::FindLookalikesResponse> FindLookalikes(const Generation& generation,
                                                          const Catalog& catalog,
                                                          const v1::FindLookalikesRequest& request) {
  ASSIGN_OR_RETURN(const uint64_t identity, ResolveIdentity(catalog, request.identity()));
  if (!generation.Covers(identity)) {
    return absl::NotFoundError(absl::StrCat("identity: ", request.identity(),
                                            " is not covered by generation ", generation.number(), " (split ",
                                            generation.info().split(), ")"));
  }
  const uint64_t count = request.count() == 0 ? kDefaultLookalikes : request.count();
  v1::FindLookalikesResponse response;
  response.set_generation(generation.number());
  ASSIGN_OR_RETURN(*response.mutable_identity(), Show(generation, catalog, identity, 1, request.pictures()));
  std::vector<Scored> nearest;
  const uint64_t others = generation.num_identities() - 1;
  response.set_stored(static_cast<uint64_t>(generation.num_neighbours()) >= std::min(count, others));
  if (response.stored()) {
    const absl::Span<const uint32_t> neighbours = generation.Neighbours(identity);
    const absl::Span<const float> similarities = generation.NeighbourSimilarities(identity);
    for (size_t i = 0; i < neighbours.size() && i < count; ++i) {
      nearest.emplace_back(similarities[i], neighbours[i]);
    }
  } else {
    nearest.reserve(others);
    const absl::Span<const float> anchor = generation.Representation(identity);
    const IdentityRows rows = generation.rows();
    for (uint64_t row = 0; row < rows.size(); ++row) {
      const uint64_t other = rows.Identity(row);
      if (other != identity)
        nearest.emplace_back(InnerProduct(anchor, generation.Representation(other)), other);
    }
    KeepBest(nearest, count);
  }
  for (const auto& [similarity, other] : nearest) {
    ASSIGN_OR_RETURN(*response.add_lookalikes(),
                     Show(generation, catalog, other, static_cast<double>(similarity), request.pictures()));
    response.mutable_lookalikes()->rbegin()->set_guarded(generation.guard_list().Guarded(identity, other));
  }
  return response;
}

absl::StatusOr<v1::GetSubspaceResponse> DescribeSubspace(const Generation& generation, const Catalog& catalog,
                                                         const v1::GetSubspaceRequest& request) {
  const uint32_t subspace = request.subspace();
  if (subspace >= generation.num_subspaces()) {
    return absl::NotFoundError(absl::StrCat("subspace: ", subspace, ", but generation ", generation.number(),
                                            " has ", generation.num_subspaces()));
  }
  const uint64_t limit = request.limit() == 0 ? kDefaultListed : request.limit();
  v1::GetSubspaceResponse response;
  response.set_generation(generation.number());
  const v1::GenerationInfo& info = generation.info();
  if (static_cast<int>(subspace) < info.subspace_size()) {
    *response.mutable_info() = info.subspace(static_cast<int>(subspace));
  }
  const absl::Span<const float> centroid = generation.Centroid(subspace);
  std::vector<Scored> members;
  members.reserve(generation.Members(subspace).size());
  for (const uint32_t member : generation.Members(subspace)) {
    members.emplace_back(InnerProduct(centroid, generation.Representation(member)), member);
  }
  KeepBest(members, limit);
  for (const auto& [similarity, member] : members) {
    ASSIGN_OR_RETURN(*response.add_members(),
                     Show(generation, catalog, member, static_cast<double>(similarity), false));
  }
  std::vector<Scored> nearest;
  nearest.reserve(generation.num_subspaces());
  for (uint32_t other = 0; other < generation.num_subspaces(); ++other) {
    if (other != subspace) nearest.emplace_back(InnerProduct(centroid, generation.Centroid(other)), other);
  }
  KeepBest(nearest, limit);
  for (const auto& [cosine, other] : nearest) {
    v1::SimilarSubspace& similar = *response.add_nearest();
    similar.set_subspace(static_cast<uint32_t>(other));
    similar.set_cosine(static_cast<double>(cosine));
    similar.set_identities(generation.Members(static_cast<uint32_t>(other)).size());
  }
  return response;
}

}  // namespace doppel
