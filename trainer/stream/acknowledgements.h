#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <set>

namespace doppel {

// What a trainer owes the server: in order, which of the batches that it was given are trained on. Not
// thread-safe.
class Acknowledgements {
 public:
  // dynamic: one by one, each until it is confirmed. Else the highest cursor is all that counts.
  explicit Acknowledgements(bool dynamic) : dynamic_(dynamic) {}

  // A batch came from the server. False: it is here already, and not confirmed (dynamic only).
  bool Receive(uint64_t cursor) { return !dynamic_ || held_.insert(cursor).second; }
  // It went to whoever trains.
  void Deliver(uint64_t cursor) {
    if (dynamic_) delivered_.push_back(cursor);
  }
  // Everything delivered up to and including `cursor` is trained on. Of no effect if that was not delivered,
  // or acknowledged before.
  void Acknowledge(uint64_t cursor);
  // The answer to one.
  void Confirm(uint64_t cursor);

  // What to tell the server next.
  bool HasNext() const { return !to_send_.empty(); }
  uint64_t TakeNext();
  // On a new stream all that is not confirmed goes out again.
  void StartStream();
  bool all_confirmed() const { return unconfirmed_.empty(); }

 private:
  const bool dynamic_;
  std::set<uint64_t> held_;
  std::deque<uint64_t> delivered_;
  std::deque<uint64_t> to_send_;
  std::set<uint64_t> unconfirmed_;
};

}  // namespace doppel
