#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/catalog/catalog.h"
#include "common/catalog/manifest.h"
#include "common/io/crc32c.h"
#include "common/io/mapped_file.h"
#include "miner/storage/state_check.h"

namespace doppel {
namespace {

constexpr char kImportAgain[] = "import the data again: the same data give the same catalog";

void AddCatalogDamage(CheckReport& report, std::string file, absl::string_view what, const char* remedy) {
  report.findings.push_back({CheckFinding::Kind::kDamage, std::move(file), std::string(what), remedy, false});
}

void CheckTable(CheckReport& report, const v1::FileDigest& digest) {
  const std::string path = absl::StrCat(report.directory, "/", digest.name());
  const auto file = MappedFile::Open(path, MappedFile::Access::kSequential);
  if (!file.ok()) return AddCatalogDamage(report, path, file.status().message(), kImportAgain);
  ++report.files;
  report.bytes += (*file)->size();
  if ((*file)->size() != digest.size()) {
    AddCatalogDamage(report, path,
                     absl::StrCat("has ", (*file)->size(), " bytes, the manifest says ", digest.size()),
                     kImportAgain);
  } else if (Crc32c((*file)->data()) != digest.crc32c()) {
    AddCatalogDamage(report, path, "its CRC32C differs from the manifest's", kImportAgain);
  }
}

void CheckSource(CheckReport& report, const v1::CatalogSource& source) {
  namespace stdfs = std::filesystem;
  const std::string path = (stdfs::path(report.directory) / source.path()).string();
  std::error_code error;
  if (source.kind() == v1::CatalogSource::KIND_DIRECTORY) {
    if (!stdfs::is_directory(path, error)) {
      AddCatalogDamage(report, path, "the folder of the samples is not there", "put the data back");
    }
    return;
  }
  const uint64_t size = stdfs::file_size(path, error);
  if (error) {
    AddCatalogDamage(report, path, absl::StrCat("the data are not there: ", error.message()),
                     "put the data back");
  } else if (size != source.size()) {
    AddCatalogDamage(report, path, absl::StrCat("has ", size, " bytes, ", source.size(), " were imported"),
                     "put the old file back, or import again");
  }
}

}  // namespace

CheckReport CheckCatalogFiles(FileSystem& fs, const std::string& directory) {
  CheckReport report;
  report.directory = directory;
  const auto manifest = ReadCatalogManifest(fs, directory);
  if (!manifest.ok()) {
    AddCatalogDamage(report, directory + "/manifest.json", manifest.status().message(), kImportAgain);
    return report;
  }
  ++report.files;
  report.catalog_fingerprint = manifest->fingerprint();
  for (const v1::FileDigest& digest : manifest->files()) CheckTable(report, digest);
  if (report.findings.empty()) {
    const auto catalog = Catalog::Open(directory);
    const absl::Status status = catalog.ok() ? (*catalog)->Verify() : catalog.status();
    if (!status.ok()) {
      AddCatalogDamage(report, directory + "/manifest.json", status.message(), kImportAgain);
    } else {
      report.records = (*catalog)->num_samples();
    }
  }
  for (const v1::CatalogSource& source : manifest->sources()) CheckSource(report, source);
  return report;
}

}  // namespace doppel
