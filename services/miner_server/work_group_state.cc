#include "services/miner_server/work_group_state.h"

#include <algorithm>

namespace doppel {

absl::Status WorkGroupState::Apply(const v1::WorkGroupUpdate& update) {
  if (update.has_opened() == open_) return absl::DataLossError("the journal of a work group opens it once");
  switch (update.update_case()) {
    case v1::WorkGroupUpdate::kOpened:
      open_ = true;
      opened_ = update.opened();
      below_ = handed_out_below_ = opened_.first_cursor();
      break;
    case v1::WorkGroupUpdate::kAcknowledged:
      below_ = std::max<uint64_t>(below_, update.acknowledged().below());
      above_.insert(update.acknowledged().cursors().begin(), update.acknowledged().cursors().end());
      break;
    case v1::WorkGroupUpdate::kHandedOutBelow:
      handed_out_below_ = std::max<uint64_t>(handed_out_below_, update.handed_out_below());
      break;
    case v1::WorkGroupUpdate::UPDATE_NOT_SET:
      return absl::DataLossError("the journal of a work group holds an update of a newer program");
  }
  while (!above_.empty() && *above_.begin() <= below_) {
    if (*above_.begin() == below_) ++below_;
    above_.erase(above_.begin());
  }
  return absl::OkStatus();
}

std::vector<v1::WorkGroupUpdate> WorkGroupState::Snapshot() const {
  std::vector<v1::WorkGroupUpdate> updates(3);
  *updates[0].mutable_opened() = opened_;
  updates[1].mutable_acknowledged()->set_below(below_);
  updates[1].mutable_acknowledged()->mutable_cursors()->Add(above_.begin(), above_.end());
  updates[2].set_handed_out_below(handed_out_below_);
  return updates;
}

}  // namespace doppel
