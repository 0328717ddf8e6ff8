#include "trainer/loss/batch_check.h"

#include <ATen/ATen.h>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/loss.h"

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

namespace {

absl::Status CheckRows(const torch::Tensor& rows, size_t identities, absl::string_view what) {
  if (rows.dim() != 2 || !rows.is_floating_point()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " must be a floating point matrix [B, D], but have ", rows.dim(), " dimensions"));
  }
  if (rows.size(0) != static_cast<int64_t>(identities)) {
    return absl::InvalidArgumentError(absl::StrCat("there are ", rows.size(0), " ", what, ", but ",
                                                   identities, " identities: one per row is needed"));
  }
  if (rows.size(0) == 0) return absl::OkStatus();
  torch::NoGradGuard no_grad;
  // NaN and infinity survive a sum: one cheap pass. A sum may also overflow where no entry is bad, so look
  // again, closely, before saying so.
  if (rows.detach().sum(1).isfinite().all().item<bool>()) return absl::OkStatus();
  const int64_t bad = rows.detach().isfinite().all(1).logical_not().sum().item<int64_t>();
  if (bad == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(bad, " of ", rows.size(0), " ", what,
                   " are NaN or infinite: the training has diverged (lower the learning rate, warm up, "
                   "or clip gradients) or the input holds such values"));
}

absl::Status CheckInputMask(const LossInput& input) {
  if (!input.excluded.defined()) return absl::OkStatus();
  const int64_t rows = input.embeddings.size(0);
  if (input.excluded.scalar_type() != torch::kBool || input.excluded.dim() != 2 ||
      input.excluded.size(0) != rows || input.excluded.size(1) != rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("the mask of excluded pairs must be bool [", rows, ", ", rows, "]"));
  }
  torch::NoGradGuard no_grad;
  if (!input.excluded.equal(input.excluded.t())) {
    return absl::InvalidArgumentError(
        "the mask of excluded pairs is not symmetric: what is excluded for (i, j) must be for (j, i)");
  }
  return absl::OkStatus();
}

absl::Status CheckInputMemory(const LossInput& input) {
  if (!input.memory.defined()) {
    if (input.memory_identities.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("there are identities of memory rows, but no memory rows");
  }
  RETURN_IF_ERROR(CheckRows(input.memory, input.memory_identities.size(), "memory rows"));
  if (input.memory.size(1) == input.embeddings.size(1)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("memory rows have ", input.memory.size(1),
                                                 " dimensions, embeddings ", input.embeddings.size(1)));
}

}  // namespace

absl::Status CheckEmbeddings(const torch::Tensor& embeddings, absl::Span<const int64_t> identities) {
  RETURN_IF_ERROR(CheckRows(embeddings, identities.size(), "embeddings"));
  if (embeddings.size(0) == 0) return absl::InvalidArgumentError("the batch is empty");
  return absl::OkStatus();
}

absl::Status CheckNoMemory(const LossInput& input, absl::string_view loss) {
  if (!input.memory.defined()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(loss, " has no use for a cross-batch memory: run it without one"));
}

absl::Status CheckInput(const LossInput& input) {
  RETURN_IF_ERROR(CheckEmbeddings(input.embeddings, input.identities));
  RETURN_IF_ERROR(CheckInputMask(input));
  RETURN_IF_ERROR(CheckInputMemory(input));
  if (input.memory_identities.empty()) return CheckHasTriplets(input.identities);
  absl::flat_hash_map<int64_t, int64_t> count;
  for (const int64_t identity : input.identities) ++count[identity];
  for (const int64_t identity : input.memory_identities) ++count[identity];
  if (count.size() < 2) {
    return absl::InvalidArgumentError(
        "the batch and the memory hold one identity only, so there are no negatives: draw at least P = 2 "
        "identities per batch");
  }
  for (const int64_t identity : input.identities) {
    if (count[identity] > 1) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "no sample of the batch has another one of its identity in the batch or the memory, so there are no "
      "positives: draw at least K = 2 samples per identity");
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
