#include "trainer/stream/message_bytes.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/io/crc32c.h"

namespace doppel {
namespace {

constexpr int kLongestVarint = 10;

// visit(piece of the range) in order.
template <typename Visit>
void ForEachPiece(const MessageBytes& message, const ByteRange& range, Visit visit) {
  uint64_t left = range.size;
  uint64_t offset = range.offset;
  for (size_t i = range.piece; left > 0; ++i, offset = 0) {
    const absl::string_view piece = message.pieces[i].substr(offset, left);
    visit(piece);
    left -= piece.size();
  }
}

}  // namespace

uint64_t MessageBytes::size() const {
  uint64_t size = 0;
  for (const absl::string_view piece : pieces) size += piece.size();
  return size;
}

MessageBytes MessageOf(std::string bytes) {
  auto owner = std::make_shared<const std::string>(std::move(bytes));
  MessageBytes message;
  message.pieces.emplace_back(*owner);
  message.owner = std::move(owner);
  return message;
}

absl::string_view Contiguous(const MessageBytes& message, const ByteRange& range, std::string* scratch) {
  if (range.size == 0) return {};
  const absl::string_view first = message.pieces[range.piece].substr(range.offset);
  if (range.size <= first.size()) return first.substr(0, range.size);
  scratch->resize(range.size);
  CopyTo(message, range, &(*scratch)[0]);
  return *scratch;
}

ByteRange SubRange(const MessageBytes& message, const ByteRange& range, uint64_t begin, uint64_t size) {
  uint64_t offset = range.offset + begin;
  uint32_t piece = range.piece;
  while (piece + 1 < message.pieces.size() && offset >= message.pieces[piece].size()) {
    offset -= message.pieces[piece++].size();
  }
  return {piece, static_cast<uint32_t>(offset), size};
}

void CopyTo(const MessageBytes& message, const ByteRange& range, char* out) {
  ForEachPiece(message, range, [&](absl::string_view piece) {
    std::memcpy(out, piece.data(), piece.size());
    out += piece.size();
  });
}

uint32_t Crc32cOf(const MessageBytes& message, const ByteRange& range) {
  uint32_t crc = 0;
  ForEachPiece(message, range, [&](absl::string_view piece) { crc = ExtendCrc32c(crc, piece); });
  return crc;
}

WireReader::WireReader(const MessageBytes& message) : WireReader(message, {0, 0, message.size()}) {}

WireReader::WireReader(const MessageBytes& message, const ByteRange& range)
    : message_(message), piece_(range.piece), left_(range.size) {
  if (left_ == 0) return;
  const absl::string_view piece = message.pieces[piece_];
  next_ = piece.data() + range.offset;
  piece_end_ = piece.data() + piece.size();
}

void WireReader::NextPiece() {
  const absl::string_view piece = message_.pieces[++piece_];
  next_ = piece.data();
  piece_end_ = piece.data() + piece.size();
}

ByteRange WireReader::Here(uint64_t size) const {
  if (next_ == nullptr) return {piece_, 0, size};
  return {piece_, static_cast<uint32_t>(next_ - message_.pieces[piece_].data()), size};
}

bool WireReader::ReadByte(uint8_t* byte) {
  if (left_ == 0) return Fail();
  while (next_ == piece_end_) NextPiece();
  *byte = static_cast<uint8_t>(*next_++);
  --left_;
  return true;
}

bool WireReader::ReadLongVarint(uint64_t* value) {
  uint64_t result = 0;
  if (left_ >= kLongestVarint && InPiece() >= kLongestVarint) {
    for (int i = 0; i < kLongestVarint; ++i) {
      const auto byte = static_cast<uint8_t>(next_[i]);
      result |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
      if (byte >= 0x80) continue;
      next_ += i + 1;
      left_ -= i + 1;
      *value = result;
      return true;
    }
    return Fail();
  }
  for (int i = 0; i < kLongestVarint; ++i) {
    uint8_t byte = 0;
    if (!ReadByte(&byte)) return false;
    result |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
    if (byte >= 0x80) continue;
    *value = result;
    return true;
  }
  return Fail();
}

bool WireReader::ReadFixed32(uint32_t* value) {
  uint32_t result = 0;
  if (left_ >= sizeof(result) && InPiece() >= sizeof(result)) {
    for (int i = 0; i < 4; ++i) result |= static_cast<uint32_t>(static_cast<uint8_t>(next_[i])) << (8 * i);
    next_ += sizeof(result);
    left_ -= sizeof(result);
    *value = result;
    return true;
  }
  for (int i = 0; i < 4; ++i) {
    uint8_t byte = 0;
    if (!ReadByte(&byte)) return false;
    result |= static_cast<uint32_t>(byte) << (8 * i);
  }
  *value = result;
  return true;
}

bool WireReader::ReadRange(ByteRange* range) {
  uint64_t size = 0;
  if (!ReadVarint(&size) || size > left_) return Fail();
  // So that a range that lies in one piece says so.
  while (size > 0 && next_ == piece_end_) NextPiece();
  *range = Here(size);
  return Skip(size);
}

bool WireReader::Skip(uint64_t bytes) {
  if (bytes > left_) return Fail();
  left_ -= bytes;
  while (bytes > InPiece()) {
    bytes -= InPiece();
    NextPiece();
  }
  next_ += bytes;
  return true;
}

bool WireReader::SkipValue(uint32_t wire_type) {
  uint64_t number = 0;
  ByteRange range;
  switch (wire_type) {
    case 0:
      return ReadVarint(&number);
    case 1:
      return Skip(8);
    case 2:
      return ReadRange(&range);
    case 5:
      return Skip(4);
    default:
      return Fail();
  }
}

}  // namespace doppel
