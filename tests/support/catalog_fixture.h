#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/catalog/catalog.h"

// Small real data for tests: images, archives, and a catalog made of them.
namespace doppel::testing {

// A folder of its own below the system's temporary one; removed with the object.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  // "path/name".
  std::string operator/(absl::string_view name) const;

 private:
  std::string path_;
};

// Writes a file, making the folders above it; dies if it cannot.
void WriteTestFile(const std::string& path, absl::string_view bytes);
std::string ReadTestFile(const std::string& path);

// Valid 8-bit images; `pixels` row by row (PPM: RGB triples).
std::string MakeGreyPng(uint32_t width, uint32_t height, absl::string_view pixels);
std::string MakePpm(uint32_t width, uint32_t height, absl::string_view pixels);

// A pattern of the identity's own (6 × 6 blocks) with noise of the sample's own: a small net can learn to
// tell them apart. The same arguments give the same bytes.
std::string MakeTestImage(int identity, int sample, uint32_t size);

// A ustar archive of these (name, content) members, with its end-of-archive blocks. Names of up to 99 bytes.
std::string MakeTar(const std::vector<std::pair<std::string, std::string>>& members);

struct CatalogFixtureOptions {
  enum class Format { kImageFolder, kWebDataset };
  Format format = Format::kWebDataset;
  int identities = 8;
  int samples_per_identity = 4;
  // The last of the identities form the split "test", the others "train". 0: no splits at all.
  int test_identities = 0;
  int shards = 2;            // kWebDataset
  uint32_t image_size = 48;  // side, grey PNG
};

// Data and its catalog in a temporary folder. Identity i is "id00000i", with samples "s0", "s1", …
class CatalogFixture {
 public:
  // Dies on errors.
  explicit CatalogFixture(const CatalogFixtureOptions& options = {});

  const std::shared_ptr<const Catalog>& catalog() const { return catalog_; }
  const std::string& directory() const { return catalog_->directory(); }
  // What was imported: folder of shards, or of identities.
  std::string data() const { return dir_ / "data"; }
  // For the test's own files.
  const std::string& temp() const { return dir_.path(); }

 private:
  TempDir dir_;
  std::shared_ptr<const Catalog> catalog_;
};

}  // namespace doppel::testing
