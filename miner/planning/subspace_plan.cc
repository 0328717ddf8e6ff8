#include "miner/planning/subspace_plan.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/permutation.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "miner/planning/identity_cells.h"
#include "miner/planning/turns.h"

namespace doppel {
namespace {

constexpr uint64_t kMembersTag = 0x6d656d62657273;             // "members"
constexpr uint64_t kBlocksTag = 0x626c6f636b73;                // "blocks"
constexpr uint64_t kSubspaceSubstituteTag = 0x73207375627374;  // "s subst"
// Of a stage: a round has so many visits, and so many for each cell, at least, unless an epoch is shorter.
constexpr uint64_t kRoundVisits = 256;
constexpr uint64_t kRoundVisitsPerCell = 4;
constexpr int kMostStages = 65536;
constexpr uint64_t kMostStageCursor = uint64_t{1} << 62;

// Rounds of the same visits, from a cursor on.
struct VisitStage {
  uint64_t from_cursor = 0;
  std::optional<uint64_t> decided;    // from_cursor of the SubspaceStage
  uint64_t rounds_before = 0;         // in earlier stages
  std::vector<uint64_t> first_visit;  // [cells + 1], prefix sums of a round
  std::vector<uint64_t> before;       // [cells], visits in earlier stages

  uint64_t round() const { return first_visit.back(); }
  uint64_t visits(uint32_t cell) const { return first_visit[cell + 1] - first_visit[cell]; }
};

class SubspacePlan : public Plan {
 public:
  SubspacePlan(PlanInputs inputs, std::unique_ptr<const IdentityCells> cells)
      : inputs_(std::move(inputs)),
        run_length_(std::max<uint64_t>(1, inputs_.spec.run_length())),
        cells_(std::move(cells)),
        sampler_(inputs_.Sampler()) {
    LeaveOutDropped();
    CountBatches();
    AddStages();
    CountCoverage();
  }

  PlannedBatch At(uint64_t cursor) const override {
    PlannedBatch batch;
    batch.drawn_by = inputs_.spec.name();
    batch.hard_share = 1;
    batch.cursor = cursor;
    const VisitStage& stage =
        *(std::upper_bound(stages_.begin(), stages_.end(), cursor,
                           [](uint64_t c, const VisitStage& s) { return c < s.from_cursor; }) -
          1);
    const uint64_t rounds = (cursor - stage.from_cursor) / stage.round();
    batch.epoch = stage.rounds_before + rounds;
    const uint64_t flat = FlatVisit(stage.round(), batch.epoch, (cursor - stage.from_cursor) % stage.round());
    // The last cell that begins at or before it; those without visits share their successor's beginning.
    const auto cell =
        static_cast<uint32_t>(std::upper_bound(stage.first_visit.begin(), stage.first_visit.end(), flat) -
                              stage.first_visit.begin() - 1);
    if (cells_->are_subspaces()) batch.subspace = static_cast<int32_t>(cell);

    // The cell's own clock.
    const uint64_t visits = stage.visits(cell);
    const uint64_t visit = stage.before[cell] + rounds * visits + flat - stage.first_visit[cell];
    batch.subspace_stage = stage.decided;
    if (stage.decided.has_value()) {
      batch.subspace_share = static_cast<double>(visits) / static_cast<double>(stage.round());
    }
    const uint64_t epoch = visit / batches_[cell];
    const uint64_t begin = visit % batches_[cell] * inputs_.P();
    const uint64_t size = Size(cell);
    const KeyedPermutation order(size, MixKey(MixKey(inputs_.seed, kMembersTag, epoch), cell));
    const auto position = [&](uint64_t u) { return left_out_.empty() ? u : left_out_[cell](u); };
    batch.identities.resize(inputs_.P());
    order.Range(begin, inputs_.P(), batch.identities.data());
    std::vector<uint64_t> epochs(inputs_.P(), epoch);
    const uint64_t at_home = cells_->AtHome(cell);
    for (uint64_t i = 0; i < inputs_.P(); ++i) {
      uint64_t& turn = batch.identities[i];
      turn = position(turn);
      if (turn >= at_home) ++epochs[i];  // a guest shows other images than it does at home in the same epoch
    }
    cells_->Gather(cell, inputs_.P(), batch.identities.data());
    TakeTurns(
        inputs_, sampler_, std::move(epochs), size, [&](uint64_t u) { return cells_->At(cell, position(u)); },
        MixKey(inputs_.seed, kSubspaceSubstituteTag, cursor), &batch);
    return batch;
  }

  const PlanCoverage& coverage() const override { return coverage_; }

 private:
  uint64_t Size(uint32_t cell) const {
    return left_out_.empty() ? cells_->size(cell) : left_out_[cell].size();
  }

  // Which visit of the epoch its `position`-th is.
  uint64_t FlatVisit(uint64_t round, uint64_t epoch, uint64_t position) const {
    const uint64_t full_blocks = round / run_length_;
    const uint64_t block = position / run_length_;
    if (block >= full_blocks) return position;
    const KeyedPermutation order(full_blocks, MixKey(inputs_.seed, kBlocksTag, epoch));
    return order(block) * run_length_ + position % run_length_;
  }

  void LeaveOutDropped() {
    dropped_ = DroppedIdentities(inputs_);
    if (dropped_.empty()) return;
    std::vector<std::vector<uint64_t>> positions(cells_->count());
    std::vector<uint64_t> covered;
    for (uint64_t identity : dropped_) {
      const std::vector<IdentityCells::Place> places = cells_->Places(identity);
      if (!places.empty()) covered.push_back(identity);
      for (const IdentityCells::Place& place : places) positions[place.cell].push_back(place.position);
    }
    dropped_ = std::move(covered);
    left_out_.reserve(positions.size());
    for (uint32_t cell = 0; cell < positions.size(); ++cell) {
      std::sort(positions[cell].begin(), positions[cell].end());
      left_out_.emplace_back(cells_->size(cell), positions[cell]);
    }
  }

  // The pairs that meet in each cell, by cell.
  std::vector<std::pair<uint32_t, GuardList::Pair>> GuardedWithin() const {
    std::vector<std::pair<uint32_t, GuardList::Pair>> within;
    const auto gone = [this](uint32_t i) { return std::binary_search(dropped_.begin(), dropped_.end(), i); };
    for (const GuardList::Pair& pair : inputs_.guard_list().pairs()) {
      if (gone(pair.first) || gone(pair.second)) continue;
      const std::vector<IdentityCells::Place> others = cells_->Places(pair.second);
      for (const IdentityCells::Place& place : cells_->Places(pair.first)) {
        const bool both = std::any_of(others.begin(), others.end(),
                                      [&](const auto& other) { return other.cell == place.cell; });
        if (both) within.emplace_back(place.cell, pair);
      }
    }
    std::sort(within.begin(), within.end());
    return within;
  }

  void CountBatches() {
    const std::vector<std::pair<uint32_t, GuardList::Pair>> within = GuardedWithin();
    auto next = within.begin();
    std::vector<GuardList::Pair> pairs;
    batches_.reserve(cells_->count());
    for (uint32_t cell = 0; cell < cells_->count(); ++cell) {
      pairs.clear();
      for (; next != within.end() && next->first == cell; ++next) pairs.push_back(next->second);
      const uint64_t sure = SureToFit(Size(cell), pairs);
      batches_.push_back(sure < inputs_.P() ? 0 : Size(cell) / inputs_.P());
    }
  }

  // A stage's round: `batches` visits, of which each cell gets its weight's share, and at least 1.
  template <typename Weight>
  std::vector<uint64_t> Round(double batches, const Weight& weight_of) const {
    double all = 0;
    for (uint32_t cell = 0; cell < cells_->count(); ++cell) {
      if (batches_[cell] > 0) all += weight_of(cell);
    }
    std::vector<uint64_t> first_visit;
    first_visit.reserve(cells_->count() + 1);
    first_visit.push_back(0);
    for (uint32_t cell = 0; cell < cells_->count(); ++cell) {
      uint64_t visits = 0;
      if (batches_[cell] > 0 && weight_of(cell) > 0) {
        visits = std::max<uint64_t>(1, static_cast<uint64_t>(std::llround(batches * weight_of(cell) / all)));
      }
      first_visit.push_back(first_visit.back() + visits);
    }
    return first_visit;
  }

  void AddStages() {
    uint64_t batches = 0, cells = 0;
    for (uint64_t count : batches_) {
      batches += count;
      cells += count > 0 ? 1 : 0;
    }
    const auto& weights = inputs_.spec.subspace_weight();
    VisitStage first;
    first.before.assign(cells_->count(), 0);
    first.first_visit = Round(static_cast<double>(batches), [&](uint32_t cell) {
      return weights.empty() ? static_cast<double>(batches_[cell]) : weights[static_cast<int>(cell)];
    });
    stages_.push_back(std::move(first));
    if (stages_.front().round() == 0) return;
    const uint64_t round = std::min(batches, std::max(kRoundVisits, cells * kRoundVisitsPerCell));
    for (const v1::SubspaceStage& decided : inputs_.spec.subspace_stage()) {
      if (!cells_->are_subspaces() || decided.generation() != inputs_.generation->number()) continue;
      AddStage(decided, round);
    }
  }

  void AddStage(const v1::SubspaceStage& decided, uint64_t round) {
    VisitStage stage;
    stage.decided = decided.from_cursor();
    stage.first_visit = Round(static_cast<double>(round), [&](uint32_t cell) {
      return static_cast<double>(decided.weight(static_cast<int>(cell)));
    });
    if (stage.round() == 0) return;  // all that have a weight cannot fill a batch
    const VisitStage& last = stages_.back();
    const uint64_t rounds = (decided.from_cursor() - last.from_cursor + last.round() - 1) / last.round();
    // Of those that begin at the same round the last one counts.
    const bool replaces = decided.from_cursor() <= last.from_cursor;
    stage.from_cursor = replaces ? last.from_cursor : last.from_cursor + rounds * last.round();
    stage.rounds_before = last.rounds_before + (replaces ? 0 : rounds);
    stage.before = last.before;
    for (uint32_t cell = 0; !replaces && cell < cells_->count(); ++cell) {
      stage.before[cell] += rounds * last.visits(cell);
    }
    if (replaces) stages_.pop_back();
    stages_.push_back(std::move(stage));
  }

  void CountCoverage() {
    const std::vector<uint64_t>& first_visit = stages_.front().first_visit;
    coverage_.batches_per_epoch = first_visit.back();
    uint64_t unvisited = 0, left_out = 0;
    overlaps_ = inputs_.spec.name() == "subspace_overlap";
    uint64_t all = cells_->homeless();
    for (uint32_t cell = 0; cell < cells_->count(); ++cell) {
      const bool visited = first_visit[cell + 1] > first_visit[cell];
      if (!visited) ++unvisited;
      if (!overlaps_) {
        all += cells_->size(cell);
        if (!visited) left_out += Size(cell);
        continue;
      }
      for (uint64_t i = 0; i < cells_->AtHome(cell); ++i) {
        ++all;
        if (!visited && !VisitedElsewhere(cells_->At(cell, i))) ++left_out;
      }
    }
    coverage_.left_out = left_out + dropped_.size() + cells_->homeless();
    coverage_.identities = all - coverage_.left_out;
    const auto reason = [this](uint64_t identities, const std::string& why) {
      if (identities == 0) return;
      std::string& text = coverage_.left_out_reason;
      absl::StrAppend(&text, text.empty() ? "" : "; ", identities, " ", why);
    };
    if (left_out > 0) {
      coverage_.left_out_reason =
          absl::StrCat("in ", unvisited, cells_->are_subspaces() ? " subspaces" : " categories",
                       " with fewer than ", inputs_.P(), " identities");
      if (!inputs_.guard_list().pairs().empty()) coverage_.left_out_reason += " that may meet";
      if (!inputs_.spec.subspace_weight().empty()) coverage_.left_out_reason += " or of weight 0";
    }
    reason(dropped_.size(), "have no sample that the guard list does not drop");
    reason(cells_->homeless(), cells_->homeless_reason());
  }

  bool VisitedElsewhere(uint64_t identity) const {
    if (std::binary_search(dropped_.begin(), dropped_.end(), identity)) return true;  // counted by themselves
    const std::vector<IdentityCells::Place> places = cells_->Places(identity);
    return std::any_of(places.begin(), places.end(), [this](const IdentityCells::Place& place) {
      return stages_.front().visits(place.cell) > 0;
    });
  }

  const PlanInputs inputs_;
  const uint64_t run_length_;
  const std::unique_ptr<const IdentityCells> cells_;
  const IdentitySampler sampler_;
  bool overlaps_ = false;
  std::vector<uint64_t> dropped_;        // covered identities without a sample, ascending
  std::vector<KeptPositions> left_out_;  // [cells], or none if nobody is
  std::vector<uint64_t> batches_;        // [cells], in which a cell is gone through once
  std::vector<VisitStage> stages_;       // by ascending cursor, the first from 0
  PlanCoverage coverage_;
};

absl::Status CheckWeights(const v1::PlanSpec& spec, uint32_t subspaces) {
  if (spec.subspace_weight().empty()) return absl::OkStatus();
  if (static_cast<uint32_t>(spec.subspace_weight().size()) != subspaces) {
    return absl::InvalidArgumentError(absl::StrCat("subspace_weight has ", spec.subspace_weight().size(),
                                                   " entries and the generation ", subspaces,
                                                   " subspaces: give one for each, and pin the generation"));
  }
  for (double weight : spec.subspace_weight()) {
    if (!(weight >= 0 && weight < 1e12)) {
      return absl::InvalidArgumentError(
          absl::StrCat("subspace_weight ", weight, ": a weight is a number from 0 on"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStages(const v1::PlanSpec& spec, const Generation& generation) {
  if (spec.subspace_stage_size() > kMostStages) {
    return absl::InvalidArgumentError(
        absl::StrCat("subspace_stage: ", spec.subspace_stage_size(), " of them, at most ", kMostStages));
  }
  if (!spec.subspace_stage().empty() && !spec.subspace_weight().empty()) {
    return absl::InvalidArgumentError("subspace_weight and subspace_stage are both set: leave one out");
  }
  std::optional<uint64_t> last;
  for (const v1::SubspaceStage& stage : spec.subspace_stage()) {
    if (stage.generation() != generation.number()) continue;
    if (stage.from_cursor() > kMostStageCursor) {
      return absl::InvalidArgumentError(absl::StrCat("subspace_stage: from_cursor ", stage.from_cursor(),
                                                     " is more than ", kMostStageCursor));
    }
    if (last.has_value() && stage.from_cursor() <= *last) {
      return absl::InvalidArgumentError(absl::StrCat("subspace_stage: from_cursor ", stage.from_cursor(),
                                                     " is not above the one before it"));
    }
    last = stage.from_cursor();
    double sum = 0;
    bool good = static_cast<uint32_t>(stage.weight_size()) == generation.num_subspaces();
    for (float weight : stage.weight()) {
      good = good && weight >= 0 && weight < 1e12F;
      sum += weight;
    }
    if (!good || !(sum > 0)) {
      return absl::InvalidArgumentError(absl::StrCat("subspace_stage from cursor ", stage.from_cursor(),
                                                     ": give each of the ", generation.num_subspaces(),
                                                     " subspaces a weight from 0 on, and one of them more"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const IdentityCells>> MakeCells(const PlanInputs& inputs) {
  if (inputs.spec.name() == "category") return MakeCategoryCells(inputs);
  RETURN_IF_ERROR(CheckGeneration(inputs));
  RETURN_IF_ERROR(CheckWeights(inputs.spec, inputs.generation->num_subspaces()));
  RETURN_IF_ERROR(CheckStages(inputs.spec, *inputs.generation));
  if (inputs.spec.name() == "subspace_overlap") {
    return MakeOverlapCells(inputs.generation, inputs.spec.overlap() == 0 ? 2 : inputs.spec.overlap());
  }
  return MakeSubspaceCells(inputs.generation);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Plan>> MakeSubspacePlan(PlanInputs inputs) {
  ASSIGN_OR_RETURN(std::unique_ptr<const IdentityCells> cells, MakeCells(inputs));
  const IdentityCells& source = *cells;
  const uint64_t wanted = inputs.P();
  const bool guarded = !inputs.guard_list().empty() || !inputs.spec.subspace_weight().empty();
  auto plan = std::make_shared<const SubspacePlan>(std::move(inputs), std::move(cells));
  if (plan->coverage().batches_per_epoch == 0) {
    uint64_t largest = 0;
    for (uint32_t cell = 0; cell < source.count(); ++cell) largest = std::max(largest, source.size(cell));
    return absl::InvalidArgumentError(absl::StrCat(
        "identities_per_batch ", wanted, ": the largest of the ", source.name(), " has ", largest,
        " identities", guarded ? ", and none has enough that guard list and weights leave" : "",
        "; ask for fewer, or mine fewer ", source.are_subspaces() ? "subspaces" : "categories"));
  }
  return plan;
}

}  // namespace doppel
