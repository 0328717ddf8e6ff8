#include "trainer/stream/embedding_reporter.h"

#include <grpcpp/grpcpp.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <thread>
#include <unordered_map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/log.h"
#include "common/net/client_credentials.h"
#include "doppel/v1/reports.grpc.pb.h"

namespace doppel {
namespace {

// Until then a message waits for more batches.
constexpr absl::Duration kFlushAfter = absl::Seconds(1);

class GrpcEmbeddingReporter final : public EmbeddingReporter {
 public:
  explicit GrpcEmbeddingReporter(EmbeddingReporterOptions options)
      : options_(std::move(options)),
        stub_(v1::ReportService::NewStub(MakeChannel(options_.address, options_.security, {}))),
        thread_([this] { Run(); }) {}

  ~GrpcEmbeddingReporter() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    thread_.join();
  }

  void Offer(BatchReport batch) override {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return;
    if (queue_.size() >= options_.queue) {
      queue_.pop_front();
      ++counters_.dropped;
    }
    queue_.push_back(std::move(batch));
  }

  Counters counters() const override {
    absl::MutexLock lock(&mutex_);
    return counters_;
  }

 private:
  bool Full() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || queue_.size() >= static_cast<size_t>(options_.batches_per_message);
  }

  // Empty: it is over.
  std::vector<BatchReport> Take() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    std::vector<BatchReport> taken;
    do {
      mutex_.AwaitWithTimeout(absl::Condition(this, &GrpcEmbeddingReporter::Full), kFlushAfter);
    } while (queue_.empty() && !stopping_);
    const size_t n = std::min(queue_.size(), static_cast<size_t>(options_.batches_per_message));
    taken.reserve(n);
    for (size_t i = 0; i < n; ++i) {
      taken.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    return taken;
  }

  void Run() {
    while (true) {
      const std::vector<BatchReport> batches = Take();
      if (batches.empty()) return;
      v1::ReportStepsRequest request;
      request.set_run(options_.run);
      for (const BatchReport& batch : batches) *request.add_steps() = MeanPerIdentity(batch);
      request.set_dropped_steps(counters().dropped);
      if (!Send(request)) return;
    }
  }

  // False: the miner will never take any.
  bool Send(const v1::ReportStepsRequest& request) {
    grpc::ClientContext context;
    const bool last = Stopping();
    context.set_deadline(absl::ToChronoTime(absl::Now() + (last ? options_.pause : options_.timeout)));
    v1::ReportStepsResponse response;
    const grpc::Status status = stub_->ReportSteps(&context, request, &response);
    const auto n = static_cast<uint64_t>(request.steps_size());
    absl::MutexLock lock(&mutex_);
    counters_.cpu_seconds = ThreadSeconds();
    if (status.ok()) {
      (response.accepted() ? counters_.reported : counters_.refused) += n;
      if (!response.accepted() && accepted_)
        DOPPEL_LOG(kWarning, "embeddings are not taken: ", response.reason());
      accepted_ = response.accepted();
      away_ = false;
      return true;
    }
    counters_.dropped += n;
    const bool never = status.error_code() == grpc::StatusCode::UNIMPLEMENTED ||
                       status.error_code() == grpc::StatusCode::INVALID_ARGUMENT;
    if (!away_ || never) {
      DOPPEL_LOG(kWarning, never ? "no more embeddings are reported: " : "embeddings could not be reported: ",
                 status.error_message());
    }
    away_ = true;
    if (never) {
      stopping_ = true;
      return false;
    }
    mutex_.AwaitWithTimeout(absl::Condition(&stopping_), options_.pause);
    return !last;
  }

  static double ThreadSeconds() {
    timespec time = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }

  bool Stopping() const {
    absl::MutexLock lock(&mutex_);
    return stopping_;
  }

  const EmbeddingReporterOptions options_;
  const std::unique_ptr<v1::ReportService::Stub> stub_;

  mutable absl::Mutex mutex_;
  std::deque<BatchReport> queue_ ABSL_GUARDED_BY(mutex_);
  Counters counters_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool accepted_ ABSL_GUARDED_BY(mutex_) = true;
  bool away_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace

v1::StepReport MeanPerIdentity(const BatchReport& batch) {
  v1::StepReport report;
  report.set_model_step(batch.model_step);
  report.set_generation(batch.generation);
  report.set_cursor(batch.cursor);
  report.set_subspace(batch.subspace);
  report.set_loss(batch.loss);
  if (batch.active_share.has_value()) report.set_active_share(*batch.active_share);
  report.set_dimension(static_cast<uint32_t>(batch.dimension));
  const size_t dimension = static_cast<size_t>(batch.dimension);
  std::unordered_map<int64_t, size_t> rows;
  std::vector<double> sums;
  for (size_t i = 0; i < batch.identities.size(); ++i) {
    const float* x = batch.embeddings.data() + i * dimension;
    double square = 0;
    for (size_t d = 0; d < dimension; ++d) square += static_cast<double>(x[d]) * x[d];
    if (!(square > 0) || !std::isfinite(square)) continue;
    const auto [row, fresh] = rows.emplace(batch.identities[i], rows.size());
    if (fresh) {
      sums.resize(sums.size() + dimension);
      report.add_identities(static_cast<uint64_t>(batch.identities[i]));
      report.add_samples(0);
    }
    const int at = static_cast<int>(row->second);
    report.set_samples(at, report.samples(at) + 1);
    const double scale = 1 / std::sqrt(square);
    for (size_t d = 0; d < dimension; ++d) sums[row->second * dimension + d] += scale * x[d];
  }
  std::vector<float> means(sums.size());
  for (size_t i = 0; i < means.size(); ++i) {
    means[i] = static_cast<float>(sums[i] / report.samples(static_cast<int>(i / dimension)));
  }
  report.set_embeddings(means.data(), means.size() * sizeof(float));
  return report;
}

std::unique_ptr<EmbeddingReporter> MakeGrpcEmbeddingReporter(EmbeddingReporterOptions options) {
  return std::make_unique<GrpcEmbeddingReporter>(std::move(options));
}

}  // namespace doppel
