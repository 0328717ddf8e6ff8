#include "common/catalog/manifest.h"

#include <google/protobuf/util/json_util.h>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_format.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

namespace json_util = google::protobuf::util;

// The last field of all.
constexpr char kChecksumField[] = "\"checksum\": \"";
constexpr char kNoChecksum[] = "00000000";

// Of the text with zeros at `at`, where the checksum stands.
std::string ChecksumOf(std::string json, size_t at) {
  json.replace(at, sizeof(kNoChecksum) - 1, kNoChecksum);
  return absl::StrCat(absl::Hex(Crc32c(json), absl::kZeroPad8));
}

absl::Status NotAManifest(const std::string& path, absl::string_view why) {
  return absl::DataLossError(
      absl::StrCat(path, " is not a catalog's manifest: ", why, ". Import the data again"));
}

absl::Status CheckChecksum(const std::string& path, const std::string& json, const std::string& checksum) {
  const size_t field = json.rfind(absl::StrCat(kChecksumField, checksum, "\""));
  if (field != std::string::npos && checksum.size() == sizeof(kNoChecksum) - 1 &&
      ChecksumOf(json, field + sizeof(kChecksumField) - 1) == checksum) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(
      path, " has been damaged or changed: it does not have the checksum that its field \"checksum\" says (",
      absl::CEscape(checksum),
      "). Put the old file back, or import the data again; if it was changed on purpose, empty that "
      "field: \"checksum\": \"\""));
}

}  // namespace

absl::StatusOr<v1::CatalogManifest> ReadCatalogManifest(FileSystem& fs, const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", catalog_format::kManifest);
  if (!fs.Exists(path)) {
    return absl::NotFoundError(
        absl::StrCat(directory, " holds no catalog (", catalog_format::kManifest,
                     " is missing): make one with `doppel import FORMAT PATH --catalog ", directory, "`"));
  }
  ASSIGN_OR_RETURN(const std::string json, fs.ReadFile(path));
  v1::CatalogManifest manifest;
  json_util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto status = json_util::JsonStringToMessage(json, &manifest, options);
  if (!status.ok()) return NotAManifest(path, status.ToString());
  if (manifest.checksum().empty()) {
    // Older than this program, which knows its fields: an unknown one is damage, perhaps to "checksum".
    const auto known = json_util::JsonStringToMessage(json, &manifest);
    if (!known.ok()) return NotAManifest(path, known.ToString());
  } else {
    RETURN_IF_ERROR(CheckChecksum(path, json, manifest.checksum()));
    manifest.clear_checksum();
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
  json_util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  v1::CatalogManifest summed = manifest;
  summed.set_checksum(kNoChecksum);
  std::string json;
  const auto status = json_util::MessageToJsonString(summed, &json, options);
  if (!status.ok())
    return absl::InternalError(absl::StrCat("cannot write the manifest: ", status.ToString()));
  v1::CatalogManifest again;
  if (!json_util::JsonStringToMessage(json, &again).ok() ||
      again.SerializeAsString() != summed.SerializeAsString()) {
    return absl::InvalidArgumentError(
        "a path of the data is not valid UTF-8, so the manifest cannot name it: rename it, or use a link");
  }
  const size_t at = json.rfind(kChecksumField) + sizeof(kChecksumField) - 1;
  json.replace(at, sizeof(kNoChecksum) - 1, ChecksumOf(json, at));
  return json;
}

}  // namespace doppel
