#pragma once

#include <cstdint>

#include "doppel/v1/batches.pb.h"

namespace doppel::wire_tags {

// Tags of v1.Sample, of v1.SampleReference and of Batch.samples: all take one byte.
enum WireType : uint8_t { kVarintType = 0, kBytesType = 2, kFixed32Type = 5 };
constexpr char TagOf(int field, WireType type) { return static_cast<char>(field << 3 | type); }
static_assert(v1::Batch::kSamplesFieldNumber < 16, "the tag would take two bytes");
constexpr char kSamples = TagOf(v1::Batch::kSamplesFieldNumber, kBytesType);
constexpr char kIdentity = TagOf(v1::Sample::kIdentityFieldNumber, kVarintType);
constexpr char kNumber = TagOf(v1::Sample::kSampleFieldNumber, kVarintType);
constexpr char kCrc = TagOf(v1::Sample::kCrc32CFieldNumber, kFixed32Type);
constexpr char kEncoded = TagOf(v1::Sample::kEncodedFieldNumber, kBytesType);
constexpr char kReference = TagOf(v1::Sample::kReferenceFieldNumber, kBytesType);
constexpr char kPixelsCrc = TagOf(v1::Sample::kPixelsCrc32CFieldNumber, kFixed32Type);
constexpr char kPath = TagOf(v1::SampleReference::kPathFieldNumber, kBytesType);
constexpr char kOffset = TagOf(v1::SampleReference::kOffsetFieldNumber, kVarintType);
constexpr char kSize = TagOf(v1::SampleReference::kSizeFieldNumber, kVarintType);

}  // namespace doppel::wire_tags
