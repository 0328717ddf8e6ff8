#pragma once

#include <vector>

#include "trainer/loss/margin.h"

namespace doppel {

// The sum of margin(d_ap - d_an) over all pairs of a positive and a negative distance of one anchor.
struct TripletSums {
  double value = 0;
  double active = 0;               // how many of them are
  std::vector<double> d_ap, d_an;  // slopes of `value` by each distance
};

// Hinge: by sorting, O((P + N) log N), where there are many positives; else, and with the soft margin, O(P *
// N). O(P + N) memory.
void SumTriplets(const std::vector<double>& d_ap, const std::vector<double>& d_an, const Margin& margin,
                 TripletSums* sums);

}  // namespace doppel
