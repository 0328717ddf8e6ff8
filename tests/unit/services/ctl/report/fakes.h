#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/catalog/catalog.h"
#include "common/image/image.h"
#include "miner/generation/generation.h"

namespace doppel {

// `count` identities, two to each direction of the plane: 2k and 2k + 1 are closest to each other.
class FakeGeneration : public Generation {
 public:
  FakeGeneration(uint64_t first, uint64_t count) : first_(first), count_(count) {
    info_.set_generation(7);
    for (uint64_t i = 0; i < count; ++i) {
      members_.push_back(static_cast<uint32_t>(first + i));
      const double angle =
          static_cast<double>(i / 2) * 0.1 + static_cast<double>(i % 2) * 0.001 * (1 + i / 2);
      vectors_.push_back(static_cast<float>(std::cos(angle)));
      vectors_.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  const v1::GenerationInfo& info() const override { return info_; }
  uint64_t first_identity() const override { return first_; }
  uint64_t num_identities() const override { return count_; }
  uint32_t num_subspaces() const override { return 1; }
  int dimension() const override { return 2; }
  absl::Span<const uint32_t> Members(uint32_t) const override { return members_; }
  uint32_t SubspaceOf(uint64_t) const override { return 0; }
  absl::Span<const float> Centroid(uint32_t) const override { return {vectors_.data(), 2}; }
  absl::Span<const float> Representation(uint64_t identity) const override {
    return {vectors_.data() + 2 * (identity - first_), 2};
  }

 private:
  v1::GenerationInfo info_;
  uint64_t first_, count_;
  std::vector<uint32_t> members_;
  std::vector<float> vectors_;
};

// Identities "<id 0>", "<id 1>", … with one 150×100 picture each.
class FakeCatalog : public Catalog {
 public:
  explicit FakeCatalog(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) names_.push_back(absl::StrCat("<id ", i, ">"));
    Image image{100, 150, 1, std::vector<uint8_t>(15000, 128)};
    png_ = std::make_shared<std::string>(*EncodePng(image));
  }
  uint64_t num_identities() const override { return names_.size(); }
  uint64_t num_samples() const override { return names_.size(); }
  const std::string& fingerprint() const override { return fingerprint_; }
  const std::string& directory() const override { return fingerprint_; }
  const std::vector<CatalogSplitInfo>& splits() const override { return splits_; }
  absl::StatusOr<CatalogSplitInfo> Split(absl::string_view) const override {
    return absl::NotFoundError("none");
  }
  absl::string_view IdentityName(uint64_t identity) const override { return names_[identity]; }
  IdentitySamples Samples(uint64_t identity) const override { return {identity, 1}; }
  SampleRecord Sample(uint64_t) const override { return {}; }
  absl::string_view SampleKey(uint64_t sample) const override { return names_[sample]; }
  std::string SamplePath(uint64_t) const override { return ""; }
  absl::StatusOr<uint64_t> FindIdentity(absl::string_view) const override {
    return absl::NotFoundError("none");
  }
  absl::StatusOr<SampleBytes> Read(uint64_t) const override { return SampleBytes{*png_, png_}; }
  absl::StatusOr<SampleBytes> ReadChecked(uint64_t sample) const override { return Read(sample); }
  absl::Status Verify() const override { return absl::OkStatus(); }

 private:
  std::vector<std::string> names_;
  std::shared_ptr<std::string> png_;
  std::string fingerprint_;
  std::vector<CatalogSplitInfo> splits_;
};

}  // namespace doppel
