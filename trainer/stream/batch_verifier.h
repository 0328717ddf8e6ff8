#pragma once

#include <functional>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/stream/received_batch.h"

namespace doppel {

// Finds damaged samples, and tries to have whole ones.
class BatchVerifier {
 public:
  // The same batch with another payload, by GetBatch.
  using Fetch =
      std::function<absl::StatusOr<ReceivedBatch>(const v1::Batch& header, v1::PayloadKind payload)>;

  // One more fetch after each of `tries` - 1 failures.
  BatchVerifier(Fetch fetch, int tries) : fetch_(std::move(fetch)), tries_(tries) {}

  // The batch itself, or one fetched instead. DATA_LOSS names the first damaged sample, its file and offset.
  // `damaged_samples` and `fetches` are added to.
  absl::StatusOr<ReceivedBatch> Verify(ReceivedBatch batch, uint64_t* damaged_samples,
                                       uint64_t* fetches) const;

 private:
  // Where the server has the sample from, for people. Empty if it does not say.
  std::string Place(const ReceivedBatch& batch, size_t position) const;

  const Fetch fetch_;
  const int tries_;
};

}  // namespace doppel
