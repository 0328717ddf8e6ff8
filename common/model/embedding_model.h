#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace doppel {

// What a model directory's model.json says.
struct ModelSpec {
  std::string architecture;  // "glyph_cnn", "lunet", "resnet18|34|50", "torchscript"
  int height = 48;
  int width = 48;
  int channels = 1;
  // Input = (pixel / 255 - mean) / std, per channel (the first `channels` entries).
  float mean[3] = {0.5F, 0.5F, 0.5F};
  float std[3] = {0.5F, 0.5F, 0.5F};
  int dimension = 128;      // D
  bool normalize = true;    // L2-normalise the output
  uint64_t step = 0;        // training steps behind the weights
  std::string fingerprint;  // XXH3-128 of the weights file, 32 hex digits; set when loaded or saved
};

// Inference through plain types: no LibTorch header is needed to use it. Not thread-safe: one per thread
// (Clone shares the weights).
class EmbeddingModel {
 public:
  virtual ~EmbeddingModel() = default;
  virtual const ModelSpec& spec() const = 0;
  // images: [n, height, width, channels] uint8. out: [n, dimension] float32, owned by the caller.
  virtual absl::Status Embed(absl::Span<const uint8_t> images, int64_t n, float* out) = 0;
  virtual absl::StatusOr<std::unique_ptr<EmbeddingModel>> Clone() const = 0;
};

// Loads a model directory (model.json + weights.pt). device: "auto", "cpu", "cuda:N".
absl::StatusOr<std::unique_ptr<EmbeddingModel>> LoadEmbeddingModel(const std::string& directory,
                                                                   const std::string& device);

// Reads model.json alone: no LibTorch is run.
absl::StatusOr<ModelSpec> ReadModelSpec(const std::string& directory);

// Threads of LibTorch's operators in the calling thread (it takes one on two cores unless told), and of
// OpenBLAS in the whole process.
void SetComputeThreads(int threads);

}  // namespace doppel
