#include "miner/planning/neighbour_plan.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/permutation.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "miner/planning/hardness.h"

namespace doppel {
namespace {

constexpr uint64_t kTurnsTag = 0x7475726e73;             // "turns"
constexpr uint64_t kNeighboursTag = 0x6e6569676862726f;  // "neighbro"
constexpr uint32_t kDefaultGroup = 4;
constexpr uint32_t kDefaultPool = 4;         // for each that is drawn
constexpr uint32_t kDefaultTripletSkip = 8;  // one in so many neighbours
constexpr size_t kLine = 64;                 // bytes that memory is read by

// What a spec means, with its defaults filled in.
struct GroupShape {
  uint64_t groups = 0;
  uint64_t size = 0;
  uint64_t pool = 0;
  uint64_t skip = 0;
  double similarity_max = 0;
  double similarity_min = 0;
};

GroupShape ShapeOf(const v1::PlanSpec& spec, uint64_t neighbours) {
  const uint64_t p = spec.identities_per_batch();
  GroupShape shape;
  if (spec.name() == "nearest_identities") {
    shape.groups = 1;
    shape.size = p;
    shape.pool = p - 1;
    return shape;
  }
  if (spec.name() == "doppelganger") {
    shape.groups = p / 2;
    shape.size = 2;
    shape.pool = 1;
    return shape;
  }
  shape.similarity_max = spec.similarity_max();
  shape.similarity_min = spec.similarity_min();
  if (spec.name() == "offline_triplets") {
    shape.groups = p / 2;
    shape.size = 2;
    shape.skip = spec.has_skip() ? spec.skip() : neighbours / kDefaultTripletSkip;
    shape.pool = spec.pool() != 0 ? spec.pool() : neighbours;
    return shape;
  }
  shape.size = spec.group_size() != 0 ? spec.group_size() : std::min<uint64_t>(kDefaultGroup, p);
  shape.groups = spec.groups() != 0 ? spec.groups() : std::max<uint64_t>(1, p / (2 * shape.size));
  shape.pool = spec.pool() != 0 ? spec.pool() : kDefaultPool * (shape.size - 1);
  shape.skip = spec.skip();
  return shape;
}

// A stretch of cursors with one number of groups.
struct GroupStage {
  uint64_t from_cursor = 0;
  uint64_t groups = 0;
  uint64_t turns = 0;     // in a batch
  uint64_t epoch = 0;     // in which it begins,
  uint64_t position = 0;  // after so many turns of it
  uint64_t rest = 0;      // batches until that epoch is over
};

class NeighbourPlan : public Plan {
 public:
  NeighbourPlan(PlanInputs inputs, const GroupShape& shape)
      : inputs_(std::move(inputs)),
        shape_(shape),
        rows_(inputs_.generation->rows()),
        sampler_(inputs_.Sampler()) {
    const uint64_t covered = inputs_.generation->num_identities();
    std::vector<uint64_t> left_out;
    for (uint64_t identity : DroppedIdentities(inputs_)) {
      if (!rows_.Contains(identity)) continue;
      dropped_.push_back(identity);
      left_out.push_back(rows_.Row(identity));
    }
    positions_ = KeptPositions(covered, left_out);
    coverage_.identities = positions_.size();
    coverage_.left_out = left_out.size();
    if (!left_out.empty()) {
      coverage_.left_out_reason = "have no sample that the guard list does not drop";
    }
  }

  // To be called once. False: P is more than the identities that are sure to fit.
  bool Prepare() {
    std::vector<GuardList::Pair> pairs;
    for (const GuardList::Pair& pair : inputs_.guard_list().pairs()) {
      if (Covers(pair.first) && Covers(pair.second)) pairs.push_back(pair);
    }
    if (SureToFit(positions_.size(), pairs) < inputs_.P()) return false;
    AddStage(0, shape_.groups);
    for (const v1::HardnessDecision& decision : inputs_.spec.hardness()) {
      const double groups =
          decision.hard_share() * static_cast<double>(inputs_.P()) / static_cast<double>(shape_.size);
      AddStage(decision.from_cursor(),
               std::min<uint64_t>(static_cast<uint64_t>(std::llround(groups)), inputs_.P() / shape_.size));
    }
    coverage_.batches_per_epoch = positions_.size() / stages_.front().turns;
    return true;
  }

  PlannedBatch At(uint64_t cursor) const override {
    PlannedBatch batch;
    batch.drawn_by = inputs_.spec.name();
    batch.cursor = cursor;
    const GroupStage& stage =
        *(std::upper_bound(stages_.begin(), stages_.end(), cursor,
                           [](uint64_t c, const GroupStage& s) { return c < s.from_cursor; }) -
          1);
    uint64_t begin = 0;
    Turn(stage, cursor - stage.from_cursor, &batch.epoch, &begin);
    batch.hard_share = static_cast<double>(stage.groups * shape_.size) / static_cast<double>(inputs_.P());

    BatchDraw draw(inputs_.guard_list(), inputs_.P());
    DrawStream random(MixKey(inputs_.seed, kNeighboursTag, cursor));
    const Members turns = TakeTurn(stage, batch.epoch, begin, &draw, &random);
    const uint64_t groups = std::min<uint64_t>(stage.groups, turns.identities.size());
    // Who is drawn first and looked up then does not wait for the one before it.
    for (uint64_t t = 0; t < groups; ++t) PrefetchNeighbours(turns.identities[t]);
    inputs_.catalog->PrefetchSamples(turns.identities.data(), turns.identities.size());
    Members drawn(inputs_.P());
    std::vector<uint32_t> scratch;
    for (uint64_t t = 0; t < turns.identities.size(); ++t) {
      drawn.Add(turns.identities[t], turns.rotations[t]);
      if (t < groups) AddNeighbours(turns.identities[t], &draw, &random, &scratch, &drawn);
    }
    batch.identities = std::move(drawn.identities);
    sampler_.AppendAll(*inputs_.catalog, drawn.rotations, &batch.identities, &batch.samples);
    return batch;
  }

  const PlanCoverage& coverage() const override { return coverage_; }

 private:
  // Identities, and the place in its rotation that the images of each start from.
  struct Members {
    explicit Members(uint64_t most) {
      identities.reserve(most);
      rotations.reserve(most);
    }
    void Add(uint64_t identity, uint64_t rotation) {
      identities.push_back(identity);
      rotations.push_back(rotation);
    }
    std::vector<uint64_t> identities;
    std::vector<uint64_t> rotations;
  };

  bool Covers(uint64_t identity) const { return rows_.Contains(identity) && Kept(identity); }
  bool Kept(uint64_t identity) const {
    return dropped_.empty() || !std::binary_search(dropped_.begin(), dropped_.end(), identity);
  }
  uint64_t Identity(uint64_t u) const { return rows_.Identity(positions_(u)); }

  void AddStage(uint64_t from_cursor, uint64_t groups) {
    GroupStage stage;
    stage.from_cursor = from_cursor;
    stage.groups = groups;
    stage.turns = inputs_.P() - groups * (shape_.size - 1);
    if (!stages_.empty()) {
      const GroupStage& before = stages_.back();
      Turn(before, from_cursor - before.from_cursor, &stage.epoch, &stage.position);
      if (from_cursor == before.from_cursor) stages_.pop_back();
    }
    stage.rest = (positions_.size() - stage.position) / stage.turns;
    stages_.push_back(stage);
  }

  // The epoch, and the turn of it, at which the batch begins that is so many after the stage's first.
  void Turn(const GroupStage& stage, uint64_t batches, uint64_t* epoch, uint64_t* position) const {
    if (batches < stage.rest) {
      *epoch = stage.epoch;
      *position = stage.position + batches * stage.turns;
      return;
    }
    const uint64_t whole = positions_.size() / stage.turns;
    *epoch = stage.epoch + (batches - stage.rest) / whole + 1;
    *position = (batches - stage.rest) % whole * stage.turns;
  }

  Members TakeTurn(const GroupStage& stage, uint64_t epoch, uint64_t begin, BatchDraw* draw,
                   DrawStream* random) const {
    const KeyedPermutation order(positions_.size(), MixKey(inputs_.seed, kTurnsTag, epoch));
    std::vector<uint64_t> positions(stage.turns);
    order.Range(begin, stage.turns, positions.data());
    Members turns(stage.turns);
    for (uint64_t position : positions) {
      const uint64_t identity = Identity(position);
      if (draw->Add(identity)) turns.Add(identity, epoch);
    }
    uint64_t identity = 0;
    while (turns.identities.size() < stage.turns && DrawAny(draw, random, &identity)) {
      turns.Add(identity, random->Next());
    }
    return turns;
  }

  bool DrawAny(BatchDraw* draw, DrawStream* random, uint64_t* identity) const {
    return draw->AddFrom(
        positions_.size(), [this](uint64_t u) { return Identity(u); }, random, identity);
  }

  // The places of its list that neighbours of an identity may be drawn from: [first, last).
  void Band(uint64_t identity, uint64_t* first, uint64_t* last) const {
    const absl::Span<const float> similarity = inputs_.generation->NeighbourSimilarities(identity);
    *first = shape_.skip;
    *last = static_cast<uint64_t>(inputs_.generation->num_neighbours());
    if (shape_.similarity_max != 0) {
      const auto reached =
          std::lower_bound(similarity.begin(), similarity.end(), shape_.similarity_max, std::greater<>());
      *first = std::max<uint64_t>(*first, static_cast<uint64_t>(reached - similarity.begin()));
    }
    if (shape_.similarity_min != 0) {
      const auto below =
          std::upper_bound(similarity.begin(), similarity.end(), shape_.similarity_min, std::greater<>());
      *last = static_cast<uint64_t>(below - similarity.begin());
    }
  }

  // What AddNeighbours reads of its lists.
  void PrefetchNeighbours(uint64_t leader) const {
    const absl::Span<const uint32_t> list = inputs_.generation->Neighbours(leader);
    const bool band = shape_.similarity_max != 0 || shape_.similarity_min != 0;
    if (band) {
      const absl::Span<const float> similarity = inputs_.generation->NeighbourSimilarities(leader);
      for (size_t i = 0; i < similarity.size(); i += kLine / sizeof(float))
        __builtin_prefetch(&similarity[i]);
    }
    const uint64_t first = band ? 0 : shape_.skip;
    const uint64_t last = band ? list.size() : std::min<uint64_t>(list.size(), first + shape_.pool);
    if (first >= last) return;
    for (uint64_t i = first; i < last; i += kLine / sizeof(uint32_t)) __builtin_prefetch(&list[i]);
    __builtin_prefetch(&list[last - 1]);  // lists do not begin with a line
  }

  void AddNeighbours(uint64_t leader, BatchDraw* draw, DrawStream* random, std::vector<uint32_t>* scratch,
                     Members* drawn) const {
    const absl::Span<const uint32_t> list = inputs_.generation->Neighbours(leader);
    uint64_t wanted = shape_.size - 1, first = 0, last = 0;
    Band(leader, &first, &last);
    const auto take = [&](uint64_t identity) {
      if (!Kept(identity) || !draw->Add(identity)) return;
      drawn->Add(identity, random->Next());
      --wanted;
    };
    const uint64_t end = std::min(last, first + shape_.pool);
    if (first < end && shape_.pool > wanted) {
      scratch->assign(list.begin() + static_cast<int64_t>(first), list.begin() + static_cast<int64_t>(end));
      for (uint64_t i = 0; i < scratch->size() && wanted > 0; ++i) {
        std::swap((*scratch)[i], (*scratch)[i + random->Below(scratch->size() - i)]);
        take((*scratch)[i]);
      }
      first = end;
    }
    for (uint64_t i = first; i < last && wanted > 0; ++i) take(list[i]);
    uint64_t identity = 0;
    while (wanted > 0 && DrawAny(draw, random, &identity)) {
      drawn->Add(identity, random->Next());
      --wanted;
    }
  }

  const PlanInputs inputs_;
  const GroupShape shape_;
  const IdentityRows rows_;
  const IdentitySampler sampler_;
  std::vector<uint64_t> dropped_;  // ascending
  KeptPositions positions_;
  std::vector<GroupStage> stages_;
  PlanCoverage coverage_;
};

absl::Status CheckShape(const PlanInputs& inputs, const GroupShape& shape) {
  const v1::PlanSpec& spec = inputs.spec;
  const uint64_t p = inputs.P();
  const auto neighbours = static_cast<uint64_t>(inputs.generation->num_neighbours());
  const auto refuse = [&](const char* field, const auto&... text) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": plan \"", spec.name(), "\" ", text...));
  };
  if (p < 2) return refuse("identities_per_batch", "puts look-alikes together, so ask for at least 2");
  if (spec.name() == "nearest_identities" && p - 1 > neighbours) {
    return refuse("identities_per_batch", "takes an identity and its P - 1 = ", p - 1,
                  " nearest, generation ", inputs.generation->number(), " has ", neighbours,
                  " of each; ask for at most P = ", neighbours + 1, ", or mine more neighbours");
  }
  if ((spec.name() == "doppelganger" || spec.name() == "offline_triplets") && p % 2 != 0) {
    return refuse("identities_per_batch", "draws pairs, so P = ", p, " should be even");
  }
  if (shape.size < 2) return refuse("group_size", "needs groups of at least 2");
  if (shape.groups * shape.size > p) {
    return refuse("groups", "cannot put ", shape.groups, " groups of ", shape.size, " into P = ", p);
  }
  if (shape.pool < shape.size - 1) {
    return refuse("pool", "draws ", shape.size - 1, " neighbours, so not from ", shape.pool);
  }
  if (spec.name() == "look_alikes" && shape.size - 1 > neighbours) {
    return refuse("group_size", "takes ", shape.size - 1, " neighbours, generation ",
                  inputs.generation->number(), " has ", neighbours, " of each");
  }
  if (shape.skip >= neighbours) {
    return refuse("skip", "would leave none of the ", neighbours, " neighbours of generation ",
                  inputs.generation->number());
  }
  if (!(shape.similarity_max >= -1 && shape.similarity_max <= 1)) {
    return refuse("similarity_max", "wants a cosine, from -1 to 1");
  }
  if (!(shape.similarity_min >= -1 && shape.similarity_min <= 1)) {
    return refuse("similarity_min", "wants a cosine, from -1 to 1");
  }
  if (shape.similarity_max != 0 && shape.similarity_min > shape.similarity_max) {
    return refuse("similarity_min", "has a band that ends above its beginning");
  }
  return CheckHardness(spec);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Plan>> MakeNeighbourPlan(PlanInputs inputs) {
  RETURN_IF_ERROR(CheckNeighbours(inputs));
  const GroupShape shape = ShapeOf(inputs.spec, static_cast<uint64_t>(inputs.generation->num_neighbours()));
  RETURN_IF_ERROR(CheckShape(inputs, shape));
  const uint64_t wanted = inputs.P();
  auto plan = std::make_shared<NeighbourPlan>(std::move(inputs), shape);
  if (!plan->Prepare()) {
    return absl::InvalidArgumentError(
        absl::StrCat("identities_per_batch ", wanted, ": only ", plan->coverage().identities,
                     " identities are covered, or the guard list lets fewer meet; ask for fewer"));
  }
  return std::shared_ptr<const Plan>(std::move(plan));
}

}  // namespace doppel
