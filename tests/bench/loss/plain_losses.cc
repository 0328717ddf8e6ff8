#include "plain_losses.h"

#include <torch/torch.h>

#include <limits>

namespace doppel {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

torch::Tensor Distances(const torch::Tensor& x) {
  const torch::Tensor squares = x.square().sum(1);
  return (squares.unsqueeze(0) + squares.unsqueeze(1) - 2 * x.mm(x.t())).clamp_min(0).add(1e-12).sqrt();
}

torch::Tensor Same(const torch::Tensor& labels) { return labels.unsqueeze(0) == labels.unsqueeze(1); }

torch::Tensor PlainBatchHard(const torch::Tensor& x, const torch::Tensor& labels, double margin) {
  const torch::Tensor d = Distances(x), same = Same(labels);
  const torch::Tensor d_ap = std::get<0>(d.masked_fill(same.logical_not(), -kInfinity).max(1));
  const torch::Tensor d_an = std::get<0>(d.masked_fill(same, kInfinity).min(1));
  return torch::relu(d_ap - d_an + margin).mean();
}

torch::Tensor PlainBatchOhnm(const torch::Tensor& x, const torch::Tensor& labels, double margin,
                             int negatives, int samples) {
  const torch::Tensor d = Distances(x), same = Same(labels);
  const torch::Tensor own = torch::eye(x.size(0), torch::kBool);
  const torch::Tensor d_an = std::get<0>(d.masked_fill(same, kInfinity).topk(negatives, 1, false));
  const torch::Tensor d_ap =
      d.masked_select(same.logical_and(own.logical_not())).view({x.size(0), samples - 1});
  return torch::relu(d_ap.unsqueeze(2) - d_an.unsqueeze(1) + margin).mean();
}

torch::Tensor PlainMsml(const torch::Tensor& x, const torch::Tensor& labels, double margin) {
  const torch::Tensor d = Distances(x), same = Same(labels);
  return torch::relu(d.masked_fill(same.logical_not(), -kInfinity).max() -
                     d.masked_fill(same, kInfinity).min() + margin);
}

torch::Tensor PlainSemiHard(const torch::Tensor& x, const torch::Tensor& labels, double margin, int samples) {
  const torch::Tensor d = Distances(x), same = Same(labels);
  const torch::Tensor own = torch::eye(x.size(0), torch::kBool);
  const torch::Tensor d_ap =
      d.masked_select(same.logical_and(own.logical_not())).view({x.size(0), samples - 1, 1});
  const torch::Tensor d_an = d.masked_fill(same, kInfinity).unsqueeze(1);  // against [B, K - 1, B]
  const torch::Tensor outside = (d_an <= d_ap).logical_or(d_an >= d_ap + margin);
  const torch::Tensor nearest = std::get<0>(d_an.masked_fill(outside, kInfinity).min(2));
  const torch::Tensor z = d_ap.squeeze(2) - nearest + margin;
  return z.masked_select(z.isfinite()).mean();
}

torch::Tensor PlainBatchAll(const torch::Tensor& x, const torch::Tensor& labels, double margin,
                            bool nonzero) {
  const torch::Tensor d = Distances(x), same = Same(labels);
  const torch::Tensor positive = same.logical_and(torch::eye(x.size(0), torch::kBool).logical_not());
  const torch::Tensor valid = positive.unsqueeze(2).logical_and(same.logical_not().unsqueeze(1));
  const torch::Tensor terms = torch::relu(d.unsqueeze(2) - d.unsqueeze(1) + margin) * valid;
  return terms.sum() / (nonzero ? (terms > 0).sum() : valid.sum()).clamp_min(1);
}

// Mining on a matrix of its own without gradient, then the loss over index tuples on a second one.
torch::Tensor IndexedBatchHard(const torch::Tensor& x, const torch::Tensor& labels, double margin) {
  torch::Tensor anchors, positives, negatives;
  {
    torch::NoGradGuard no_grad;
    const torch::Tensor d = Distances(x.detach());
    torch::Tensor matches = Same(labels).to(torch::kByte), differs = matches.bitwise_xor(1);
    matches.fill_diagonal_(0);
    const auto hardest = [&d](const torch::Tensor& mask, bool largest) {
      const std::vector<torch::Tensor> pairs = torch::where(mask);
      torch::Tensor chosen = torch::zeros_like(d).fill_(largest ? -kInfinity : kInfinity);
      chosen.index_put_({pairs[0], pairs[1]}, d.index({pairs[0], pairs[1]}));
      return largest ? chosen.max(1) : chosen.min(1);
    };
    const auto [d_ap, p] = hardest(matches, true);
    const auto [d_an, n] = hardest(differs, false);
    const torch::Tensor kept = torch::where(d_ap.isfinite().logical_and(d_an.isfinite()))[0];
    anchors = torch::arange(x.size(0)).index({kept});
    positives = p.index({kept});
    negatives = n.index({kept});
  }
  const torch::Tensor d = Distances(x);
  const torch::Tensor terms =
      torch::relu(d.index({anchors, positives}) - d.index({anchors, negatives}) + margin);
  return terms.mean();
}

torch::Tensor IndexedBatchAll(const torch::Tensor& x, const torch::Tensor& labels, double margin,
                              bool nonzero) {
  torch::Tensor matches = Same(labels).to(torch::kByte);
  const torch::Tensor differs = matches.bitwise_xor(1);
  matches.fill_diagonal_(0);
  const std::vector<torch::Tensor> triplets = torch::where(matches.unsqueeze(2) * differs.unsqueeze(1));
  const torch::Tensor d = Distances(x);
  const torch::Tensor terms =
      torch::relu(d.index({triplets[0], triplets[1]}) - d.index({triplets[0], triplets[2]}) + margin);
  return nonzero ? terms.sum() / (terms > 0).sum().clamp_min(1) : terms.mean();
}

}  // namespace

std::vector<PlainLoss> PlainLosses(double margin, int negatives, int samples) {
  using torch::Tensor;
  std::vector<PlainLoss> all = {
      {"batch_hard", "plain", [=](const Tensor& x, const Tensor& y) { return PlainBatchHard(x, y, margin); }},
      {"batch_hard", "indices",
       [=](const Tensor& x, const Tensor& y) { return IndexedBatchHard(x, y, margin); }},
      {"batch_ohnm", "plain",
       [=](const Tensor& x, const Tensor& y) { return PlainBatchOhnm(x, y, margin, negatives, samples); }},
      {"batch_ohnm", "indices",  // the same mining, one negative only
       [=](const Tensor& x, const Tensor& y) { return IndexedBatchHard(x, y, margin); }},
      {"msml", "plain", [=](const Tensor& x, const Tensor& y) { return PlainMsml(x, y, margin); }},
      {"semi_hard", "plain",
       [=](const Tensor& x, const Tensor& y) { return PlainSemiHard(x, y, margin, samples); }}};
  for (const bool nonzero : {false, true}) {
    const std::string name = nonzero ? "batch_all_nonzero" : "batch_all";
    all.push_back({name, "plain",
                   [=](const Tensor& x, const Tensor& y) { return PlainBatchAll(x, y, margin, nonzero); },
                   true});
    all.push_back({name, "indices",
                   [=](const Tensor& x, const Tensor& y) { return IndexedBatchAll(x, y, margin, nonzero); },
                   true});
  }
  return all;
}

}  // namespace doppel
