#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "doppel/v1/batches.pb.h"
#include "trainer/stream/batch_source.h"

namespace doppel {

struct GrpcBatchSourceOptions {
  std::string address;           // "127.0.0.1:50051"
  v1::StreamSpec spec;           // plan, seed, cursor, payload, …
  uint32_t credits = 4;          // batches that may be on their way
  bool verify_checksums = true;  // CRC32C of ENCODED samples: a mismatch is an error that names the sample
  // Gives up (UNAVAILABLE) after this long without a server; until then it reconnects with backoff.
  absl::Duration patience = absl::Minutes(2);
};

std::unique_ptr<BatchSource> MakeGrpcBatchSource(GrpcBatchSourceOptions options);

}  // namespace doppel
