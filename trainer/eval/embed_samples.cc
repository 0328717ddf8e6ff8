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
  // Embeds images [first, first + count).
  EmbeddingPass(const ImageSource& source, int64_t first, int64_t count, const ModelSpec& spec,
                const EmbedOptions& options, Progress& progress)
      : source_(source),
        first_(first),
        count_(static_cast<size_t>(count)),
        spec_(spec),
        options_(options),
        progress_(progress),
        augmentation_(MildAffineAugmentation()),
        batch_size_(std::max(options.batch_size, 1)),
        embeddings_(count_ * static_cast<size_t>(spec.dimension)) {}

  // Body of a worker: takes batches until there are none left, or until one fails.
  void Work(EmbeddingModel& model) {
    SetComputeThreads(1);
    std::vector<uint8_t> images(std::min(batch_size_, count_) * ImageBytes());
    std::vector<float> mirrored;
    while (!failed_) {
      const size_t first = next_.fetch_add(batch_size_);
      if (first >= count_) return;
      const size_t n = std::min(batch_size_, count_ - first);
      const absl::Status status = EmbedBatch(model, first, n, images, mirrored);
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

  absl::Status EmbedBatch(EmbeddingModel& model, size_t first, size_t n, std::vector<uint8_t>& images,
                          std::vector<float>& mirrored) {
    for (size_t i = 0; i < n; ++i) {
      RETURN_IF_ERROR(Named(first + i, Load(first + i, &images[i * ImageBytes()])));
    }
    float* out = &embeddings_[first * static_cast<size_t>(spec_.dimension)];
    const auto pixels = absl::MakeConstSpan(images.data(), n * ImageBytes());
    RETURN_IF_ERROR(model.Embed(pixels, static_cast<int64_t>(n), out));
    if (options_.mirror) {
      Mirror(n, images.data());
      mirrored.resize(n * static_cast<size_t>(spec_.dimension));
      RETURN_IF_ERROR(model.Embed(pixels, static_cast<int64_t>(n), mirrored.data()));
      for (size_t i = 0; i < mirrored.size(); ++i) out[i] += mirrored[i];
    }
    for (size_t i = 0; i < n; ++i, out += spec_.dimension) {
      RETURN_IF_ERROR(Named(first + i, Normalize(out)));
    }
    return absl::OkStatus();
  }

  void Mirror(size_t n, uint8_t* images) const {
    const auto channels = static_cast<size_t>(spec_.channels);
    const size_t line = spec_.width * channels;
    for (uint8_t* row = images; row < images + n * ImageBytes(); row += line) {
      for (size_t left = 0, right = line - channels; left < right; left += channels, right -= channels) {
        std::swap_ranges(row + left, row + left + channels, row + right);
      }
    }
  }

  absl::Status Load(size_t i, uint8_t* image) const {
    const int64_t number = first_ + static_cast<int64_t>(i);
    ASSIGN_OR_RETURN(const SampleBytes bytes, source_.Read(number));
    RETURN_IF_ERROR(DecodeImageInto(bytes.data, spec_.height, spec_.width, spec_.channels, image));
    if (options_.augment_seed.has_value()) {
      Augment(augmentation_, MixKey(*options_.augment_seed, source_.Key(number)), spec_.height, spec_.width,
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
    if (!options_.normalize) return absl::OkStatus();
    const double scale = 1 / std::sqrt(sum);
    for (int d = 0; d < spec_.dimension; ++d) embedding[d] = static_cast<float>(embedding[d] * scale);
    return absl::OkStatus();
  }

  absl::Status Named(size_t i, const absl::Status& status) const {
    if (status.ok()) return status;
    return absl::Status(
        status.code(), absl::StrCat(source_.Where(first_ + static_cast<int64_t>(i)), ": ", status.message()));
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

  const ImageSource& source_;
  const int64_t first_;
  const size_t count_;
  const ModelSpec spec_;
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

absl::Status EmbedImages(const ImageSource& source, const EmbeddingModel& model, int64_t first,
                         absl::string_view label, const EmbedOptions& options, const EmbeddingSink& sink,
                         const Clock& clock) {
  std::vector<std::unique_ptr<EmbeddingModel>> clones;
  const int threads = std::max(options.threads, 1);
  clones.reserve(threads);
  for (int i = 0; i < threads; ++i) {
    ASSIGN_OR_RETURN(std::unique_ptr<EmbeddingModel> clone, model.Clone());
    clones.push_back(std::move(clone));
  }
  Progress::Options display;
  display.label = std::string(label);
  display.unit = "images";
  display.total = static_cast<uint64_t>(source.size());
  display.quiet = options.quiet;
  Progress progress(display, clock);
  progress.Set(static_cast<uint64_t>(first));
  const int64_t chunk = options.chunk > 0 ? options.chunk : source.size();
  for (; first < source.size(); first += chunk) {
    const int64_t count = std::min(chunk, source.size() - first);
    EmbeddingPass pass(source, first, count, model.spec(), options, progress);
    {
      // Threads of its own: the caller's may compute with more threads, and goes on doing so.
      const std::unique_ptr<Executor> workers = MakeThreadPool(threads);
      for (const auto& clone : clones) workers->Schedule([&pass, &clone] { pass.Work(*clone); });
    }
    ASSIGN_OR_RETURN(std::vector<float> rows, pass.Take());
    RETURN_IF_ERROR(sink(first, std::move(rows)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> EmbedAll(const ImageSource& source, const EmbeddingModel& model,
                                            absl::string_view label, const EmbedOptions& options,
                                            const Clock& clock) {
  EmbedOptions whole = options;
  whole.chunk = 0;
  std::vector<float> all;
  const auto keep = [&all](int64_t first, std::vector<float> rows) {
    all = std::move(rows);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(EmbedImages(source, model, 0, label, whole, keep, clock));
  return all;
}

absl::StatusOr<std::vector<float>> EmbedSamples(const Catalog& catalog, const EmbeddingModel& model,
                                                absl::Span<const uint64_t> samples, absl::string_view label,
                                                const EmbedOptions& options, const Clock& clock) {
  return EmbedAll(*MakeCatalogSource(catalog, samples), model, label, options, clock);
}

}  // namespace doppel
