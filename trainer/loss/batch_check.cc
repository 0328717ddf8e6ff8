#include "trainer/loss/batch_check.h"

#include <torch/torch.h>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace doppel {

std::vector<std::vector<int64_t>> GroupByIdentity(absl::Span<const int64_t> identities) {
  absl::flat_hash_map<int64_t, size_t> group_of;
  std::vector<std::vector<int64_t>> groups;
  for (size_t row = 0; row < identities.size(); ++row) {
    const auto [it, is_new] = group_of.try_emplace(identities[row], groups.size());
    if (is_new) groups.emplace_back();
    groups[it->second].push_back(static_cast<int64_t>(row));
  }
  return groups;
}

absl::Status CheckEmbeddings(const torch::Tensor& embeddings, absl::Span<const int64_t> identities) {
  if (embeddings.dim() != 2 || !embeddings.is_floating_point()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "embeddings must be a floating point matrix [B, D], but have ", embeddings.dim(), " dimensions"));
  }
  if (embeddings.size(0) != static_cast<int64_t>(identities.size())) {
    return absl::InvalidArgumentError(absl::StrCat("there are ", embeddings.size(0), " embeddings, but ",
                                                   identities.size(), " identities: one per row is needed"));
  }
  if (embeddings.size(0) == 0) return absl::InvalidArgumentError("the batch is empty");
  torch::NoGradGuard no_grad;
  const torch::Tensor bad = embeddings.detach().sum(1).isfinite().logical_not();
  if (bad.any().item<bool>()) {
    // A sum may overflow where no entry is bad, so look again, closely, before saying so.
    const int64_t rows = embeddings.detach().isfinite().all(1).logical_not().sum().item<int64_t>();
    if (rows > 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          rows, " of ", embeddings.size(0),
          " embeddings are NaN or infinite: the training has diverged (lower the learning rate, warm up, "
          "or clip gradients) or the input holds such values"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHasTriplets(absl::Span<const int64_t> identities) {
  const auto groups = GroupByIdentity(identities);
  if (groups.size() < 2) {
    return absl::InvalidArgumentError(
        "the batch holds one identity only, so there are no negatives: draw at least P = 2 identities per "
        "batch");
  }
  for (const auto& group : groups) {
    if (group.size() > 1) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "no identity of the batch has two samples, so there are no positives: draw at least K = 2 samples per "
      "identity");
}

}  // namespace doppel
