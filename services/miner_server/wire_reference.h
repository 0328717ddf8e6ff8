#pragma once

#include <cstddef>

#include "absl/types/span.h"
#include "common/catalog/catalog.h"
#include "services/miner_server/shard_table.h"
#include "services/miner_server/wire_message.h"

namespace doppel {

// A REFERENCE sample is some 65 bytes, and little more than the formatting of them: these are written in one
// pass, without knowing sizes beforehand.

// The most that AppendReferences takes for one sample, with its tag and length.
constexpr size_t kMaxReferenceBytes = 122;

// Appends field Batch.samples for each of them: the bytes of WireSample's AppendSample. `records[i]` belongs
// to samples[i]. False if one does not lie in a mapped file with a short path: what was appended is of no use
// then. Precondition: the message has room for kMaxReferenceBytes each.
bool AppendReferences(ShardTable& shards, absl::Span<const uint64_t> samples,
                      absl::Span<const SampleRecord> records, WireMessage& message);

}  // namespace doppel
