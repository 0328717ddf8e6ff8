#include "trainer/loss/anchor_triplets.h"

#include <algorithm>
#include <numeric>

#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

// Up to this many positives, comparing each with all negatives costs less than sorting these.
constexpr size_t kFewPositives = 16;

void SumFewHinges(const std::vector<double>& d_ap, const std::vector<double>& d_an, double margin,
                  TripletSums* sums) {
  for (size_t p = 0; p < d_ap.size(); ++p) {
    double value = 0, count = 0;
    for (size_t n = 0; n < d_an.size(); ++n) {
      const double bent = d_ap[p] - d_an[n] + margin;
      const double is_active = bent > 0 ? 1 : 0;
      value += is_active * bent;
      count += is_active;
      sums->d_an[n] -= is_active;
    }
    sums->value += value;
    sums->active += count;
    sums->d_ap[p] = count;
  }
}

void SumHinge(const std::vector<double>& d_ap, const std::vector<double>& d_an, double margin,
              TripletSums* sums) {
  std::vector<size_t> order(d_an.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return d_an[a] < d_an[b]; });
  std::vector<double> before(d_an.size() + 1, 0.0);  // sums of the nearest so many
  for (size_t r = 0; r < order.size(); ++r) before[r + 1] = before[r] + d_an[order[r]];
  std::vector<double> violators(d_an.size() + 1, 0.0);
  for (size_t p = 0; p < d_ap.size(); ++p) {
    // The same comparison as elsewhere, (d_ap - d_an) + margin > 0, so that rounding decides alike.
    const auto end = std::partition_point(order.begin(), order.end(),
                                          [&](size_t n) { return d_ap[p] - d_an[n] + margin > 0; });
    const size_t count = static_cast<size_t>(end - order.begin());
    sums->value += static_cast<double>(count) * (d_ap[p] + margin) - before[count];
    sums->active += static_cast<double>(count);
    sums->d_ap[p] = static_cast<double>(count);
    violators[count] += 1;
  }
  double positives = 0;
  for (size_t r = order.size(); r-- > 0;) {
    positives += violators[r + 1];
    sums->d_an[order[r]] = -positives;
  }
}

}  // namespace

void SumTriplets(const std::vector<double>& d_ap, const std::vector<double>& d_an, const Margin& margin,
                 TripletSums* sums) {
  sums->value = 0;
  sums->active = 0;
  sums->d_ap.assign(d_ap.size(), 0);
  sums->d_an.assign(d_an.size(), 0);
  if (!margin.soft && d_ap.size() <= kFewPositives) {
    SumFewHinges(d_ap, d_an, margin.margin, sums);
    return;
  }
  if (!margin.soft) {
    SumHinge(d_ap, d_an, margin.margin, sums);
    return;
  }
  for (size_t p = 0; p < d_ap.size(); ++p) {
    for (size_t n = 0; n < d_an.size(); ++n) {
      const double z = d_ap[p] - d_an[n];
      const MarginTerm term = BendMargin(z, margin);
      sums->value += term.value;
      sums->active += z > 0;
      sums->d_ap[p] += term.slope;
      sums->d_an[n] -= term.slope;
    }
  }
}

}  // namespace doppel
