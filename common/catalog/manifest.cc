#include "common/catalog/manifest.h"

#include <google/protobuf/util/json_util.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_format.h"

namespace doppel {

absl::StatusOr<v1::CatalogManifest> ReadCatalogManifest(FileSystem& fs, const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", catalog_format::kManifest);
  if (!fs.Exists(path)) {
    return absl::NotFoundError(
        absl::StrCat(directory, " holds no catalog (", catalog_format::kManifest,
                     " is missing): make one with `doppel import FORMAT PATH --catalog ", directory, "`"));
  }
  ASSIGN_OR_RETURN(const std::string json, fs.ReadFile(path));
  v1::CatalogManifest manifest;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &manifest, options);
  if (!status.ok()) {
    return absl::DataLossError(
        absl::StrCat(path, " is not a catalog's manifest: ", status.ToString(), ". Import the data again"));
  }
  if (manifest.format_version() < 1 || manifest.format_version() > catalog_format::kManifestVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " has format version ", manifest.format_version(), ", this program reads versions 1 to ",
        catalog_format::kManifestVersion, ": import the data again"));
  }
  return manifest;
}

uint32_t RequiredManifestVersion(const v1::CatalogManifest& manifest) {
  if (manifest.version() > 1) return 3;
  for (const v1::CatalogSource& source : manifest.sources()) {
    if (source.has_raw_pixels() || source.kind() == v1::CatalogSource::KIND_RECORD_PARTS ||
        !absl::StartsWith(source.path(), "/")) {
      return 2;
    }
  }
  return 1;
}

absl::StatusOr<std::string> FormatCatalogManifest(const v1::CatalogManifest& manifest) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(manifest, &json, options);
  if (!status.ok())
    return absl::InternalError(absl::StrCat("cannot write the manifest: ", status.ToString()));
  v1::CatalogManifest again;
  if (!google::protobuf::util::JsonStringToMessage(json, &again).ok() ||
      again.SerializeAsString() != manifest.SerializeAsString()) {
    return absl::InvalidArgumentError(
        "a path of the data is not valid UTF-8, so the manifest cannot name it: rename it, or use a link");
  }
  return json;
}

}  // namespace doppel
