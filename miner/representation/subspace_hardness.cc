#include "miner/representation/subspace_hardness.h"

#include <algorithm>

namespace doppel {
namespace {

constexpr double kNewest = 0.1;
constexpr size_t kGenerationsKept = 2;

}  // namespace

void SubspaceHardnessTable::Add(uint64_t generation, uint32_t subspace, double active_share, double loss,
                                uint64_t model_step) {
  // A late report of a generation that is gone must not push out a newer one.
  if (generations_.count(generation) == 0 && generations_.size() >= kGenerationsKept &&
      generation < generations_.begin()->first) {
    return;
  }
  v1::SubspaceHardness& entry = generations_[generation][subspace];
  entry.set_subspace(subspace);
  entry.set_batches(entry.batches() + 1);
  // The plain mean, until there are enough batches for the exponential one.
  const double share = std::max(kNewest, 1.0 / static_cast<double>(entry.batches()));
  entry.set_active_share(entry.active_share() + share * (active_share - entry.active_share()));
  entry.set_loss(entry.loss() + share * (loss - entry.loss()));
  entry.set_model_step(std::max(entry.model_step(), model_step));
  while (generations_.size() > kGenerationsKept) generations_.erase(generations_.begin());
}

v1::ListSubspaceHardnessResponse SubspaceHardnessTable::List(uint64_t generation) const {
  v1::ListSubspaceHardnessResponse response;
  if (generations_.empty()) return response;
  const auto found = generation == 0 ? std::prev(generations_.end()) : generations_.find(generation);
  if (found == generations_.end()) return response;
  response.set_generation(found->first);
  for (const auto& [subspace, hardness] : found->second) *response.add_subspaces() = hardness;
  return response;
}

std::vector<v1::GenerationHardness> SubspaceHardnessTable::Save() const {
  std::vector<v1::GenerationHardness> saved;
  saved.reserve(generations_.size());
  for (const auto& [generation, subspaces] : generations_) {
    v1::GenerationHardness& one = saved.emplace_back();
    one.set_generation(generation);
    for (const auto& [subspace, hardness] : subspaces) *one.add_subspaces() = hardness;
  }
  return saved;
}

void SubspaceHardnessTable::Restore(const v1::GenerationHardness& hardness) {
  for (const v1::SubspaceHardness& one : hardness.subspaces())
    generations_[hardness.generation()][one.subspace()] = one;
}

}  // namespace doppel
