#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/loss/distance.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"
#include "trainer/loss/selection/batch_pairs.h"

namespace doppel {

// Which triplets a loss is taken over. Pairs are listed once, however many triplets share them, so that
// distances and gradients are computed once per pair.
struct TripletSelection {
  // (anchor, positive) and (anchor, negative): rows of the batch, or for positives and negatives columns from
  // B on: rows of the memory.
  std::vector<int64_t> ap_anchor, ap_positive;
  std::vector<int64_t> an_anchor, an_negative;
  // As selection saw them.
  std::vector<float> ap_distance, an_distance;
  // Triplet t is pair ap[t] and pair an[t], of the same anchor (MSML alone joins pairs of two anchors).
  std::vector<int64_t> ap, an;

  // Append and return the index.
  int64_t AddPositive(int64_t anchor, int64_t positive, float distance);
  int64_t AddNegative(int64_t anchor, int64_t negative, float distance);
  void AddTriplet(int64_t positive_pair, int64_t negative_pair) {
    ap.push_back(positive_pair);
    an.push_back(negative_pair);
  }
};

// Triplets that would teach the wrong thing are kept out. All are off by default.
struct GuardOptions {
  // Leaves out triplets with d_ap - d_an above it: a negative that much nearer than the positive is rather a
  // wrong label. After selection, nothing takes their place.
  double hardness_cap = 0;
  // Leaves out positives with d_ap above it, before selection.
  double positive_cap = 0;
  // Leaves out negatives whose cosine with the anchor exceeds this share of the positive's, before selection
  // (NV-Retriever, Moreira 2024). The cosine is that of the embeddings whatever the distance.
  double negative_similarity_cap = 0;
};
// INVALID_ARGUMENT for a negative or infinite cap.
absl::Status CheckGuards(const GuardOptions& guards);

// Cosines out of distances, for the negative cap. Refers to `norms`.
struct SimilarityCap {
  double share = 0;  // 0: off
  Distance distance = Distance::kEuclidean;
  const float* norms = nullptr;  // L2, by column; not needed for the cosine distance

  // Copies `row` to *kept with +infinity at negatives that are too similar for this positive.
  void Apply(int64_t anchor, int64_t positive, float d_ap, absl::Span<const float> row,
             std::vector<float>* kept) const;
  // The same for one triplet.
  bool Allows(int64_t anchor, int64_t positive, double d_ap, int64_t negative, double d_an) const;

 private:
  double Cosine(int64_t anchor, int64_t column, double d) const;
};

// What one anchor chooses from. Valid during the call.
class AnchorRow {
 public:
  AnchorRow(int64_t anchor, absl::Span<const int32_t> positives, absl::Span<const float> d_ap,
            absl::Span<const float> negatives, const SimilarityCap& cap)
      : anchor(anchor), positives(positives), d_ap(d_ap), negatives(negatives), cap_(cap) {}

  const int64_t anchor;
  const absl::Span<const int32_t> positives;  // columns, rising
  const absl::Span<const float> d_ap;         // their distances
  const absl::Span<const float> negatives;    // by column; +infinity: not a negative

  // True if all positives go with the same negatives.
  bool same_negatives() const { return cap_.share == 0; }
  // The negatives that go with positives[i]. Valid until the next call.
  absl::Span<const float> NegativesFor(size_t i) const;

 private:
  const SimilarityCap& cap_;
  mutable std::vector<float> kept_;
};

struct SelectionContext {
  uint64_t step = 0;  // of random draws
  Margin margin;      // of this step
};

// Chooses triplets by distance, without gradient. Immutable, thread-safe.
class TripletSelector {
 public:
  virtual ~TripletSelector() = default;
  // Whether Select is called for anchors without positives, too.
  virtual bool WantsLoneAnchors() const { return false; }
  // Appends this anchor's triplets.
  virtual void Select(const AnchorRow& row, const SelectionContext& context,
                      TripletSelection* selection) const = 0;
  // After the last anchor.
  virtual void Finish(TripletSelection* selection) const {}
};

// Feeds anchors to a selector: `row` [columns] holds the anchor's distances and is spoilt. Anchors without
// positives (see WantsLoneAnchors) or without negatives are left out.
class SelectionRun {
 public:
  // All must outlive it.
  SelectionRun(const TripletSelector& selector, const BatchPairs& pairs, const GuardOptions& guards,
               const SelectionContext& context, const SimilarityCap& cap)
      : selector_(selector), pairs_(pairs), guards_(guards), context_(context), cap_(cap) {}
  void Visit(int64_t anchor, float* row);
  TripletSelection Finish();

 private:
  const TripletSelector& selector_;
  const BatchPairs& pairs_;
  const GuardOptions& guards_;
  const SelectionContext& context_;
  const SimilarityCap& cap_;
  TripletSelection selection_;
  std::vector<int32_t> positives_, blocked_;
  std::vector<float> d_ap_;
};

}  // namespace doppel
