#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace doppel {

// The bytes of one message as they came in: pieces, in order, and whatever keeps them alive. Copies share the
// bytes.
struct MessageBytes {
  std::vector<absl::string_view> pieces;
  std::shared_ptr<const void> owner;

  uint64_t size() const;
};

MessageBytes MessageOf(std::string bytes);

// Bytes within a message: `size` of them from pieces[piece][offset] on, over as many pieces as it takes.
struct ByteRange {
  uint32_t piece = 0;
  uint32_t offset = 0;
  uint64_t size = 0;
};

// In one piece: a view of the message if they lie so, else a copy in `scratch`.
absl::string_view Contiguous(const MessageBytes& message, const ByteRange& range, std::string* scratch);
// The part [begin, begin + size) of a range.
ByteRange SubRange(const MessageBytes& message, const ByteRange& range, uint64_t begin, uint64_t size);
void CopyTo(const MessageBytes& message, const ByteRange& range, char* out);
uint32_t Crc32cOf(const MessageBytes& message, const ByteRange& range);

// Reads protobuf's wire format from a part of a message, never past its end. Once something has failed, all
// that follows fails. Not thread-safe.
class WireReader {
 public:
  // Outlived by `message`. All of it.
  explicit WireReader(const MessageBytes& message);
  WireReader(const MessageBytes& message, const ByteRange& range);

  bool AtEnd() const { return left_ == 0; }
  bool ReadVarint(uint64_t* value) {
    if (left_ == 0 || next_ == piece_end_ || (*next_ & 0x80) != 0) return ReadLongVarint(value);
    *value = static_cast<uint8_t>(*next_++);
    --left_;
    return true;
  }
  bool ReadFixed32(uint32_t* value);
  // A length, and that many bytes.
  bool ReadRange(ByteRange* range);
  // The value behind a tag of that wire type. Groups are not known.
  bool SkipValue(uint32_t wire_type);
  ByteRange Here(uint64_t size) const;
  uint64_t left() const { return left_; }

 private:
  bool ReadLongVarint(uint64_t* value);
  bool ReadByte(uint8_t* byte);
  bool Skip(uint64_t bytes);
  uint64_t InPiece() const { return static_cast<uint64_t>(piece_end_ - next_); }
  // Precondition: there is another piece.
  void NextPiece();
  bool Fail() {
    left_ = 0;
    return false;
  }

  const MessageBytes& message_;
  uint32_t piece_ = 0;
  const char* next_ = nullptr;  // in the piece; may be its end
  const char* piece_end_ = nullptr;
  uint64_t left_ = 0;
};

}  // namespace doppel
