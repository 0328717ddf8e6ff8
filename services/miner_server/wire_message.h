#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "services/miner_server/buffer_pool.h"

namespace doppel {

// Bytes that a varint takes: ceil(bits / 7), at least one.
inline size_t VarintSize(uint64_t value) {
  return (static_cast<size_t>(63 - __builtin_clzll(value | 1)) * 9 + 73) / 64;
}

inline char* WriteVarint(uint64_t value, char* out) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<char>(value | 0x80);
  *out++ = static_cast<char>(value);
  return out;
}

// Of a number below 2^56, every group of seven bits into a byte of its own.
inline uint64_t SpreadSevenBits(uint64_t value) {
  value = (value & 0x00FFFFFFF0000000) << 4 | (value & 0x000000000FFFFFFF);
  value = (value & 0x0FFFC0000FFFC000) << 2 | (value & 0x00003FFF00003FFF);
  return (value & 0x3F803F803F803F80) << 1 | (value & 0x007F007F007F007F);
}

// Of a varint of `size` <= 8 bytes: the bits that say that more follows.
inline uint64_t ContinuationBits(size_t size) {
  return 0x8080808080808080 & ((uint64_t{1} << (8 * (size - 1))) - 1);
}

// As WriteVarint, but without a loop whose end would have to be guessed. May write 8 bytes, whatever the
// varint takes.
inline char* WriteVarintAtOnce(uint64_t value, char* out) {
  if (value >> 56 != 0) return WriteVarint(value, out);
  const size_t size = VarintSize(value);
  const uint64_t bytes = SpreadSevenBits(value) | ContinuationBits(size);
  std::memcpy(out, &bytes, sizeof(bytes));
  return out + size;
}

inline char* WriteFixed32(uint32_t value, char* out) {
  std::memcpy(out, &value, sizeof(value));
  return out + sizeof(value);
}

// One message on its way to the wire: what is appended goes straight into one buffer, what is borrowed stays
// where it is (in a mapped file) and is kept alive by its slice until gRPC has sent it. Not thread-safe.
class WireMessage {
 public:
  // What is written by hand may run over its end by so much, to be overwritten by what follows.
  static constexpr size_t kRoom = 64;

  // Precondition: no more than `copied_bytes` will be appended.
  WireMessage(BufferPool& pool, size_t copied_bytes)
      : buffer_(pool.Take(copied_bytes + kRoom)), next_(buffer_->data()) {}

  // Writing by hand: from next() on, and then how far it went.
  char* next() { return next_; }
  void set_next(char* next) { next_ = next; }
  void AppendVarint(uint64_t value) { next_ = WriteVarint(value, next_); }
  void Append(absl::string_view bytes) {
    std::memcpy(next_, bytes.data(), bytes.size());
    next_ += bytes.size();
  }
  // Where the caller will have written `bytes` bytes before Finish.
  char* Reserve(size_t bytes) {
    char* place = next_;
    next_ += bytes;
    return place;
  }
  void Borrow(grpc::Slice slice) { borrowed_.push_back({appended(), std::move(slice)}); }
  size_t appended() const { return static_cast<size_t>(next_ - buffer_->data()); }

  // The first `bytes` appended are not part of the message after all.
  void DropFront(size_t bytes) { front_ = bytes; }

  // Once; the message is gone then.
  grpc::ByteBuffer Finish();

 private:
  struct Borrowed {
    size_t after = 0;  // appended bytes that come before it
    grpc::Slice slice;
  };
  std::unique_ptr<BufferPool::Buffer> buffer_;
  char* next_;
  size_t front_ = 0;
  std::vector<Borrowed> borrowed_;
};

}  // namespace doppel
