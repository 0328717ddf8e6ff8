#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/identity_rows.h"

namespace doppel {

// One sample's place. 32 bytes per sample on disk together with its key offset (see docs/formats.md).
struct SampleRecord {
  uint64_t offset = 0;  // in the source; 0 for DIRECTORY sources
  uint32_t size = 0;    // bytes
  uint32_t crc32c = 0;  // of the encoded bytes, from import
  uint32_t source = 0;  // index into sources
  uint32_t identity = 0;
};

// An identity's samples, by number, ascending.
struct IdentitySamples {
  uint64_t first = 0;
  uint32_t count = 0;
  // Null: [first, first + count), as they are unless later versions of the catalog added to the identity.
  // Else all `count` of them, for as long as the catalog lives.
  const uint64_t* numbers = nullptr;
  // i < count.
  uint64_t operator[](uint64_t i) const { return numbers == nullptr ? first + i : numbers[i]; }
  // Behind the last one. Precondition: count > 0.
  uint64_t end() const { return (*this)[count - 1] + 1; }
};

struct CatalogSplitInfo {
  std::string name;  // "train", "test"; "all" if the data has no splits
  uint64_t first_identity = 0;
  uint64_t identities = 0;
  uint64_t samples = 0;
  // Of its identities, those that do not follow the first: other splits lay behind it when they came.
  std::vector<IdentityRows::Range> later = {};

  // Its identities, in order.
  IdentityRows rows() const {
    uint64_t behind = 0;
    for (const IdentityRows::Range& range : later) behind += range.count;
    IdentityRows rows(first_identity, identities - behind);
    for (const IdentityRows::Range& range : later) rows.Append(range.first, range.count);
    return rows;
  }
};

// A version of a catalog that others were appended to: its identities and samples are the first of theirs.
struct CatalogVersionInfo {
  std::string fingerprint;
  uint64_t identities = 0;
  uint64_t samples = 0;
  std::vector<CatalogSplitInfo> splits;
  size_t sorted_ranges = 0;  // so many of the later versions' are its own
};

// What a sample's bytes are. Raw ones are a binary PNM file (so that every decoder reads them), whose pixels
// can be taken out without one: see RawPixels.
enum class SampleEncoding : uint8_t { kImageFile, kRawPixels };

struct PixelShape {
  uint32_t height = 0;
  uint32_t width = 0;
  uint32_t channels = 0;  // 1 grey, 3 RGB
  uint64_t bytes() const { return uint64_t{height} * width * channels; }
};

// One mapped file that holds many samples: sample bytes are bytes.substr(offset, size) of their records, to
// be checked against bytes.size().
struct MappedSource {
  absl::string_view bytes;
  std::string path;
  PixelShape raw;  // of all its samples; zeros: they are image files
  std::shared_ptr<const void> owner;
};

// Bytes of a sample, with whatever keeps them alive. Copyable.
struct SampleBytes {
  absl::string_view data;
  std::shared_ptr<const void> owner;
};

// The immutable, memory-mapped index of identities and their samples. Identities are dense numbers: those of
// one split are consecutive, splits in the manifest's order, by name (bytewise) within; samples of an
// identity are consecutive, by key. What is appended later (catalog_appender.h) makes a new version, in which
// all numbers stay what they were: new ones follow, and an identity's new samples follow its old ones.
// Thread-safe. O(1) in everything; opening reads the manifest and maps the tables (checked against its CRCs
// only by Verify).
class Catalog {
 public:
  static absl::StatusOr<std::shared_ptr<const Catalog>> Open(const std::string& directory);
  virtual ~Catalog() = default;

  virtual uint64_t num_identities() const = 0;
  virtual uint64_t num_samples() const = 0;
  // 32 hex digits. Independent of where the files lie.
  virtual const std::string& fingerprint() const = 0;
  virtual const std::string& directory() const = 0;
  virtual const std::vector<CatalogSplitInfo>& splits() const = 0;
  // Ranges of identities that are sorted by name, in which a name is found: the splits of the first version,
  // and what each later one has brought to a split.
  virtual const std::vector<CatalogSplitInfo>& sorted_ranges() const { return splits(); }
  // What this one was appended to, oldest first. See CatalogAtVersion (catalog_version.h).
  virtual const std::vector<CatalogVersionInfo>& earlier_versions() const;
  // Empty name: "train" if there is one, else all identities. NOT_FOUND names the splits there are.
  virtual absl::StatusOr<CatalogSplitInfo> Split(absl::string_view name) const = 0;

  // Preconditions of the rest: identity < num_identities(), sample < num_samples().
  virtual absl::string_view IdentityName(uint64_t identity) const = 0;
  virtual IdentitySamples Samples(uint64_t identity) const = 0;
  // Starts to load what Samples reads of each, so that one need not wait for the other. Changes nothing else.
  virtual void PrefetchSamples(const uint64_t* /*identities*/, size_t /*count*/) const {}
  virtual SampleRecord Sample(uint64_t sample) const = 0;
  // records[i] = Sample(samples[i]), i < count; scattered ones do not wait for one another's memory.
  virtual void SampleRecords(const uint64_t* samples, size_t count, SampleRecord* records) const {
    for (size_t i = 0; i < count; ++i) records[i] = Sample(samples[i]);
  }
  virtual absl::string_view SampleKey(uint64_t sample) const = 0;
  // Where the bytes lie: path of the file, for REFERENCE payloads.
  virtual std::string SamplePath(uint64_t sample) const = 0;
  // O(log N) per version. NOT_FOUND.
  virtual absl::StatusOr<uint64_t> FindIdentity(absl::string_view name) const = 0;

  // The encoded bytes: a view of the mapped source, or of a small file read whole (DIRECTORY). Errors name
  // file and record. Does not check the CRC.
  virtual absl::StatusOr<SampleBytes> Read(uint64_t sample) const = 0;
  // kRawPixels: RawShape is the sample's size, and its pixels, [height, width, channels] uint8, can be sent
  // without decoding. Otherwise RawShape is all zeros.
  virtual SampleEncoding Encoding(uint64_t /*sample*/) const { return SampleEncoding::kImageFile; }
  virtual PixelShape RawShape(uint64_t /*sample*/) const { return {}; }
  // False: the bytes do not lie in one piece, so Sample's offset and size cannot be handed out as a
  // REFERENCE; Read puts them together.
  virtual bool Contiguous(uint64_t /*sample*/) const { return true; }
  // Reads, and checks the CRC: DATA_LOSS if it differs.
  virtual absl::StatusOr<SampleBytes> ReadChecked(uint64_t sample) const = 0;
  // Sources are numbered from 0; SampleRecord::source is below this.
  virtual uint32_t num_sources() const { return 0; }
  // FAILED_PRECONDITION: that source is not one mapped file whose samples lie in one piece each; use Read.
  virtual absl::StatusOr<MappedSource> Source(uint32_t source) const;
  // Checks the tables against the manifest's CRCs.
  virtual absl::Status Verify() const = 0;
};

// The pixels of a kRawPixels sample within its bytes. Precondition: bytes.size() >= shape.bytes(), which Read
// has checked.
inline absl::string_view RawPixels(absl::string_view bytes, const PixelShape& shape) {
  return bytes.substr(bytes.size() - shape.bytes());
}

}  // namespace doppel
