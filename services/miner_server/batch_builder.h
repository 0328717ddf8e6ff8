#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "common/catalog/catalog.h"
#include "doppel/v1/batches.pb.h"
#include "miner/generation/generation.h"
#include "miner/planning/plan.h"
#include "services/miner_server/buffer_pool.h"
#include "services/miner_server/shard_table.h"
#include "services/miner_server/wire_sample.h"

namespace doppel {

// Which message the batch is put into: StreamBatchesResponse{batch} or GetBatchResponse{batch}.
enum class BatchEnvelope { kStreamBatches, kGetBatch };

struct BuildOptions {
  BatchEnvelope envelope = BatchEnvelope::kStreamBatches;
  // A batch is cut at sample borders into parts of at most this (one sample at least). 0: never cut.
  uint64_t part_bytes = uint64_t{2} << 20;
  // Samples from this size on are borrowed from the catalog instead of copied: a slice costs more than a
  // short copy.
  uint64_t borrow_bytes = 4096;
  // DECODED only.
  int decode_threads = 1;
};

// Plain protobuf bytes, ready to send.
struct WireBatch {
  std::vector<grpc::ByteBuffer> parts;
  uint64_t bytes = 0;          // of all parts
  uint64_t samples = 0;        // P * K
  std::shared_ptr<void> hold;  // counts it in a memory budget, if any
};

// Lays batches out as bytes. What is sent as it lies in the catalog goes into the message with one copy, or
// with none. Thread-safe.
class BatchBuilder {
 public:
  explicit BatchBuilder(std::shared_ptr<const Catalog> catalog)
      : shards_(std::move(catalog)), pool_(BufferPool::Create()) {}

  // The bytes of one batch: a pure function of the arguments, `decode_threads` and `borrow_bytes` aside.
  // `spec.image` must be complete for DECODED. `generation` may be null. Errors name the sample that cannot
  // be read or decoded; the bytes of DECODED samples are checked against their CRC32C.
  absl::StatusOr<WireBatch> Build(const Generation* generation, const v1::StreamSpec& spec,
                                  const PlannedBatch& planned, const BuildOptions& options);

  // Has the kernel start reading what these samples need, in the order of the files. Costs a call per run of
  // neighbouring samples: for cold files only.
  void ReadAhead(const PlannedBatch& planned);

 private:
  // nullopt: not this way.
  std::optional<WireBatch> BuildReferences(v1::Batch header, const PlannedBatch& planned,
                                           const BuildOptions& options, WireSamples& scratch);

  ShardTable shards_;
  WireSampleScratch scratch_;
  const std::shared_ptr<BufferPool> pool_;
};

}  // namespace doppel
