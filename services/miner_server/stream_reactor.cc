#include "services/miner_server/stream_reactor.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/log.h"
#include "services/miner_server/grpc_status.h"

namespace doppel {
namespace {

WireBatch OpenedMessage(const BoundStream& stream, const Catalog& catalog, const std::string& incarnation) {
  v1::StreamBatchesResponse response;
  v1::StreamOpened* opened = response.mutable_opened();
  opened->set_incarnation(incarnation);
  opened->set_generation(stream.generation_number());
  opened->set_catalog_fingerprint(catalog.fingerprint());
  const PlanCoverage& coverage = stream.plan->coverage();
  opened->set_identities_covered(coverage.identities);
  opened->set_batches_per_epoch(coverage.batches_per_epoch);
  opened->set_identities_left_out(coverage.left_out);
  opened->set_left_out_reason(coverage.left_out_reason);
  const grpc::Slice slice(response.SerializeAsString());
  WireBatch message;
  message.parts.emplace_back(&slice, 1);
  return message;
}

}  // namespace

StreamReactor* StreamReactor::Start(const StreamEnvironment& environment, const std::string& peer) {
  std::shared_ptr<StreamReactor> stream(new StreamReactor(environment, peer));
  const bool accepted = environment.registry->Add(stream);
  environment.metrics->streams.Add(1);
  environment.metrics->streams_opened.Add();
  absl::MutexLock lock(&stream->mutex_);
  stream->self_ = stream;
  if (accepted) {
    stream->StartRead(&stream->request_);
  } else {
    stream->draining_ = true;
    stream->Advance();
  }
  return stream.get();
}

StreamReactor::StreamReactor(const StreamEnvironment& environment, std::string peer)
    : environment_(environment), peer_(std::move(peer)) {}

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
  if (cursor >= next_cursor_) {
    return absl::InvalidArgumentError(
        absl::StrCat("acknowledge_cursor: ", cursor, " was not sent yet: the next one is ", next_cursor_));
  }
  // Batches of an earlier stream count there.
  const uint64_t first = acknowledged_.has_value() ? *acknowledged_ + 1 : spec_->cursor();
  if (cursor < first) return absl::OkStatus();
  environment_.metrics->batches_acknowledged.Add(static_cast<double>(cursor - first + 1));
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
  {
    absl::MutexLock lock(&mutex_);
    self = std::move(self_);
    ready_.reset();
    bound_.reset();
    sending_ = WireBatch();
  }
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
      // Rebuilt below: what was built ahead is of a generation that is no longer the active one.
      if (ready_.has_value() && !environment_.core->IsCurrent(*bound_)) ready_.reset();
      if (ready_.has_value() && credits_ > 0) SendReadyBatch();
    }
    if (!sending_.parts.empty()) {
      writing_ = true;
      StartWrite(&sending_.parts[next_part_]);
    }
  }
  ScheduleWork();
}

std::optional<grpc::Status> StreamReactor::EndAtBorder() const {
  if (draining_) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE,
                        absl::StrCat("draining: reconnect and continue at cursor ", next_cursor_));
  }
  if (ready_.has_value() && !ready_->ok()) return ToGrpc(ready_->status());
  if (bound_ != nullptr && spec_->max_batches() > 0 && sent_ >= spec_->max_batches()) return grpc::Status::OK;
  if (half_closed_ && (!spec_.has_value() || (bound_ != nullptr && credits_ == 0))) return grpc::Status::OK;
  return std::nullopt;
}

void StreamReactor::SendReadyBatch() {
  sending_ = *std::move(*ready_);
  ready_.reset();
  next_part_ = 0;
  --credits_;
  ++next_cursor_;
  ++sent_;
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

void StreamReactor::ScheduleWork() {
  if (working_ || ready_.has_value() || !spec_.has_value()) return;
  if (spec_->max_batches() > 0 && sent_ >= spec_->max_batches() && bound_ != nullptr) return;
  working_ = true;
  auto self = shared_from_this();
  if (bound_ == nullptr) {
    environment_.executor->Schedule([self, spec = *spec_] { self->BindStream(spec); });
  } else {
    environment_.executor->Schedule(
        [self, bound = bound_, cursor = next_cursor_] { self->BuildNext(bound, cursor); });
  }
}

void StreamReactor::BindStream(const v1::StreamSpec& spec) {
  absl::StatusOr<std::shared_ptr<const BoundStream>> bound = environment_.core->Bind(spec);
  absl::MutexLock lock(&mutex_);
  working_ = false;
  if (finished_) return;
  if (!bound.ok()) {
    if (!failure_.has_value()) failure_ = ToGrpc(bound.status());
  } else {
    bound_ = *std::move(bound);
    sending_ = OpenedMessage(*bound_, environment_.core->catalog(), environment_.incarnation);
    DOPPEL_LOG(kInfo, "stream of ", spec.client_name().empty() ? peer_ : spec.client_name(), ": plan ",
               spec.plan().name(), ", generation ", bound_->generation_number(), ", from cursor ",
               spec.cursor());
  }
  Advance();
}

void StreamReactor::BuildNext(std::shared_ptr<const BoundStream> bound, uint64_t cursor) {
  {
    absl::MutexLock lock(&mutex_);
    if (finished_ || failure_.has_value()) {
      working_ = false;
      return;
    }
  }
  absl::StatusOr<WireBatch> batch = MoveAndBuild(bound, cursor);
  absl::MutexLock lock(&mutex_);
  working_ = false;
  if (finished_) return;
  bound_ = std::move(bound);
  ready_ = std::move(batch);
  Advance();
}

absl::StatusOr<WireBatch> StreamReactor::MoveAndBuild(std::shared_ptr<const BoundStream>& bound,
                                                      uint64_t cursor) {
  if (!environment_.core->IsCurrent(*bound)) {
    absl::StatusOr<std::shared_ptr<const BoundStream>> moved = environment_.core->Bind(bound->spec);
    if (!moved.ok()) {
      return absl::Status(moved.status().code(), absl::StrCat("moving to the generation that is active now: ",
                                                              moved.status().message()));
    }
    bound = *std::move(moved);
  }
  const absl::Time start = absl::Now();
  absl::StatusOr<WireBatch> batch = environment_.core->Build(*bound, cursor, BatchEnvelope::kStreamBatches);
  environment_.metrics->build_seconds.Observe(absl::ToDoubleSeconds(absl::Now() - start));
  return batch;
}

}  // namespace doppel
