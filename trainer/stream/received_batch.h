#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "doppel/v1/batches.pb.h"
#include "trainer/stream/message_bytes.h"

namespace doppel {

// One sample of a received batch: numbers, and where in the message its bytes lie.
struct ReceivedSample {
  uint64_t identity = 0;
  uint64_t sample = 0;
  uint32_t crc32c = 0;
  uint32_t part = 0;  // index into ReceivedBatch::parts, for all ranges
  ByteRange encoded;  // ENCODED
  ByteRange path;     // REFERENCE
  uint64_t offset = 0, size = 0;
  ByteRange pixels;  // DECODED
  uint32_t pixels_crc32c = 0;
  bool has_pixels_crc32c = false;
};

// A v1.Batch as it came from the wire: nothing of a sample is copied or allocated, its bytes stay in the
// messages' buffers for as long as this (or a copy) lives.
struct ReceivedBatch {
  v1::Batch header;  // without `samples` and `pixels`
  std::vector<ReceivedSample> samples;
  std::vector<MessageBytes> parts;
  uint64_t wire_bytes = 0;

  uint64_t cursor() const { return header.cursor(); }
  // `scratch` takes the bytes if they do not lie in one piece.
  absl::string_view Encoded(size_t sample, std::string* scratch) const;
  absl::string_view ReferencePath(size_t sample, std::string* scratch) const;
  void CopyPixels(size_t sample, uint8_t* out) const;
};

// Reads the Batch at `range` of the message. DATA_LOSS: it is not one.
absl::StatusOr<ReceivedBatch> ParseBatch(MessageBytes message, const ByteRange& range);

// Checks the CRC32C of every sample, ENCODED or DECODED. Returns the positions of those that differ.
std::vector<size_t> DamagedSamples(const ReceivedBatch& batch);

// To and from the ordinary message, by copying: for tests, and for what is not worth the trouble.
v1::Batch ToProto(const ReceivedBatch& batch);
absl::StatusOr<ReceivedBatch> FromProto(const v1::Batch& batch);

}  // namespace doppel
