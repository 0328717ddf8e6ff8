#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/model/embedding_model.h"

namespace doppel {

// The files of a model directory, without LibTorch: model.json and weights.pt.

// XXH3-128 as 32 hex digits.
std::string WeightsFingerprint(absl::string_view weights);

// model.json's text and back. Parsing is strict: unknown, missing and mistyped fields are INVALID_ARGUMENT
// that names `origin`, the field and what it may hold.
std::string ModelSpecToJson(const ModelSpec& spec);
absl::StatusOr<ModelSpec> ModelSpecFromJson(absl::string_view json, const std::string& origin);

// INVALID_ARGUMENT if sizes, D or normalisation make no sense. The architecture's name is not looked at.
absl::Status CheckModelSpec(const ModelSpec& spec);

struct ModelFiles {
  ModelSpec spec;
  std::string weights;
  std::string weights_path;  // for messages
};
// Reads both files. DATA_LOSS if the weights are not those that model.json was written with; a model.json
// without a fingerprint (made by hand) takes the one of the weights it finds.
absl::StatusOr<ModelFiles> ReadModelFiles(const std::string& directory);

// Replaces `directory` whole: writes and syncs `directory`.tmp and puts it in place by one rename (an
// exchange where the file system has that). Sets the fingerprint; returns the spec as written.
absl::StatusOr<ModelSpec> WriteModelFiles(ModelSpec spec, absl::string_view weights,
                                          const std::string& directory);

}  // namespace doppel
