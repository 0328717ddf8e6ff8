#include "common/catalog/catalog_format.h"

#include <xxhash.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace doppel::catalog_format {
namespace {
constexpr size_t kBufferBytes = 64 << 10;
constexpr char kDomain[] = "doppel catalog 1";
}  // namespace

std::string VersionedName(absl::string_view name, uint32_t version) {
  if (version < 2) return std::string(name);
  const size_t dot = name.find('.');
  return absl::StrCat(name.substr(0, dot), "-", version, name.substr(dot));
}

FingerprintHasher::FingerprintHasher() : state_(XXH3_createState()) {
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_));
  buffer_.reserve(kBufferBytes + 4096);
  AddString(kDomain);
}

FingerprintHasher::~FingerprintHasher() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

void FingerprintHasher::AddSplit(absl::string_view name, uint64_t identities) {
  AddString(name);
  AddNumber(identities);
}

void FingerprintHasher::AddIdentity(absl::string_view name, uint64_t samples) {
  AddString(name);
  AddNumber(samples);
}

void FingerprintHasher::AddSample(absl::string_view key, uint32_t size, uint32_t crc32c) {
  AddString(key);
  AddNumber(static_cast<uint64_t>(size) << 32 | crc32c);
}

void FingerprintHasher::AddRawPixels(uint32_t height, uint32_t width, uint32_t channels) {
  AddString("raw pixels");
  AddNumber(height);
  AddNumber(width);
  AddNumber(channels);
}

void FingerprintHasher::AddEarlierVersion(absl::string_view fingerprint) {
  AddString("appended to");
  AddString(fingerprint);
}

std::string FingerprintHasher::Finish() {
  Flush();
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(static_cast<XXH3_state_t*>(state_)));
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest)));
}

void FingerprintHasher::AddString(absl::string_view text) {
  AddNumber(text.size());
  buffer_.append(text.data(), text.size());
}

void FingerprintHasher::AddNumber(uint64_t number) {
  if (buffer_.size() >= kBufferBytes) Flush();
  buffer_.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

void FingerprintHasher::Flush() {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_), buffer_.data(), buffer_.size());
  buffer_.clear();
}

}  // namespace doppel::catalog_format
