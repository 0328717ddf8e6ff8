#include "trainer/eval/embed_samples.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/executor.h"
#include "common/base/philox.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/image/augment.h"
#include "common/image/image.h"

namespace doppel {
namespace {

// One pass over the samples, shared by its workers.
class EmbeddingPass {
 public:
  EmbeddingPass(const Catalog& catalog, const ModelSpec& spec, absl::Span<const uint64_t> samples,
                const EmbedOptions& options, Progress& progress)
      : catalog_(catalog),
        spec_(spec),
        samples_(samples),
        options_(options),
        progress_(progress),
        augmentation_(MildAffineAugmentation()),
        batch_size_(std::max(options.batch_size, 1)),
        embeddings_(samples.size() * static_cast<size_t>(spec.dimension)) {}

  // Body of a worker: takes batches until there are none left, or until one fails.
  void Work(EmbeddingModel& model) {
    SetComputeThreads(1);
    std::vector<uint8_t> images(batch_size_ * ImageBytes());
    while (!failed_) {
      const size_t first = next_.fetch_add(batch_size_);
      if (first >= samples_.size()) return;
      const size_t n = std::min(batch_size_, samples_.size() - first);
      const absl::Status status = EmbedBatch(model, first, n, images);
      if (!status.ok()) Fail(first, status);
      progress_.Add(n);
    }
  }

  absl::StatusOr<std::vector<float>> Take() {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return status_;
    return std::move(embeddings_);
  }

 private:
  size_t ImageBytes() const { return static_cast<size_t>(spec_.height) * spec_.width * spec_.channels; }

  absl::Status EmbedBatch(EmbeddingModel& model, size_t first, size_t n, std::vector<uint8_t>& images) {
    for (size_t i = 0; i < n; ++i) {
      RETURN_IF_ERROR(Named(samples_[first + i], Load(samples_[first + i], &images[i * ImageBytes()])));
    }
    float* out = &embeddings_[first * static_cast<size_t>(spec_.dimension)];
    RETURN_IF_ERROR(
        model.Embed(absl::MakeConstSpan(images.data(), n * ImageBytes()), static_cast<int64_t>(n), out));
    for (size_t i = 0; i < n; ++i, out += spec_.dimension) {
      RETURN_IF_ERROR(Named(samples_[first + i], Normalize(out)));
    }
    return absl::OkStatus();
  }

  absl::Status Load(uint64_t sample, uint8_t* image) const {
    ASSIGN_OR_RETURN(const SampleBytes bytes, catalog_.ReadChecked(sample));
    RETURN_IF_ERROR(DecodeImageInto(bytes.data, spec_.height, spec_.width, spec_.channels, image));
    if (options_.augment_seed.has_value()) {
      Augment(augmentation_, MixKey(*options_.augment_seed, sample), spec_.height, spec_.width,
              spec_.channels, image);
    }
    return absl::OkStatus();
  }

  absl::Status Normalize(float* embedding) const {
    double sum = 0;
    for (int d = 0; d < spec_.dimension; ++d) sum += static_cast<double>(embedding[d]) * embedding[d];
    if (!std::isfinite(sum) || sum <= 0) {
      return absl::InternalError(
          "the model's embedding has no direction: it is zero or not a number; has training "
          "diverged?");
    }
    const double scale = 1 / std::sqrt(sum);
    for (int d = 0; d < spec_.dimension; ++d) embedding[d] = static_cast<float>(embedding[d] * scale);
    return absl::OkStatus();
  }

  absl::Status Named(uint64_t sample, const absl::Status& status) const {
    if (status.ok()) return status;
    return absl::Status(status.code(),
                        absl::StrCat("sample ", catalog_.SampleKey(sample), " of identity ",
                                     catalog_.IdentityName(catalog_.Sample(sample).identity), " (",
                                     catalog_.SamplePath(sample), "): ", status.message()));
  }

  // Batches start in order, so the first bad one is always among those that are tried: the same error every
  // time.
  void Fail(size_t first, const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (status_.ok() || first < failed_at_) {
      status_ = status;
      failed_at_ = first;
    }
    failed_ = true;
  }

  const Catalog& catalog_;
  const ModelSpec spec_;
  const absl::Span<const uint64_t> samples_;
  const EmbedOptions options_;
  Progress& progress_;
  const AugmentOptions augmentation_;
  const size_t batch_size_;

  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};
  std::vector<float> embeddings_;  // workers write disjoint parts

  absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  size_t failed_at_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::StatusOr<std::vector<float>> EmbedSamples(const Catalog& catalog, const EmbeddingModel& model,
                                                absl::Span<const uint64_t> samples, absl::string_view label,
                                                const EmbedOptions& options, const Clock& clock) {
  std::vector<std::unique_ptr<EmbeddingModel>> clones;
  for (int i = 0; i < std::max(options.threads, 1); ++i) {
    ASSIGN_OR_RETURN(std::unique_ptr<EmbeddingModel> clone, model.Clone());
    clones.push_back(std::move(clone));
  }
  Progress::Options display;
  display.label = std::string(label);
  display.unit = "images";
  display.total = samples.size();
  display.quiet = options.quiet;
  Progress progress(display, clock);
  EmbeddingPass pass(catalog, model.spec(), samples, options, progress);
  {
    // Threads of its own: the caller's may compute with more threads, and goes on doing so.
    const std::unique_ptr<Executor> workers = MakeThreadPool(static_cast<int>(clones.size()));
    for (const auto& clone : clones) workers->Schedule([&pass, &clone] { pass.Work(*clone); });
  }
  return pass.Take();
}

}  // namespace doppel
