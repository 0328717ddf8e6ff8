#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "common/catalog/catalog_builder.h"
#include "common/catalog/catalog_packer.h"
#include "common/catalog/readers/reader.h"
#include "tests/faults/durable_path.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using Session = DurablePath::Session;

// The data of both paths: `old` is part of `new`.
class GlyphData {
 public:
  GlyphData() {
    for (int i = 0; i < 3; ++i) {
      const std::string image = testing::MakeTestImage(i, 0, 8);
      if (i < 2) testing::WriteTestFile(dir_ / absl::StrCat("old/", i, "/a.png"), image);
      testing::WriteTestFile(dir_ / absl::StrCat("new/", i, "/a.png"), image);
    }
    testing::WriteTestFile(dir_ / "new/2/b.png", "corrupt");
  }
  absl::Status Import(const std::string& data, const std::string& catalog, FileSystem& fs) const {
    ASSIGN_OR_RETURN(const auto dataset, OpenDataset("imagefolder", dir_ / data, {}));
    CatalogBuildOptions options;
    options.force = true;
    options.resume = true;
    options.threads = 1;
    return BuildCatalog(*dataset, catalog, options, fs).status();
  }

 private:
  testing::TempDir dir_;
};

// "" if there is a whole catalog of so many identities, or none is wanted and none is there.
std::string CatalogDiffers(const std::string& directory, uint64_t identities) {
  if (identities == 0) return std::filesystem::exists(directory) ? "a catalog is there" : "";
  const auto catalog = Catalog::Open(directory);
  if (!catalog.ok()) return catalog.status().ToString();
  if (const absl::Status status = (*catalog)->Verify(); !status.ok()) return status.ToString();
  for (uint64_t sample = 0; sample < (*catalog)->num_samples(); ++sample) {
    if (!(*catalog)->ReadChecked(sample).ok()) return "a sample cannot be read";
  }
  const uint64_t got = (*catalog)->num_identities();
  return got == identities ? "" : absl::StrCat(got, " identities");
}

class ImportPath : public DurablePath {
 public:
  std::string name() const override { return "catalog import"; }
  // Two identities, then three in their place.
  int steps() const override { return 2; }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    return std::unique_ptr<Session>(std::make_unique<ImportSession>(fs, dir, data_));
  }
  std::string Differs(const std::string& dir, int done) override {
    // Between two renames the old one is aside, from where the next import takes it back before all else.
    const std::string aside = dir + "/catalog.old";
    const bool moved = !std::filesystem::exists(dir + "/catalog") && std::filesystem::exists(aside);
    return CatalogDiffers(moved ? aside : dir + "/catalog", done == 0 ? 0 : static_cast<uint64_t>(done) + 1);
  }

 private:
  struct ImportSession : Session {
    ImportSession(FileSystem& fs, const std::string& dir, const GlyphData& data)
        : fs(fs), catalog(dir + "/catalog"), data(data) {}
    absl::Status Do(int step) override { return data.Import(step == 0 ? "old" : "new", catalog, fs); }
    FileSystem& fs;
    const std::string catalog;
    const GlyphData& data;
  };
  const GlyphData data_;
};

class PackPath : public DurablePath {
 public:
  PackPath() {
    Sound(data_.Import("new", home_ / "catalog", PosixFileSystem()));
    catalog_ = Catalog::Open(home_ / "catalog").value();
  }
  std::string name() const override { return "catalog pack"; }
  int steps() const override { return 1; }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    return std::unique_ptr<Session>(std::make_unique<PackSession>(fs, dir, *catalog_));
  }
  std::string Differs(const std::string& dir, int done) override {
    return CatalogDiffers(dir + "/packed", done == 0 ? 0 : 3);
  }

 private:
  struct PackSession : Session {
    PackSession(FileSystem& fs, const std::string& dir, const Catalog& catalog)
        : fs(fs), target(dir + "/packed"), catalog(catalog) {}
    absl::Status Do(int) override {
      PackOptions options;
      options.shard_bytes = 2000;
      options.force = true;
      options.threads = 1;
      return PackCatalog(catalog, target, options, fs).status();
    }
    FileSystem& fs;
    const std::string target;
    const Catalog& catalog;
  };
  const GlyphData data_;
  testing::TempDir home_;
  std::shared_ptr<const Catalog> catalog_;
};

}  // namespace

void AddCatalogPaths(DurablePaths& paths) {
  paths.push_back(std::make_unique<ImportPath>());
  paths.push_back(std::make_unique<PackPath>());
}

}  // namespace doppel
