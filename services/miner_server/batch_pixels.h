#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/catalog/catalog.h"
#include "common/image/augment.h"
#include "doppel/v1/batches.pb.h"
#include "services/miner_server/batch_builder.h"
#include "services/miner_server/wire_message.h"
#include "services/miner_server/wire_sample.h"

namespace doppel {

// Makes the pixels of one DECODED batch, straight in the message that will be sent: stored pixels of the
// wanted size are taken as they are, everything else is decoded, resized and augmented. A sample's pixels are
// a pure function of (bytes, spec.image, spec.augmentation, cursor, position). Thread-safe.
class PixelSource {
 public:
  // Precondition: spec.image is complete.
  PixelSource(const Catalog& catalog, const v1::StreamSpec& spec, uint64_t cursor,
              const BuildOptions& options);

  // Of one sample: height * width * channels.
  uint64_t sample_bytes() const { return shape_.bytes(); }
  // Of these samples' pixels, how much is copied into the message and not borrowed.
  uint64_t CopiedBytes(absl::Span<const WireSample> samples) const;

  // Appends the pixels of `samples`, the first of which is at `first_position` of the batch, and writes their
  // CRC32C to where `crcs` point. Errors name the first sample, in order, that is damaged or no image.
  absl::Status Append(absl::Span<const WireSample> samples, uint64_t first_position,
                      absl::Span<char* const> crcs, WireMessage& message) const;

 private:
  bool IsStored(const WireSample& sample) const;
  absl::Status Decode(const WireSample& sample, uint64_t position, uint8_t* out, char* crc) const;

  const Catalog& catalog_;
  const PixelShape shape_;
  const AugmentOptions augment_;
  const uint64_t augment_seed_;
  const uint64_t cursor_;
  const uint64_t borrow_bytes_;
  const int threads_;
};

// What a stream asks for, in the terms of common/image.
AugmentOptions ToAugmentOptions(const v1::Augmentation& augmentation);

}  // namespace doppel
