#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/eval/identification.h"
#include "trainer/eval/protocols.h"

namespace CLI {
class App;
}

namespace doppel {

struct EvalProtocolsOptions {
  ProtocolRequest request;  // protocol, K, FAR targets, …; threads, batch size and seed are `embedding`'s
  std::string distance = "cosine";
  std::string output = "table";  // table | json

  // Of a model: exactly one of catalog, images, bin.
  std::string model;
  std::string device = "auto";
  std::string catalog;
  std::string images;  // folder
  std::string bin;     // of InsightFace
  std::string query_split;
  std::string gallery_split;
  bool mirror = false;
  IdentificationOptions
      embedding;  // split, queries and augmentation of open_gallery; threads, batch size, seed

  // Of files.
  std::string embeddings, labels, cameras;
  std::string query_embeddings, query_labels, query_cameras;
  std::string pairs, names, pairs_npy;
  std::string confidence, correct;  // coverage
};

// Adds the subcommand `eval`.
CLI::App* AddEvalProtocolsCommand(CLI::App& app, EvalProtocolsOptions* options);

// `doppel-trainer eval`: the text to print. A wrong combination of options is INVALID_ARGUMENT.
absl::StatusOr<std::string> RunEvalProtocols(const EvalProtocolsOptions& options);

}  // namespace doppel
