#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "miner/planning/plan_inputs.h"

namespace doppel {

// Sets of look-alikes that a batch is drawn from: subspaces, overlapping ones, categories. Immutable,
// thread-safe.
class IdentityCells {
 public:
  struct Place {
    uint32_t cell = 0;
    uint64_t position = 0;
  };

  virtual ~IdentityCells() = default;
  virtual uint32_t count() const = 0;
  virtual uint64_t size(uint32_t cell) const = 0;
  // position < size(cell). An identity is never twice in a cell.
  virtual uint64_t At(uint32_t cell, uint64_t position) const = 0;
  // identities[i] = At(cell, identities[i]), i < count; they do not wait for one another's memory.
  virtual void Gather(uint32_t cell, size_t count, uint64_t* identities) const {
    for (size_t i = 0; i < count; ++i) identities[i] = At(cell, identities[i]);
  }
  // Where an identity is; its home, which everyone has who is anywhere, first.
  virtual std::vector<Place> Places(uint64_t identity) const = 0;
  // Positions below this are their identities' homes.
  virtual uint64_t AtHome(uint32_t cell) const { return size(cell); }
  // Identities that have no place, and why.
  virtual uint64_t homeless() const { return 0; }
  virtual std::string homeless_reason() const { return ""; }
  // Whether cells are the generation's subspaces, by their numbers.
  virtual bool are_subspaces() const { return true; }
  // "subspaces of generation 3".
  virtual std::string name() const = 0;
};

// The generation's subspaces.
std::unique_ptr<const IdentityCells> MakeSubspaceCells(std::shared_ptr<const Generation> generation);

// The generation's subspaces, each with the guests that have it among their nearest: an identity is in its
// own subspace and in the `overlap` - 1 others whose centroids are nearest to it (of the 32 that are nearest
// to its own one; ties to the lower number). Memory: 4 bytes for each guest. INVALID_ARGUMENT: the generation
// has no representations.
absl::StatusOr<std::unique_ptr<const IdentityCells>> MakeOverlapCells(
    const std::shared_ptr<const Generation>& generation, uint32_t overlap);

// Identities whose names begin alike, up to and with the separator: "shoe/0012" is in category "shoe".
// Catalogs number identities by name, so a category is a range, found by bisection. Memory: that of the
// categories. INVALID_ARGUMENT: no name of the split has the separator.
absl::StatusOr<std::unique_ptr<const IdentityCells>> MakeCategoryCells(const PlanInputs& inputs);

}  // namespace doppel
