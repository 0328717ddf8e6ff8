#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/io/crc32c.h"
#include "tests/support/fake_catalog.h"

namespace doppel {

// A catalog whose samples are blobs of the sizes asked for (sample i has size sizes[i % sizes.size()]).
// Counts how many readers still hold one.
class BlobCatalog : public FakeCatalog {
 public:
  BlobCatalog(int identities, int samples_per_identity, const std::vector<size_t>& sizes)
      : FakeCatalog(std::vector<uint32_t>(identities, samples_per_identity)) {
    for (uint64_t i = 0; i < num_samples(); ++i) {
      std::string blob(sizes[i % sizes.size()], '\0');
      for (size_t j = 0; j < blob.size(); ++j) blob[j] = static_cast<char>(i * 131 + j * 7 + (j >> 8));
      blobs_.push_back(std::make_shared<const std::string>(std::move(blob)));
    }
  }

  SampleRecord Sample(uint64_t sample) const override {
    SampleRecord record = FakeCatalog::Sample(sample);
    record.size = static_cast<uint32_t>(blobs_[sample]->size());
    record.offset = 1000 * sample;
    record.crc32c = Crc32c(*blobs_[sample]);
    return record;
  }
  absl::StatusOr<SampleBytes> Read(uint64_t sample) const override {
    if (sample == unreadable) return absl::NotFoundError("/data/shard.tar: no such file");
    return SampleBytes{*blobs_[sample], blobs_[sample]};
  }
  const std::string& blob(uint64_t sample) const { return *blobs_[sample]; }
  long holders(uint64_t sample) const { return blobs_[sample].use_count() - 1; }

  uint64_t unreadable = UINT64_MAX;

 private:
  std::vector<std::shared_ptr<const std::string>> blobs_;
};

}  // namespace doppel
