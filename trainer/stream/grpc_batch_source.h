#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/net/client_security.h"
#include "doppel/v1/batches.pb.h"
#include "trainer/stream/batch_source.h"

namespace doppel {

struct GrpcBatchSourceOptions {
  std::string address;           // "127.0.0.1:50051"
  ClientSecurity security;       // none: plain text
  v1::StreamSpec spec;           // plan, seed, cursor, payload, sharing, …
  uint32_t credits = 4;          // batches that may be on their way
  bool verify_checksums = true;  // CRC32C of every sample, ENCODED and DECODED
  // A batch with a damaged sample is fetched again so often; then Next fails with DATA_LOSS that names
  // sample, file and offset.
  int fetch_tries = 3;
  // Gives up (UNAVAILABLE) after this long without a server; until then it reconnects with backoff.
  absl::Duration patience = absl::Minutes(2);
};

// Static sharing (spec.sharing): the cursors of this shard, in order. Dynamic sharing: whatever cursors the
// group gives; Acknowledge passes each of them on, again after a reconnect until the server has confirmed it,
// and Cancel waits up to 2 s for that.
std::unique_ptr<BatchSource> MakeGrpcBatchSource(GrpcBatchSourceOptions options);

}  // namespace doppel
