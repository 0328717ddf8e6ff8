#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/fair_executor.h"
#include "doppel/v1/batches.pb.h"
#include "doppel/v1/mining.pb.h"
#include "services/miner_server/batch_core.h"
#include "services/miner_server/memory_budget.h"
#include "services/miner_server/server_metrics.h"
#include "services/miner_server/stream_messages.h"
#include "services/miner_server/stream_registry.h"
#include "services/miner_server/work_groups.h"

namespace doppel {

// What all streams of a server share. Not owned; outlives them.
struct StreamEnvironment {
  BatchCore* core = nullptr;
  // Build batches. Decoding has its own, so that streams that only forward bytes do not stand behind it.
  FairExecutor* executor = nullptr;
  FairExecutor* decode_executor = nullptr;
  WorkGroups* work_groups = nullptr;
  StreamRegistry* registry = nullptr;
  ServerMetrics* metrics = nullptr;
  std::string incarnation;
  MemoryBudget* queued = nullptr;  // of the bytes of batches that are built or wait for their client
  absl::Duration max_unread = absl::InfiniteDuration();  // while others wait for memory
  // The name that a call's limits are counted under.
  std::function<std::string(const grpc::ServerContextBase& context)> client_of;
};

// One stream's state machine:
//
//   open ─▶ (bind) ─▶ send `opened` ─▶ [ build a few ahead ] ─▶ credit? ─▶ send its parts ─▶ border ─┐
//                                              ▲                                                    │
//                                              └────────────────────────────────────────────────────┘
//
// All work happens on the executor; gRPC's threads only move state. At a border the stream ends if it must
// (drain, end of max_batches, client half-closed and out of credits), and moves to the active generation.
// Writes are never abandoned half-way: a failure ends the stream when the write under way is over.
class StreamReactor : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                      public MemoryHolder,
                      public std::enable_shared_from_this<StreamReactor> {
 public:
  // Owned by the call: deletes itself when both the call and the work on the executor are over.
  static StreamReactor* Start(const StreamEnvironment& environment, grpc::CallbackServerContext* context);

  v1::StreamInfo Info() const;
  // Ends with UNAVAILABLE at the next batch border.
  void Drain();
  // Batches without a credit go, to be built again; a client that does not read what is being written is cut
  // off.
  void MakeRoom() override;

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  StreamReactor(const StreamEnvironment& environment, grpc::CallbackServerContext* context);

  // Everything below that decides; looks at the state and starts what can be started.
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The status to end with at a batch border, if the stream must end.
  std::optional<grpc::Status> EndAtBorder() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The next of what there is to send, if it may go.
  void ChooseMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ScheduleWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether another message follows the one that is being sent, as far as one can see.
  bool HasNextMessage() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  AheadPolicy Ahead() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  size_t BuildsToStart() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The cursor to build next; nullopt: there is none now.
  std::optional<uint64_t> TakeCursor() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status HandleRequest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status HandleOpen(const v1::StreamSpec& spec) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status HandleCredits(uint32_t credits) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status HandleAcknowledgement(uint64_t cursor) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // A batch on its way from plan to wire, in the order of sending.
  struct Slot {
    uint64_t cursor = 0;
    absl::Time begun;                          // to wait for memory
    std::shared_ptr<const BoundStream> bound;  // what it is, or is being, built from
    std::optional<absl::StatusOr<WireBatch>> batch;
  };

  using Slots = std::vector<std::shared_ptr<Slot>>;

  void StartBuilds(Slots slots) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One after the other, on one thread.
  void BuildWhenThereIsMemory(Slots slots) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Rebuild(const std::shared_ptr<Slot>& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LetGoOfWhatCannotBeSent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ScheduleBuilds(const Slots& slots, const std::shared_ptr<const BoundStream>& bound,
                      MemoryBudget::Hold hold);
  uint64_t ExpectedBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return last_batch_bytes_ > 0 ? last_batch_bytes_ : bound_->expected_bytes;
  }

  // On the executors.
  void BindStream(const v1::StreamSpec& spec) ABSL_LOCKS_EXCLUDED(mutex_);
  void BuildSlot(const std::shared_ptr<Slot>& slot, std::shared_ptr<const BoundStream> bound,
                 const MemoryBudget::Hold& hold) ABSL_LOCKS_EXCLUDED(mutex_);

  // Binds anew if the active generation has changed.
  absl::StatusOr<WireBatch> MoveAndBuild(std::shared_ptr<const BoundStream>& bound, uint64_t cursor);

  // Dynamic sharing.
  bool is_dynamic() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return group_ != nullptr; }
  void WakeForCursor() ABSL_LOCKS_EXCLUDED(mutex_);
  void Confirm(const absl::StatusOr<v1::Acknowledged>& answer) ABSL_LOCKS_EXCLUDED(mutex_);

  const StreamEnvironment environment_;
  const std::string peer_;
  const uint64_t stream_id_;
  // Its turns on the two executors.
  const std::shared_ptr<FairExecutor::Flow> flow_, decode_flow_;

  // Apart, as cancelling may call back at once.
  absl::Mutex context_mutex_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(context_mutex_);  // until OnDone

  mutable absl::Mutex mutex_;
  std::shared_ptr<StreamReactor> self_ ABSL_GUARDED_BY(mutex_);  // until OnDone

  std::optional<v1::StreamSpec> spec_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const BoundStream> bound_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_cursor_ ABSL_GUARDED_BY(mutex_) = 0;  // of the next batch to send; dynamic: behind the last
  uint64_t next_to_build_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t stride_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t sent_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t last_batch_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t credits_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<uint64_t> acknowledged_ ABSL_GUARDED_BY(mutex_);

  std::deque<std::shared_ptr<Slot>> slots_ ABSL_GUARDED_BY(mutex_);
  bool binding_ ABSL_GUARDED_BY(mutex_) = false;

  std::shared_ptr<WorkGroup> group_ ABSL_GUARDED_BY(mutex_);  // set: dynamic sharing
  bool waiting_for_cursor_ ABSL_GUARDED_BY(mutex_) = false;
  bool nothing_left_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<uint64_t> early_acknowledgements_ ABSL_GUARDED_BY(mutex_);
  size_t unanswered_ ABSL_GUARDED_BY(mutex_) = 0;  // acknowledgements that are being journalled
  std::deque<WireBatch> answers_ ABSL_GUARDED_BY(mutex_);

  WireBatch sending_ ABSL_GUARDED_BY(mutex_);
  size_t next_part_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time write_began_ ABSL_GUARDED_BY(mutex_);

  bool half_closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<grpc::Status> failure_
      ABSL_GUARDED_BY(mutex_);  // ends the stream as soon as no write is under way
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;

  grpc::ByteBuffer request_;  // between StartRead and OnReadDone it is gRPC's
};

}  // namespace doppel
