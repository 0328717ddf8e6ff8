#include "trainer/loss/memory_bank.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "trainer/loss/bnneck.h"

namespace doppel {
namespace {

constexpr char kMemoryPrefix[] = "memory.";

torch::Tensor Int64Tensor(absl::Span<const int64_t> values) {
  return at::tensor(at::ArrayRef<int64_t>(values.data(), values.size()), torch::kInt64);
}

const torch::Tensor* FindNamed(const NamedTensors& state, absl::string_view name) {
  for (const auto& [own, value] : state) {
    if (own == name) return &value;
  }
  return nullptr;
}

}  // namespace

void MemoryBank::Add(const torch::Tensor& embeddings, absl::Span<const int64_t> identities) {
  at::NoGradGuard no_grad;
  torch::Tensor rows = embeddings.detach();
  if (rows.size(0) > capacity_) {
    identities.remove_prefix(static_cast<size_t>(rows.size(0) - capacity_));
    rows = rows.narrow(0, rows.size(0) - capacity_, capacity_);
  }
  const bool fits = ring_.defined() && ring_.size(1) == rows.size(1) &&
                    ring_.scalar_type() == rows.scalar_type() && ring_.device() == rows.device();
  if (!fits) {
    Clear();
    ring_ = at::empty({capacity_, rows.size(1)}, rows.options());
    identities_.reserve(static_cast<size_t>(capacity_));
  }
  for (int64_t done = 0; done < rows.size(0);) {
    const int64_t n = std::min(rows.size(0) - done, capacity_ - next_);
    ring_.narrow(0, next_, n).copy_(rows.narrow(0, done, n));
    for (int64_t i = 0; i < n; ++i) {
      const size_t at = static_cast<size_t>(next_ + i);
      if (at == identities_.size()) identities_.push_back(0);
      identities_[at] = identities[done + i];
    }
    next_ = (next_ + n) % capacity_;
    done += n;
  }
}

void MemoryBank::Clear() {
  ring_ = torch::Tensor();
  identities_.clear();
  next_ = 0;
}

torch::Tensor MemoryBank::embeddings() const {
  return size() == 0 ? torch::Tensor() : ring_.narrow(0, 0, size());
}

NamedTensors MemoryBank::State() const {
  NamedTensors state = {{"identities", Int64Tensor(identities_)},
                        {"next", at::full({1}, next_, torch::kInt64)}};
  // A copy: the ring goes on turning.
  if (size() > 0) state.emplace_back("rows", embeddings().clone());
  return state;
}

absl::Status MemoryBank::LoadState(const NamedTensors& state) {
  const torch::Tensor* identities = FindNamed(state, "identities");
  const torch::Tensor* next = FindNamed(state, "next");
  const torch::Tensor* rows = FindNamed(state, "rows");
  if (identities == nullptr || next == nullptr || (identities->numel() > 0 && rows == nullptr)) {
    return absl::DataLossError("the saved loss state has no complete cross-batch memory");
  }
  const torch::Tensor host = identities->to(torch::kCPU, torch::kInt64).contiguous();
  const int64_t size = host.numel(), at = next->to(torch::kCPU, torch::kInt64).item<int64_t>();
  if (size > capacity_ || at < 0 || at >= capacity_ || (size < capacity_ && at != size)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the saved cross-batch memory holds ", size, " rows and goes on at ", at,
                     ", but this one has room for ", capacity_, ": keep the size of the memory"));
  }
  if (size > 0 && (rows->dim() != 2 || rows->size(0) != size)) {
    return absl::DataLossError("the saved cross-batch memory has other rows than identities");
  }
  Clear();
  if (size == 0) return absl::OkStatus();
  ring_ = at::empty({capacity_, rows->size(1)}, rows->options());
  ring_.narrow(0, 0, size).copy_(*rows);
  identities_.reserve(static_cast<size_t>(capacity_));
  identities_.assign(host.data_ptr<int64_t>(), host.data_ptr<int64_t>() + size);
  next_ = at;
  return absl::OkStatus();
}

void MemoryBank::To(const torch::Device& device) {
  if (ring_.defined()) ring_ = ring_.to(device);
}

absl::StatusOr<std::unique_ptr<MemoryLoss>> MemoryLoss::Create(std::unique_ptr<Loss> loss,
                                                               const MemoryOptions& options) {
  if (options.rows < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory is ", options.rows, " rows: at least 1 is needed, or 0 for none"));
  }
  return std::unique_ptr<MemoryLoss>(new MemoryLoss(std::move(loss), options));
}

absl::StatusOr<LossResult> MemoryLoss::Compute(const LossInput& input) {
  if (input.memory.defined()) {
    return absl::InvalidArgumentError("the batch brings a cross-batch memory, but the loss keeps its own");
  }
  if (input.generation != generation_) {
    bank_.Clear();
    generation_ = input.generation;
  }
  LossInput with_memory = input;
  const bool same_width = bank_.size() > 0 && input.embeddings.dim() == 2 &&
                          bank_.embeddings().size(1) == input.embeddings.size(1);
  if (input.step >= options_.start_step && same_width) {
    with_memory.memory = bank_.embeddings();
    with_memory.memory_identities = bank_.identities();
  }
  ASSIGN_OR_RETURN(LossResult result, loss_->Compute(with_memory));
  bank_.Add(input.embeddings, input.identities);
  return result;
}

NamedTensors MemoryLoss::State() {
  NamedTensors state = loss_->State();
  AppendPrefixed(kMemoryPrefix, bank_.State(), &state);
  state.emplace_back("memory.generation", at::full({1}, static_cast<int64_t>(generation_), torch::kInt64));
  return state;
}

absl::Status MemoryLoss::LoadState(const NamedTensors& state) {
  NamedTensors own;
  for (const auto& [name, value] : state) {
    if (!absl::StartsWith(name, kMemoryPrefix)) own.emplace_back(name, value);
  }
  RETURN_IF_ERROR(loss_->LoadState(own));
  const torch::Tensor* generation = FindNamed(state, "memory.generation");
  if (generation == nullptr) {
    return absl::DataLossError("the saved loss state has no cross-batch memory: it was trained without one");
  }
  RETURN_IF_ERROR(bank_.LoadState(WithoutPrefix(state, kMemoryPrefix)));
  generation_ = static_cast<uint64_t>(generation->to(torch::kCPU).item<int64_t>());
  return absl::OkStatus();
}

void MemoryLoss::To(const torch::Device& device) {
  loss_->To(device);
  bank_.To(device);
}

}  // namespace doppel
