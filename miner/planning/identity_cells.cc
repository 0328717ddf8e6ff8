#include "miner/planning/identity_cells.h"

#include <algorithm>
#include <array>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr uint32_t kNearbyCentroids = 32;

class SubspaceCells : public IdentityCells {
 public:
  explicit SubspaceCells(std::shared_ptr<const Generation> generation) : generation_(std::move(generation)) {}

  uint32_t count() const override { return generation_->num_subspaces(); }
  uint64_t size(uint32_t cell) const override { return generation_->Members(cell).size(); }
  uint64_t At(uint32_t cell, uint64_t position) const override {
    return generation_->Members(cell)[position];
  }
  void Gather(uint32_t cell, size_t count, uint64_t* identities) const override {
    const absl::Span<const uint32_t> members = generation_->Members(cell);
    for (size_t i = 0; i < count; ++i) identities[i] = members[identities[i]];
  }
  std::vector<Place> Places(uint64_t identity) const override {
    if (!generation_->Covers(identity)) return {};
    const uint32_t home = generation_->SubspaceOf(identity);
    const absl::Span<const uint32_t> members = generation_->Members(home);
    const auto found = std::lower_bound(members.begin(), members.end(), identity);
    return {{home, static_cast<uint64_t>(found - members.begin())}};
  }
  std::string name() const override {
    return absl::StrCat(count(), " subspaces of generation ", generation_->number());
  }

 protected:
  const std::shared_ptr<const Generation> generation_;
};

float DotOf(const float* a, const float* b, int dimension) {
  constexpr int kLanes = 8;  // a fixed shape that the compiler turns into vectors
  std::array<float, kLanes> sums{};
  int d = 0;
  for (; d + kLanes <= dimension; d += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += a[d + lane] * b[d + lane];
  }
  float sum = 0;
  for (float lane : sums) sum += lane;
  for (; d < dimension; ++d) sum += a[d] * b[d];
  return sum;
}

class OverlapCells : public SubspaceCells {
 public:
  OverlapCells(const std::shared_ptr<const Generation>& generation, uint32_t overlap)
      : SubspaceCells(generation), guests_of_each_(std::min(overlap, generation->num_subspaces()) - 1) {
    FindNearby();
    FindGuests();
  }

  uint64_t size(uint32_t cell) const override {
    return SubspaceCells::size(cell) + first_guest_[cell + 1] - first_guest_[cell];
  }
  uint64_t At(uint32_t cell, uint64_t position) const override {
    const absl::Span<const uint32_t> members = generation_->Members(cell);
    return position < members.size() ? members[position]
                                     : guests_[first_guest_[cell] + position - members.size()];
  }
  void Gather(uint32_t cell, size_t count, uint64_t* identities) const override {
    const absl::Span<const uint32_t> members = generation_->Members(cell);
    // Their address, so that no guess at who is a guest, wrong half of the time, holds up the next.
    const uint32_t* const guests = guests_.data() + first_guest_[cell];
    for (size_t i = 0; i < count; ++i) {
      const uint64_t position = identities[i];
      const uint32_t* const from =
          position < members.size() ? members.data() + position : guests + (position - members.size());
      identities[i] = *from;
    }
  }
  uint64_t AtHome(uint32_t cell) const override { return SubspaceCells::size(cell); }
  std::vector<Place> Places(uint64_t identity) const override {
    std::vector<Place> places = SubspaceCells::Places(identity);
    if (places.empty()) return places;
    std::vector<uint32_t> others;
    Visits(identity, &others);
    for (uint32_t cell : others) {
      const auto begin = guests_.begin() + static_cast<int64_t>(first_guest_[cell]);
      const auto end = guests_.begin() + static_cast<int64_t>(first_guest_[cell + 1]);
      places.push_back({cell, SubspaceCells::size(cell) +
                                  static_cast<uint64_t>(std::lower_bound(begin, end, identity) - begin)});
    }
    return places;
  }

 private:
  // Of each centroid the others, the nearest first.
  void FindNearby() {
    const uint32_t subspaces = generation_->num_subspaces();
    nearby_.resize(subspaces);
    std::vector<std::pair<float, uint32_t>> others;
    for (uint32_t s = 0; s < subspaces; ++s) {
      others.clear();
      for (uint32_t t = 0; t < subspaces; ++t) {
        if (t == s) continue;
        others.emplace_back(-Cosine(generation_->Centroid(s), t), t);
      }
      const size_t kept = std::min<size_t>(others.size(), std::max(kNearbyCentroids, guests_of_each_));
      std::partial_sort(others.begin(), others.begin() + static_cast<int64_t>(kept), others.end());
      nearby_[s].reserve(kept);
      for (size_t i = 0; i < kept; ++i) nearby_[s].push_back(others[i].second);
    }
  }

  void FindGuests() {
    const uint32_t subspaces = generation_->num_subspaces();
    const IdentityRows rows = generation_->rows();
    const uint64_t n = rows.size();
    std::vector<uint32_t> chosen;  // [n, guests_of_each_]
    chosen.reserve(n * guests_of_each_);
    std::vector<uint32_t> others;
    first_guest_.assign(subspaces + 1, 0);
    for (uint64_t i = 0; i < n; ++i) {
      Visits(rows.Identity(i), &others);
      for (uint32_t cell : others) {
        chosen.push_back(cell);
        ++first_guest_[cell + 1];
      }
    }
    for (uint32_t s = 0; s < subspaces; ++s) first_guest_[s + 1] += first_guest_[s];
    std::vector<uint64_t> next(first_guest_.begin(), first_guest_.end() - 1);
    guests_.resize(chosen.size());
    for (uint64_t j = 0; j < chosen.size(); ++j) {
      guests_[next[chosen[j]]++] = static_cast<uint32_t>(rows.Identity(j / guests_of_each_));
    }
  }

  void Visits(uint64_t identity, std::vector<uint32_t>* cells) const {
    const absl::Span<const float> representation = generation_->Representation(identity);
    cells->clear();
    std::array<std::pair<float, uint32_t>, 1> nearest{};
    const std::vector<uint32_t>& nearby = nearby_[generation_->SubspaceOf(identity)];
    if (guests_of_each_ == 1) {  // by far the most usual
      nearest[0] = {2, 0};
      for (uint32_t s : nearby) nearest[0] = std::min(nearest[0], {-Cosine(representation, s), s});
      cells->push_back(nearest[0].second);
      return;
    }
    std::vector<std::pair<float, uint32_t>> all;
    all.reserve(nearby.size());
    for (uint32_t s : nearby) all.emplace_back(-Cosine(representation, s), s);
    std::partial_sort(all.begin(), all.begin() + guests_of_each_, all.end());
    for (uint32_t i = 0; i < guests_of_each_; ++i) cells->push_back(all[i].second);
  }

  float Cosine(absl::Span<const float> a, uint32_t subspace) const {
    return DotOf(a.data(), generation_->Centroid(subspace).data(), generation_->dimension());
  }

  const uint32_t guests_of_each_;
  std::vector<std::vector<uint32_t>> nearby_;  // [subspaces]
  std::vector<uint64_t> first_guest_;          // [subspaces + 1]
  std::vector<uint32_t> guests_;               // by subspace, then ascending
};

class CategoryCells : public IdentityCells {
 public:
  // Identities [first, end) are the cell's from position `offset` on.
  struct Part {
    uint64_t first = 0;
    uint64_t end = 0;
    uint64_t offset = 0;
    uint32_t cell = 0;
  };
  // `parts`: ascending; those of a cell with ascending offsets.
  CategoryCells(std::vector<Part> parts, uint32_t cells, uint64_t identities, std::string separator)
      : parts_(std::move(parts)), cells_(cells), separator_(std::move(separator)), homeless_(identities) {
    for (uint32_t i = 0; i < parts_.size(); ++i) {
      cells_[parts_[i].cell].push_back(i);
      homeless_ -= parts_[i].end - parts_[i].first;
    }
  }

  uint32_t count() const override { return static_cast<uint32_t>(cells_.size()); }
  uint64_t size(uint32_t cell) const override {
    const Part& last = parts_[cells_[cell].back()];
    return last.offset + (last.end - last.first);
  }
  uint64_t At(uint32_t cell, uint64_t position) const override {
    const std::vector<uint32_t>& own = cells_[cell];
    const auto after =
        std::upper_bound(own.begin(), own.end(), position,
                         [this](uint64_t wanted, uint32_t part) { return wanted < parts_[part].offset; });
    const Part& part = parts_[*(after - 1)];
    return part.first + (position - part.offset);
  }
  std::vector<Place> Places(uint64_t identity) const override {
    const auto after =
        std::upper_bound(parts_.begin(), parts_.end(), identity,
                         [](uint64_t wanted, const Part& part) { return wanted < part.first; });
    if (after == parts_.begin()) return {};
    const Part& part = *(after - 1);
    if (identity >= part.end) return {};
    return {{part.cell, part.offset + (identity - part.first)}};
  }
  uint64_t homeless() const override { return homeless_; }
  std::string homeless_reason() const override {
    return absl::StrCat("have no \"", separator_, "\" in their names");
  }
  bool are_subspaces() const override { return false; }
  std::string name() const override { return absl::StrCat(count(), " categories"); }

 private:
  const std::vector<Part> parts_;
  std::vector<std::vector<uint32_t>> cells_;  // of each, its parts
  const std::string separator_;
  uint64_t homeless_;
};

// Puts together what a category has in several ranges of names.
class CategoryParts {
 public:
  CategoryParts(const Catalog& catalog, std::string separator)
      : catalog_(catalog), separator_(std::move(separator)) {}

  // Of a range whose names are in order: those that begin alike, then all others.
  void AddRange(uint64_t first, uint64_t last) {
    for (uint64_t i = first; i < last;) {
      const absl::string_view name = catalog_.IdentityName(i);
      const size_t at = name.find(separator_);
      if (at == absl::string_view::npos) {
        ++i;
        continue;
      }
      const absl::string_view prefix = name.substr(0, at + separator_.size());
      uint64_t low = i + 1, high = last;
      while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (absl::StartsWith(catalog_.IdentityName(middle), prefix)) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      Add(prefix, i, low);
      i = low;
    }
  }
  std::unique_ptr<const IdentityCells> Take(uint64_t identities) {
    return std::make_unique<CategoryCells>(std::move(parts_), static_cast<uint32_t>(sizes_.size()),
                                           identities, std::move(separator_));
  }
  bool empty() const { return parts_.empty(); }

 private:
  void Add(absl::string_view prefix, uint64_t first, uint64_t end) {
    const uint32_t cell =
        cells_.try_emplace(std::string(prefix), static_cast<uint32_t>(sizes_.size())).first->second;
    if (cell == sizes_.size()) sizes_.push_back(0);
    parts_.push_back({first, end, sizes_[cell], cell});
    sizes_[cell] += end - first;
  }

  const Catalog& catalog_;
  std::string separator_;
  std::unordered_map<std::string, uint32_t> cells_;
  std::vector<uint64_t> sizes_;
  std::vector<CategoryCells::Part> parts_;
};

}  // namespace

std::unique_ptr<const IdentityCells> MakeSubspaceCells(std::shared_ptr<const Generation> generation) {
  return std::make_unique<SubspaceCells>(std::move(generation));
}

absl::StatusOr<std::unique_ptr<const IdentityCells>> MakeOverlapCells(
    const std::shared_ptr<const Generation>& generation, uint32_t overlap) {
  if (overlap < 2 || generation->num_subspaces() < 2) return MakeSubspaceCells(generation);
  if (generation->dimension() < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("plan \"subspace_overlap\" compares identities with centroids and generation ",
                     generation->number(), " has no representations"));
  }
  return std::unique_ptr<const IdentityCells>(std::make_unique<OverlapCells>(generation, overlap));
}

absl::StatusOr<std::unique_ptr<const IdentityCells>> MakeCategoryCells(const PlanInputs& inputs) {
  const Catalog& catalog = *inputs.catalog;
  ASSIGN_OR_RETURN(const CatalogSplitInfo split, catalog.Split(inputs.spec.split()));
  const std::string separator =
      inputs.spec.category_separator().empty() ? "/" : inputs.spec.category_separator();
  CategoryParts parts(catalog, separator);
  const IdentityRows rows = split.rows();
  for (const CatalogSplitInfo& range : catalog.sorted_ranges()) {
    if (range.identities > 0 && rows.Contains(range.first_identity))
      parts.AddRange(range.first_identity, range.first_identity + range.identities);
  }
  if (parts.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "category_separator \"", separator, "\": no identity of split \"", split.name,
        "\" has it in its name; a category is what comes before it, as in \"shoe", separator, "0012\""));
  }
  return parts.Take(split.identities);
}

}  // namespace doppel
