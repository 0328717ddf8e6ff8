#include "trainer/stream/prefetcher.h"

#include <algorithm>
#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/executor.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "common/image/image.h"
#include "trainer/stream/reference_reader.h"

namespace doppel {
namespace {

class Prefetcher final : public TrainingBatchSource {
 public:
  Prefetcher(std::unique_ptr<BatchSource> source, PrefetchOptions options)
      : options_(options),
        depth_(std::max(1, options_.depth)),
        source_(std::move(source)),
        decoders_(MakeThreadPool(std::max(1, options_.threads))),
        puller_([this] { Pull(); }) {}

  ~Prefetcher() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    source_->Cancel();
    puller_.join();
  }

  absl::StatusOr<TrainingBatch> Next() override {
    absl::MutexLock lock(&mutex_, absl::Condition(this, &Prefetcher::FrontIsDone));
    std::shared_ptr<Slot> slot = slots_.front();
    // The end of the source stays: asking again gives the same answer.
    if (slot->last) return slot->result.status();
    slots_.pop_front();
    return std::move(slot->result);
  }

  void Acknowledge(uint64_t cursor) override { source_->Acknowledge(cursor); }

 private:
  // A batch on its way through the decoders, in the source's order.
  struct Slot {
    bool done = false;
    bool last = false;  // nothing comes after it
    absl::StatusOr<TrainingBatch> result = absl::UnknownError("");
  };

  bool FrontIsDone() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !slots_.empty() && slots_.front()->done;
  }
  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || slots_.size() < depth_; }

  void Pull() {
    while (true) {
      {
        absl::MutexLock lock(&mutex_, absl::Condition(this, &Prefetcher::HasRoom));
        if (stopping_) return;
      }
      absl::StatusOr<v1::Batch> batch = source_->Next();
      auto slot = std::make_shared<Slot>();
      {
        absl::MutexLock lock(&mutex_);
        if (!batch.ok()) {
          slot->done = slot->last = true;
          slot->result = batch.status();
        }
        slots_.push_back(slot);
      }
      if (!batch.ok()) return;
      decoders_->Schedule([this, slot, shared = std::make_shared<v1::Batch>(*std::move(batch))] {
        absl::StatusOr<TrainingBatch> result = Decode(*shared);
        absl::MutexLock lock(&mutex_);
        slot->result = std::move(result);
        slot->done = true;
      });
    }
  }

  absl::Status DecodeSample(const v1::Batch& batch, const v1::Sample& sample, uint8_t* out) {
    ReferenceReader::Bytes reference;
    absl::string_view encoded(sample.encoded().data(), sample.encoded().size());
    if (batch.payload() == v1::PAYLOAD_KIND_REFERENCE) {
      ASSIGN_OR_RETURN(reference, references_.Read(sample));
      encoded = reference.data;
    }
    absl::Status status = DecodeImageInto(encoded, options_.height, options_.width, options_.channels, out);
    if (status.ok()) return status;
    return absl::Status(status.code(),
                        absl::StrCat("sample ", sample.sample(), " of identity ", sample.identity(),
                                     " in batch ", batch.cursor(), ": ", status.message()));
  }

  absl::Status TakePixels(const v1::Batch& batch, TrainingBatch& result) const {
    const v1::ImageShape& shape = batch.image();
    if (static_cast<int>(shape.height()) != options_.height ||
        static_cast<int>(shape.width()) != options_.width ||
        static_cast<int>(shape.channels()) != options_.channels ||
        batch.pixels().size() != result.pixels.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the stream's images are ", shape.height(), "x", shape.width(), "x", shape.channels(),
                       " and the model takes ", options_.height, "x", options_.width, "x", options_.channels,
                       ": set the stream's `image`"));
    }
    std::copy(batch.pixels().begin(), batch.pixels().end(), result.pixels.begin());
    return absl::OkStatus();
  }

  absl::StatusOr<TrainingBatch> Decode(const v1::Batch& batch) {
    TrainingBatch result;
    result.generation = batch.generation();
    result.cursor = batch.cursor();
    result.epoch = batch.epoch();
    result.subspace = batch.subspace();
    result.mean_similarity = batch.mean_similarity();
    result.max_similarity = batch.max_similarity();
    result.identities_per_batch = static_cast<int>(batch.identities_per_batch());
    result.samples_per_identity = static_cast<int>(batch.samples_per_identity());
    result.height = options_.height;
    result.width = options_.width;
    result.channels = options_.channels;
    const size_t image_bytes = size_t{1} * options_.height * options_.width * options_.channels;
    result.pixels.resize(batch.samples_size() * image_bytes);
    for (const v1::Sample& sample : batch.samples()) {
      result.identities.push_back(static_cast<int64_t>(sample.identity()));
      result.samples.push_back(sample.sample());
    }
    const bool decoded = batch.payload() == v1::PAYLOAD_KIND_DECODED;
    if (decoded) RETURN_IF_ERROR(TakePixels(batch, result));
    for (int i = 0; i < batch.samples_size(); ++i) {
      uint8_t* pixels = result.pixels.data() + i * image_bytes;
      if (!decoded) RETURN_IF_ERROR(DecodeSample(batch, batch.samples(i), pixels));
      if (!options_.augment.none()) {
        Augment(options_.augment, MixKey(options_.augment_seed, batch.cursor(), static_cast<uint64_t>(i)),
                options_.height, options_.width, options_.channels, pixels);
      }
    }
    return result;
  }

  const PrefetchOptions options_;
  const size_t depth_;
  const std::unique_ptr<BatchSource> source_;
  ReferenceReader references_;

  absl::Mutex mutex_;
  std::deque<std::shared_ptr<Slot>> slots_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  const std::unique_ptr<Executor> decoders_;  // finishes its work before the rest goes
  std::thread puller_;
};

}  // namespace

std::unique_ptr<TrainingBatchSource> MakePrefetcher(std::unique_ptr<BatchSource> source,
                                                    PrefetchOptions options) {
  return std::make_unique<Prefetcher>(std::move(source), options);
}

}  // namespace doppel
