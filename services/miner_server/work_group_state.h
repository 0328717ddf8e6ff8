#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "doppel/v1/storage.pb.h"

namespace doppel {

// What the trainers of a dynamic work group have acknowledged: all below a watermark and single cursors above
// it. Changes by Apply only and is rebuilt by replaying its journal. Not thread-safe.
class WorkGroupState {
 public:
  // DATA_LOSS: facts that contradict one another.
  absl::Status Apply(const v1::WorkGroupUpdate& update);

  bool is_open() const { return open_; }
  const v1::WorkGroupOpened& opened() const { return opened_; }
  bool IsAcknowledged(uint64_t cursor) const { return cursor < below_ || above_.count(cursor) > 0; }
  // All cursors below this one are acknowledged.
  uint64_t acknowledged_below() const { return below_; }
  uint64_t handed_out_below() const { return handed_out_below_; }
  bool IsDone() const { return opened_.end_cursor() > 0 && below_ >= opened_.end_cursor(); }

  // The shortest updates that lead here.
  std::vector<v1::WorkGroupUpdate> Snapshot() const;

 private:
  bool open_ = false;
  v1::WorkGroupOpened opened_;
  uint64_t below_ = 0;
  std::set<uint64_t> above_;
  uint64_t handed_out_below_ = 0;
};

}  // namespace doppel
