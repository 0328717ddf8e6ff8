#include "trainer/loss/batch_all.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/status_macros.h"
#include "trainer/loss/dense_distances.h"
#include "trainer/loss/kernels/anchor_sums.h"
#include "trainer/loss/kernels/batch_geometry.h"
#include "trainer/loss/kernels/distance_space.h"

namespace doppel {
namespace {

constexpr float kInfinite = std::numeric_limits<float>::infinity();

// What all triplets come to.
struct BatchAllTotals {
  double loss = 0;
  double active = 0, valid = 0;

  double Share(const BatchAllOptions& options) const {
    const bool over_active = options.nonzero && !options.margin.soft;
    return 1.0 / std::max(over_active ? active : valid, 1.0);
  }
};

void FillStatistics(const BatchAllTotals& totals, const BatchAllOptions& options,
                    LossStatistics* statistics) {
  statistics->loss = totals.loss * totals.Share(options);
  statistics->triplets = static_cast<int64_t>(totals.valid);
  statistics->active = totals.valid > 0 ? totals.active / totals.valid : 0;
}

// Positives of all anchors, by anchor.
struct PositiveLists {
  std::vector<int64_t> begin = {0};
  std::vector<int32_t> columns;
  std::vector<float> d_ap;
  std::vector<float> uses;     // triplets by positive pair
  std::vector<double> slopes;  // by positive pair

  absl::Span<const float> Distances(int64_t a) const {
    return absl::MakeConstSpan(d_ap).subspan(begin[a], begin[a + 1] - begin[a]);
  }
};

// Batch all in float32 on the CPU.
class BatchAllRun {
 public:
  BatchAllRun(const BatchGeometry& geometry, const BatchPairs& pairs, const BatchAllOptions& options,
              const Margin& margin)
      : geometry_(geometry),
        space_(geometry.space()),
        pairs_(pairs),
        options_(options),
        margin_(margin),
        guarded_(options.guards.hardness_cap > 0 || options.guards.negative_similarity_cap > 0) {}

  LossResult Compute() {
    distances_ = space_.ForEachRow([this](int64_t a, float* row) { Prepare(a, row); },
                                   std::numeric_limits<int64_t>::max(), &close_);
    values_ = distances_.data_ptr<float>();
    wants_gradient_ = geometry_.embeddings().requires_grad() && at::GradMode::is_enabled();
    LossResult result;
    if (guarded_) {
      weights_ = at::zeros_like(distances_);
      multiplicity_ = at::zeros_like(distances_);
    } else {
      // The weights will lie where the distances are.
      weights_ = distances_;
      CountUnguarded();
      Percentile(&result.statistics);
    }
    const int64_t rows = space_.rows(), columns = space_.columns();
    std::vector<float> row_weights(columns);
    size_t next_close = 0;
    for (int64_t a = 0; a < rows; ++a) {
      float* const weights = guarded_ ? weights_.data_ptr<float>() + a * columns : row_weights.data();
      guarded_ ? SumGuarded(a, weights) : SumPlain(a, weights);
      if (wants_gradient_) KeepSlopes(a, weights, &next_close);
    }
    if (guarded_) Percentile(&result.statistics);
    FillStatistics(totals_, options_, &result.statistics);
    result.statistics.norm = NormPercentiles(geometry_.embeddings());
    Finish(&result);
    return result;
  }

 private:
  // What is not a negative becomes +infinity.
  void Prepare(int64_t a, float* row) {
    pairs_.Positives(a, &scratch_);
    const double cap = options_.guards.positive_cap;
    for (const int32_t p : scratch_) {
      if (cap > 0 && row[p] > cap) continue;
      positives_.columns.push_back(p);
      positives_.d_ap.push_back(row[p]);
    }
    positives_.begin.push_back(static_cast<int64_t>(positives_.columns.size()));
    pairs_.Blocked(a, &scratch_);
    for (const int32_t column : scratch_) row[column] = kInfinite;
    negatives_.push_back(pairs_.columns() - static_cast<int64_t>(scratch_.size()));
  }

  // Without guards every positive of an anchor meets all of its negatives.
  void CountUnguarded() {
    positives_.uses.reserve(positives_.columns.size());
    for (int64_t a = 0; a < space_.rows(); ++a) {
      const double negatives = static_cast<double>(negatives_[a]);
      positives_.uses.insert(positives_.uses.end(), Positives(a), static_cast<float>(negatives));
      totals_.valid += negatives * static_cast<double>(Positives(a));
    }
  }

  int64_t Positives(int64_t a) const { return positives_.begin[a + 1] - positives_.begin[a]; }

  void Percentile(LossStatistics* statistics) const {
    const WeightedValues ap = {positives_.d_ap.data(), static_cast<int64_t>(positives_.d_ap.size()), 1,
                               positives_.uses.data()};
    statistics->d_ap = ComputeWeightedPercentiles({ap});
    std::vector<WeightedValues> an;
    an.reserve(space_.rows());
    for (int64_t a = 0; a < space_.rows(); ++a) {
      const int64_t at = a * space_.columns();
      an.push_back({values_ + at, space_.columns(), static_cast<double>(Positives(a)),
                    guarded_ ? multiplicity_.data_ptr<float>() + at : nullptr});
    }
    statistics->d_an = ComputeWeightedPercentiles(an);
  }

  void SumPlain(int64_t a, float* weights) {
    const AnchorSums::Totals sums =
        sums_.Sum(positives_.Distances(a), {values_ + a * space_.columns(), Columns()}, margin_, weights);
    totals_.loss += sums.loss;
    totals_.active += static_cast<double>(sums.active);
    positives_.slopes.insert(positives_.slopes.end(), sums_.positive_weights().begin(),
                             sums_.positive_weights().end());
  }

  void SumGuarded(int64_t a, float* weights) {
    const GuardOptions& guards = options_.guards;
    const SimilarityCap cap = {guards.negative_similarity_cap, options_.distance, geometry_.norms().data()};
    const float hardest = guards.hardness_cap > 0 ? static_cast<float>(guards.hardness_cap) : kInfinite;
    const absl::Span<const float> row = {values_ + a * space_.columns(), Columns()};
    float* const multiplicity = multiplicity_.data_ptr<float>() + a * space_.columns();
    for (int64_t i = positives_.begin[a]; i < positives_.begin[a + 1]; ++i) {
      const float d_ap = positives_.d_ap[i];
      const float* negatives = row.data();
      if (cap.share > 0) {
        cap.Apply(a, positives_.columns[i], d_ap, row, &kept_);
        negatives = kept_.data();
      }
      const RowKernels::Sums sums =
          margin_.soft
              ? kernels_.soft_capped(negatives, space_.columns(), d_ap, static_cast<float>(margin_.scale),
                                     hardest, weights, multiplicity)
              : kernels_.hinge_capped(negatives, space_.columns(), d_ap, static_cast<float>(margin_.margin),
                                      hardest, weights, multiplicity);
      totals_.loss += sums.loss;
      totals_.active += static_cast<double>(sums.active);
      totals_.valid += static_cast<double>(sums.valid);
      positives_.uses.push_back(static_cast<float>(sums.valid));
      positives_.slopes.push_back(sums.weight);
    }
  }

  size_t Columns() const { return static_cast<size_t>(space_.columns()); }

  // Turns an anchor's slopes by distance into factors of the matrix product; close pairs are taken out of it.
  void KeepSlopes(int64_t a, const float* weights, size_t* next_close) {
    float* const row = values_ + a * space_.columns();
    float* const kept = weights_.data_ptr<float>() + a * space_.columns();
    kernels_.to_pair_weights(row, weights, options_.distance == Distance::kEuclidean,
                             static_cast<float>(PairGradient::Factor(options_.distance, 1)), kept,
                             space_.columns());
    for (int64_t i = positives_.begin[a]; i < positives_.begin[a + 1]; ++i) {
      kept[positives_.columns[i]] = static_cast<float>(
          -positives_.slopes[i] * PairGradient::Factor(options_.distance, positives_.d_ap[i]));
    }
    for (; *next_close < close_.size() && close_[*next_close].first == a; ++*next_close) {
      const int32_t j = close_[*next_close].second;
      if (kept[j] == 0) continue;
      close_factors_.push_back({static_cast<int32_t>(a), j, -kept[j]});
      kept[j] = 0;
    }
  }

  void Finish(LossResult* result) {
    const torch::Tensor& embeddings = geometry_.embeddings();
    const torch::Tensor scalar =
        at::scalar_tensor(result->statistics.loss, embeddings.options().requires_grad(false));
    result->loss = scalar;
    if (!wants_gradient_) return;
    PairGradient gradient(space_);
    gradient.SubtractAll(weights_);
    for (const CloseFactor& pair : close_factors_) gradient.AddFactor(pair.row, pair.column, pair.factor);
    result->loss = WithGradient(embeddings, scalar, gradient.Finish(totals_.Share(options_)));
  }

  struct CloseFactor {
    int32_t row, column;
    float factor;
  };

  const RowKernels& kernels_ = BestRowKernels();
  const BatchGeometry& geometry_;
  const DistanceSpace& space_;
  const BatchPairs& pairs_;
  const BatchAllOptions& options_;
  const Margin margin_;
  const bool guarded_;
  bool wants_gradient_ = false;
  torch::Tensor distances_, weights_, multiplicity_;
  float* values_ = nullptr;
  PositiveLists positives_;
  std::vector<int64_t> negatives_;
  std::vector<int32_t> scratch_;
  std::vector<float> kept_;
  AnchorSums sums_;
  BatchAllTotals totals_;
  std::vector<std::pair<int32_t, int32_t>> close_;
  std::vector<CloseFactor> close_factors_;
};

// Batch all by tensor operations, for float64 and other devices: a block of anchors at a time.
class BatchAllTensors {
 public:
  BatchAllTensors(const BatchGeometry& geometry, const BatchPairs& pairs, const BatchAllOptions& options,
                  const Margin& margin)
      : rows_(geometry.embeddings()), columns_(geometry.Columns()), options_(options), margin_(margin) {
    const int64_t n = rows_.size(0);
    std::vector<std::vector<int32_t>> positives(n);
    size_t most = 1;
    blocked_ = at::zeros({n, columns_.size(0)}, at::kBool);
    std::vector<int32_t> blocked;
    for (int64_t a = 0; a < n; ++a) {
      pairs.Positives(a, &positives[a]);
      most = std::max(most, positives[a].size());
      pairs.Blocked(a, &blocked);
      for (const int32_t j : blocked) blocked_.data_ptr<bool>()[a * columns_.size(0) + j] = true;
    }
    width_ = static_cast<int64_t>(most);
    positives_ = at::full({n, width_}, -1, at::kLong);  // padded by -1
    for (int64_t a = 0; a < n; ++a) {
      std::copy(positives[a].begin(), positives[a].end(), positives_.data_ptr<int64_t>() + a * width_);
    }
    blocked_ = blocked_.to(rows_.device());
    positives_ = positives_.to(rows_.device());
  }

  LossResult Compute() {
    constexpr int64_t kMostTerms = int64_t{1} << 22;
    const int64_t n = rows_.size(0);
    const int64_t block = std::max<int64_t>(kMostTerms / (width_ * columns_.size(0)), 1);
    torch::Tensor sum = columns_.sum() * 0;
    for (int64_t begin = 0; begin < n; begin += block) sum = sum + Block(begin, std::min(n, begin + block));
    const double share = totals_.Share(options_);
    LossResult result;
    FillStatistics(totals_, options_, &result.statistics);
    result.statistics.d_ap = Weighted(d_ap_, ap_uses_);
    result.statistics.d_an = Weighted(d_an_, an_uses_);
    result.statistics.norm = NormPercentiles(rows_);
    result.loss = (sum - sum.detach()) * share + result.statistics.loss;
    return result;
  }

 private:
  // The sum over the block's distances times their slopes.
  torch::Tensor Block(int64_t begin, int64_t end) {
    const torch::Tensor d = ExactDistances(rows_.slice(0, begin, end), columns_, options_.distance);
    const torch::Tensor index = positives_.slice(0, begin, end);
    const torch::Tensor d_ap = d.gather(1, index.clamp_min(0));
    torch::Tensor ap_slopes, an_slopes;
    {
      torch::NoGradGuard no_grad;
      const torch::Tensor z = d_ap.unsqueeze(2) - d.unsqueeze(1);
      const torch::Tensor valid = Valid(begin, end, z, d_ap, index);
      const torch::Tensor active = IsActive(z, margin_).logical_and_(valid);
      totals_.loss += ApplyMargin(z, margin_).masked_fill_(valid.logical_not(), 0).sum().item<double>();
      totals_.active += active.sum().item<double>();
      totals_.valid += valid.sum().item<double>();
      torch::Tensor slopes = active.to(z.scalar_type());
      if (margin_.soft) slopes = (z * margin_.scale).sigmoid_().mul_(margin_.scale).mul_(valid);
      ap_slopes = slopes.sum(2);
      an_slopes = -slopes.sum(1);
      Append(d_ap, &d_ap_);
      Append(valid.sum(2), &ap_uses_);
      Append(d, &d_an_);
      Append(valid.sum(1), &an_uses_);
    }
    return (d_ap * ap_slopes).sum() + (d * an_slopes).sum();
  }

  torch::Tensor Valid(int64_t begin, int64_t end, const torch::Tensor& z, const torch::Tensor& d_ap,
                      const torch::Tensor& index) const {
    const GuardOptions& guards = options_.guards;
    torch::Tensor positive = index >= 0;
    if (guards.positive_cap > 0) positive = positive.logical_and(d_ap <= guards.positive_cap);
    torch::Tensor valid =
        positive.unsqueeze(2).logical_and(blocked_.slice(0, begin, end).logical_not().unsqueeze(1));
    if (guards.hardness_cap > 0) valid = valid.logical_and(z <= guards.hardness_cap);
    if (guards.negative_similarity_cap > 0) {
      const torch::Tensor cosine =
          1 - ExactDistances(rows_.slice(0, begin, end), columns_, Distance::kCosine);
      const torch::Tensor most = cosine.gather(1, index.clamp_min(0)) * guards.negative_similarity_cap;
      valid = valid.logical_and(cosine.unsqueeze(1) <= most.unsqueeze(2));
    }
    return valid;
  }

  static void Append(const torch::Tensor& values, std::vector<float>* to) {
    const torch::Tensor host = values.detach().to(at::kCPU, at::kFloat).contiguous();
    to->insert(to->end(), host.data_ptr<float>(), host.data_ptr<float>() + host.numel());
  }
  static Percentiles Weighted(const std::vector<float>& values, const std::vector<float>& uses) {
    const WeightedValues part = {values.data(), static_cast<int64_t>(values.size()), 1, uses.data()};
    return ComputeWeightedPercentiles({part});
  }

  const torch::Tensor rows_, columns_;
  const BatchAllOptions& options_;
  const Margin margin_;
  torch::Tensor positives_, blocked_;
  int64_t width_ = 1;
  BatchAllTotals totals_;
  std::vector<float> d_ap_, ap_uses_, d_an_, an_uses_;
};

}  // namespace

absl::StatusOr<LossResult> BatchAllLoss(const LossInput& input, const BatchAllOptions& options) {
  RETURN_IF_ERROR(CheckMargin(options.margin));
  RETURN_IF_ERROR(CheckMarginSchedule(options.margin, options.schedule));
  RETURN_IF_ERROR(CheckGuards(options.guards));
  ASSIGN_OR_RETURN(const BatchPairs pairs, BatchPairs::Create(input));
  ASSIGN_OR_RETURN(const BatchGeometry geometry, BatchGeometry::Create(input, options.distance));
  const Margin margin = MarginAt(options.margin, options.schedule, input.step);
  if (geometry.has_space()) return BatchAllRun(geometry, pairs, options, margin).Compute();
  return BatchAllTensors(geometry, pairs, options, margin).Compute();
}

}  // namespace doppel
