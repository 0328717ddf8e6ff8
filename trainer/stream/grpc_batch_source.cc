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
#include "trainer/stream/batch_assembler.h"

namespace doppel {
namespace {

using Stream = grpc::ClientReaderWriter<v1::StreamBatchesRequest, v1::StreamBatchesResponse>;

constexpr absl::Duration kMinBackoff = absl::Milliseconds(50);
constexpr absl::Duration kMaxBackoff = absl::Seconds(2);

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

// The server went away or is going: worth another try. It cancels streams that outlast its draining.
bool IsRetryable(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable || status.code() == absl::StatusCode::kCancelled;
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  // A connection of its own: flow control is shared on one, and a slow stream would hold up others.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // Finds a server that is gone without a word; the server allows a ping every 10 s.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

class GrpcBatchSource final : public BatchSource {
 public:
  explicit GrpcBatchSource(GrpcBatchSourceOptions options)
      : options_(std::move(options)),
        credits_(std::max<uint32_t>(1, options_.credits)),
        stub_(v1::BatchService::NewStub(MakeChannel(options_.address))),
        next_cursor_(options_.spec.cursor()),
        reader_([this] { Run(); }) {}

  ~GrpcBatchSource() override {
    Cancel();
    reader_.join();
  }

  absl::StatusOr<v1::Batch> Next() override {
    absl::MutexLock lock(&mutex_, absl::Condition(this, &GrpcBatchSource::CanReturn));
    if (cancelled_) return absl::CancelledError("the batch source was cancelled");
    if (ready_.empty()) return *end_;
    v1::Batch batch = std::move(ready_.front());
    ready_.pop_front();
    return batch;
  }

  void Acknowledge(uint64_t cursor) override {
    absl::MutexLock lock(&mutex_);
    acknowledgement_ = cursor;
  }

  void Cancel() override {
    absl::MutexLock lock(&mutex_);
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
    return ready_.size() + on_their_way_ < credits_;
  }
  bool HasRequest() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return cancelled_ || stream_over_ || acknowledgement_.has_value() || HasCreditsToGrant();
  }

  // The reader thread: one stream after the other, until the end.
  void Run() {
    absl::Time last_contact = absl::Now();
    absl::Duration backoff = kMinBackoff;
    while (true) {
      bool opened = false;
      absl::Status status = RunStream(&opened);
      if (opened) {
        last_contact = absl::Now();
        backoff = kMinBackoff;
      }
      absl::MutexLock lock(&mutex_);
      if (cancelled_) return;
      const uint64_t max_batches = options_.spec.max_batches();
      if (max_batches > 0 && received_ >= max_batches) {
        end_ = absl::OutOfRangeError(absl::StrCat("the end: all ", max_batches, " batches were delivered"));
        return;
      }
      if (status.ok()) status = absl::UnavailableError("the server ended the stream");
      if (!IsRetryable(status)) {
        end_ = absl::Status(status.code(), absl::StrCat("miner ", options_.address, ": ", status.message()));
        return;
      }
      if (absl::Now() - last_contact >= options_.patience) {
        end_ = absl::UnavailableError(absl::StrCat(
            "miner ", options_.address, ": no server for ", absl::FormatDuration(options_.patience),
            ", last: ", status.message(), ": is doppel-miner running there?"));
        return;
      }
      if (opened || backoff >= kMaxBackoff) {
        DOPPEL_LOG(kInfo, "miner ", options_.address, ": ", status.message(), "; trying again at cursor ",
                   next_cursor_);
      }
      if (mutex_.AwaitWithTimeout(absl::Condition(&cancelled_), backoff)) return;
      backoff = std::min(2 * backoff, kMaxBackoff);
    }
  }

  // OK: the server ended it in order.
  absl::Status RunStream(bool* opened) {
    grpc::ClientContext context;
    const Cancellable cancellable(this, &context);
    const std::unique_ptr<Stream> stream = stub_->StreamBatches(&context);
    v1::StreamBatchesRequest open;
    *open.mutable_open() = SpecFromHere();
    if (!stream->Write(open)) return FromGrpc(stream->Finish());
    {
      absl::MutexLock lock(&mutex_);
      on_their_way_ = 0;
      stream_over_ = false;
    }
    std::thread writer([this, &stream] { WriteRequests(*stream); });
    const absl::Status status = ReadBatches(*stream, open.open().cursor(), opened);
    if (!status.ok()) context.TryCancel();
    {
      absl::MutexLock lock(&mutex_);
      stream_over_ = true;
    }
    writer.join();
    const grpc::Status end = stream->Finish();
    return status.ok() ? FromGrpc(end) : status;
  }

  v1::StreamSpec SpecFromHere() {
    absl::MutexLock lock(&mutex_);
    v1::StreamSpec spec = options_.spec;
    spec.set_cursor(next_cursor_);
    if (spec.max_batches() > 0) spec.set_max_batches(spec.max_batches() - received_);
    return spec;
  }

  absl::Status ReadBatches(Stream& stream, uint64_t cursor, bool* opened) {
    BatchAssembler assembler(cursor);
    v1::StreamBatchesResponse response;
    while (stream.Read(&response)) {
      if (response.has_opened()) {
        *opened = true;
        RETURN_IF_ERROR(CheckServer(response.opened()));
        continue;
      }
      ASSIGN_OR_RETURN(std::optional<v1::Batch> batch, assembler.Add(std::move(*response.mutable_batch())));
      if (!batch.has_value()) continue;
      if (options_.verify_checksums && !VerifyChecksums(*batch).ok()) {
        ASSIGN_OR_RETURN(batch, FetchAgain(*batch));
      }
      absl::MutexLock lock(&mutex_);
      ready_.push_back(*std::move(batch));
      next_cursor_ = assembler.next_cursor();
      ++received_;
      if (on_their_way_ > 0) --on_their_way_;
    }
    return absl::OkStatus();
  }

  // Identity numbers mean nothing under another catalog.
  absl::Status CheckServer(const v1::StreamOpened& opened) {
    if (catalog_fingerprint_.empty()) catalog_fingerprint_ = opened.catalog_fingerprint();
    if (opened.catalog_fingerprint() == catalog_fingerprint_) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("the server came back with another catalog (", opened.catalog_fingerprint(), ", it was ",
                     catalog_fingerprint_, "): start the training anew, or serve the old catalog"));
  }

  // Once: a wrong bit on the way is gone then, a wrong file is not.
  absl::StatusOr<std::optional<v1::Batch>> FetchAgain(const v1::Batch& damaged) {
    DOPPEL_LOG(kWarning, VerifyChecksums(damaged).message(), "; fetching the batch again");
    grpc::ClientContext context;
    const Cancellable cancellable(this, &context);
    v1::GetBatchRequest request;
    *request.mutable_spec() = options_.spec;
    request.mutable_spec()->set_cursor(damaged.cursor());
    request.mutable_spec()->set_generation(damaged.generation());
    v1::GetBatchResponse response;
    RETURN_IF_ERROR(FromGrpc(stub_->GetBatch(&context, request, &response)));
    RETURN_IF_ERROR(VerifyChecksums(response.batch()));
    return std::optional<v1::Batch>(std::move(*response.mutable_batch()));
  }

  // The writer thread of one stream: grants credits as batches are consumed, passes acknowledgements on.
  void WriteRequests(Stream& stream) {
    while (true) {
      v1::StreamBatchesRequest request;
      {
        absl::MutexLock lock(&mutex_, absl::Condition(this, &GrpcBatchSource::HasRequest));
        if (cancelled_ || stream_over_) return;
        if (HasCreditsToGrant()) {
          const auto grant = static_cast<uint32_t>(credits_ - ready_.size() - on_their_way_);
          request.set_credits(grant);
          on_their_way_ += grant;
        } else {
          request.set_acknowledge_cursor(*acknowledgement_);
          acknowledgement_.reset();
        }
      }
      if (!stream.Write(request)) return;
    }
  }

  const GrpcBatchSourceOptions options_;
  const size_t credits_;
  const std::unique_ptr<v1::BatchService::Stub> stub_;
  std::string catalog_fingerprint_;  // the reader thread's alone

  absl::Mutex mutex_;
  std::deque<v1::Batch> ready_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_cursor_ ABSL_GUARDED_BY(mutex_);
  uint64_t received_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t on_their_way_ ABSL_GUARDED_BY(mutex_) = 0;  // granted on this stream and not received yet
  std::optional<uint64_t> acknowledgement_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool stream_over_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);

  std::thread reader_;  // last: it uses the rest
};

}  // namespace

std::unique_ptr<BatchSource> MakeGrpcBatchSource(GrpcBatchSourceOptions options) {
  return std::make_unique<GrpcBatchSource>(std::move(options));
}

}  // namespace doppel
