#include "services/miner_server/batch_pixels.h"

#include <algorithm>
#include <cstring>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/executor.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "common/image/image.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

constexpr int64_t kSamplesAtOnce = 16;

// Of stored pixels, out of the checksum of their file: nothing is read for it.
uint32_t StoredCrc(const WireSample& sample) { return sample.record.crc32c ^ sample.shard->raw_crc32c; }

absl::string_view StoredPixels(const WireSample& sample) {
  return RawPixels(sample.bytes, sample.shard->source.raw);
}

// The first failure in order, so that the error does not depend on threads.
class FirstFailure {
 public:
  void Add(uint64_t position, const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok() && position_ <= position) return;
    position_ = position;
    status_ = status;
  }
  absl::Status status() const {
    absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  mutable absl::Mutex mutex_;
  uint64_t position_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

AugmentOptions ToAugmentOptions(const v1::Augmentation& augmentation) {
  AugmentOptions options;
  options.rotate_degrees = augmentation.rotate_degrees();
  options.scale = augmentation.scale();
  options.shear = augmentation.shear();
  options.translate = augmentation.translate();
  options.flip_probability = augmentation.flip_probability();
  options.brightness = augmentation.brightness();
  options.contrast = augmentation.contrast();
  options.saturation = augmentation.saturation();
  options.hue = augmentation.hue();
  options.crop = augmentation.crop();
  options.erase_probability = augmentation.erase_probability();
  return options;
}

PixelSource::PixelSource(const Catalog& catalog, const v1::StreamSpec& spec, uint64_t cursor,
                         const BuildOptions& options)
    : catalog_(catalog),
      shape_{spec.image().height(), spec.image().width(), spec.image().channels()},
      augment_(ToAugmentOptions(spec.augmentation())),
      augment_seed_(spec.augmentation().seed()),
      cursor_(cursor),
      borrow_bytes_(options.borrow_bytes),
      threads_(options.decode_threads) {}

bool PixelSource::IsStored(const WireSample& sample) const {
  if (sample.shard == nullptr || sample.shard->raw_header_bytes == 0) return false;
  const PixelShape& raw = sample.shard->source.raw;
  return raw.height == shape_.height && raw.width == shape_.width && raw.channels == shape_.channels &&
         sample.bytes.size() == sample.shard->raw_header_bytes + raw.bytes() && augment_.none();
}

uint64_t PixelSource::CopiedBytes(absl::Span<const WireSample> samples) const {
  const bool borrow = sample_bytes() >= borrow_bytes_ &&
                      std::all_of(samples.begin(), samples.end(),
                                  [this](const WireSample& sample) { return IsStored(sample); });
  return borrow ? 0 : samples.size() * sample_bytes();
}

absl::Status PixelSource::Decode(const WireSample& sample, uint64_t position, uint8_t* out, char* crc) const {
  const uint32_t found = Crc32c(sample.bytes);
  if (found != sample.record.crc32c) {
    return absl::DataLossError(absl::StrCat(
        "its bytes, at ", catalog_.SamplePath(sample.number), " + ", sample.record.offset, ", have CRC32C ",
        absl::Hex(found, absl::kZeroPad8), " and had ", absl::Hex(sample.record.crc32c, absl::kZeroPad8),
        " at the import: put the old file back, or import again"));
  }
  const absl::Status status =
      DecodeImageInto(sample.bytes, static_cast<int>(shape_.height), static_cast<int>(shape_.width),
                      static_cast<int>(shape_.channels), out);
  if (!status.ok()) return absl::DataLossError(status.message());
  if (!augment_.none()) {
    Augment(augment_, MixKey(augment_seed_, cursor_, position), static_cast<int>(shape_.height),
            static_cast<int>(shape_.width), static_cast<int>(shape_.channels), out);
  }
  WriteFixed32(Crc32c({reinterpret_cast<const char*>(out), sample_bytes()}), crc);
  return absl::OkStatus();
}

absl::Status PixelSource::Append(absl::Span<const WireSample> samples, uint64_t first_position,
                                 absl::Span<char* const> crcs, WireMessage& message) const {
  if (CopiedBytes(samples) == 0) {
    for (size_t i = 0; i < samples.size(); ++i) {
      WriteFixed32(StoredCrc(samples[i]), crcs[i]);
      AppendBytes(samples[i], StoredPixels(samples[i]), borrow_bytes_, message);
    }
    return absl::OkStatus();
  }
  char* const pixels = message.Reserve(samples.size() * sample_bytes());
  FirstFailure failure;
  ParallelFor(
      static_cast<int64_t>(samples.size()), kSamplesAtOnce, threads_, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const WireSample& sample = samples[i];
          char* const out = pixels + i * sample_bytes();
          if (IsStored(sample)) {
            std::memcpy(out, StoredPixels(sample).data(), sample_bytes());
            WriteFixed32(StoredCrc(sample), crcs[i]);
            continue;
          }
          const uint64_t position = first_position + i;
          const absl::Status status = Decode(sample, position, reinterpret_cast<uint8_t*>(out), crcs[i]);
          if (!status.ok()) failure.Add(position, SampleError(catalog_, sample.number, status));
        }
      });
  return failure.status();
}

}  // namespace doppel
