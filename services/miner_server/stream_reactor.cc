#include "services/miner_server/stream_reactor.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/log.h"
#include "services/miner_server/grpc_status.h"

namespace doppel {
namespace {

constexpr double kDefaultLeaseSeconds = 60;
// What a trainer has to say again when it comes back, until its group is there.
constexpr size_t kMaxEarlyAcknowledgements = 65536;

absl::Duration LeaseOf(const v1::StreamSpec& spec) {
  const double asked = spec.sharing().lease_seconds();
  return absl::Seconds(asked == 0 ? kDefaultLeaseSeconds : asked);
}

}  // namespace

StreamReactor* StreamReactor::Start(const StreamEnvironment& environment,
                                    grpc::CallbackServerContext* context) {
  std::shared_ptr<StreamReactor> stream(new StreamReactor(environment, context));
  const absl::Status accepted = environment.registry->Add(stream, environment.client_of(*context));
  environment.metrics->streams.Add(1);
  environment.metrics->streams_opened.Add();
  absl::MutexLock lock(&stream->mutex_);
  stream->self_ = stream;
  if (accepted.ok()) {
    stream->StartRead(&stream->request_);
  } else {
    stream->failure_ = ToGrpc(accepted);
    stream->Advance();
  }
  return stream.get();
}

StreamReactor::StreamReactor(const StreamEnvironment& environment, grpc::CallbackServerContext* context)
    : environment_(environment),
      peer_(context->peer()),
      stream_id_(environment.work_groups->NewStreamId()),
      flow_(environment.executor->NewFlow(environment.client_of(*context))),
      decode_flow_(environment.decode_executor->NewFlow(environment.client_of(*context))),
      context_(context) {}

v1::StreamInfo StreamReactor::Info() const {
  absl::MutexLock lock(&mutex_);
  v1::StreamInfo info;
  info.set_peer(peer_);
  if (spec_.has_value()) {
    info.set_client_name(spec_->client_name());
    info.set_plan(spec_->plan().name());
  }
  if (bound_ != nullptr) info.set_generation(bound_->generation_number());
  info.set_next_cursor(next_cursor_);
  info.set_acknowledged(acknowledged_.value_or(0));
  info.set_credits(static_cast<uint32_t>(credits_));
  return info;
}

void StreamReactor::Drain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  Advance();
}

void StreamReactor::OnReadDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  if (ok) {
    const absl::Status status = HandleRequest();
    if (!status.ok() && !failure_.has_value()) failure_ = ToGrpc(status);
  } else {
    half_closed_ = true;
  }
  Advance();
  if (ok && !finished_) StartRead(&request_);
}

absl::Status StreamReactor::HandleRequest() {
  v1::StreamBatchesRequest request;
  const grpc::Status parsed =
      grpc::SerializationTraits<v1::StreamBatchesRequest>::Deserialize(&request_, &request);
  if (!parsed.ok()) return absl::InvalidArgumentError("the request is not a StreamBatchesRequest");
  if (!spec_.has_value() && !request.has_open()) {
    return absl::InvalidArgumentError("request: the first message of a stream must be `open`");
  }
  switch (request.request_case()) {
    case v1::StreamBatchesRequest::kOpen:
      return HandleOpen(request.open());
    case v1::StreamBatchesRequest::kCredits:
      return HandleCredits(request.credits());
    case v1::StreamBatchesRequest::kAcknowledgeCursor:
      return HandleAcknowledgement(request.acknowledge_cursor());
    case v1::StreamBatchesRequest::REQUEST_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("request: is empty: send `open`, `credits` or `acknowledge_cursor`");
}

absl::Status StreamReactor::HandleOpen(const v1::StreamSpec& spec) {
  if (spec_.has_value()) {
    return absl::InvalidArgumentError("open: was sent before: one stream has one plan, open another stream");
  }
  spec_ = spec;
  next_cursor_ = spec.cursor();
  const v1::WorkSharing& sharing = spec.sharing();
  if (sharing.mode() == v1::WorkSharing::MODE_STATIC && sharing.shard() < sharing.shards()) {
    stride_ = sharing.shards();
    next_cursor_ += (sharing.shard() + stride_ - spec.cursor() % stride_) % stride_;
  }
  next_to_build_ = next_cursor_;
  return absl::OkStatus();
}

absl::Status StreamReactor::HandleCredits(uint32_t credits) {
  const uint32_t limit = environment_.core->limits().max_credits;
  if (credits_ + credits > limit) {
    return absl::ResourceExhaustedError(
        absl::StrCat("credits: ", credits, " on top of ", credits_,
                     " would be more than this server's max_credits = ", limit));
  }
  credits_ += credits;
  return absl::OkStatus();
}

absl::Status StreamReactor::HandleAcknowledgement(uint64_t cursor) {
  if (spec_->sharing().mode() == v1::WorkSharing::MODE_DYNAMIC) {
    if (group_ == nullptr) {
      if (early_acknowledgements_.size() >= kMaxEarlyAcknowledgements) {
        return absl::ResourceExhaustedError("acknowledge_cursor: too many before `opened`");
      }
      early_acknowledgements_.push_back(cursor);
      return absl::OkStatus();
    }
    ++unanswered_;
    return group_->Acknowledge(cursor,
                               [weak = weak_from_this()](const absl::StatusOr<v1::Acknowledged>& answer) {
                                 if (const std::shared_ptr<StreamReactor> self = weak.lock())
                                   self->Confirm(answer);
                               });
  }
  if (cursor >= next_cursor_) {
    return absl::InvalidArgumentError(
        absl::StrCat("acknowledge_cursor: ", cursor, " was not sent yet: the next one is ", next_cursor_));
  }
  // Batches of an earlier stream count there.
  const uint64_t first = acknowledged_.has_value() ? *acknowledged_ + 1 : spec_->cursor();
  if (cursor < first) return absl::OkStatus();
  environment_.metrics->batches_acknowledged.Add(static_cast<double>((cursor - first) / stride_ + 1));
  acknowledged_ = cursor;
  return absl::OkStatus();
}

void StreamReactor::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  writing_ = false;
  if (!ok) {
    if (!failure_.has_value()) failure_ = grpc::Status(grpc::StatusCode::CANCELLED, "the client is gone");
  } else if (++next_part_ == sending_.parts.size()) {
    if (sending_.samples > 0) {
      environment_.metrics->batches_sent.Add();
      environment_.metrics->bytes_sent.Add(static_cast<double>(sending_.bytes));
    }
    sending_ = WireBatch();
    next_part_ = 0;
  }
  Advance();
}

void StreamReactor::OnCancel() {
  absl::MutexLock lock(&mutex_);
  if (!failure_.has_value())
    failure_ = grpc::Status(grpc::StatusCode::CANCELLED, "the client cancelled the stream");
  Advance();
}

void StreamReactor::OnDone() {
  std::shared_ptr<StreamReactor> self;
  std::shared_ptr<WorkGroup> group;
  {
    absl::MutexLock lock(&context_mutex_);
    context_ = nullptr;
  }
  {
    absl::MutexLock lock(&mutex_);
    self = std::move(self_);
    slots_.clear();
    answers_.clear();
    bound_.reset();
    sending_ = WireBatch();
    // A trainer that was told that nothing is left still works on what it has; everybody else is dead.
    if (!nothing_left_) group = group_;
    finished_ = true;
  }
  if (group != nullptr) group->Release(stream_id_);
  environment_.metrics->streams.Add(-1);
  environment_.registry->Remove(self);
}

void StreamReactor::Advance() {
  if (finished_) return;
  if (failure_.has_value()) {
    if (!writing_) End(*failure_);
    return;
  }
  if (!writing_) {
    if (sending_.parts.empty()) {
      const std::optional<grpc::Status> end = EndAtBorder();
      if (end.has_value()) return End(*end);
      ChooseMessage();
    }
    if (!sending_.parts.empty()) {
      writing_ = true;
      write_began_ = absl::Now();
      // With something right behind it, a short message need not go out on its own.
      grpc::WriteOptions options;
      if (HasNextMessage()) options.set_buffer_hint();
      StartWrite(&sending_.parts[next_part_], options);
    }
  }
  ScheduleWork();
}

std::optional<grpc::Status> StreamReactor::EndAtBorder() const {
  if (draining_) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE,
                        absl::StrCat("draining: reconnect and continue at cursor ", next_cursor_));
  }
  if (!slots_.empty() && slots_[0]->batch.has_value() && !slots_[0]->batch->ok()) {
    return ToGrpc(slots_[0]->batch->status());
  }
  if (unanswered_ > 0 || !answers_.empty()) return std::nullopt;
  if (nothing_left_ && slots_.empty()) return grpc::Status::OK;
  if (bound_ != nullptr && spec_->max_batches() > 0 && sent_ >= spec_->max_batches()) return grpc::Status::OK;
  if (half_closed_ && (!spec_.has_value() || (bound_ != nullptr && credits_ == 0))) return grpc::Status::OK;
  return std::nullopt;
}

void StreamReactor::ChooseMessage() {
  next_part_ = 0;
  if (!answers_.empty()) {
    sending_ = std::move(answers_.front());
    answers_.pop_front();
    return;
  }
  if (slots_.empty() || !slots_[0]->batch.has_value() || credits_ == 0) return;
  const std::shared_ptr<Slot> slot = slots_[0];
  if (!environment_.core->IsCurrent(*slot->bound)) {
    return Rebuild(slot);  // of a generation that is no longer the active one
  }
  slots_.pop_front();
  sending_ = *std::move(*slot->batch);
  last_batch_bytes_ = sending_.bytes;
  --credits_;
  next_cursor_ = slot->cursor + stride_;
  ++sent_;
}

bool StreamReactor::HasNextMessage() const {
  if (draining_) return false;
  if (next_part_ + 1 < sending_.parts.size()) return true;
  if (credits_ == 0 || slots_.empty()) return false;
  const Slot& next = *slots_[0];
  return next.batch.has_value() && next.batch->ok() && environment_.core->IsCurrent(*next.bound);
}

void StreamReactor::End(const grpc::Status& status) {
  finished_ = true;
  if (spec_.has_value()) {
    DOPPEL_LOG(kInfo, "stream of ", spec_->client_name().empty() ? peer_ : spec_->client_name(),
               " ended after ", sent_, " batches at cursor ", next_cursor_, status.ok() ? "" : ": ",
               status.error_message());
  }
  Finish(status);
}

std::optional<uint64_t> StreamReactor::TakeCursor() {
  if (!is_dynamic()) {
    const uint64_t cursor = next_to_build_;
    next_to_build_ += stride_;
    return cursor;
  }
  if (waiting_for_cursor_ || nothing_left_) return std::nullopt;
  const WorkGroup::Lease lease =
      group_->TakeLease(stream_id_, LeaseOf(*spec_), absl::Now(), [weak = weak_from_this()] {
        if (const std::shared_ptr<StreamReactor> self = weak.lock()) self->WakeForCursor();
      });
  switch (lease.outcome) {
    case WorkGroup::Outcome::kLeased:
      return lease.cursor;
    case WorkGroup::Outcome::kNothingLeft:
      nothing_left_ = true;
      break;
    case WorkGroup::Outcome::kWait:
      waiting_for_cursor_ = true;
      environment_.work_groups->Look();
      break;
  }
  return std::nullopt;
}

void StreamReactor::ScheduleWork() {
  if (!spec_.has_value()) return;
  if (bound_ == nullptr) {
    if (binding_) return;
    binding_ = true;
    environment_.executor->Schedule(flow_,
                                    [self = shared_from_this(), spec = *spec_] { self->BindStream(spec); });
    return;
  }
  const bool had_some_left = !nothing_left_;
  Slots fresh;
  for (size_t left = BuildsToStart(); left > 0; --left) {
    const std::optional<uint64_t> cursor = TakeCursor();
    if (!cursor.has_value()) break;
    fresh.push_back(std::make_shared<Slot>());
    fresh.back()->cursor = *cursor;
    slots_.push_back(fresh.back());
  }
  StartBuilds(std::move(fresh));
  if (nothing_left_ && had_some_left) Advance();
}

void StreamReactor::WakeForCursor() {
  absl::MutexLock lock(&mutex_);
  waiting_for_cursor_ = false;
  Advance();
}

void StreamReactor::Confirm(const absl::StatusOr<v1::Acknowledged>& answer) {
  absl::MutexLock lock(&mutex_);
  --unanswered_;
  if (finished_) return;
  if (answer.ok()) {
    if (answer->first()) environment_.metrics->batches_acknowledged.Add();
    v1::StreamBatchesResponse response;
    *response.mutable_acknowledged() = *answer;
    answers_.push_back(ControlMessage(response));
  } else if (!failure_.has_value()) {
    failure_ = ToGrpc(answer.status());
  }
  Advance();
}

void StreamReactor::BindStream(const v1::StreamSpec& spec) {
  absl::StatusOr<std::shared_ptr<const BoundStream>> bound = environment_.core->Bind(spec);
  std::shared_ptr<WorkGroup> group;
  if (bound.ok() && spec.sharing().mode() == v1::WorkSharing::MODE_DYNAMIC) {
    absl::StatusOr<std::shared_ptr<WorkGroup>> joined = environment_.work_groups->Join(spec);
    if (joined.ok()) {
      group = *std::move(joined);
    } else {
      bound = joined.status();
    }
  }
  absl::MutexLock lock(&mutex_);
  if (finished_) return;
  if (!bound.ok()) {
    if (!failure_.has_value()) failure_ = ToGrpc(bound.status());
  } else {
    bound_ = *std::move(bound);
    group_ = std::move(group);
    for (const uint64_t cursor : std::exchange(early_acknowledgements_, {})) {
      const absl::Status status = HandleAcknowledgement(cursor);
      if (!status.ok() && !failure_.has_value()) failure_ = ToGrpc(status);
    }
    sending_ = OpenedMessage(*bound_, *bound_->catalog, environment_.incarnation, group_.get());
    DOPPEL_LOG(kInfo, "stream of ", spec.client_name().empty() ? peer_ : spec.client_name(), ": plan ",
               spec.plan().name(), ", generation ", bound_->generation_number(), ", from cursor ",
               spec.cursor());
  }
  Advance();
}

}  // namespace doppel
