#include "examples/glyphs/tar.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace doppel::glyphs {
namespace {

constexpr size_t kBlock = 512;

// The fields of the header that are not left 0.
constexpr size_t kMode = 100, kUid = 108, kGid = 116, kSize = 124, kTime = 136, kChecksum = 148, kType = 156;
constexpr size_t kMagic = 257;

void PutOctal(char* at, int digits, uint64_t value) {
  std::snprintf(at, digits + 1, "%0*llo", digits, static_cast<unsigned long long>(value));
}

}  // namespace

void AppendTarFile(absl::string_view name, absl::string_view data, std::string& tar) {
  char header[kBlock] = {};
  std::memcpy(header, name.data(), std::min<size_t>(name.size(), 100));
  PutOctal(header + kMode, 7, 0644);
  PutOctal(header + kUid, 7, 0);
  PutOctal(header + kGid, 7, 0);
  PutOctal(header + kSize, 11, data.size());
  PutOctal(header + kTime, 11, 0);
  header[kType] = '0';
  std::memcpy(header + kMagic, "ustar\00000", 8);
  std::memset(header + kChecksum, ' ', 8);
  uint64_t sum = 0;
  for (char c : header) sum += static_cast<uint8_t>(c);
  PutOctal(header + kChecksum, 6, sum);

  tar.append(header, kBlock);
  tar.append(data.data(), data.size());
  tar.append((kBlock - data.size() % kBlock) % kBlock, '\0');
}

void AppendTarEnd(std::string& tar) { tar.append(2 * kBlock, '\0'); }

}  // namespace doppel::glyphs
