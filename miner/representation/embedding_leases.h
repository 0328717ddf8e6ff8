#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "miner/representation/identity_ranges.h"

namespace doppel {

// Who embeds which identities of one pass: a state machine without threads or I/O. Not thread-safe.
//
// A range is pending, leased or committed. A lease that is not renewed in time expires and its range is
// leased anew, before ranges that nobody has had yet; the straggler's commit still counts if it comes first.
// Commits are matched by range, not by lease, so that they survive a restart of the miner.
class EmbeddingLeases {
 public:
  struct Options {
    uint64_t lease_identities = 1024;
    absl::Duration duration = absl::Seconds(60);
  };
  struct Lease {
    uint64_t id = 0;
    IdentityRange range;
  };

  // `committed`: what an earlier run left. `clock` is not owned. Lease numbers begin at the clock's
  // microseconds, so that those of an earlier run are not taken for ours.
  EmbeddingLeases(IdentityRange all, IdentityRanges committed, Options options, const Clock& clock);

  // nullopt: everything is leased or committed.
  std::optional<Lease> Acquire(absl::string_view worker);
  // NOT_FOUND: expired, committed, or never given.
  absl::Status Renew(uint64_t id);
  // Returns how many identities were not committed before.
  uint64_t Commit(IdentityRange range);

  bool done() const { return committed_.size() == all_.count; }
  uint64_t committed() const { return committed_.size(); }
  uint64_t total() const { return all_.count; }
  // Leases that have not expired.
  size_t open_leases();

 private:
  struct Held {
    IdentityRange range;
    absl::Time expires;
    std::string worker;
  };
  void Expire();
  void ReturnToPending(IdentityRange range);

  const IdentityRange all_;
  const Options options_;
  const Clock& clock_;
  IdentityRanges committed_;
  std::deque<IdentityRange> pending_;
  std::map<uint64_t, Held> held_;
  uint64_t next_id_;
};

}  // namespace doppel
