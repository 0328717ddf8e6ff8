#include "services/miner_server/wire_message.h"

#include <utility>

namespace doppel {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fixed32 is written as it is");

grpc::ByteBuffer WireMessage::Finish() {
  const size_t size = appended();
  BufferPool::Buffer* buffer = buffer_.release();
  const grpc::Slice copied(
      buffer->data(), size, [](void* owner) { delete static_cast<BufferPool::Buffer*>(owner); }, buffer);
  if (borrowed_.empty()) {
    if (front_ == 0) return grpc::ByteBuffer(&copied, 1);
    const grpc::Slice rest = copied.sub(front_, size);
    return grpc::ByteBuffer(&rest, 1);
  }
  std::vector<grpc::Slice> slices;
  slices.reserve(2 * borrowed_.size() + 1);
  size_t begin = front_;
  for (Borrowed& borrowed : borrowed_) {
    if (borrowed.after > begin) slices.push_back(copied.sub(begin, borrowed.after));
    slices.push_back(std::move(borrowed.slice));
    begin = borrowed.after;
  }
  if (size > begin) slices.push_back(copied.sub(begin, size));
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace doppel
