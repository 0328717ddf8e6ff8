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
        references_(options.verify_checksums),
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
      absl::StatusOr<ReceivedBatch> batch = source_->Next();
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
      decoders_->Schedule([this, slot, shared = std::make_shared<ReceivedBatch>(*std::move(batch))] {
        absl::StatusOr<TrainingBatch> result = Decode(*shared);
        absl::MutexLock lock(&mutex_);
        slot->result = std::move(result);
        slot->done = true;
      });
    }
  }

  absl::Status DecodeSample(const ReceivedBatch& batch, size_t position, std::string* scratch, uint8_t* out) {
    ReferenceReader::Bytes reference;
    absl::string_view encoded;
    if (batch.header.payload() == v1::PAYLOAD_KIND_REFERENCE) {
      ASSIGN_OR_RETURN(reference, references_.Read(batch, position));
      encoded = reference.data;
    } else {
      encoded = batch.Encoded(position, scratch);
    }
    absl::Status status = DecodeImageInto(encoded, options_.height, options_.width, options_.channels, out);
    if (status.ok()) return status;
    const ReceivedSample& sample = batch.samples[position];
    return absl::Status(status.code(),
                        absl::StrCat("sample ", sample.sample, " of identity ", sample.identity, " in batch ",
                                     batch.cursor(), ": ", status.message()));
  }

  absl::Status CheckShape(const v1::Batch& header) const {
    const v1::ImageShape& shape = header.image();
    if (static_cast<int>(shape.height()) == options_.height &&
        static_cast<int>(shape.width()) == options_.width &&
        static_cast<int>(shape.channels()) == options_.channels) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat("the stream's images are ", shape.height(), "x", shape.width(), "x", shape.channels(),
                     " and the model takes ", options_.height, "x", options_.width, "x", options_.channels,
                     ": set the stream's `image`"));
  }

  absl::StatusOr<TrainingBatch> Decode(const ReceivedBatch& batch) {
    const v1::Batch& header = batch.header;
    TrainingBatch result;
    result.generation = header.generation();
    result.cursor = header.cursor();
    result.epoch = header.epoch();
    result.subspace = header.subspace();
    result.mean_similarity = header.mean_similarity();
    result.max_similarity = header.max_similarity();
    result.identities_per_batch = static_cast<int>(header.identities_per_batch());
    result.samples_per_identity = static_cast<int>(header.samples_per_identity());
    result.height = options_.height;
    result.width = options_.width;
    result.channels = options_.channels;
    const size_t image_bytes = size_t{1} * options_.height * options_.width * options_.channels;
    result.pixels.resize(batch.samples.size() * image_bytes);
    result.identities.reserve(batch.samples.size());
    result.samples.reserve(batch.samples.size());
    for (const ReceivedSample& sample : batch.samples) {
      result.identities.push_back(static_cast<int64_t>(sample.identity));
      result.samples.push_back(sample.sample);
    }
    const bool decoded = header.payload() == v1::PAYLOAD_KIND_DECODED;
    if (decoded) RETURN_IF_ERROR(CheckShape(header));
    std::string scratch;
    for (size_t i = 0; i < batch.samples.size(); ++i) {
      uint8_t* pixels = result.pixels.data() + i * image_bytes;
      if (decoded) {
        batch.CopyPixels(i, pixels);
      } else {
        RETURN_IF_ERROR(DecodeSample(batch, i, &scratch, pixels));
      }
      if (!options_.augment.none()) {
        Augment(options_.augment, MixKey(options_.augment_seed, header.cursor(), static_cast<uint64_t>(i)),
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
