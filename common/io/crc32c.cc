#include "common/io/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace doppel {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // reflected

struct Tables {
  std::array<std::array<uint32_t, 256>, 8> t{};
};

constexpr Tables MakeTables() {
  Tables tables;
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables.t[0][i] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t i = 0; i < 256; ++i) {
      const uint32_t previous = tables.t[k - 1][i];
      tables.t[k][i] = (previous >> 8) ^ tables.t[0][previous & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t ExtendHardware(uint32_t state, const char* p, size_t n) {
  uint64_t wide = state;
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    wide = _mm_crc32_u64(wide, word);
  }
  uint32_t crc = static_cast<uint32_t>(wide);
  for (; n > 0; ++p, --n) crc = _mm_crc32_u8(crc, static_cast<uint8_t>(*p));
  return crc;
}
bool HasHardware() { return __builtin_cpu_supports("sse4.2") != 0; }
#else
uint32_t ExtendHardware(uint32_t state, const char*, size_t) { return state; }
bool HasHardware() { return false; }
#endif

uint32_t ExtendTable(uint32_t crc, const char* p, size_t n) {
  const auto& t = kTables.t;
  auto byte = [&](size_t i) { return static_cast<uint8_t>(p[i]); };
  for (; n >= 8; p += 8, n -= 8) {
    const uint32_t low =
        crc ^ (byte(0) | byte(1) << 8 | byte(2) << 16 | static_cast<uint32_t>(byte(3)) << 24);
    crc = t[7][low & 0xFF] ^ t[6][low >> 8 & 0xFF] ^ t[5][low >> 16 & 0xFF] ^ t[4][low >> 24] ^
          t[3][byte(4)] ^ t[2][byte(5)] ^ t[1][byte(6)] ^ t[0][byte(7)];
  }
  for (; n > 0; ++p, --n) crc = (crc >> 8) ^ t[0][(crc ^ byte(0)) & 0xFF];
  return crc;
}

}  // namespace

uint32_t ExtendCrc32c(uint32_t crc, absl::string_view data) {
  static const bool hardware = HasHardware();
  if (!hardware) return ExtendCrc32cPortable(crc, data);
  return ~ExtendHardware(~crc, data.data(), data.size());
}

uint32_t ExtendCrc32cPortable(uint32_t crc, absl::string_view data) {
  return ~ExtendTable(~crc, data.data(), data.size());
}

uint32_t Crc32c(absl::string_view data) { return ExtendCrc32c(0, data); }

}  // namespace doppel
