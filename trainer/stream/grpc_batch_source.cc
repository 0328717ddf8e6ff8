#include "trainer/stream/grpc_batch_source.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "doppel/v1/batches.grpc.pb.h"
#include "trainer/stream/acknowledgements.h"
#include "trainer/stream/batch_assembler.h"
#include "trainer/stream/batch_verifier.h"
#include "trainer/stream/raw_stream.h"

namespace doppel {
namespace {

constexpr absl::Duration kMinBackoff = absl::Milliseconds(50);
constexpr absl::Duration kMaxBackoff = absl::Seconds(2);
// For the last acknowledgements to arrive.
constexpr absl::Duration kFarewell = absl::Seconds(2);
// For a batch that is fetched again: a miner that restarts is back by then.
constexpr absl::Duration kFetchPatience = absl::Seconds(60);

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

// The server went away or is going: worth another try. It cancels streams that outlast its draining.
bool IsRetryable(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable || status.code() == absl::StatusCode::kCancelled;
}

bool IsDynamic(const v1::StreamSpec& spec) { return spec.sharing().mode() == v1::WorkSharing::MODE_DYNAMIC; }

// Between one cursor of this stream and the next; 0: the server chooses.
uint64_t StrideOf(const v1::StreamSpec& spec) {
  if (IsDynamic(spec)) return 0;
  return spec.sharing().mode() == v1::WorkSharing::MODE_STATIC ? std::max(1u, spec.sharing().shards()) : 1;
}

uint64_t FirstCursor(const v1::StreamSpec& spec) {
  const uint64_t stride = StrideOf(spec);
  if (stride <= 1) return spec.cursor();
  return spec.cursor() + (spec.sharing().shard() % stride + stride - spec.cursor() % stride) % stride;
}

class GrpcBatchSource final : public BatchSource {
 public:
  explicit GrpcBatchSource(GrpcBatchSourceOptions options)
      : options_(std::move(options)),
        credits_(std::max<uint32_t>(1, options_.credits)),
        channel_(MakeBatchChannel(options_.address, options_.security)),
        verifier_([this](const v1::Batch& header, v1::PayloadKind payload) { return Fetch(header, payload); },
                  options_.fetch_tries),
        acknowledgements_(IsDynamic(options_.spec)),
        next_cursor_(FirstCursor(options_.spec)),
        reader_([this] { Run(); }) {}

  ~GrpcBatchSource() override {
    Cancel();
    reader_.join();
  }

  absl::StatusOr<ReceivedBatch> Next() override {
    absl::MutexLock lock(&mutex_, absl::Condition(this, &GrpcBatchSource::CanReturn));
    if (cancelled_) return absl::CancelledError("the batch source was cancelled");
    if (ready_.empty()) return *end_;
    ReceivedBatch batch = std::move(ready_.front());
    ready_.pop_front();
    acknowledgements_.Deliver(batch.cursor());
    return batch;
  }

  void Acknowledge(uint64_t cursor) override {
    absl::MutexLock lock(&mutex_);
    acknowledgements_.Acknowledge(cursor);
  }

  BatchSourceStatistics statistics() const override {
    absl::MutexLock lock(&mutex_);
    return statistics_;
  }

  void Cancel() override {
    absl::MutexLock lock(&mutex_);
    if (!cancelled_) mutex_.AwaitWithTimeout(absl::Condition(this, &GrpcBatchSource::SaidAll), kFarewell);
    cancelled_ = true;
    for (grpc::ClientContext* context : contexts_) context->TryCancel();
  }

 private:
  // Makes a call cancellable for as long as it lives.
  class Cancellable {
   public:
    Cancellable(GrpcBatchSource* source, grpc::ClientContext* context) : source_(source), context_(context) {
      absl::MutexLock lock(&source_->mutex_);
      source_->contexts_.insert(context_);
      if (source_->cancelled_) context_->TryCancel();
    }
    ~Cancellable() {
      absl::MutexLock lock(&source_->mutex_);
      source_->contexts_.erase(context_);
    }
    Cancellable(const Cancellable&) = delete;
    Cancellable& operator=(const Cancellable&) = delete;

   private:
    GrpcBatchSource* const source_;
    grpc::ClientContext* const context_;
  };

  bool CanReturn() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return cancelled_ || end_.has_value() || !ready_.empty();
  }
  // Credits are for what is neither here unread nor on its way.
  bool HasCreditsToGrant() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !end_.has_value() && ready_.size() + on_their_way_ < credits_;
  }
  bool HasRequest() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return cancelled_ || stream_over_ || acknowledgements_.HasNext() || HasCreditsToGrant();
  }
  // Nothing left that the server should hear, or nobody there to hear it.
  bool SaidAll() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return acknowledgements_.all_confirmed() || cancelled_ || stopped_;
  }
  bool HasMoreToSay() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return cancelled_ || !acknowledgements_.all_confirmed();
  }

  // The reader thread: one stream after the other, until the end.
  void Run() {
    RunStreams();
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }

  void RunStreams() {
    absl::Time last_contact = absl::Now();
    absl::Duration backoff = kMinBackoff;
    while (true) {
      bool opened = false;
      const absl::Status status = RunStream(&opened);
      if (opened) {
        last_contact = absl::Now();
        backoff = kMinBackoff;
      }
      absl::MutexLock lock(&mutex_);
      if (cancelled_) return;
      const bool ended = end_.has_value();  // and this stream was for the last acknowledgements
      const absl::Status end = EndAfter(status, last_contact);
      if (!end.ok()) {
        if (!ended) end_ = end;
        // A group that is done still waits for what is being trained on.
        if (!IsDynamic(options_.spec) || !absl::IsOutOfRange(end)) return;
        mutex_.Await(absl::Condition(this, &GrpcBatchSource::HasMoreToSay));
        if (cancelled_ || (ended && mutex_.AwaitWithTimeout(absl::Condition(&cancelled_), backoff))) return;
        if (ended) backoff = std::min(2 * backoff, kMaxBackoff);
        continue;
      }
      if (opened || backoff >= kMaxBackoff) {
        DOPPEL_LOG(kInfo, "miner ", options_.address, ": ", status.message(), "; trying again at cursor ",
                   next_cursor_);
      }
      ++statistics_.reconnects;
      if (mutex_.AwaitWithTimeout(absl::Condition(&cancelled_), backoff)) return;
      backoff = std::min(2 * backoff, kMaxBackoff);
    }
  }

  // OK: worth another try. Else what Next says from now on.
  absl::Status EndAfter(const absl::Status& status, absl::Time last_contact)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const uint64_t max_batches = options_.spec.max_batches();
    if (max_batches > 0 && received_ >= max_batches) {
      return absl::OutOfRangeError(absl::StrCat("the end: all ", max_batches, " batches were delivered"));
    }
    if (status.ok() && IsDynamic(options_.spec)) {
      return absl::OutOfRangeError(
          absl::StrCat("the end: work group ", options_.spec.sharing().group(), " has nothing left to give"));
    }
    if (!status.ok() && !IsRetryable(status)) {
      return absl::Status(status.code(), absl::StrCat("miner ", options_.address, ": ", status.message()));
    }
    if (absl::Now() - last_contact < options_.patience) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat(
        "miner ", options_.address, ": no server for ", absl::FormatDuration(options_.patience), ", last: ",
        status.ok() ? "it ended the stream" : status.message(), ": is doppel-miner running there?"));
  }

  // OK: the server ended it in order.
  absl::Status RunStream(bool* opened) {
    grpc::ClientContext context;
    const Cancellable cancellable(this, &context);
    RawStream stream(channel_.get(), &context);
    v1::StreamBatchesRequest open;
    *open.mutable_open() = SpecFromHere();
    if (!stream.Write(open)) return FromGrpc(stream.Finish());
    {
      absl::MutexLock lock(&mutex_);
      on_their_way_ = 0;
      stream_over_ = false;
      acknowledgements_.StartStream();
    }
    std::thread writer([this, &stream] { WriteRequests(stream); });
    const absl::Status status = ReadResponses(stream, open.open().cursor(), opened);
    if (!status.ok()) context.TryCancel();
    {
      absl::MutexLock lock(&mutex_);
      stream_over_ = true;
    }
    writer.join();
    const grpc::Status end = stream.Finish();
    return status.ok() ? FromGrpc(end) : status;
  }

  v1::StreamSpec SpecFromHere() {
    absl::MutexLock lock(&mutex_);
    v1::StreamSpec spec = options_.spec;
    if (!IsDynamic(spec)) spec.set_cursor(next_cursor_);
    if (spec.max_batches() > 0) spec.set_max_batches(spec.max_batches() - received_);
    return spec;
  }

  absl::Status ReadResponses(RawStream& stream, uint64_t cursor, bool* opened) {
    BatchAssembler assembler(cursor, StrideOf(options_.spec));
    while (true) {
      absl::StatusOr<RawStream::Response> response = stream.Read();
      if (absl::IsOutOfRange(response.status())) return absl::OkStatus();
      RETURN_IF_ERROR(response.status());
      if (const auto* hello = std::get_if<v1::StreamOpened>(&*response)) {
        *opened = true;
        RETURN_IF_ERROR(CheckServer(*hello));
      } else if (const auto* acknowledged = std::get_if<v1::Acknowledged>(&*response)) {
        Confirm(*acknowledged);
      } else {
        ASSIGN_OR_RETURN(std::optional<ReceivedBatch> batch,
                         assembler.Add(std::get<ReceivedBatch>(*std::move(response))));
        if (batch.has_value()) RETURN_IF_ERROR(Receive(*std::move(batch), assembler.next_cursor()));
      }
    }
  }

  void Confirm(const v1::Acknowledged& acknowledged) {
    absl::MutexLock lock(&mutex_);
    acknowledgements_.Confirm(acknowledged.cursor());
    ++(acknowledged.first() ? statistics_.acknowledged : statistics_.acknowledged_before);
  }

  absl::Status Receive(ReceivedBatch received, uint64_t next_cursor) {
    uint64_t damaged = 0, fetches = 0;
    absl::StatusOr<ReceivedBatch> checked = options_.verify_checksums
                                                ? verifier_.Verify(std::move(received), &damaged, &fetches)
                                                : std::move(received);
    absl::MutexLock lock(&mutex_);
    statistics_.damaged_samples += damaged;
    statistics_.batches_fetched_again += fetches;
    ASSIGN_OR_RETURN(ReceivedBatch batch, std::move(checked));
    if (on_their_way_ > 0) --on_their_way_;
    next_cursor_ = next_cursor;
    // A lease of ours that had run out may come back to us.
    if (!acknowledgements_.Receive(batch.cursor())) return absl::OkStatus();
    ready_.push_back(std::move(batch));
    ++received_;
    ++statistics_.batches;
    return absl::OkStatus();
  }

  // Identity numbers mean nothing under another catalog, and the same under a new version of it.
  absl::Status CheckServer(const v1::StreamOpened& opened) {
    const auto& earlier = opened.earlier_catalog_fingerprints();
    if (catalog_fingerprint_.empty() ||
        std::count(earlier.begin(), earlier.end(), catalog_fingerprint_) > 0) {
      catalog_fingerprint_ = opened.catalog_fingerprint();
    }
    if (opened.catalog_fingerprint() == catalog_fingerprint_) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("the server came back with another catalog (", opened.catalog_fingerprint(), ", it was ",
                     catalog_fingerprint_, "): start the training anew, or serve the old catalog"));
  }

  absl::StatusOr<ReceivedBatch> Fetch(const v1::Batch& header, v1::PayloadKind payload) {
    grpc::ClientContext context;
    const Cancellable cancellable(this, &context);
    // The miner may be on its way back; but a line that is dead must not stop the training for good.
    context.set_wait_for_ready(true);
    context.set_deadline(absl::ToChronoTime(absl::Now() + kFetchPatience));
    v1::GetBatchRequest request;
    *request.mutable_spec() = options_.spec;
    request.mutable_spec()->clear_sharing();
    request.mutable_spec()->set_cursor(header.cursor());
    request.mutable_spec()->set_generation(header.generation());
    request.mutable_spec()->set_payload(payload);
    v1::GetBatchResponse response;
    RETURN_IF_ERROR(FromGrpc(v1::BatchService::NewStub(channel_)->GetBatch(&context, request, &response)));
    return FromProto(response.batch());
  }

  // The writer thread of one stream: grants credits as batches are consumed, passes acknowledgements on.
  void WriteRequests(RawStream& stream) {
    while (true) {
      v1::StreamBatchesRequest request;
      {
        absl::MutexLock lock(&mutex_, absl::Condition(this, &GrpcBatchSource::HasRequest));
        if (cancelled_ || stream_over_) return;
        // Acknowledgements first: what is trained on must not be handed out again for these credits.
        if (acknowledgements_.HasNext()) {
          request.set_acknowledge_cursor(acknowledgements_.TakeNext());
        } else {
          const auto grant = static_cast<uint32_t>(credits_ - ready_.size() - on_their_way_);
          request.set_credits(grant);
          on_their_way_ += grant;
        }
      }
      if (!stream.Write(request)) return;
    }
  }

  const GrpcBatchSourceOptions options_;
  const size_t credits_;
  const std::shared_ptr<grpc::Channel> channel_;
  const BatchVerifier verifier_;
  std::string catalog_fingerprint_;  // the reader thread's alone

  mutable absl::Mutex mutex_;
  Acknowledgements acknowledgements_ ABSL_GUARDED_BY(mutex_);
  BatchSourceStatistics statistics_ ABSL_GUARDED_BY(mutex_);
  std::deque<ReceivedBatch> ready_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_cursor_ ABSL_GUARDED_BY(mutex_);
  uint64_t received_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t on_their_way_ ABSL_GUARDED_BY(mutex_) = 0;  // granted on this stream and not received yet
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool stream_over_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;  // the reader thread has ended
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);

  std::thread reader_;  // last: it uses the rest
};

}  // namespace

std::unique_ptr<BatchSource> MakeGrpcBatchSource(GrpcBatchSourceOptions options) {
  return std::make_unique<GrpcBatchSource>(std::move(options));
}

}  // namespace doppel
