#include "examples/glyphs/generate.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"
#include "examples/glyphs/duplicates.h"
#include "examples/glyphs/renderings.h"
#include "examples/glyphs/shards.h"
#include "examples/glyphs/split.h"
#include "examples/glyphs/unicode.h"
#include "nlohmann/json.hpp"

namespace doppel::glyphs {
namespace {

using Json = nlohmann::ordered_json;

absl::Status CheckOptions(const GenerateOptions& o) {
  auto bad = [](auto... parts) { return absl::InvalidArgumentError(absl::StrCat(parts...)); };
  if (o.out.empty()) return bad("--out: a folder is needed");
  if (o.size < 8 || o.size > 1024) return bad("--size is ", o.size, ": expected 8 to 1024");
  if (o.threads < 1 || o.threads > 256) return bad("--threads is ", o.threads, ": expected 1 to 256");
  if (o.shard_samples < 1) return bad("--shard-samples is 0: expected at least 1");
  return absl::OkStatus();
}

// The result that options.out holds already, if it was made from `inputs`.
absl::StatusOr<GenerateResult> FindFinished(const std::string& out, const Json& inputs) {
  FileSystem& fs = PosixFileSystem();
  const std::string path = absl::StrCat(out, "/manifest.json");
  if (!fs.Exists(path)) {
    if (!fs.Exists(out)) return GenerateResult();
    ASSIGN_OR_RETURN(const auto names, fs.List(out));
    if (names.empty()) return GenerateResult();
    return absl::FailedPreconditionError(absl::StrCat(out, " holds something else: choose another --out"));
  }
  ASSIGN_OR_RETURN(const std::string text, fs.ReadFile(path));
  const Json manifest = Json::parse(text, nullptr, false);
  if (!manifest.is_object() || !manifest.contains("inputs") || manifest["inputs"] != inputs) {
    return absl::FailedPreconditionError(
        absl::StrCat(out, " was made from other parameters or fonts: remove it, or choose another --out"));
  }
  const Json& results = manifest["results"];
  GenerateResult result;
  result.already_there = true;
  result.identities = results.value("identities", uint64_t{0});
  result.samples = results.value("samples", uint64_t{0});
  result.test_identities = results.value("test_identities", uint64_t{0});
  result.duplicate_pairs = results.value("duplicate_pairs", uint64_t{0});
  result.shards = results.contains("shards") ? results["shards"].size() : 0;
  return result;
}

// The identities of the draw, ascending. Some candidates turn out to have too few visible renderings, so a
// small draw goes on until it has what was asked for.
absl::StatusOr<std::vector<Identity>> DrawIdentities(const GenerateOptions& options,
                                                     const UnicodeData& unicode, Renderings& renderings) {
  std::vector<uint32_t> order = renderings.Candidates();
  order.erase(std::remove_if(order.begin(), order.end(), [&](uint32_t c) { return !unicode.IsDrawn(c); }),
              order.end());
  const uint64_t wanted =
      options.identities == 0 ? order.size() : std::min<uint64_t>(options.identities, order.size());
  if (wanted < order.size()) order = DrawOrder(order, options.seed);

  Progress progress({"draw", "identities", wanted, stderr, options.quiet});
  std::vector<Identity> identities;
  for (size_t at = 0; at < order.size() && identities.size() < wanted;) {
    const size_t count = std::min<size_t>(wanted - identities.size(), order.size() - at);
    ASSIGN_OR_RETURN(auto more, renderings.Draw(absl::MakeConstSpan(order).subspan(at, count), progress));
    std::move(more.begin(), more.end(), std::back_inserter(identities));
    at += count;
  }
  std::sort(identities.begin(), identities.end(),
            [](const Identity& a, const Identity& b) { return a.code_point < b.code_point; });
  return identities;
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  ASSIGN_OR_RETURN(auto file, PosixFileSystem().Create(path));
  RETURN_IF_ERROR(file->Append(text));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

Json ResultsJson(const GenerateResult& result, const std::vector<Identity>& identities,
                 const std::vector<TypefaceSpec>& typefaces, const std::vector<ShardInfo>& shards) {
  Json json;
  json["identities"] = result.identities;
  json["samples"] = result.samples;
  json["test_identities"] = result.test_identities;
  json["duplicate_pairs"] = result.duplicate_pairs;
  std::vector<uint64_t> per_typeface(typefaces.size(), 0);
  for (const Identity& identity : identities) {
    for (const Rendering& rendering : identity.renderings) ++per_typeface[rendering.typeface];
  }
  for (size_t t = 0; t < typefaces.size(); ++t) json["typefaces"][typefaces[t].name] = per_typeface[t];
  for (const ShardInfo& shard : shards) {
    json["shards"].push_back(
        {{"name", shard.name}, {"samples", shard.samples}, {"size", shard.size}, {"xxh3", shard.xxh3}});
  }
  return json;
}

absl::StatusOr<GenerateResult> WriteAll(const GenerateOptions& options,
                                        const std::vector<TypefaceSpec>& typefaces,
                                        const UnicodeData& unicode, const Json& inputs,
                                        const std::string& dir) {
  ASSIGN_OR_RETURN(auto renderings,
                   Renderings::Create(typefaces, {options.fonts_root, dir, options.size, options.threads}));
  ASSIGN_OR_RETURN(const auto identities, DrawIdentities(options, unicode, *renderings));
  if (identities.empty())
    return absl::FailedPreconditionError("no code point is covered by three of the typefaces");

  GenerateResult result;
  result.identities = identities.size();
  std::vector<uint32_t> code_points;
  for (const Identity& identity : identities) {
    code_points.push_back(identity.code_point);
    result.samples += identity.renderings.size();
  }
  const std::vector<uint32_t> test = DrawTestSplit(code_points, options.test_identities, options.seed);
  result.test_identities = test.size();

  Progress progress({"write", "samples", result.samples, stderr, options.quiet});
  ASSIGN_OR_RETURN(const auto shards, WriteShards(identities, test, typefaces, *renderings,
                                                  options.shard_samples, dir, options.threads, progress));
  progress.Finish();
  result.shards = shards.size();
  const std::vector<DuplicatePair> duplicates = FindDuplicates(identities, unicode);
  result.duplicate_pairs = duplicates.size();
  RETURN_IF_ERROR(WriteText(absl::StrCat(dir, "/known_duplicates.csv"), DuplicatesCsv(duplicates)));
  const Json manifest = {{"inputs", inputs}, {"results", ResultsJson(result, identities, typefaces, shards)}};
  RETURN_IF_ERROR(WriteText(absl::StrCat(dir, "/manifest.json"), manifest.dump(2) + "\n"));
  return result;
}

}  // namespace

absl::StatusOr<GenerateResult> Generate(const GenerateOptions& options,
                                        const std::vector<TypefaceSpec>& typefaces) {
  RETURN_IF_ERROR(CheckOptions(options));
  RETURN_IF_ERROR(CheckFontFiles(typefaces, options.fonts_root));
  FileSystem& fs = PosixFileSystem();
  if (!fs.Exists(options.unicode_data)) {
    return absl::NotFoundError(absl::StrCat(options.unicode_data, " missing; apt-get install unicode-data"));
  }
  ASSIGN_OR_RETURN(const std::string inputs_text, DescribeInputs(options, typefaces));
  const Json inputs = Json::parse(inputs_text);
  ASSIGN_OR_RETURN(const GenerateResult finished, FindFinished(options.out, inputs));
  if (finished.already_there) return finished;

  ASSIGN_OR_RETURN(const std::string unicode_text, fs.ReadFile(options.unicode_data));
  ASSIGN_OR_RETURN(const UnicodeData unicode, UnicodeData::Parse(unicode_text));
  const std::string partial = options.out + ".partial";
  if (fs.Exists(partial)) RETURN_IF_ERROR(fs.RemoveRecursively(partial));
  RETURN_IF_ERROR(fs.MakeDirectories(partial));
  absl::StatusOr<GenerateResult> result = WriteAll(options, typefaces, unicode, inputs, partial);
  if (!result.ok()) {
    fs.RemoveRecursively(partial).IgnoreError();
    return result.status();
  }
  RETURN_IF_ERROR(fs.Rename(partial, options.out));
  return result;
}

}  // namespace doppel::glyphs
