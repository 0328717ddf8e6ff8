#include "examples/glyphs/inputs.h"

#include <ft2build.h>
#include FT_FREETYPE_H

#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/io/mapped_file.h"
#include "nlohmann/json.hpp"

namespace doppel::glyphs {
namespace {

// Raise it when the same fonts give other output than before.
constexpr int kGeneratorVersion = 1;

absl::StatusOr<std::string> HashFile(const std::string& path) {
  ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path, MappedFile::Access::kSequential));
  const XXH128_hash_t hash = XXH3_128bits(file->data().data(), file->data().size());
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

}  // namespace

absl::StatusOr<std::string> DescribeInputs(const GenerateOptions& options,
                                           const std::vector<TypefaceSpec>& typefaces) {
  nlohmann::ordered_json inputs;
  inputs["generator"] = kGeneratorVersion;
  inputs["freetype"] = absl::StrCat(FREETYPE_MAJOR, ".", FREETYPE_MINOR, ".", FREETYPE_PATCH);
  inputs["size"] = options.size;
  inputs["identities"] = options.identities;
  inputs["test_identities"] = options.test_identities;
  inputs["seed"] = options.seed;
  inputs["shard_samples"] = options.shard_samples;
  ASSIGN_OR_RETURN(const std::string unicode_hash, HashFile(options.unicode_data));
  inputs["unicode_data"] = unicode_hash;
  for (const TypefaceSpec& typeface : typefaces) {
    nlohmann::ordered_json entry;
    entry["typeface"] = typeface.name;
    entry["package"] = typeface.package;
    for (const TypefaceSpec::File& file : typeface.files) {
      ASSIGN_OR_RETURN(const std::string hash, HashFile(absl::StrCat(options.fonts_root, "/", file.path)));
      entry["files"].push_back({{"path", file.path}, {"face", file.face}, {"xxh3", hash}});
    }
    inputs["fonts"].push_back(std::move(entry));
  }
  return inputs.dump(2);
}

}  // namespace doppel::glyphs
