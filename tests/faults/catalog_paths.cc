#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "common/catalog/catalog_appender.h"
#include "common/catalog/catalog_builder.h"
#include "common/catalog/catalog_packer.h"
#include "common/catalog/catalog_version.h"
#include "common/catalog/readers/reader.h"
#include "common/io/crc32c.h"
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
  bool mends_in_step() const override { return true; }
  int recovery_stride() const override { return 13; }
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
  bool mends_in_step() const override { return true; }
  int recovery_stride() const override { return 7; }
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

// All that a catalog says, by its numbers, with the bytes of its images; "" if it is not whole.
std::string Content(const Catalog& catalog) {
  if (!catalog.Verify().ok()) return "";
  std::string text = absl::StrCat(catalog.fingerprint(), "\n");
  for (const CatalogSplitInfo& split : catalog.splits()) {
    absl::StrAppend(&text, split.name, ": ", split.identities, " of ", split.samples, "\n");
  }
  for (uint64_t identity = 0; identity < catalog.num_identities(); ++identity) {
    absl::StrAppend(&text, catalog.IdentityName(identity), ":");
    const IdentitySamples samples = catalog.Samples(identity);
    for (uint64_t j = 0; j < samples.count; ++j) {
      const auto bytes = catalog.ReadChecked(samples[j]);
      if (!bytes.ok() || catalog.Sample(samples[j]).identity != identity) return "";
      absl::StrAppend(&text, " ", samples[j], " ", catalog.SampleKey(samples[j]), " ", bytes->data);
    }
    absl::StrAppend(&text, "\n");
  }
  return text;
}

// Two data sets are appended to a catalog, one after the other: each brings an identity, more samples of one
// that is there, and a record that cannot be used.
class AppendPath : public DurablePath {
 public:
  // `raw`: to a packed catalog of raw pixels, so images are written as well.
  explicit AppendPath(bool raw) : raw_(raw) {
    const auto image = [this](const std::string& name, int seed) {
      testing::WriteTestFile(data_ / name, testing::MakeTestImage(seed, 0, 8));
    };
    image("0/b/1.png", 1);
    image("0/d/1.png", 2);
    image("1/b/2.png", 3);
    image("1/a/1.png", 4);
    image("1/a/2.png", 5);
    testing::WriteTestFile(data_ / "1/a/3.png", "corrupt");
    image("2/a/0.png", 6);
    image("2/e/1.png", 7);
    testing::WriteTestFile(data_ / "2/e/2.png", "corrupt");
    const std::string undisturbed = data_ / "catalog";
    Prepare(data_.path());
    for (int step = 0; step <= steps(); ++step) {
      if (step > 0) Sound(Append(step, undisturbed, PosixFileSystem()));
      expected_.push_back(Content(*Catalog::Open(undisturbed).value()));
    }
  }
  std::string name() const override { return raw_ ? "catalog append, raw pixels" : "catalog append"; }
  int steps() const override { return 2; }
  void Prepare(const std::string& dir) override {
    const auto dataset = OpenDataset("imagefolder", data_ / "0", {});
    Sound(dataset.status());
    const std::string catalog = dir + "/catalog";
    if (!raw_) return Sound(BuildCatalog(**dataset, catalog, {}).status());
    Sound(BuildCatalog(**dataset, catalog + "-of-images", {}).status());
    PackOptions options;
    options.raw = {2, 2, 1};
    options.decode = Decode;
    Sound(PackCatalog(*Catalog::Open(catalog + "-of-images").value(), catalog, options).status());
  }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    return std::unique_ptr<Session>(std::make_unique<AppendSession>(fs, dir, *this));
  }
  bool mends_in_step() const override { return true; }
  int recovery_stride() const override { return 41; }
  std::string Differs(const std::string& dir, int done) override {
    const auto catalog = Catalog::Open(dir + "/catalog");
    if (!catalog.ok()) return catalog.status().ToString();
    const std::string content = Content(**catalog);
    if (content.empty()) return "the catalog is not whole";
    if (content != expected_[done]) return absl::StrCat("it is not version ", done + 1);
    for (int before = 0; before < done; ++before) {
      const std::string fingerprint = expected_[before].substr(0, expected_[before].find('\n'));
      const auto version = CatalogAtVersion(*catalog, fingerprint);
      if (!version.ok() || Content(**version) != expected_[before])
        return absl::StrCat("version ", before + 1, " in it is not what it was");
    }
    return "";
  }

 private:
  struct AppendSession : Session {
    AppendSession(FileSystem& fs, const std::string& dir, const AppendPath& path)
        : fs(fs), catalog(dir + "/catalog"), path(path) {}
    absl::Status Do(int step) override { return path.Append(step + 1, catalog, fs); }
    FileSystem& fs;
    const std::string catalog;
    const AppendPath& path;
  };
  absl::Status Append(int data, const std::string& catalog, FileSystem& fs) const {
    ASSIGN_OR_RETURN(const auto dataset, OpenDataset("imagefolder", data_ / std::to_string(data), {}));
    CatalogAppendOptions options;
    options.build.resume = true;
    options.build.threads = 1;
    if (raw_) options.decode = Decode;
    options.shard_bytes = 2500;  // two images
    return AppendToCatalog(*dataset, catalog, options, fs).status();
  }

  // Four pixels that depend on all of the image.
  static absl::Status Decode(absl::string_view encoded, const PixelShape&, char* out) {
    const uint32_t crc = Crc32c(encoded);
    std::memcpy(out, &crc, sizeof(crc));
    return absl::OkStatus();
  }

  const bool raw_;
  const testing::TempDir data_;
  std::vector<std::string> expected_;
};

}  // namespace

void AddCatalogPaths(DurablePaths& paths) {
  paths.push_back(std::make_unique<ImportPath>());
  paths.push_back(std::make_unique<AppendPath>(false));
  paths.push_back(std::make_unique<AppendPath>(true));
  paths.push_back(std::make_unique<PackPath>());
}

}  // namespace doppel
