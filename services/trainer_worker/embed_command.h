#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "trainer/eval/embed_samples.h"

namespace CLI {
class App;
}

namespace doppel {

struct EmbedCommandOptions {
  std::string model;
  std::string device = "auto";
  std::string catalog;  // or
  std::string images;   // folder
  std::string split;    // of the catalog; "": all identities
  std::string output;   // .npy
  std::string labels;   // .npy, or ""
  std::string names;    // text, or ""
  EmbedOptions embed;
};

// Adds the subcommand `embed`.
CLI::App* AddEmbedCommand(CLI::App& app, EmbedCommandOptions* options);

// `doppel-trainer embed`: writes [N, D] float32, row by row as they are made, to `output`.part, and renames
// it when it is whole. `output`.part.json says what is being embedded by what: the same command again goes on
// behind the last whole row that was written; another one starts over. Labels and names are written whole,
// before the embeddings are put in place. Returns the text to print.
absl::StatusOr<std::string> RunEmbed(const EmbedCommandOptions& options, FileSystem& fs = PosixFileSystem());

// The same of this source; `data` names its content.
absl::StatusOr<std::string> EmbedToFile(const ImageSource& source, const EmbeddingModel& model,
                                        const std::string& data, const EmbedCommandOptions& options,
                                        FileSystem& fs);

}  // namespace doppel
