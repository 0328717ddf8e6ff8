#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/catalog/catalog.h"
#include "doppel/v1/batches.pb.h"
#include "services/miner_server/batch_core.h"
#include "services/miner_server/work_group.h"

namespace doppel {

// A message of a stream that is no batch, ready to send.
WireBatch ControlMessage(const v1::StreamBatchesResponse& response);

// `opened`. `group` may be null.
WireBatch OpenedMessage(const BoundStream& stream, const Catalog& catalog, const std::string& incarnation,
                        const WorkGroup* group);

// How many batches a stream makes ahead of those it has sent. Small ones are made several at a time: waking a
// thread for each would cost as much as making it.
class AheadPolicy {
 public:
  // A decoding stream has one batch in the making on every thread, and one that waits.
  static AheadPolicy Decoding(int threads) { return AheadPolicy(static_cast<size_t>(threads) + 1, false); }
  // A leased batch is for sending, not for keeping.
  static AheadPolicy Leasing() { return AheadPolicy(kFewest, false); }
  // `batch_bytes`: of the last one, 0 before the first.
  static AheadPolicy Forwarding(uint64_t batch_bytes);

  // At most so many may be there.
  size_t limit() const { return limit_; }
  // How many to start when `there` are there and no more than `allowed` may be.
  size_t ToStart(size_t there, size_t allowed) const;
  // One after the other on one thread, not each on its own.
  bool together() const { return together_; }

 private:
  static constexpr size_t kFewest = 2;
  AheadPolicy(size_t limit, bool together) : limit_(limit), together_(together) {}

  size_t limit_;
  bool together_;
};

}  // namespace doppel
