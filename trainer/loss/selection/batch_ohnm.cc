#include "trainer/loss/selection/batch_ohnm.h"

#include <torch/torch.h>

#include <algorithm>
#include <limits>

#include "trainer/loss/batch_check.h"

namespace doppel {

TripletSelection BatchOhnmSelector::Select(const torch::Tensor& distances,
                                           absl::Span<const int64_t> identities) const {
  torch::NoGradGuard no_grad;
  const int64_t rows = static_cast<int64_t>(identities.size());
  const torch::Tensor labels =
      torch::tensor(at::ArrayRef<int64_t>(identities.data(), identities.size())).to(distances.device());
  const torch::Tensor same = labels.unsqueeze(0) == labels.unsqueeze(1);
  const int64_t width = std::min(k_ + skip_, rows);
  const torch::Tensor ranked =
      std::get<1>(distances.masked_fill(same, std::numeric_limits<double>::infinity())
                      .topk(width, 1, /*largest=*/false, /*sorted=*/true))
          .to(torch::kCPU)
          .contiguous();
  const int64_t* nearest = ranked.data_ptr<int64_t>();

  TripletSelection selection;
  for (const auto& group : GroupByIdentity(identities)) {
    if (group.size() < 2) continue;
    const int64_t negatives = rows - static_cast<int64_t>(group.size());
    const int64_t k = std::min(k_, negatives);
    const int64_t skip = std::min(skip_, negatives - k);
    for (int64_t a : group) {
      const int64_t first_negative = static_cast<int64_t>(selection.an_anchor.size());
      for (int64_t rank = skip; rank < skip + k; ++rank) {
        selection.an_anchor.push_back(a);
        selection.an_negative.push_back(nearest[a * width + rank]);
      }
      for (int64_t p : group) {
        if (p == a) continue;
        const int64_t pair = static_cast<int64_t>(selection.ap_anchor.size());
        selection.ap_anchor.push_back(a);
        selection.ap_positive.push_back(p);
        for (int64_t i = 0; i < k; ++i) {
          selection.ap.push_back(pair);
          selection.an.push_back(first_negative + i);
        }
      }
    }
  }
  return selection;
}

}  // namespace doppel
