#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "trainer/train/histogram.h"

namespace doppel {

// Rows of a batch, and their distances.
struct HardTriplet {
  int64_t anchor = 0, positive = 0, negative = 0;
  float d_ap = 0, d_an = 0;
};

// A close look at a step, for people: taken now and then, never trained on.
struct StepSnapshot {
  Histogram norms;  // of the embeddings
  // Of every anchor that has both: its farthest positive and its nearest negative.
  Histogram d_ap, d_an;
  // The triplets of different anchors with the largest d_ap - d_an, hardest first.
  std::vector<HardTriplet> hardest;
  // By parameter.
  std::vector<std::pair<std::string, Histogram>> weights;
};

}  // namespace doppel
