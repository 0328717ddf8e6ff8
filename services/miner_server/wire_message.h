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

// Bytes that a varint takes.
inline size_t VarintSize(uint64_t value) {
  size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

inline char* WriteVarint(uint64_t value, char* out) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<char>(value | 0x80);
  *out++ = static_cast<char>(value);
  return out;
}

inline char* WriteFixed32(uint32_t value, char* out) {
  std::memcpy(out, &value, sizeof(value));
  return out + sizeof(value);
}

// One message on its way to the wire: what is appended goes straight into one buffer, what is borrowed stays
// where it is (in a mapped file) and is kept alive by its slice until gRPC has sent it. Not thread-safe.
class WireMessage {
 public:
  // Precondition: no more than `copied_bytes` will be appended.
  WireMessage(BufferPool& pool, size_t copied_bytes)
      : buffer_(pool.Take(copied_bytes)), next_(buffer_->data()) {}

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

  // Once; the message is gone then.
  grpc::ByteBuffer Finish();

 private:
  struct Borrowed {
    size_t after = 0;  // appended bytes that come before it
    grpc::Slice slice;
  };
  std::unique_ptr<BufferPool::Buffer> buffer_;
  char* next_;
  std::vector<Borrowed> borrowed_;
};

}  // namespace doppel
