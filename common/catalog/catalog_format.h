#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

// The bytes of a catalog's tables. docs/formats.md is the specification; this is its only counterpart in
// code.
namespace doppel::catalog_format {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tables are little endian and mapped as they are");

// Of the tables.
inline constexpr uint32_t kVersion = 1;
// Of the manifest: 2 if it has what a program of version 1 would misread (raw pixels, records in parts, paths
// relative to the catalog), 3 if it was appended to, else 1.
inline constexpr uint32_t kManifestVersion = 3;
inline constexpr char kManifest[] = "manifest.json";
inline constexpr char kIdentities[] = "identities.tbl";
inline constexpr char kSamples[] = "samples.tbl";
inline constexpr char kNames[] = "names.tbl";
inline constexpr char kKeys[] = "keys.tbl";
inline constexpr char kOrder[] = "order.tbl";
inline constexpr char kSkipped[] = "skipped.jsonl";
// The file's name in a version of the catalog: as it is in the first one, "samples-2.tbl" in the second.
std::string VersionedName(absl::string_view name, uint32_t version);

// Eight bytes each.
inline constexpr char kIdentitiesMagic[] = "DPLIDENT";
inline constexpr char kSamplesMagic[] = "DPLSAMPL";
inline constexpr char kNamesMagic[] = "DPLNAMES";
inline constexpr char kKeysMagic[] = "DPLKEYS\n";
inline constexpr char kOrderMagic[] = "DPLORDER";

struct TableHeader {
  char magic[8];
  uint32_t version;
  uint32_t record_bytes;
  uint64_t records;
  uint64_t reserved;
};
static_assert(sizeof(TableHeader) == 32);

// One per identity and a last one that holds the totals. With an order.tbl, first_sample is a row of that,
// which holds sample numbers (u64).
struct IdentityRow {
  uint64_t first_sample;
  uint64_t name_offset;
};
static_assert(sizeof(IdentityRow) == 16);

// One per sample and a last one that holds the total of key_offset, else zeros.
struct SampleRow {
  uint64_t offset;
  uint32_t size;
  uint32_t crc32c;
  uint32_t source;
  uint32_t identity;
  uint64_t key_offset;
};
static_assert(sizeof(SampleRow) == 32);

// The catalog's fingerprint: XXH3-128 over what the catalog says, not over where its files lie. Not
// thread-safe.
class FingerprintHasher {
 public:
  FingerprintHasher();
  ~FingerprintHasher();
  FingerprintHasher(const FingerprintHasher&) = delete;
  FingerprintHasher& operator=(const FingerprintHasher&) = delete;

  // In the catalog's order: a split, then its identities, each followed by its samples.
  void AddSplit(absl::string_view name, uint64_t identities);
  void AddIdentity(absl::string_view name, uint64_t samples);
  void AddSample(absl::string_view key, uint32_t size, uint32_t crc32c);
  // Last, if the samples are raw pixels: their size.
  void AddRawPixels(uint32_t height, uint32_t width, uint32_t channels);
  // Last, if the catalog was appended to: the fingerprints of its earlier versions, oldest first.
  void AddEarlierVersion(absl::string_view fingerprint);
  // 32 hex digits.
  std::string Finish();

 private:
  void AddString(absl::string_view text);
  void AddNumber(uint64_t number);
  void Flush();

  void* state_;
  std::string buffer_;
};

}  // namespace doppel::catalog_format
