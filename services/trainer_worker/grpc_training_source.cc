#include "services/trainer_worker/grpc_training_source.h"

#include "common/base/status_macros.h"
#include "common/net/client_credentials.h"
#include "trainer/stream/grpc_batch_source.h"
#include "trainer/stream/prefetcher.h"

namespace doppel {
namespace {

// Reports that may wait for the miner before the oldest are dropped.
constexpr size_t kMessagesAhead = 8;

}  // namespace

absl::StatusOr<TrainingSource> OpenGrpcTrainingSource(const TrainOptions& options, const ModelSpec& spec,
                                                      uint64_t cursor) {
  GrpcBatchSourceOptions grpc;
  RETURN_IF_ERROR(CheckClientSecurity(options.security));
  grpc.address = options.server;
  grpc.security = options.security;
  ASSIGN_OR_RETURN(grpc.spec, MakeStreamSpec(options, spec, cursor));
  grpc.verify_checksums = options.verify;
  grpc.credits = static_cast<uint32_t>(options.prefetch) + 1;

  PrefetchOptions prefetch;
  prefetch.verify_checksums = options.verify;
  prefetch.depth = options.prefetch;
  prefetch.threads = options.decode_threads;
  prefetch.height = spec.height;
  prefetch.width = spec.width;
  prefetch.channels = spec.channels;
  if (options.augment == "mild") prefetch.augment = MildAffineAugmentation();
  prefetch.augment_seed = options.seed;

  TrainingSource result;
  std::unique_ptr<BatchSource> batches = MakeGrpcBatchSource(std::move(grpc));
  result.cancel = [raw = batches.get()] { raw->Cancel(); };
  result.source = MakePrefetcher(std::move(batches), prefetch);
  if (options.report_every > 0) {
    EmbeddingReporterOptions report;
    report.address = options.server;
    report.security = options.security;
    report.run = options.run;
    report.batches_per_message = options.report_every;
    report.queue = static_cast<size_t>(options.report_every) * kMessagesAhead;
    result.reporter = MakeGrpcEmbeddingReporter(std::move(report));
  }
  if (options.publish)
    result.publisher =
        std::make_unique<ModelPublisher>(MakeGrpcModelClient(options.server, options.security));
  return result;
}

}  // namespace doppel
