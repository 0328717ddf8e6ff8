#include "services/embedder/embed_range.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/sample_selection.h"
#include "common/image/image.h"

namespace doppel {
namespace {

constexpr size_t kMaxFailures = 100;

// The sum over one identity's embeddings in one batch.
struct PartialSum {
  uint64_t row = 0;
  uint32_t samples = 0;
  std::vector<double> sum;
};

// Adds x / |x|. False if x has no direction.
bool AddNormalised(const float* x, int dimension, double* sum) {
  double square = 0;
  for (int d = 0; d < dimension; ++d) square += static_cast<double>(x[d]) * x[d];
  if (!(square > 0) || !std::isfinite(square)) return false;
  const double scale = 1.0 / std::sqrt(square);
  for (int d = 0; d < dimension; ++d) sum[d] += scale * x[d];
  return true;
}

}  // namespace

// Rows are relative to the range. Batch b holds the positions [b * batch_size, (b + 1) * batch_size) of all
// samples of the range. A row that lies in one batch is written by that batch's thread; sums of rows cut by a
// batch's border wait in edges_ and are added up in the batches' order at the end.
class EmbedPool::Job : public EmbedJob {
 public:
  Job(std::shared_ptr<const Catalog> catalog, const EmbedRangeSpec& range, int dimension, int batch_size,
      std::function<void()> on_done)
      : catalog_(std::move(catalog)), range_(range), batch_size_(batch_size), on_done_(std::move(on_done)) {
    starts_.reserve(range.identity_count + 1);
    starts_.push_back(0);
    for (uint64_t i = 0; i < range.identity_count; ++i) {
      starts_.push_back(starts_.back() + Selected(catalog_->Samples(range.Identity(i)).count));
    }
    batches_ = (starts_.back() + batch_size - 1) / batch_size;
    edges_.resize(batches_);
    batch_failures_.resize(batches_);
    result_.dimension = dimension;
    result_.values.resize(range.identity_count * dimension);
    result_.samples.resize(range.identity_count);
  }

  bool Done() const override {
    absl::MutexLock lock(&mutex_);
    return done_;
  }
  absl::StatusOr<Representations> Take() override {
    absl::MutexLock lock(&mutex_, absl::Condition(&done_));
    RETURN_IF_ERROR(status_);
    return std::move(result_);
  }
  void Cancel() override { Update(absl::CancelledError("embedding: the range was dropped"), /*ended=*/0); }

  uint64_t batches() const { return batches_; }

  // The next batch that nobody has begun; false if there is none. Callers hold the pool's mutex.
  bool Claim(uint64_t* batch) {
    absl::MutexLock lock(&mutex_);
    if (done_ || !status_.ok() || next_ == batches_) return false;
    *batch = next_++;
    ++running_;
    return true;
  }

  // Ends a claimed batch.
  void Finish(const absl::Status& status) { Update(status, /*ended=*/1); }
  // Ends a job that has no batches.
  void FinishEmpty() { Update(absl::OkStatus(), /*ended=*/0); }

  absl::Status RunBatch(uint64_t batch, EmbeddingModel& model, std::vector<uint8_t>& pixels,
                        std::vector<float>& out) {
    const ModelSpec& spec = model.spec();
    const size_t image = static_cast<size_t>(spec.height) * spec.width * spec.channels;
    const uint64_t begin = batch * batch_size_;
    const uint64_t end = std::min(begin + batch_size_, starts_.back());
    pixels.resize(image * batch_size_);
    out.resize(static_cast<size_t>(spec.dimension) * batch_size_);

    std::vector<std::pair<uint64_t, uint64_t>> good;  // row, sample
    uint64_t row = std::upper_bound(starts_.begin(), starts_.end(), begin) - starts_.begin() - 1;
    for (uint64_t position = begin; position < end; ++position) {
      while (position >= starts_[row + 1]) ++row;
      const uint64_t sample = SampleAt(row, position - starts_[row]);
      absl::Status status = Decode(sample, spec, pixels.data() + image * good.size());
      if (status.ok()) {
        good.emplace_back(row, sample);
      } else if (absl::IsUnavailable(status)) {
        return status;  // it could not be fetched: no fault of the sample
      } else {
        Fail(batch, row, sample, status.message());
      }
    }
    if (!good.empty()) {
      RETURN_IF_ERROR(model.Embed(absl::MakeConstSpan(pixels.data(), image * good.size()),
                                  static_cast<int64_t>(good.size()), out.data()));
    }
    Accumulate(batch, begin, end, good, out);
    return absl::OkStatus();
  }

 private:
  struct Failures {
    uint64_t count = 0;
    std::vector<std::string> names;
  };

  uint32_t Selected(uint32_t samples) const { return SelectedSamples(samples, range_.samples_per_identity); }
  uint64_t SampleAt(uint64_t row, uint64_t k) const {
    const uint64_t identity = range_.Identity(row);
    const IdentitySamples samples = catalog_->Samples(identity);
    return samples[SelectedSample(samples.count, range_.samples_per_identity, range_.seed, identity, k)];
  }
  absl::Status Decode(uint64_t sample, const ModelSpec& spec, uint8_t* out) const {
    ASSIGN_OR_RETURN(SampleBytes bytes, catalog_->ReadChecked(sample));
    return DecodeImageInto(bytes.data, spec.height, spec.width, spec.channels, out);
  }
  void Fail(uint64_t batch, uint64_t row, uint64_t sample, absl::string_view why) {
    Failures& failures = batch_failures_[batch];
    if (++failures.count > kMaxFailures) return;
    failures.names.push_back(absl::StrCat(catalog_->IdentityName(range_.Identity(row)), "/",
                                          catalog_->SampleKey(sample), " (", catalog_->SamplePath(sample),
                                          "): ", why));
  }

  void Accumulate(uint64_t batch, uint64_t begin, uint64_t end,
                  const std::vector<std::pair<uint64_t, uint64_t>>& good, const std::vector<float>& out) {
    PartialSum sum;
    sum.sum.resize(result_.dimension);
    for (size_t i = 0; i < good.size(); ++i) {
      if (i == 0 || good[i].first != sum.row) {
        if (i > 0) Store(batch, begin, end, sum);
        sum.row = good[i].first;
        sum.samples = 0;
        std::fill(sum.sum.begin(), sum.sum.end(), 0.0);
      }
      if (AddNormalised(out.data() + i * result_.dimension, result_.dimension, sum.sum.data())) {
        ++sum.samples;
      } else {
        Fail(batch, good[i].first, good[i].second, "the embedding is zero or not finite");
      }
    }
    if (!good.empty()) Store(batch, begin, end, sum);
  }
  void Store(uint64_t batch, uint64_t begin, uint64_t end, const PartialSum& sum) {
    if (starts_[sum.row] >= begin && starts_[sum.row + 1] <= end) {
      WriteMean(sum);
    } else {
      edges_[batch].push_back(sum);
    }
  }
  void WriteMean(const PartialSum& sum) {
    if (sum.samples == 0) return;
    result_.samples[sum.row] = sum.samples;
    float* out = result_.values.data() + sum.row * result_.dimension;
    for (int d = 0; d < result_.dimension; ++d) out[d] = static_cast<float>(sum.sum[d] / sum.samples);
  }

  // Takes in that `ended` batches have ended and the job's first error; the last one to come ends the job.
  void Update(const absl::Status& status, uint64_t ended) {
    {
      absl::MutexLock lock(&mutex_);
      if (done_) return;
      running_ -= ended;
      if (status_.ok()) status_ = status;
      if (running_ > 0 || (status_.ok() && next_ < batches_)) return;
      if (status_.ok()) Merge();
      done_ = true;
    }
    if (on_done_) on_done_();
  }
  // All batches are in: nobody else touches their results any more.
  void Merge() {
    PartialSum total;
    for (uint64_t batch = 0; batch < batches_; ++batch) {
      for (const PartialSum& edge : edges_[batch]) {
        if (total.sum.empty() || edge.row != total.row) {
          if (!total.sum.empty()) WriteMean(total);
          total = edge;
          continue;
        }
        total.samples += edge.samples;
        for (size_t d = 0; d < edge.sum.size(); ++d) total.sum[d] += edge.sum[d];
      }
      result_.failed_samples += batch_failures_[batch].count;
      for (std::string& name : batch_failures_[batch].names) {
        if (result_.failures.size() < kMaxFailures) result_.failures.push_back(std::move(name));
      }
    }
    if (!total.sum.empty()) WriteMean(total);
  }

  // Constant after construction.
  const std::shared_ptr<const Catalog> catalog_;
  const EmbedRangeSpec range_;
  const uint64_t batch_size_;
  const std::function<void()> on_done_;
  std::vector<uint64_t> starts_;  // of rows, in positions; one more than rows
  uint64_t batches_ = 0;

  // Each element is written by one batch, and read when all are in.
  std::vector<std::vector<PartialSum>> edges_;
  std::vector<Failures> batch_failures_;
  Representations result_;

  mutable absl::Mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

EmbedPool::EmbedPool(std::vector<std::unique_ptr<EmbeddingModel>> models, int batch_size)
    : batch_size_(std::max(1, batch_size)), spec_(models.front()->spec()), models_(std::move(models)) {
  for (const auto& model : models_) {
    threads_.emplace_back([this, &model] { Run(*model); });
  }
}

EmbedPool::~EmbedPool() {
  std::deque<std::shared_ptr<Job>> left;
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
    left.swap(queue_);
  }
  for (const auto& job : left) job->Cancel();
  for (std::thread& thread : threads_) thread.join();
}

absl::StatusOr<std::shared_ptr<EmbedJob>> EmbedPool::Submit(std::shared_ptr<const Catalog> catalog,
                                                            const EmbedRangeSpec& range,
                                                            std::function<void()> on_done) {
  const uint64_t identities = catalog->num_identities();
  const bool listed = !range.identities.empty();
  const bool fits = listed ? range.identities.size() == range.identity_count &&
                                 std::all_of(range.identities.begin(), range.identities.end(),
                                             [identities](uint64_t i) { return i < identities; })
                           : range.first_identity <= identities &&
                                 range.identity_count <= identities - range.first_identity;
  if (!fits) {
    return absl::OutOfRangeError(absl::StrCat("embedding: identities [", range.first_identity, ", +",
                                              range.identity_count, ") are not in ", catalog->directory(),
                                              ", which has ", identities));
  }
  auto job =
      std::make_shared<Job>(std::move(catalog), range, spec_.dimension, batch_size_, std::move(on_done));
  if (job->batches() == 0) {
    job->FinishEmpty();
    return std::shared_ptr<EmbedJob>(job);
  }
  absl::MutexLock lock(&mutex_);
  queue_.push_back(job);
  return std::shared_ptr<EmbedJob>(job);
}

bool EmbedPool::NextWork(Work* work) {
  absl::MutexLock lock(&mutex_);
  while (true) {
    mutex_.Await(absl::Condition(this, &EmbedPool::HasWork));
    if (closing_) return false;
    if (queue_.front()->Claim(&work->batch)) {
      work->job = queue_.front();
      return true;
    }
    queue_.pop_front();
  }
}

void EmbedPool::Run(EmbeddingModel& model) {
  SetComputeThreads(1);
  std::vector<uint8_t> pixels;
  std::vector<float> out;
  Work work;
  while (NextWork(&work)) {
    work.job->Finish(work.job->RunBatch(work.batch, model, pixels, out));
    work.job.reset();
  }
}

absl::StatusOr<Representations> EmbedRange(std::shared_ptr<const Catalog> catalog,
                                           std::vector<std::unique_ptr<EmbeddingModel>> models,
                                           const EmbedRangeSpec& range, int batch_size) {
  if (models.empty()) return absl::InvalidArgumentError("embedding: no model was given");
  EmbedPool pool(std::move(models), batch_size);
  ASSIGN_OR_RETURN(std::shared_ptr<EmbedJob> job, pool.Submit(std::move(catalog), range));
  return job->Take();
}

}  // namespace doppel
