#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/catalog/catalog.h"
#include "common/image/image.h"
#include "common/model/embedding_model.h"

namespace doppel {

inline constexpr int kFakeSide = 6;
inline constexpr int kFakeDimension = 4;

// Identities with images that are PNGs of one kind of noise each; some can be made undecodable.
class FakeCatalog : public Catalog {
 public:
  explicit FakeCatalog(const std::vector<uint32_t>& samples_per_identity) {
    for (uint32_t count : samples_per_identity) {
      names_.push_back(absl::StrCat("id", names_.size()));
      samples_.push_back({keys_.size(), count});
      for (uint32_t k = 0; k < count; ++k) {
        Image image{kFakeSide, kFakeSide, 1, {}};
        for (int p = 0; p < kFakeSide * kFakeSide; ++p) {
          image.pixels.push_back(
              static_cast<uint8_t>((names_.size() * 31 + k * 7 + p * (k + 3)) * 2654435761U >> 13));
        }
        encoded_.push_back(EncodePng(image).value());
        keys_.push_back(absl::StrCat("k", k));
      }
    }
    CatalogSplitInfo split;
    split.name = "all";
    split.identities = names_.size();
    split.samples = keys_.size();
    splits_ = {split};
  }
  void Break(uint64_t sample) { encoded_[sample] = "no image"; }

  uint64_t num_identities() const override { return names_.size(); }
  uint64_t num_samples() const override { return keys_.size(); }
  const std::string& fingerprint() const override { return fingerprint_; }
  const std::string& directory() const override { return directory_; }
  const std::vector<CatalogSplitInfo>& splits() const override { return splits_; }
  absl::StatusOr<CatalogSplitInfo> Split(absl::string_view name) const override { return splits_[0]; }
  absl::string_view IdentityName(uint64_t identity) const override { return names_[identity]; }
  IdentitySamples Samples(uint64_t identity) const override { return samples_[identity]; }
  SampleRecord Sample(uint64_t sample) const override { return {}; }
  absl::string_view SampleKey(uint64_t sample) const override { return keys_[sample]; }
  std::string SamplePath(uint64_t sample) const override { return "memory"; }
  absl::StatusOr<uint64_t> FindIdentity(absl::string_view name) const override {
    return absl::NotFoundError("none");
  }
  absl::StatusOr<SampleBytes> Read(uint64_t sample) const override {
    return SampleBytes{encoded_[sample], nullptr};
  }
  absl::StatusOr<SampleBytes> ReadChecked(uint64_t sample) const override { return Read(sample); }
  absl::Status Verify() const override { return absl::OkStatus(); }

 private:
  const std::string fingerprint_ = "catalog-fingerprint";
  const std::string directory_ = "fake";
  std::vector<std::string> names_;
  std::vector<IdentitySamples> samples_;
  std::vector<std::string> keys_;
  std::vector<std::string> encoded_;
  std::vector<CatalogSplitInfo> splits_;
};

// A fixed nonlinear function of the pixels that also looks at the whole batch's size, so that results show
// how the batches were cut.
class FakeModel : public EmbeddingModel {
 public:
  explicit FakeModel(bool sees_batch = false) : sees_batch_(sees_batch) {
    spec_.architecture = "fake";
    spec_.height = kFakeSide;
    spec_.width = kFakeSide;
    spec_.channels = 1;
    spec_.dimension = kFakeDimension;
    spec_.fingerprint = "model-fingerprint";
  }
  const ModelSpec& spec() const override { return spec_; }
  absl::Status Embed(absl::Span<const uint8_t> images, int64_t n, float* out) override {
    if (fail_) return absl::InternalError("out of memory in the net");
    for (int64_t i = 0; i < n; ++i) {
      for (int d = 0; d < kFakeDimension; ++d) {
        double sum = sees_batch_ ? 0.001 * static_cast<double>(n) : 0;
        for (int p = 0; p < kFakeSide * kFakeSide; ++p) {
          sum += std::sin(0.01 * images[i * kFakeSide * kFakeSide + p] * (p % (d + 2) + 1) + d);
        }
        out[i * kFakeDimension + d] = static_cast<float>(not_finite_ ? NAN : sum);
      }
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<EmbeddingModel>> Clone() const override {
    return std::unique_ptr<EmbeddingModel>(std::make_unique<FakeModel>(*this));
  }
  void set_fail(bool fail) { fail_ = fail; }
  void set_not_finite(bool on) { not_finite_ = on; }
  void set_fingerprint(const std::string& fingerprint) { spec_.fingerprint = fingerprint; }

 private:
  ModelSpec spec_;
  bool sees_batch_;
  bool fail_ = false;
  bool not_finite_ = false;
};

inline std::vector<std::unique_ptr<EmbeddingModel>> Models(int count, const FakeModel& model = FakeModel()) {
  std::vector<std::unique_ptr<EmbeddingModel>> models;
  for (int i = 0; i < count; ++i) models.push_back(std::make_unique<FakeModel>(model));
  return models;
}

// The mean of normalised embeddings of these samples, one by one.
inline std::vector<double> NaiveMean(const Catalog& catalog, const std::vector<uint64_t>& samples) {
  FakeModel model;
  std::vector<double> mean(kFakeDimension);
  for (uint64_t sample : samples) {
    const Image image = DecodeImage(catalog.Read(sample)->data, 1).value();
    float out[kFakeDimension];
    EXPECT_TRUE(model.Embed(image.pixels, 1, out).ok());
    double norm = 0;
    for (float x : out) norm += static_cast<double>(x) * x;
    for (int d = 0; d < kFakeDimension; ++d) {
      mean[d] += out[d] / std::sqrt(norm) / static_cast<double>(samples.size());
    }
  }
  return mean;
}

}  // namespace doppel
