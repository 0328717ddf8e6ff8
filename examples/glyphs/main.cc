// doppel-glyphs: Debian's fonts as a data set of identities. See README.md.

#include <cstdio>
#include <string>

#include "CLI/CLI.hpp"
#include "common/base/progress.h"
#include "examples/glyphs/fonts.h"
#include "examples/glyphs/generate.h"

int main(int argc, char** argv) {
  doppel::glyphs::GenerateOptions options;
  CLI::App app{"Draws an identity data set out of Debian's font packages: WebDataset shards of grey PNGs."};
  app.add_option("--out", options.out, "Folder to make")->required();
  app.add_option("--identities", options.identities, "Draw this many identities (0: all)");
  app.add_option("--test-identities", options.test_identities,
                 "Identities of the test split, at most a tenth")
      ->capture_default_str();
  app.add_option("--size", options.size, "Side of the images in pixels")->capture_default_str();
  app.add_option("--seed", options.seed, "Of the draw and of the split")->capture_default_str();
  app.add_option("--shard-samples", options.shard_samples, "Samples per shard")->capture_default_str();
  app.add_option("--threads", options.threads, "Threads")->capture_default_str();
  app.add_option("--fonts", options.fonts_root, "Where the fonts lie")->capture_default_str();
  app.add_option("--unicode-data", options.unicode_data, "UnicodeData.txt")->capture_default_str();
  app.add_flag("--quiet", options.quiet, "No progress");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }

  const auto result = doppel::glyphs::Generate(options, doppel::glyphs::BuiltinTypefaces());
  if (!result.ok()) {
    std::fprintf(stderr, "doppel-glyphs: %s\n", std::string(result.status().message()).c_str());
    return absl::IsInvalidArgument(result.status()) ? 2 : 1;
  }
  std::printf("%s %s: %s identities (%s for test), %s samples in %s shards, %s known duplicate pairs\n",
              options.out.c_str(), result->already_there ? "is already there" : "made",
              doppel::FormatCount(result->identities).c_str(),
              doppel::FormatCount(result->test_identities).c_str(),
              doppel::FormatCount(result->samples).c_str(), doppel::FormatCount(result->shards).c_str(),
              doppel::FormatCount(result->duplicate_pairs).c_str());
  return 0;
}
