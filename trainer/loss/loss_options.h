#pragma once

#include <cstdint>
#include <string>

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
};

}  // namespace doppel
