#include "trainer/loss/triplet_loss.h"

#include <torch/torch.h>

#include "common/base/status_macros.h"
#include "trainer/loss/batch_check.h"

namespace doppel {
namespace {

torch::Tensor Indices(const std::vector<int64_t>& values, const torch::Device& device) {
  return torch::tensor(at::ArrayRef<int64_t>(values)).to(device);
}

}  // namespace

std::vector<float> ToFloats(const torch::Tensor& values) {
  const torch::Tensor host = values.detach().to(torch::kCPU, torch::kFloat32).contiguous();
  return {host.data_ptr<float>(), host.data_ptr<float>() + host.numel()};
}

Percentiles NormPercentiles(const torch::Tensor& embeddings) {
  torch::NoGradGuard no_grad;
  return ComputePercentiles(ToFloats(embeddings.detach().square().sum(1).sqrt()));
}

absl::StatusOr<LossResult> TripletLoss(const torch::Tensor& embeddings, absl::Span<const int64_t> identities,
                                       const TripletSelector& selector, const TripletLossOptions& options) {
  RETURN_IF_ERROR(CheckMargin(options.margin));
  RETURN_IF_ERROR(CheckEmbeddings(embeddings, identities));
  RETURN_IF_ERROR(CheckHasTriplets(identities));

  TripletSelection selection;
  {
    torch::NoGradGuard no_grad;
    selection = selector.Select(PairwiseDistances(embeddings.detach(), options.distance), identities);
  }
  const torch::Device device = embeddings.device();
  const torch::Tensor d_ap = PairDistances(embeddings, Indices(selection.ap_anchor, device),
                                           Indices(selection.ap_positive, device), options.distance)
                                 .index_select(0, Indices(selection.ap, device));
  const torch::Tensor d_an = PairDistances(embeddings, Indices(selection.an_anchor, device),
                                           Indices(selection.an_negative, device), options.distance)
                                 .index_select(0, Indices(selection.an, device));
  const torch::Tensor z = d_ap - d_an;
  const torch::Tensor terms = ApplyMargin(z, options.margin);

  LossResult result;
  LossStatistics& statistics = result.statistics;
  const int64_t active = IsActive(z.detach(), options.margin).sum().item<int64_t>();
  statistics.triplets = z.numel();
  statistics.active = static_cast<double>(active) / static_cast<double>(statistics.triplets);
  if (options.mean_over_active && !options.margin.soft) {
    result.loss = terms.sum() / static_cast<double>(std::max<int64_t>(active, 1));
  } else {
    result.loss = terms.mean();
  }
  statistics.loss = result.loss.item<double>();
  statistics.d_ap = ComputePercentiles(ToFloats(d_ap));
  statistics.d_an = ComputePercentiles(ToFloats(d_an));
  statistics.norm = NormPercentiles(embeddings);
  return result;
}

}  // namespace doppel
