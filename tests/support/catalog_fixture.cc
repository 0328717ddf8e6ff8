#include "tests/support/catalog_fixture.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/philox.h"
#include "common/catalog/catalog_builder.h"

namespace doppel::testing {
namespace {

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "catalog fixture: %s\n", what.c_str());
  std::abort();
}

std::string BigEndian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

// PNG's CRC-32, bit by bit: the images are small.
uint32_t Crc32(absl::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

uint32_t Adler32(absl::string_view bytes) {
  uint32_t a = 1, b = 0;
  for (const char c : bytes) {
    a = (a + static_cast<uint8_t>(c)) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

std::string Chunk(absl::string_view type, absl::string_view data) {
  const std::string body = absl::StrCat(type, data);
  return absl::StrCat(BigEndian(static_cast<uint32_t>(data.size())), body, BigEndian(Crc32(body)));
}

// A zlib stream of stored blocks.
std::string Stored(absl::string_view raw) {
  constexpr size_t kBlock = 65535;
  std::string out("\x78\x01", 2);
  for (size_t at = 0; at < raw.size() || at == 0; at += kBlock) {
    const absl::string_view part = raw.substr(at, kBlock);
    const auto size = static_cast<uint16_t>(part.size());
    out.push_back(at + kBlock >= raw.size() ? 1 : 0);
    for (const uint16_t field : {size, static_cast<uint16_t>(~size)}) {
      out.push_back(static_cast<char>(field));
      out.push_back(static_cast<char>(field >> 8));
    }
    out.append(part.data(), part.size());
  }
  return out + BigEndian(Adler32(raw));
}

std::string IdentityName(int identity) { return absl::StrFormat("id%06d", identity); }

void WriteImageFolder(const std::string& root, const CatalogFixtureOptions& options) {
  for (int i = 0; i < options.identities; ++i) {
    const bool test = i >= options.identities - options.test_identities;
    const std::string split = options.test_identities == 0 ? "" : test ? "test/" : "train/";
    for (int s = 0; s < options.samples_per_identity; ++s) {
      WriteTestFile(absl::StrCat(root, "/", split, IdentityName(i), "/s", s, ".png"),
                    MakeTestImage(i, s, options.image_size));
    }
  }
}

void WriteShards(const std::string& root, const CatalogFixtureOptions& options) {
  std::vector<std::vector<std::pair<std::string, std::string>>> shards(options.shards);
  for (int i = 0; i < options.identities; ++i) {
    const bool test = i >= options.identities - options.test_identities;
    const std::string split =
        options.test_identities == 0 ? "" : absl::StrCat(",\"split\":\"", test ? "test" : "train", "\"");
    for (int s = 0; s < options.samples_per_identity; ++s) {
      const std::string key = absl::StrCat(IdentityName(i), "/s", s);
      // Samples of one identity lie in several shards, as in shuffled data.
      auto& shard = shards[(i + s) % options.shards];
      shard.emplace_back(key + ".png", MakeTestImage(i, s, options.image_size));
      shard.emplace_back(key + ".json", absl::StrCat("{\"identity\":\"", IdentityName(i), "\"", split, "}"));
    }
  }
  for (int i = 0; i < options.shards; ++i) {
    WriteTestFile(absl::StrFormat("%s/shard-%06d.tar", root, i), MakeTar(shards[i]));
  }
}

}  // namespace

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "doppel-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) Die(absl::StrCat("mkdtemp ", pattern, ": ", std::strerror(errno)));
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempDir::operator/(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

void WriteTestFile(const std::string& path, absl::string_view bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) Die(absl::StrCat("cannot write ", path));
}

std::string ReadTestFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) Die(absl::StrCat("cannot read ", path));
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

std::string MakeGreyPng(uint32_t width, uint32_t height, absl::string_view pixels) {
  if (pixels.size() != static_cast<size_t>(width) * height) Die("pixels do not fit the size");
  std::string rows;
  for (uint32_t y = 0; y < height; ++y)
    absl::StrAppend(&rows, std::string(1, '\0'), pixels.substr(y * width, width));
  const std::string header =
      absl::StrCat(BigEndian(width), BigEndian(height), std::string("\x08\0\0\0\0", 5));
  return absl::StrCat("\x89PNG\r\n\x1a\n", Chunk("IHDR", header), Chunk("IDAT", Stored(rows)),
                      Chunk("IEND", ""));
}

std::string MakePpm(uint32_t width, uint32_t height, absl::string_view pixels) {
  if (pixels.size() != static_cast<size_t>(width) * height * 3) Die("pixels do not fit the size");
  return absl::StrCat("P6\n", width, " ", height, "\n255\n", pixels);
}

std::string MakeTestImage(int identity, int sample, uint32_t size) {
  const Philox pattern(0x1D), noise(0x5A);
  std::string pixels;
  pixels.reserve(size * size);
  for (uint32_t y = 0; y < size; ++y) {
    for (uint32_t x = 0; x < size; ++x) {
      const uint64_t block = (y * 6 / size) * 6 + x * 6 / size;
      const uint64_t base = pattern.Below(192, block, identity);
      pixels.push_back(static_cast<char>(base + noise.Below(64, y * size + x, MixKey(identity, sample))));
    }
  }
  return MakeGreyPng(size, size, pixels);
}

std::string MakeTar(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string archive;
  for (const auto& [name, content] : members) {
    if (name.size() > 99) Die("member name too long");
    std::string header(512, '\0');
    const auto put = [&header](size_t at, const std::string& text) { header.replace(at, text.size(), text); };
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, absl::StrFormat("%011o", content.size()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, std::string("ustar\00000", 8));
    uint32_t sum = 0;
    for (const char c : header) sum += static_cast<uint8_t>(c);
    put(148, absl::StrFormat("%06o", sum) + std::string("\0 ", 2));
    absl::StrAppend(&archive, header, content, std::string((512 - content.size() % 512) % 512, '\0'));
  }
  return archive + std::string(1024, '\0');
}

CatalogFixture::CatalogFixture(const CatalogFixtureOptions& options) {
  const bool folder = options.format == CatalogFixtureOptions::Format::kImageFolder;
  folder ? WriteImageFolder(data(), options) : WriteShards(data(), options);
  const auto dataset = OpenDataset(folder ? "imagefolder" : "webdataset", data());
  if (!dataset.ok()) Die(dataset.status().ToString());
  const auto summary = BuildCatalog(**dataset, dir_ / "catalog", {});
  if (!summary.ok()) Die(summary.status().ToString());
  auto catalog = Catalog::Open(dir_ / "catalog");
  if (!catalog.ok()) Die(catalog.status().ToString());
  catalog_ = *std::move(catalog);
}

}  // namespace doppel::testing
