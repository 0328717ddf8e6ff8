#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace doppel {

// All settings of all losses, as a command line gives them; each loss reads its own.
struct LossOptions {
  std::string name = "batch_ohnm";     // one of LossNames()
  std::string distance = "euclidean";  // euclidean | squared | cosine
  std::string margin = "soft";         // "soft" or a number
  double soft_scale = 1.0;             // soft margin: ln(1 + e^(scale * z))
  bool mean_over_active = false;       // hinge: see TripletLossOptions
  int negatives = 5;                   // batch_ohnm: k
  int skip = 0;                        // batch_ohnm: nearest negatives left out
  int64_t classes = 0;                 // id_softmax
  int64_t dimension = 128;             // id_softmax
  double softmax_scale = 24;           // id_softmax
  double label_smoothing = 0;          // id_softmax
  uint64_t seed = 0;                   // id_softmax: of the head's weights

  // The triplet family (triplet, batch_hard, batch_ohnm, semi_hard, semi_hard_random, batch_all,
  // batch_all_nonzero, msml, ohnm, softmax_sampled); see GuardOptions. `negatives` is also ohnm's number of
  // draws per (anchor, positive), `seed` also that of the sampling losses.
  double semi_hard_width = 0.3;  // semi-hard with a soft margin: d_ap < d_an < d_ap + width
  double temperature = 1.0;      // softmax_sampled: softmax(d / temperature)
  double hardness_cap = 0;       // triplets with d_ap - d_an above it are left out; 0: off
  double positive_cap = 0;       // positives with d_ap above it are left out; 0: off
  double negative_similarity_cap =
      0;                      // negatives with cosine > cap * that of the positive are left out; 0: off
  double margin_start = 0;    // hinge: the margin at step 0 ...
  uint64_t margin_steps = 0;  // ... and how many steps it takes to become `margin`; 0: at once
  // triplet: (anchor, positive, negative) rows; empty: all valid ones. Positives and negatives from B on are
  // memory rows.
  std::vector<std::array<int64_t, 3>> triplets;

  // The other families. `triplets` serves improved_triplet too.
  std::string reduction;                  // definition ("") | mean | sum | balanced | nonzero
  int power = 2;                          // contrastive: of the distance, 1 or 2
  int target_neighbours = 3;              // lmnn
  double mu = 0.5;                        // lmnn: weight of push, 1 - mu that of pull
  std::string selection = "all";          // improved_triplet: all | hardest
  double pull = 1;                        // improved_triplet: weight of d_ap
  double beta = -1;                       // quadruplet: second margin; below 0: half of `margin`
  std::string softmax_weights = "exact";  // adaptive_weights: exact | fast_reid
  std::string attributes;                 // attribute, joint: CSV file, see ParseAttributeTable
  std::string metric = "batch_ohnm";      // joint: the metric loss, by name
  double metric_weight = 1;               // joint
  double id_weight = 1;                   // joint; 0: without ID head
  double attribute_weight = 0;            // joint; 0: without attribute heads
  double verification_weight = 0;         // joint; 0: without verification head
  bool bnneck = true;                     // joint: batch normalisation before ID head and attribute heads
  int64_t memory = 0;                     // rows of the cross-batch memory; 0: none
  uint64_t memory_start = 0;              // step from which on it is used
};

struct LossOptionHelp {
  std::string key;
  std::string help;   // what it is, which losses read it
  std::string range;  // "0 or more", "one of a, b"
};
// All keys of SetLossOption, in the order of the fields.
std::vector<LossOptionHelp> LossOptionKeys();
// Sets one field of `options` from text, as `--option key=value` does. INVALID_ARGUMENT names key, value and
// range, and leaves `options` as they were. `triplets` cannot be set like this.
absl::Status SetLossOption(LossOptions* options, absl::string_view key, absl::string_view value);
// "key=value".
absl::Status SetLossOption(LossOptions* options, absl::string_view assignment);

}  // namespace doppel
