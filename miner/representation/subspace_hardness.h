#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "doppel/v1/reports.pb.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

// How hard each subspace is, learned from the trainers' batches: mean active share and loss, exponentially
// weighted over the batches of that subspace (the last ten make up two thirds). The two newest generations
// are kept. Not thread-safe.
class SubspaceHardnessTable {
 public:
  void Add(uint64_t generation, uint32_t subspace, double active_share, double loss, uint64_t model_step);
  // 0: the newest. Ascending; subspaces without a batch are left out.
  v1::ListSubspaceHardnessResponse List(uint64_t generation) const;

  std::vector<v1::GenerationHardness> Save() const;
  void Restore(const v1::GenerationHardness& hardness);
  void Clear() { generations_.clear(); }

 private:
  std::map<uint64_t, std::map<uint32_t, v1::SubspaceHardness>> generations_;
};

}  // namespace doppel
