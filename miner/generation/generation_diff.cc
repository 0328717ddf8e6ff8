#include "miner/generation/generation_diff.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "miner/clustering/alignment.h"

namespace doppel {
namespace {

// How many identities are in subspace `from` of the one partition and `to` of the other.
struct Cell {
  uint32_t from = 0;
  uint32_t to = 0;
  uint64_t count = 0;
};

// The occupied cells by (from, to).
std::vector<Cell> Contingency(absl::Span<const int32_t> a, absl::Span<const int32_t> b) {
  std::unordered_map<uint64_t, uint64_t> counts;
  for (size_t i = 0; i < a.size(); ++i)
    ++counts[uint64_t{static_cast<uint32_t>(a[i])} << 32 | static_cast<uint32_t>(b[i])];
  std::vector<Cell> cells;
  cells.reserve(counts.size());
  for (const auto& [key, count] : counts) {
    cells.push_back({static_cast<uint32_t>(key >> 32), static_cast<uint32_t>(key), count});
  }
  std::sort(cells.begin(), cells.end(),
            [](const Cell& x, const Cell& y) { return std::tie(x.from, x.to) < std::tie(y.from, y.to); });
  return cells;
}

void SortBySize(std::vector<Cell>& cells) {
  std::stable_sort(cells.begin(), cells.end(),
                   [](const Cell& x, const Cell& y) { return x.count > y.count; });
}

// Identities that stay if numbers are matched one to one, the largest overlap first.
uint64_t StayedWhenMatched(std::vector<Cell> cells) {
  SortBySize(cells);
  std::set<uint32_t> from, to;
  uint64_t stayed = 0;
  for (const Cell& cell : cells) {
    if (from.count(cell.from) > 0 || to.count(cell.to) > 0) continue;
    from.insert(cell.from);
    to.insert(cell.to);
    stayed += cell.count;
  }
  return stayed;
}

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double Cosine(absl::Span<const float> a, absl::Span<const float> b) {
  double dot = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    dot += double{a[i]} * double{b[i]};
    aa += double{a[i]} * double{a[i]};
    bb += double{b[i]} * double{b[i]};
  }
  return aa > 0 && bb > 0 ? dot / std::sqrt(aa * bb) : 0;
}

void DiffSubspaces(const Generation& from, const Generation& to, const std::vector<Cell>& cells,
                   v1::DiffGenerationsResponse& diff) {
  const uint32_t m = std::max(from.num_subspaces(), to.num_subspaces());
  for (uint32_t s = 0; s < m; ++s) {
    v1::SubspaceDiff& subspace = *diff.add_subspaces();
    subspace.set_subspace(s);
    if (s < from.num_subspaces()) subspace.set_from(from.Members(s).size());
    if (s < to.num_subspaces()) subspace.set_to(to.Members(s).size());
    if (s < from.num_subspaces() && s < to.num_subspaces() && from.dimension() == to.dimension()) {
      subspace.set_centroid_cosine(Cosine(from.Centroid(s), to.Centroid(s)));
    }
  }
  for (const Cell& cell : cells) {
    v1::SubspaceDiff& source = *diff.mutable_subspaces(static_cast<int>(cell.from));
    v1::SubspaceDiff& target = *diff.mutable_subspaces(static_cast<int>(cell.to));
    if (cell.from == cell.to) {
      source.set_stayed(cell.count);
    } else {
      source.set_departed(source.departed() + cell.count);
      target.set_arrived(target.arrived() + cell.count);
    }
  }
}

// The identities that both cover, ascending.
std::vector<uint64_t> Common(const IdentityRows& a, const IdentityRows& b) {
  std::vector<uint64_t> common;
  common.reserve(std::min(a.size(), b.size()));
  for (const IdentityRows::Range& range : a.ranges()) {
    for (uint64_t identity = range.first; identity < range.first + range.count; ++identity) {
      if (b.Contains(identity)) common.push_back(identity);
    }
  }
  return common;
}

}  // namespace

v1::DiffGenerationsResponse DiffGenerations(const Generation& from, const Generation& to,
                                            const Catalog& catalog, uint32_t limit) {
  const std::vector<uint64_t> common = Common(from.rows(), to.rows());
  v1::DiffGenerationsResponse diff;
  diff.set_from(from.number());
  diff.set_to(to.number());
  diff.set_common(common.size());
  diff.set_only_from(from.num_identities() - diff.common());
  diff.set_only_to(to.num_identities() - diff.common());
  std::vector<int32_t> a, b;
  a.reserve(common.size());
  b.reserve(common.size());
  for (const uint64_t identity : common) {
    a.push_back(static_cast<int32_t>(from.SubspaceOf(identity)));
    b.push_back(static_cast<int32_t>(to.SubspaceOf(identity)));
    if (a.back() == b.back()) continue;
    diff.set_moved(diff.moved() + 1);
    if (diff.identities_size() >= static_cast<int64_t>(limit)) continue;
    v1::MovedIdentity& moved = *diff.add_identities();
    moved.set_identity(identity);
    moved.set_name(std::string(catalog.IdentityName(identity)));
    moved.set_from(static_cast<uint32_t>(a.back()));
    moved.set_to(static_cast<uint32_t>(b.back()));
  }
  std::vector<Cell> cells = Contingency(a, b);
  diff.set_churn(Share(diff.moved(), diff.common()));
  diff.set_matched_churn(Share(diff.common() - StayedWhenMatched(cells), diff.common()));
  diff.set_nmi(NormalizedMutualInformation(a, b));
  DiffSubspaces(from, to, cells, diff);
  SortBySize(cells);
  for (const Cell& cell : cells) {
    if (cell.from == cell.to) continue;
    if (diff.flows_size() >= static_cast<int64_t>(limit)) break;
    v1::SubspaceFlow& flow = *diff.add_flows();
    flow.set_from(cell.from);
    flow.set_to(cell.to);
    flow.set_identities(cell.count);
  }
  return diff;
}

void DescribeMoves(const Generation& previous, const GenerationContents& contents, v1::GenerationInfo& info) {
  const IdentityRows covered = contents.rows();
  const std::vector<uint64_t> common = Common(previous.rows(), covered);
  std::vector<int32_t> a, b;
  a.reserve(common.size());
  b.reserve(common.size());
  uint64_t moved = 0;
  for (const uint64_t identity : common) {
    a.push_back(static_cast<int32_t>(previous.SubspaceOf(identity)));
    b.push_back(contents.assignment[covered.Row(identity)]);
    moved += a.back() != b.back();
  }
  const std::vector<Cell> cells = Contingency(a, b);
  info.set_previous(previous.number());
  info.set_churn(Share(moved, common.size()));
  info.set_nmi(NormalizedMutualInformation(a, b));
  for (const Cell& cell : cells) {
    if (cell.from == cell.to) continue;
    if (cell.from < static_cast<uint32_t>(info.subspace_size())) {
      v1::SubspaceInfo& source = *info.mutable_subspace(static_cast<int>(cell.from));
      source.set_departed(source.departed() + cell.count);
    }
    v1::SubspaceInfo& target = *info.mutable_subspace(static_cast<int>(cell.to));
    target.set_arrived(target.arrived() + cell.count);
  }
}

}  // namespace doppel
