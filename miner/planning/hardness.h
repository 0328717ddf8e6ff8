#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doppel/v1/types.pb.h"

namespace doppel {

// INVALID_ARGUMENT: shares outside [0, 1], cursors that do not rise, or too many decisions.
absl::Status CheckHardness(const v1::PlanSpec& spec);

struct HardnessOptions {
  // The band in which the active share is to stay: nothing changes as long as a window's mean is inside.
  double active_low = 0.05;
  double active_high = 0.15;
  // Of the hard share.
  double least_share = 0;
  double most_share = 0.75;
  double first_share = 0.5;
  // A decision changes the hard share by at most this much.
  double most_step = 0.1;
  uint64_t window = 100;  // batches that a decision looks at
  uint64_t lead = 50;     // batches between a window's end and the cursor from which its decision holds
};

// Holds the active share in a band by moving the hard share of a plan (PlanSpec.hardness). Pure policy: no
// clock, no I/O. A decision depends on the reports of its window alone, not on their order, and is a fact
// from then on: given to the plan, and back to a controller that starts again, it replays the same stream.
//
// Cursors fall into windows of `window`. A window is judged when all of its reports have come, or when one
// has come from two windows on; with fewer than half of them it is passed over (trainers that went away). Out
// of the band, the share moves towards its middle: by the logarithm of how far it is off, at most
// `most_step`. Windows that begin before the last decision holds are not judged: they would show what was.
// Not thread-safe.
class HardnessController {
 public:
  // `past`: decisions already made, ascending. INVALID_ARGUMENT names the option.
  static absl::StatusOr<HardnessController> Make(const HardnessOptions& options,
                                                 std::vector<v1::HardnessDecision> past = {});

  // The active share of the batch at a cursor, in [0, 1]; anything else is ignored, as is a second report of
  // one cursor, or one for a window that is past. Returns a decision if that makes one. Its from_cursor is
  // later than every reported cursor by more than `lead`, and not below `settled_below`: cursors below that
  // may have been drawn.
  std::optional<v1::HardnessDecision> Report(uint64_t cursor, double active_share,
                                             uint64_t settled_below = 0);

  // All of them: what PlanSpec.hardness takes.
  const std::vector<v1::HardnessDecision>& decisions() const { return decisions_; }
  double hard_share() const {
    return decisions_.empty() ? options_.first_share : decisions_.back().hard_share();
  }

 private:
  HardnessController(const HardnessOptions& options, std::vector<v1::HardnessDecision> past);
  std::optional<v1::HardnessDecision> Judge(uint64_t window, const std::map<uint64_t, double>& reports,
                                            uint64_t settled_below);

  HardnessOptions options_;
  std::vector<v1::HardnessDecision> decisions_;
  uint64_t newest_ = 0;                                     // cursor reported
  uint64_t next_window_ = 0;                                // earlier ones are past
  std::map<uint64_t, std::map<uint64_t, double>> reports_;  // window → cursor → active share
};

// The last of spec.hardness that holds at a cursor.
std::optional<v1::HardnessDecision> DecisionAt(const v1::PlanSpec& spec, uint64_t cursor);

// The policy itself: the hard share after a window of this mean active share.
double NextHardShare(const HardnessOptions& options, double hard_share, double active_share);

}  // namespace doppel
