#include "services/miner_server/stream_messages.h"

#include <algorithm>

namespace doppel {
namespace {

// Of small batches, so much is made ahead.
constexpr uint64_t kAheadBytes = uint64_t{256} << 10;
constexpr size_t kMostAhead = 8;

}  // namespace

WireBatch ControlMessage(const v1::StreamBatchesResponse& response) {
  const grpc::Slice slice(response.SerializeAsString());
  WireBatch message;
  message.parts.emplace_back(&slice, 1);
  return message;
}

WireBatch OpenedMessage(const BoundStream& stream, const Catalog& catalog, const std::string& incarnation,
                        const WorkGroup* group) {
  v1::StreamBatchesResponse response;
  v1::StreamOpened* opened = response.mutable_opened();
  opened->set_incarnation(incarnation);
  opened->set_generation(stream.generation_number());
  opened->set_catalog_fingerprint(catalog.fingerprint());
  for (const CatalogVersionInfo& version : catalog.earlier_versions())
    opened->add_earlier_catalog_fingerprints(version.fingerprint);
  const PlanCoverage& coverage = stream.plan->coverage();
  opened->set_identities_covered(coverage.identities);
  opened->set_batches_per_epoch(coverage.batches_per_epoch);
  opened->set_identities_left_out(coverage.left_out);
  opened->set_left_out_reason(coverage.left_out_reason);
  if (group != nullptr) opened->set_acknowledged_below(group->acknowledged_below());
  return ControlMessage(response);
}

AheadPolicy AheadPolicy::Forwarding(uint64_t batch_bytes) {
  if (batch_bytes == 0) return AheadPolicy(kFewest, true);
  const uint64_t fit = kAheadBytes / batch_bytes;
  return AheadPolicy(std::min<uint64_t>(kMostAhead, std::max<uint64_t>(kFewest, fit)), true);
}

size_t AheadPolicy::ToStart(size_t there, size_t allowed) const {
  const size_t limit = std::min(limit_, allowed);
  if (there >= limit) return 0;
  // Not before half of them are gone.
  if (together_ && limit >= 4 && there > limit / 2) return 0;
  return limit - there;
}

}  // namespace doppel
