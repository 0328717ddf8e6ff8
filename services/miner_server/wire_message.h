#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/catalog/catalog.h"

namespace doppel {

// Bytes that a varint takes.
size_t VarintSize(uint64_t value);

// One message on its way to the wire: what is appended is copied into one buffer, what is borrowed stays
// where it is (a mapped file, for example) and is kept alive until gRPC has sent it. Not thread-safe.
class WireMessage {
 public:
  // `copied_bytes`: how much will be appended; saves growing.
  explicit WireMessage(size_t copied_bytes) { buffer_.reserve(copied_bytes); }

  void AppendVarint(uint64_t value);
  void Append(absl::string_view bytes) { buffer_.append(bytes.data(), bytes.size()); }
  void Borrow(SampleBytes bytes);
  // Leaves the message empty.
  grpc::ByteBuffer Finish();

 private:
  struct Borrowed {
    size_t after = 0;  // bytes of buffer_ that come before it
    SampleBytes bytes;
  };
  std::string buffer_;
  std::vector<Borrowed> borrowed_;
};

}  // namespace doppel
