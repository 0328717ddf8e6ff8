#include "trainer/stream/acknowledgements.h"

#include <algorithm>

namespace doppel {

void Acknowledgements::Acknowledge(uint64_t cursor) {
  if (!dynamic_) {
    to_send_.assign(1, cursor);
    return;
  }
  if (std::find(delivered_.begin(), delivered_.end(), cursor) == delivered_.end()) return;
  for (bool last = false; !last; delivered_.pop_front()) {
    last = delivered_.front() == cursor;
    to_send_.push_back(delivered_.front());
    unconfirmed_.insert(delivered_.front());
  }
}

void Acknowledgements::Confirm(uint64_t cursor) {
  unconfirmed_.erase(cursor);
  held_.erase(cursor);
}

uint64_t Acknowledgements::TakeNext() {
  const uint64_t next = to_send_.front();
  to_send_.pop_front();
  return next;
}

void Acknowledgements::StartStream() {
  if (dynamic_) to_send_.assign(unconfirmed_.begin(), unconfirmed_.end());
}

}  // namespace doppel
