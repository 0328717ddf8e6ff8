#include "trainer/loss/selection/batch_hard.h"

#include <torch/torch.h>

#include <limits>

#include "trainer/loss/batch_check.h"

namespace doppel {

TripletSelection BatchHardSelector::Select(const torch::Tensor& distances,
                                           absl::Span<const int64_t> identities) const {
  torch::NoGradGuard no_grad;
  const int64_t rows = static_cast<int64_t>(identities.size());
  const torch::Tensor labels =
      torch::tensor(at::ArrayRef<int64_t>(identities.data(), identities.size())).to(distances.device());
  const torch::Tensor same = labels.unsqueeze(0) == labels.unsqueeze(1);
  torch::Tensor positive = same.clone();
  positive.fill_diagonal_(false);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const torch::Tensor farthest =
      distances.masked_fill(positive.logical_not(), -kInfinity).argmax(1).to(torch::kCPU).contiguous();
  const torch::Tensor nearest = distances.masked_fill(same, kInfinity).argmin(1).to(torch::kCPU).contiguous();

  std::vector<bool> has_positive(identities.size(), false);
  for (const auto& group : GroupByIdentity(identities)) {
    for (int64_t row : group) has_positive[row] = group.size() > 1;
  }
  TripletSelection selection;
  for (int64_t a = 0; a < rows; ++a) {
    if (!has_positive[a]) continue;
    const int64_t triplet = static_cast<int64_t>(selection.ap.size());
    selection.ap_anchor.push_back(a);
    selection.ap_positive.push_back(farthest.data_ptr<int64_t>()[a]);
    selection.an_anchor.push_back(a);
    selection.an_negative.push_back(nearest.data_ptr<int64_t>()[a]);
    selection.ap.push_back(triplet);
    selection.an.push_back(triplet);
  }
  return selection;
}

}  // namespace doppel
