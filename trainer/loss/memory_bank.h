#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "trainer/loss/loss.h"

namespace doppel {

// The last `rows` embeddings that a training has seen, with their identities (cross-batch memory; Wang et
// al., CVPR 2020): a ring. Not thread-safe.
class MemoryBank {
 public:
  // rows ≥ 1.
  explicit MemoryBank(int64_t rows) : capacity_(rows) {}

  // embeddings [B, D], kept without gradient; of more than `rows`, the last. Other dimensions, type or device
  // than before empty the bank first.
  void Add(const torch::Tensor& embeddings, absl::Span<const int64_t> identities);
  void Clear();

  int64_t size() const { return static_cast<int64_t>(identities_.size()); }
  // [size, D]; undefined if empty. Valid until the next call.
  torch::Tensor embeddings() const;
  absl::Span<const int64_t> identities() const { return identities_; }

  // "rows" [size, D] (absent if empty), "identities" [size] int64, "next" [1] int64.
  NamedTensors State() const;
  absl::Status LoadState(const NamedTensors& state);
  void To(const torch::Device& device);

 private:
  const int64_t capacity_;
  torch::Tensor ring_;               // [capacity, D]
  std::vector<int64_t> identities_;  // of the rows in use
  int64_t next_ = 0;                 // the row that is written next
};

struct MemoryOptions {
  int64_t rows = 0;
  // Until this step the memory is filled but not used: embeddings still drift too fast.
  uint64_t start_step = 0;
};

// Any loss that accepts LossInput::memory, with a memory: the batches before this one serve it as further
// positives and negatives. Another generation empties the memory. A batch enters after its own loss; one that
// fails does not.
class MemoryLoss : public Loss {
 public:
  static absl::StatusOr<std::unique_ptr<MemoryLoss>> Create(std::unique_ptr<Loss> loss,
                                                            const MemoryOptions& options);

  // INVALID_ARGUMENT if `input` has a memory already.
  absl::StatusOr<LossResult> Compute(const LossInput& input) override;
  NamedTensors NamedParameters() override { return loss_->NamedParameters(); }
  // The loss' own, and the bank's with the prefix "memory.".
  NamedTensors State() override;
  absl::Status LoadState(const NamedTensors& state) override;
  void To(const torch::Device& device) override;
  std::optional<double> CollapsedValue() const override { return loss_->CollapsedValue(); }
  const MemoryBank& bank() const { return bank_; }

 private:
  MemoryLoss(std::unique_ptr<Loss> loss, const MemoryOptions& options)
      : loss_(std::move(loss)), options_(options), bank_(options.rows) {}

  const std::unique_ptr<Loss> loss_;
  const MemoryOptions options_;
  MemoryBank bank_;
  uint64_t generation_ = 0;
};

}  // namespace doppel
