#include "trainer/stream/batch_verifier.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"

namespace doppel {

std::string BatchVerifier::Place(const ReceivedBatch& batch, size_t position) const {
  const absl::StatusOr<ReceivedBatch> places = fetch_(batch.header, v1::PAYLOAD_KIND_REFERENCE);
  if (!places.ok() || places->header.payload() != v1::PAYLOAD_KIND_REFERENCE ||
      places->samples.size() != batch.samples.size()) {
    return "";
  }
  std::string scratch;
  return absl::StrCat(" at ", places->ReferencePath(position, &scratch), " + ",
                      places->samples[position].offset);
}

absl::StatusOr<ReceivedBatch> BatchVerifier::Verify(ReceivedBatch batch, uint64_t* damaged_samples,
                                                    uint64_t* fetches) const {
  for (int attempt = 0;; ++attempt) {
    const std::vector<size_t> damaged = DamagedSamples(batch);
    if (damaged.empty()) return batch;
    *damaged_samples += damaged.size();
    const ReceivedSample& sample = batch.samples[damaged[0]];
    const std::string what =
        absl::StrCat("sample ", sample.sample, " of identity ", sample.identity, " in batch ", batch.cursor(),
                     Place(batch, damaged[0]), ": its bytes do not match their CRC32C");
    if (attempt >= tries_) {
      return absl::DataLossError(
          absl::StrCat(what, ", ", attempt + 1,
                       " times: was the source file changed after the import? `doppel inspect "
                       "--verify` on the miner's machine tells"));
    }
    DOPPEL_LOG(kWarning, what, " (", damaged.size(), " damaged samples); fetching the batch again");
    ++*fetches;
    ASSIGN_OR_RETURN(batch, fetch_(batch.header, batch.header.payload()));
  }
}

}  // namespace doppel
