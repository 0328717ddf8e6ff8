#include "services/miner_server/wire_message.h"

#include <grpcpp/support/slice.h>

#include <memory>
#include <utility>

namespace doppel {
namespace {

using Owner = std::shared_ptr<const void>;

grpc::Slice BorrowedSlice(SampleBytes bytes) {
  // gRPC takes a mutable pointer but does not write to it.
  void* data = const_cast<char*>(bytes.data.data());
  return grpc::Slice(
      data, bytes.data.size(), [](void* owner) { delete static_cast<Owner*>(owner); },
      new Owner(std::move(bytes.owner)));
}

grpc::Slice OwnedSlice(std::string bytes) {
  auto* owned = new std::string(std::move(bytes));
  return grpc::Slice(
      owned->data(), owned->size(), [](void* owner) { delete static_cast<std::string*>(owner); }, owned);
}

}  // namespace

size_t VarintSize(uint64_t value) {
  size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

void WireMessage::AppendVarint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) buffer_.push_back(static_cast<char>(value | 0x80));
  buffer_.push_back(static_cast<char>(value));
}

void WireMessage::Borrow(SampleBytes bytes) { borrowed_.push_back({buffer_.size(), std::move(bytes)}); }

grpc::ByteBuffer WireMessage::Finish() {
  const grpc::Slice copied = OwnedSlice(std::move(buffer_));
  std::vector<grpc::Slice> slices;
  slices.reserve(2 * borrowed_.size() + 1);
  size_t begin = 0;
  for (Borrowed& borrowed : borrowed_) {
    if (borrowed.after > begin) slices.push_back(copied.sub(begin, borrowed.after));
    slices.push_back(BorrowedSlice(std::move(borrowed.bytes)));
    begin = borrowed.after;
  }
  if (copied.size() > begin) slices.push_back(copied.sub(begin, copied.size()));
  buffer_.clear();
  borrowed_.clear();
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace doppel
