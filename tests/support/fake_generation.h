#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "common/base/philox.h"
#include "common/catalog/catalog.h"
#include "doppel/v1/types.pb.h"
#include "miner/generation/generation.h"

namespace doppel {

// A generation in memory, from an assignment of the identities [first_identity, + assignment.size()) to
// subspaces. Centroids and representations are random unit vectors of `dimension` floats, drawn by number
// (none if it is 0). Thread-safe.
class FakeGeneration : public Generation {
 public:
  FakeGeneration(uint64_t number, uint64_t first_identity, std::vector<uint32_t> assignment,
                 uint32_t subspaces, int dimension = 0)
      : first_identity_(first_identity), assignment_(std::move(assignment)), dimension_(dimension) {
    begin_.assign(subspaces + 1, 0);
    for (uint32_t subspace : assignment_) ++begin_[subspace + 1];
    for (uint32_t s = 0; s < subspaces; ++s) begin_[s + 1] += begin_[s];
    std::vector<uint64_t> next(begin_.begin(), begin_.end() - 1);
    members_.resize(assignment_.size());
    for (uint64_t i = 0; i < assignment_.size(); ++i) {
      members_[next[assignment_[i]]++] = static_cast<uint32_t>(first_identity + i);
    }
    centroids_ = RandomUnitRows(subspaces, MixKey(number, 1));
    representations_ = RandomUnitRows(assignment_.size(), MixKey(number, 2));
    FillInfo(number);
  }

  // To be called before it is shared.
  v1::GenerationInfo& mutable_info() { return info_; }

  // Both before it is shared. `rows`: [identities, k], catalog identity numbers. `similarities`: the same
  // shape, or [k] for all.
  void SetNeighbours(int k, std::vector<uint32_t> rows, std::vector<float> similarities) {
    num_neighbours_ = k;
    neighbours_ = std::move(rows);
    similarities_ = std::move(similarities);
    info_.set_neighbours(static_cast<uint32_t>(k));
  }
  // k others of every identity, drawn by `seed`, with similarities that fall from 0.99 to 0.5. k <
  // identities.
  void SetRandomNeighbours(int k, uint64_t seed) {
    const Philox philox(seed);
    const uint64_t n = num_identities();
    std::vector<uint32_t> rows;
    rows.reserve(n * k);
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t start = philox.Below(n - 1, i);
      for (int j = 0; j < k; ++j) {
        rows.push_back(static_cast<uint32_t>(first_identity_ + (i + 1 + (start + j) % (n - 1)) % n));
      }
    }
    std::vector<float> similarities;
    for (int j = 0; j < k; ++j) {
      similarities.push_back(0.99F - 0.49F * static_cast<float>(j) / static_cast<float>(k));
    }
    SetNeighbours(k, std::move(rows), std::move(similarities));
  }
  void SetGuardList(GuardList guard_list) { guard_list_ = std::move(guard_list); }

  int num_neighbours() const override { return num_neighbours_; }
  absl::Span<const uint32_t> Neighbours(uint64_t identity) const override {
    return absl::MakeConstSpan(neighbours_)
        .subspan((identity - first_identity_) * num_neighbours_, num_neighbours_);
  }
  absl::Span<const float> NeighbourSimilarities(uint64_t identity) const override {
    const bool shared = similarities_.size() == static_cast<size_t>(num_neighbours_);
    return absl::MakeConstSpan(similarities_)
        .subspan(shared ? 0 : (identity - first_identity_) * num_neighbours_, num_neighbours_);
  }
  const GuardList& guard_list() const override { return guard_list_; }

  const v1::GenerationInfo& info() const override { return info_; }
  uint64_t first_identity() const override { return first_identity_; }
  uint64_t num_identities() const override { return assignment_.size(); }
  uint32_t num_subspaces() const override { return static_cast<uint32_t>(begin_.size() - 1); }
  int dimension() const override { return dimension_; }
  absl::Span<const uint32_t> Members(uint32_t subspace) const override {
    return absl::MakeConstSpan(members_).subspan(begin_[subspace], begin_[subspace + 1] - begin_[subspace]);
  }
  uint32_t SubspaceOf(uint64_t identity) const override { return assignment_[identity - first_identity_]; }
  absl::Span<const float> Centroid(uint32_t subspace) const override {
    return absl::MakeConstSpan(centroids_).subspan(uint64_t{subspace} * dimension_, dimension_);
  }
  absl::Span<const float> Representation(uint64_t identity) const override {
    return absl::MakeConstSpan(representations_)
        .subspan((identity - first_identity_) * dimension_, dimension_);
  }

 private:
  void FillInfo(uint64_t number) {
    info_.set_generation(number);
    info_.set_created_at("2020-01-01T00:00:00Z");
    info_.set_identities(assignment_.size());
    info_.set_subspaces(num_subspaces());
    info_.set_dimension(dimension_);
    uint64_t smallest = assignment_.size(), largest = 0;
    for (uint32_t s = 0; s < num_subspaces(); ++s) {
      const uint64_t size = Members(s).size();
      smallest = std::min(smallest, size);
      largest = std::max(largest, size);
      v1::SubspaceInfo* subspace = info_.add_subspace();
      subspace->set_subspace(s);
      subspace->set_identities(size);
    }
    info_.set_smallest_subspace(smallest);
    info_.set_largest_subspace(largest);
    if (!assignment_.empty()) {
      info_.set_imbalance(static_cast<double>(largest) * num_subspaces() /
                          static_cast<double>(assignment_.size()));
    }
  }

  std::vector<float> RandomUnitRows(uint64_t rows, uint64_t key) const {
    const Philox philox(key);
    std::vector<float> values(rows * dimension_);
    for (uint64_t i = 0; i < rows; ++i) {
      float* row = values.data() + i * dimension_;
      double norm = 0;
      for (int j = 0; j < dimension_; ++j) {
        row[j] = static_cast<float>(philox.Uniform(i * dimension_ + j) - 0.5);
        norm += double{row[j]} * row[j];
      }
      for (int j = 0; j < dimension_; ++j) row[j] = static_cast<float>(row[j] / std::sqrt(norm));
    }
    return values;
  }

  uint64_t first_identity_;
  std::vector<uint32_t> assignment_;
  int dimension_;
  std::vector<uint64_t> begin_;  // [subspaces + 1]
  std::vector<uint32_t> members_;
  std::vector<float> centroids_;
  std::vector<float> representations_;
  v1::GenerationInfo info_;
  int num_neighbours_ = 0;
  std::vector<uint32_t> neighbours_;
  std::vector<float> similarities_;
  GuardList guard_list_;
};

// Covers one split of the catalog (as Catalog::Split names it), each identity in a subspace drawn by `seed`.
inline std::shared_ptr<const FakeGeneration> MakeFakeGeneration(const Catalog& catalog,
                                                                const std::string& split, uint32_t subspaces,
                                                                uint64_t seed, int dimension = 0) {
  const CatalogSplitInfo range = catalog.Split(split).value();
  const Philox philox(seed);
  std::vector<uint32_t> assignment(range.identities);
  for (uint64_t i = 0; i < range.identities; ++i) {
    assignment[i] = static_cast<uint32_t>(philox.Below(subspaces, i));
  }
  auto generation =
      std::make_shared<FakeGeneration>(1, range.first_identity, std::move(assignment), subspaces, dimension);
  generation->mutable_info().set_catalog_fingerprint(catalog.fingerprint());
  generation->mutable_info().set_split(range.name);
  return generation;
}

}  // namespace doppel
