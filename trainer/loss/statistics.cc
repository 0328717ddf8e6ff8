#include "trainer/loss/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "trainer/loss/kernels/row_kernels.h"

namespace doppel {
namespace {

// Sorted before `from` by earlier calls: quantiles must be asked for in rising order.
double Quantile(std::vector<float>& values, size_t& from, double q) {
  const double position = q * static_cast<double>(values.size() - 1);
  const size_t low = static_cast<size_t>(position);
  std::nth_element(values.begin() + from, values.begin() + low, values.end());
  from = low;
  const double fraction = position - static_cast<double>(low);
  if (fraction == 0) return values[low];
  const double next = *std::min_element(values.begin() + low + 1, values.end());
  return values[low] + fraction * (next - values[low]);
}

class WeightedQuantiles {
 public:
  explicit WeightedQuantiles(absl::Span<const WeightedValues> parts) : parts_(parts) {
    for (const WeightedValues& part : parts_) kernels_.range(part.values, part.size, &low_, &high_);
    scale_ = high_ > low_ ? static_cast<float>(kBins) / (high_ - low_) : 0;
    if (!std::isfinite(scale_)) scale_ = 0;
  }

  Percentiles Compute() {
    ForEach([this](float value, int32_t bin, double weight) { weight_of_[bin] += weight; });
    for (int32_t bin = 0; bin < kBins; ++bin) total_ += weight_of_[bin];
    if (total_ < 1) return {};
    constexpr double kQuantiles[] = {0, 0.05, 0.5, 0.95, 1};
    for (const double q : kQuantiles) {
      const double rank = std::floor(q * (total_ - 1));
      wanted_[BinOf(rank)] = 1;
      wanted_[BinOf(std::min(rank + 1, total_ - 1))] = 1;
    }
    ForEach([this](float value, int32_t bin, double weight) {
      if (wanted_[bin] != 0 && weight > 0) sorted_.emplace_back(value, weight);
    });
    std::sort(sorted_.begin(), sorted_.end());
    double results[5];
    for (int i = 0; i < 5; ++i) {
      const double position = kQuantiles[i] * (total_ - 1), rank = std::floor(position);
      const double value = ValueAt(rank), fraction = position - rank;
      results[i] = fraction == 0 ? value : value + fraction * (ValueAt(rank + 1) - value);
    }
    return {results[0], results[1], results[2], results[3], results[4]};
  }

 private:
  static constexpr int32_t kBins = 4096;
  static constexpr int64_t kPart = 1024;

  template <typename Body>
  void ForEach(const Body& body) const {
    int32_t bins[kPart];
    for (const WeightedValues& part : parts_) {
      for (int64_t begin = 0; begin < part.size; begin += kPart) {
        const int64_t size = std::min(kPart, part.size - begin);
        kernels_.bins(part.values + begin, size, low_, scale_, kBins - 1, bins);
        for (int64_t j = 0; j < size; ++j) {
          const double weight = part.weights == nullptr ? part.weight : part.weights[begin + j];
          body(part.values[begin + j], bins[j], weight);
        }
      }
    }
  }

  int32_t BinOf(double rank) const {
    double below = 0;
    for (int32_t bin = 0; bin < kBins; ++bin) {
      below += weight_of_[bin];
      if (rank < below) return bin;
    }
    return kBins - 1;
  }

  // The value at this rank among all, repeated: walks through wanted bins alone.
  double ValueAt(double rank) const {
    double below = 0;
    int32_t bin = 0;
    size_t i = 0;
    for (; bin < kBins; ++bin) {
      if (rank < below + weight_of_[bin]) break;
      below += weight_of_[bin];
      if (wanted_[bin] == 0) continue;
      double passed = 0;
      while (passed < weight_of_[bin]) passed += sorted_[i++].second;
    }
    for (; i + 1 < sorted_.size() && rank >= below + sorted_[i].second; ++i) below += sorted_[i].second;
    return sorted_[i].first;
  }

  const RowKernels& kernels_ = BestRowKernels();
  const absl::Span<const WeightedValues> parts_;
  float low_ = std::numeric_limits<float>::infinity(), high_ = -std::numeric_limits<float>::infinity();
  float scale_ = 0;
  double total_ = 0;
  std::vector<double> weight_of_ = std::vector<double>(kBins + 1, 0.0);  // the last: +infinity
  std::vector<char> wanted_ = std::vector<char>(kBins + 1, 0);
  std::vector<std::pair<float, double>> sorted_;  // of the wanted bins
};

}  // namespace

Percentiles ComputePercentiles(std::vector<float> values) {
  Percentiles result;
  if (values.empty()) return result;
  size_t from = 0;
  result.p0 = Quantile(values, from, 0.0);
  result.p5 = Quantile(values, from, 0.05);
  result.p50 = Quantile(values, from, 0.5);
  result.p95 = Quantile(values, from, 0.95);
  result.p100 = Quantile(values, from, 1.0);
  return result;
}

Percentiles ComputeWeightedPercentiles(absl::Span<const WeightedValues> parts) {
  return WeightedQuantiles(parts).Compute();
}

}  // namespace doppel
