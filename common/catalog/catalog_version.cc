#include "common/catalog/catalog_version.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace doppel {
namespace {

class CatalogVersionView final : public Catalog {
 public:
  CatalogVersionView(std::shared_ptr<const Catalog> newest, const CatalogVersionInfo& version)
      : newest_(std::move(newest)), version_(version) {
    const std::vector<CatalogSplitInfo>& ranges = newest_->sorted_ranges();
    const size_t count = std::min(version_.sorted_ranges, ranges.size());
    ranges_.assign(ranges.begin(), ranges.begin() + static_cast<std::ptrdiff_t>(count));
    for (const CatalogVersionInfo& earlier : newest_->earlier_versions()) {
      if (earlier.fingerprint == version_.fingerprint) break;
      earlier_.push_back(earlier);
    }
  }

  uint64_t num_identities() const override { return version_.identities; }
  uint64_t num_samples() const override { return version_.samples; }
  const std::string& fingerprint() const override { return version_.fingerprint; }
  const std::string& directory() const override { return newest_->directory(); }
  const std::vector<CatalogSplitInfo>& splits() const override { return version_.splits; }
  const std::vector<CatalogSplitInfo>& sorted_ranges() const override { return ranges_; }
  const std::vector<CatalogVersionInfo>& earlier_versions() const override { return earlier_; }
  absl::StatusOr<CatalogSplitInfo> Split(absl::string_view name) const override {
    return FindSplit(*this, name);
  }

  absl::string_view IdentityName(uint64_t identity) const override { return newest_->IdentityName(identity); }
  // Numbers ascend, and later versions' come later: what this one has is the beginning.
  IdentitySamples Samples(uint64_t identity) const override {
    IdentitySamples samples = newest_->Samples(identity);
    if (samples.count == 0 || samples.end() <= version_.samples) return samples;
    if (samples.numbers == nullptr) {
      samples.count =
          samples.first < version_.samples ? static_cast<uint32_t>(version_.samples - samples.first) : 0;
      return samples;
    }
    samples.count = static_cast<uint32_t>(
        std::lower_bound(samples.numbers, samples.numbers + samples.count, version_.samples) -
        samples.numbers);
    if (samples.count == 0) return {};
    if (samples[samples.count - 1] - samples.first == samples.count - 1) samples.numbers = nullptr;
    return samples;
  }
  void PrefetchSamples(const uint64_t* identities, size_t count) const override {
    newest_->PrefetchSamples(identities, count);
  }
  SampleRecord Sample(uint64_t sample) const override { return newest_->Sample(sample); }
  void SampleRecords(const uint64_t* samples, size_t count, SampleRecord* records) const override {
    newest_->SampleRecords(samples, count, records);
  }
  absl::string_view SampleKey(uint64_t sample) const override { return newest_->SampleKey(sample); }
  std::string SamplePath(uint64_t sample) const override { return newest_->SamplePath(sample); }
  absl::StatusOr<uint64_t> FindIdentity(absl::string_view name) const override {
    const std::vector<uint64_t> found = FindIdentities(*this, name);
    if (!found.empty()) return found.front();
    return absl::NotFoundError(absl::StrCat("catalog ", directory(), " at version ", fingerprint(),
                                            " has no identity \"", absl::CEscape(name), "\""));
  }
  absl::StatusOr<SampleBytes> Read(uint64_t sample) const override { return newest_->Read(sample); }
  SampleEncoding Encoding(uint64_t sample) const override { return newest_->Encoding(sample); }
  PixelShape RawShape(uint64_t sample) const override { return newest_->RawShape(sample); }
  bool Contiguous(uint64_t sample) const override { return newest_->Contiguous(sample); }
  absl::StatusOr<SampleBytes> ReadChecked(uint64_t sample) const override {
    return newest_->ReadChecked(sample);
  }
  uint32_t num_sources() const override { return newest_->num_sources(); }
  absl::StatusOr<MappedSource> Source(uint32_t source) const override { return newest_->Source(source); }
  absl::Status Verify() const override { return newest_->Verify(); }

 private:
  const std::shared_ptr<const Catalog> newest_;
  const CatalogVersionInfo version_;
  std::vector<CatalogSplitInfo> ranges_;
  std::vector<CatalogVersionInfo> earlier_;
};

}  // namespace

bool HasVersion(const Catalog& catalog, absl::string_view fingerprint) {
  const std::vector<CatalogVersionInfo>& earlier = catalog.earlier_versions();
  return catalog.fingerprint() == fingerprint ||
         std::any_of(earlier.begin(), earlier.end(),
                     [&](const CatalogVersionInfo& version) { return version.fingerprint == fingerprint; });
}

absl::StatusOr<std::shared_ptr<const Catalog>> CatalogAtVersion(std::shared_ptr<const Catalog> newest,
                                                                absl::string_view fingerprint) {
  if (newest->fingerprint() == fingerprint) return newest;
  for (const CatalogVersionInfo& version : newest->earlier_versions()) {
    if (version.fingerprint != fingerprint) continue;
    return std::make_shared<const CatalogVersionView>(newest, version);
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "catalog ", newest->directory(), " has fingerprint ", newest->fingerprint(),
      " and was never appended to ", fingerprint, ": give each catalog a state directory of its own"));
}

std::optional<uint64_t> FindInRange(const Catalog& catalog, const CatalogSplitInfo& range,
                                    absl::string_view name) {
  const uint64_t end = range.first_identity + range.identities;
  uint64_t low = range.first_identity, high = end;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (catalog.IdentityName(middle) < name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low < end && catalog.IdentityName(low) == name) return low;
  return std::nullopt;
}

std::vector<uint64_t> FindIdentities(const Catalog& catalog, absl::string_view name) {
  std::vector<uint64_t> found;
  for (const CatalogSplitInfo& range : catalog.sorted_ranges()) {
    if (const std::optional<uint64_t> identity = FindInRange(catalog, range, name))
      found.push_back(*identity);
  }
  return found;
}

absl::StatusOr<CatalogSplitInfo> FindSplit(const Catalog& catalog, absl::string_view name) {
  const absl::string_view wanted = name.empty() ? "train" : name;
  for (const CatalogSplitInfo& split : catalog.splits()) {
    if (split.name == wanted) return split;
  }
  if (name.empty() || name == "all")
    return CatalogSplitInfo{"all", 0, catalog.num_identities(), catalog.num_samples()};
  const std::string known = absl::StrJoin(
      catalog.splits(), ", ",
      [](std::string* out, const CatalogSplitInfo& split) { absl::StrAppend(out, split.name); });
  return absl::NotFoundError(absl::StrCat("catalog ", catalog.directory(), " has no split \"",
                                          absl::CEscape(name), "\": it has ", known));
}

}  // namespace doppel
