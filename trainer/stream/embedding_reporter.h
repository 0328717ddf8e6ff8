#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/net/client_security.h"
#include "doppel/v1/reports.pb.h"

namespace doppel {

// One batch as it was trained on.
struct BatchReport {
  uint64_t model_step = 0;  // steps behind the weights that embedded it
  uint64_t generation = 0;
  uint64_t cursor = 0;
  int32_t subspace = -1;
  double loss = 0;
  std::optional<double> active_share;  // nullopt: it and the loss are not known
  int dimension = 0;
  std::vector<int64_t> identities;  // [B], each image's
  std::vector<float> embeddings;    // [B, dimension]
};

// Means of the normalised embeddings per identity, identities in the order of their first image. Embeddings
// without a direction, or not finite, are left out.
v1::StepReport MeanPerIdentity(const BatchReport& batch);

// Tells the miner of the embeddings that training computes anyway. Offer returns at once: a thread averages
// and sends, and when it does not keep up the oldest are dropped and counted. Thread-safe.
class EmbeddingReporter {
 public:
  // The last ones get a moment to arrive.
  virtual ~EmbeddingReporter() = default;
  virtual void Offer(BatchReport batch) = 0;

  struct Counters {
    uint64_t reported = 0;
    uint64_t dropped = 0;    // by the bounded queue, or with a message that did not arrive
    uint64_t refused = 0;    // another run owns the miner's live representations
    double cpu_seconds = 0;  // of the thread that averages and sends
  };
  virtual Counters counters() const = 0;
};

struct EmbeddingReporterOptions {
  std::string address;
  ClientSecurity security;
  std::string run;
  int batches_per_message = 8;
  size_t queue = 64;  // batches
  absl::Duration timeout = absl::Seconds(10);
  // After a message that did not arrive, and for the last ones at the end.
  absl::Duration pause = absl::Seconds(1);
};
std::unique_ptr<EmbeddingReporter> MakeGrpcEmbeddingReporter(EmbeddingReporterOptions options);

}  // namespace doppel
