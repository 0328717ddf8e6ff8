#include "services/ctl/report/lookalikes.h"

#include <algorithm>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/image/image.h"
#include "services/ctl/report/html.h"

namespace doppel::report {
namespace {

constexpr uint64_t kAnchors = 2000;
constexpr int kPerRow = 8;
constexpr int kLargestSide = 96;

float Dot(absl::Span<const float> a, absl::Span<const float> b) {
  // Eight sums, so that the compiler may use vectors.
  float sums[8] = {};
  size_t i = 0;
  for (; i + 8 <= a.size(); i += 8) {
    for (size_t j = 0; j < 8; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (; i < a.size(); ++i) sums[0] += a[i] * b[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

LookalikeRow Nearest(const Generation& generation, uint64_t identity, int count) {
  LookalikeRow row;
  row.identity = identity;
  const absl::Span<const float> anchor = generation.Representation(identity);
  std::vector<std::pair<float, uint64_t>>& best = row.nearest;
  for (uint32_t other : generation.Members(generation.SubspaceOf(identity))) {
    if (other == identity) continue;
    best.emplace_back(Dot(anchor, generation.Representation(other)), other);
  }
  const size_t keep = std::min<size_t>(best.size(), static_cast<size_t>(count));
  std::partial_sort(best.begin(), best.begin() + keep, best.end(), std::greater<>());
  best.resize(keep);
  return row;
}

absl::StatusOr<std::string> Picture(const Catalog& catalog, uint64_t identity, float similarity,
                                    bool anchor) {
  const std::string name(catalog.IdentityName(identity));
  const IdentitySamples samples = catalog.Samples(identity);
  if (samples.count == 0)
    return absl::FailedPreconditionError(absl::StrCat("identity ", name, " has no samples"));
  ASSIGN_OR_RETURN(const SampleBytes bytes, catalog.Read(samples.first));
  ASSIGN_OR_RETURN(Image image, DecodeImage(bytes.data, 3));
  const int side = std::max(image.height, image.width);
  if (side > kLargestSide) {
    Image small{std::max(1, image.height * kLargestSide / side),
                std::max(1, image.width * kLargestSide / side),
                3,
                {}};
    small.pixels.resize(static_cast<size_t>(small.height) * small.width * 3);
    RETURN_IF_ERROR(ResizeImage(image, small.height, small.width, small.pixels.data()));
    image = std::move(small);
  }
  ASSIGN_OR_RETURN(const std::string png, EncodePng(image, 9));
  return absl::StrFormat(
      "<div class=\"face%s\"><img alt=\"%s\" src=\"data:image/png;base64,%s\"><b>%s</b><i>%s</i></div>",
      anchor ? " anchor" : "", Escape(name), absl::Base64Escape(png), Escape(name),
      anchor ? "" : absl::StrFormat("%.3f", similarity));
}

}  // namespace

std::vector<LookalikeRow> FindLookalikes(const Generation& generation, int rows, int per_row) {
  std::vector<LookalikeRow> all;
  const uint64_t n = generation.num_identities(), anchors = std::min(n, kAnchors);
  for (uint64_t i = 0; i < anchors; ++i) {
    LookalikeRow row = Nearest(generation, generation.rows().Identity(i * n / anchors), per_row);
    if (!row.nearest.empty()) all.push_back(std::move(row));
  }
  std::sort(all.begin(), all.end(), [](const LookalikeRow& a, const LookalikeRow& b) {
    return a.nearest[0].first != b.nearest[0].first ? a.nearest[0].first > b.nearest[0].first
                                                    : a.identity < b.identity;
  });
  std::vector<LookalikeRow> chosen;
  std::set<uint64_t> shown;
  auto take = [&](const LookalikeRow& row) {
    if (static_cast<int>(chosen.size()) >= rows || shown.count(row.identity) != 0) return;
    for (const auto& [similarity, identity] : row.nearest) shown.insert(identity);
    shown.insert(row.identity);
    chosen.push_back(row);
  };
  const size_t top = static_cast<size_t>(rows / 2);
  for (size_t i = 0; i < all.size() && chosen.size() < top; ++i) take(all[i]);
  const size_t rest = static_cast<size_t>(rows) - chosen.size();
  for (size_t i = 0; i < rest && !all.empty(); ++i) take(all[(2 * i + 1) * all.size() / (2 * rest)]);
  return chosen;
}

absl::StatusOr<std::string> LookalikeSection(const Catalog& catalog, const Generation& generation, int rows) {
  std::string body = Paragraph(absl::StrCat(
      "The first of each row, and the identities most similar to it in its subspace of generation ",
      generation.number(),
      ", with the cosine of their representations. The upper half are the closest pairs found, the lower "
      "half are "
      "spread down to the ordinary."));
  for (const LookalikeRow& row : FindLookalikes(generation, rows, kPerRow)) {
    absl::StrAppend(&body, "<div class=\"row\">");
    ASSIGN_OR_RETURN(const std::string anchor, Picture(catalog, row.identity, 1, true));
    absl::StrAppend(&body, anchor);
    for (const auto& [similarity, identity] : row.nearest) {
      ASSIGN_OR_RETURN(const std::string picture, Picture(catalog, identity, similarity, false));
      absl::StrAppend(&body, picture);
    }
    absl::StrAppend(&body, "</div>\n");
  }
  return Section("lookalikes", "Look-alikes found", body);
}

}  // namespace doppel::report
