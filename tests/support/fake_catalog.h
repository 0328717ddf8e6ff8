#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "common/base/philox.h"
#include "common/catalog/catalog.h"

namespace doppel {

// A catalog in memory: so many samples per identity, no images. Identity i is called "id" and eight digits;
// the bytes of a sample are its key. Thread-safe.
class FakeCatalog : public Catalog {
 public:
  // `splits`: (name, identities), consecutive; empty: one split "all". Their sizes must add up.
  explicit FakeCatalog(const std::vector<uint32_t>& samples_per_identity,
                       const std::vector<std::pair<std::string, uint64_t>>& splits = {}) {
    uint64_t fingerprint = 0;
    first_.reserve(samples_per_identity.size() + 1);
    first_.push_back(0);
    for (uint32_t count : samples_per_identity) {
      first_.push_back(first_.back() + count);
      fingerprint = MixKey(fingerprint, count);
    }
    fingerprint_ = absl::StrFormat("%016x%016x", fingerprint, MixKey(fingerprint, 1));
    uint64_t begin = 0;
    for (const auto& [name, identities] : splits) {
      splits_.push_back({name, begin, identities, first_[begin + identities] - first_[begin]});
      begin += identities;
    }
    if (splits.empty()) splits_.push_back({"all", 0, num_identities(), num_samples()});
    names_.reserve(std::min<uint64_t>(num_identities(), kNames));
    for (uint64_t i = 0; i < num_identities() && i < kNames; ++i)
      names_.push_back(absl::StrFormat("id%08d", i));
    for (uint64_t i = 0; i < num_identities() && i < kNames; ++i) {
      for (uint64_t j = 0; j < first_[i + 1] - first_[i]; ++j)
        keys_.push_back(absl::StrCat(names_[i], "/", j));
    }
  }

  uint64_t num_identities() const override { return first_.size() - 1; }
  uint64_t num_samples() const override { return first_.back(); }
  const std::string& fingerprint() const override { return fingerprint_; }
  const std::string& directory() const override { return directory_; }
  const std::vector<CatalogSplitInfo>& splits() const override { return splits_; }

  absl::StatusOr<CatalogSplitInfo> Split(absl::string_view name) const override {
    std::vector<std::string> known;
    for (const CatalogSplitInfo& split : splits_) {
      if (split.name == (name.empty() ? "train" : name)) return split;
      known.push_back(split.name);
    }
    if (name.empty()) return CatalogSplitInfo{"all", 0, num_identities(), num_samples()};
    return absl::NotFoundError(
        absl::StrCat("split \"", name, "\": the catalog has ", absl::StrJoin(known, ", ")));
  }

  // Names and keys exist for the first 100 000 identities.
  absl::string_view IdentityName(uint64_t identity) const override { return names_[identity]; }
  IdentitySamples Samples(uint64_t identity) const override {
    return {first_[identity], static_cast<uint32_t>(first_[identity + 1] - first_[identity])};
  }
  void PrefetchSamples(const uint64_t* identities, size_t count) const override {
    for (size_t i = 0; i < count; ++i) {
      __builtin_prefetch(&first_[identities[i]]);
      __builtin_prefetch(&first_[identities[i] + 1]);
    }
  }
  SampleRecord Sample(uint64_t sample) const override {
    SampleRecord record;
    record.size = static_cast<uint32_t>(SampleKey(sample).size());
    record.identity =
        static_cast<uint32_t>(std::upper_bound(first_.begin(), first_.end(), sample) - first_.begin() - 1);
    return record;
  }
  absl::string_view SampleKey(uint64_t sample) const override { return keys_[sample]; }
  std::string SamplePath(uint64_t sample) const override { return absl::StrCat("/fake/", SampleKey(sample)); }
  absl::StatusOr<uint64_t> FindIdentity(absl::string_view name) const override {
    uint64_t identity = 0;
    if (name.size() == 10 && name.substr(0, 2) == "id" && absl::SimpleAtoi(name.substr(2), &identity) &&
        identity < num_identities()) {
      return identity;
    }
    return absl::NotFoundError(absl::StrCat("identity \"", name, "\" is not in the catalog"));
  }
  absl::StatusOr<SampleBytes> Read(uint64_t sample) const override {
    return SampleBytes{SampleKey(sample), nullptr};
  }
  absl::StatusOr<SampleBytes> ReadChecked(uint64_t sample) const override { return Read(sample); }
  absl::Status Verify() const override { return absl::OkStatus(); }

 private:
  static constexpr uint64_t kNames = 100000;

  std::vector<uint64_t> first_;  // [identities + 1]
  std::vector<CatalogSplitInfo> splits_;
  std::vector<std::string> names_;
  std::vector<std::string> keys_;
  std::string fingerprint_;
  std::string directory_ = "/fake/catalog";
};

// `identities` identities with lowest..highest samples each, drawn by `seed`.
inline std::shared_ptr<const FakeCatalog> MakeFakeCatalog(
    uint64_t identities, uint32_t lowest, uint32_t highest, uint64_t seed,
    const std::vector<std::pair<std::string, uint64_t>>& splits = {}) {
  const Philox philox(seed);
  std::vector<uint32_t> counts(identities);
  for (uint64_t i = 0; i < identities; ++i) {
    counts[i] = lowest + static_cast<uint32_t>(philox.Below(highest - lowest + 1, i));
  }
  return std::make_shared<FakeCatalog>(counts, splits);
}

}  // namespace doppel
