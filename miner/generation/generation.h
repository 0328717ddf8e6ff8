#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "common/base/identity_rows.h"
#include "doppel/v1/types.pb.h"
#include "miner/cleaning/guard_list.h"

namespace doppel {

// An immutable, numbered result of one mining run, memory-mapped. Covers the identities of a split, of one
// version of a catalog. Thread-safe.
class Generation {
 public:
  virtual ~Generation() = default;

  virtual const v1::GenerationInfo& info() const = 0;
  uint64_t number() const { return info().generation(); }
  // The lowest covered identity, and how many there are: a consecutive range of the catalog, unless later
  // versions of it added to a split that others lie behind.
  virtual uint64_t first_identity() const = 0;
  virtual uint64_t num_identities() const = 0;
  virtual IdentityRows rows() const { return {first_identity(), num_identities()}; }
  virtual bool Covers(uint64_t identity) const {
    return identity >= first_identity() && identity - first_identity() < num_identities();
  }
  virtual uint32_t num_subspaces() const = 0;
  virtual int dimension() const = 0;
  // Catalog identity numbers of a subspace, ascending.
  virtual absl::Span<const uint32_t> Members(uint32_t subspace) const = 0;
  // Of a catalog identity that is covered.
  virtual uint32_t SubspaceOf(uint64_t identity) const = 0;
  // [dimension], unit length.
  virtual absl::Span<const float> Centroid(uint32_t subspace) const = 0;
  virtual absl::Span<const float> Representation(uint64_t identity) const = 0;
  // How many neighbours each identity has; 0 in a generation without them.
  virtual int num_neighbours() const { return 0; }
  // [num_neighbours], catalog identity numbers of the most similar other identities, nearest first.
  virtual absl::Span<const uint32_t> Neighbours(uint64_t /*identity*/) const { return {}; }
  // [num_neighbours], the cosines that go with them.
  virtual absl::Span<const float> NeighbourSimilarities(uint64_t /*identity*/) const { return {}; }
  // What plans must keep apart. Empty unless cleaning found something.
  virtual const GuardList& guard_list() const {
    static const GuardList* const empty = new GuardList();
    return *empty;
  }
};

}  // namespace doppel
