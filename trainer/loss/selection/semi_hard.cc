#include "trainer/loss/selection/semi_hard.h"

#include "common/base/philox.h"
#include "trainer/loss/kernels/row_kernels.h"

namespace doppel {
namespace {

// The column of the k-th value in (low, high), which exists.
int64_t NthBetween(absl::Span<const float> row, float low, float high, uint64_t k) {
  int64_t j = 0;
  for (;; ++j) {
    if (row[j] > low && row[j] < high && k-- == 0) return j;
  }
}

}  // namespace

void SemiHardSelector::Select(const AnchorRow& row, const SelectionContext& context,
                              TripletSelection* selection) const {
  const RowKernels& kernels = BestRowKernels();
  const double width = context.margin.soft ? soft_width_ : context.margin.margin;
  for (size_t i = 0; i < row.positives.size(); ++i) {
    const absl::Span<const float> negatives = row.NegativesFor(i);
    const int64_t columns = static_cast<int64_t>(negatives.size());
    const float low = row.d_ap[i], high = static_cast<float>(low + width);
    int64_t n = -1;
    if (choice_ == Choice::kNearest) {
      n = kernels.argmin_between(negatives.data(), low, high, columns);
    } else if (const int64_t count = kernels.count_between(negatives.data(), low, high, columns); count > 0) {
      const Philox random(MixKey(seed_, context.step));
      n = NthBetween(negatives, low, high, random.Below(count, row.anchor, row.positives[i]));
    }
    if (n < 0) continue;
    selection->AddTriplet(selection->AddPositive(row.anchor, row.positives[i], low),
                          selection->AddNegative(row.anchor, n, negatives[n]));
  }
}

}  // namespace doppel
