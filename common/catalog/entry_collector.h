#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/catalog/readers/reader.h"

namespace doppel {

// The entries of an import: compact, in whatever order they come, and then in the catalog's order. Not
// thread-safe.
class EntryCollector {
 public:
  struct Sample {
    uint64_t offset = 0;
    const char* key_data = nullptr;
    uint32_t key_size = 0;
    uint32_t size = 0;
    uint32_t crc32c = 0;
    uint32_t source = 0;
    uint32_t identity = 0;  // in order of arrival
    absl::string_view key() const { return {key_data, key_size}; }
  };
  struct Identity {
    absl::string_view name;
    uint64_t first = 0;  // samples [first, end)
    uint64_t end = 0;
  };
  struct Split {
    std::string name;
    uint64_t first_identity = 0;
    uint64_t identities = 0;
    uint64_t samples = 0;
  };

  // Before all Adds: every sample is of this split, whatever its entry says.
  void ForceSplit(const std::string& name) { forced_split_ = name; }
  // Before all Adds: the split of samples whose entries name none. Unless it is set it is "all" if there is
  // no other, else "none".
  void NameUnnamedSplit(const std::string& name) { unnamed_split_ = name; }
  // Whether some sample was of no split when it was added.
  bool has_unnamed_split() const { return has_unnamed_split_; }
  // RESOURCE_EXHAUSTED beyond 2^32 identities or a thousand splits.
  absl::Status Add(const SampleEntry& entry);

  // Once, after all Adds; the rest is valid from then on.
  void Sort();
  const std::vector<Split>& splits() const { return sorted_splits_; }
  const std::vector<Identity>& identities() const { return sorted_identities_; }
  uint64_t num_samples() const { return order_.size(); }
  const Sample& sample(uint64_t index) const { return samples_[order_[index]]; }
  // Left out because (split, identity, key) was there before.
  const std::vector<Sample>& duplicates() const { return duplicates_; }
  // Of a duplicate.
  absl::string_view arrived_name(uint32_t identity) const { return identities_[identity].name; }

 private:
  struct ArrivedIdentity {
    std::string name;
    uint32_t split;
    uint64_t samples;
  };
  struct ArrivedSplit {
    std::string name;
    absl::flat_hash_map<absl::string_view, uint32_t> identities;  // keys live in identities_
  };

  const char* Store(absl::string_view key);
  absl::Status FindSplit(const std::string& name, uint32_t* split);
  void NameTheUnnamedSplit();
  // Arrival numbers of splits and of identities, in the catalog's order.
  std::vector<uint32_t> SplitOrder() const;
  std::vector<uint32_t> IdentityOrder(const std::vector<uint32_t>& split_order) const;
  void SortSamples(const std::vector<uint32_t>& identity_order);

  std::string forced_split_;
  std::string unnamed_split_;
  bool has_unnamed_split_ = false;
  std::deque<Sample> samples_;
  std::deque<ArrivedIdentity> identities_;
  std::vector<ArrivedSplit> splits_;
  std::vector<std::unique_ptr<char[]>> arena_;
  size_t arena_left_ = 0;
  char* arena_next_ = nullptr;

  std::vector<Split> sorted_splits_;
  std::vector<Identity> sorted_identities_;
  std::vector<uint64_t> order_;
  std::vector<Sample> duplicates_;
};

}  // namespace doppel
