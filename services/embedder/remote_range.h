#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/catalog/catalog.h"
#include "common/net/client_security.h"
#include "doppel/v1/embedding.pb.h"

namespace doppel {

// One answer of the miner to FetchRange. Read and Finish from one thread, Cancel from any.
class RangeReader {
 public:
  virtual ~RangeReader() = default;
  // False: over; Finish says why.
  virtual bool Read(v1::FetchRangeResponse* response) = 0;
  virtual absl::Status Finish() = 0;
  virtual void Cancel() = 0;
};

// Where the samples of a range come from. Thread-safe.
class RangeSource {
 public:
  virtual ~RangeSource() = default;
  virtual std::unique_ptr<RangeReader> Fetch(const v1::FetchRangeRequest& request) = 0;
};
std::unique_ptr<RangeSource> MakeGrpcRangeSource(const std::string& address,
                                                 const ClientSecurity& security = {});

// A leased range as a catalog of its own: its numbers are the catalog's, other identities have no samples.
struct RemoteRange {
  std::shared_ptr<const Catalog> catalog;
  // Readers that wait, and those to come, get UNAVAILABLE. Thread-safe.
  std::function<void()> close;
};

struct RemoteRangeOptions {
  // Samples that have arrived and were not read yet: the stream waits above this.
  uint64_t buffer_bytes = uint64_t{64} << 20;
  // Without a byte for so long, reads fail with UNAVAILABLE; until then it asks again, where it stopped.
  absl::Duration patience = absl::Seconds(60);
  absl::Duration first_backoff = absl::Milliseconds(100);
  absl::Duration last_backoff = absl::Seconds(2);
};

// Asks for the range's table, and begins to fetch its samples in the background. Each sample of the lease can
// be read once, by ReadChecked, in about the order in which they are embedded: ReadChecked waits for it. The
// result of embedding is that of the catalog itself. `source` outlives it.
absl::StatusOr<RemoteRange> OpenRemoteRange(RangeSource& source, const v1::EmbeddingLease& lease,
                                            const RemoteRangeOptions& options);

}  // namespace doppel
