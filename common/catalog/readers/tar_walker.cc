#include "common/catalog/readers/tar_walker.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

constexpr uint64_t kBlock = 512;
constexpr char kTruncated[] = "truncated archive";
constexpr char kBadHeader[] = "bad header";
constexpr char kUnsupported[] = "unsupported member";

struct RawHeader {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6],
      version[2], user[32], group[32], major[8], minor[8], prefix[155], padding[12];
};
static_assert(sizeof(RawHeader) == kBlock);

bool AllZero(absl::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; });
}

absl::string_view Field(const char* text, size_t size) { return {text, strnlen(text, size)}; }

// Octal text, or GNU's base 256 for large numbers.
bool ParseNumber(const char* field, size_t size, uint64_t* value) {
  *value = 0;
  if (static_cast<uint8_t>(field[0]) == 0x80) {
    for (size_t i = 1; i < size; ++i) {
      if (*value >> 55 != 0) return false;
      *value = *value << 8 | static_cast<uint8_t>(field[i]);
    }
    return true;
  }
  const absl::string_view digits = absl::StripAsciiWhitespace(Field(field, size));
  for (const char c : digits) {
    if (c < '0' || c > '7') return false;
    *value = *value << 3 | static_cast<uint64_t>(c - '0');
  }
  return true;
}

// Some old programs summed signed characters.
bool ChecksumMatches(const RawHeader& raw) {
  uint64_t expected;
  if (Field(raw.checksum, sizeof(raw.checksum)).empty() ||
      !ParseNumber(raw.checksum, sizeof(raw.checksum), &expected)) {
    return false;
  }
  const char* bytes = reinterpret_cast<const char*>(&raw);
  uint64_t sum = 0;
  int64_t signed_sum = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const bool blank = i >= offsetof(RawHeader, checksum) && i < offsetof(RawHeader, type);
    sum += blank ? ' ' : static_cast<uint8_t>(bytes[i]);
    signed_sum += blank ? ' ' : static_cast<signed char>(bytes[i]);
  }
  return expected == sum || (signed_sum >= 0 && expected == static_cast<uint64_t>(signed_sum));
}

std::string HeaderName(const RawHeader& raw) {
  const absl::string_view name = Field(raw.name, sizeof(raw.name));
  // GNU's own format keeps times where ustar keeps the prefix.
  if (std::memcmp(raw.magic, "ustar\0", 6) != 0 || raw.prefix[0] == 0) return std::string(name);
  return absl::StrCat(Field(raw.prefix, sizeof(raw.prefix)), "/", name);
}

uint64_t Padded(uint64_t size) { return (size + kBlock - 1) / kBlock * kBlock; }

}  // namespace

struct TarWalker::Header {
  std::string name;
  char type = 0;
  uint64_t size = 0;
  absl::string_view content;
};

TarItem TarWalker::BadHeader(std::string detail) {
  TarProblem problem{"", position_, kBadHeader, std::move(detail)};
  overrides_ = {};
  Resynchronise();
  return problem;
}

void TarWalker::Resynchronise() {
  for (position_ += kBlock; archive_.size() - position_ >= kBlock && position_ < archive_.size();
       position_ += kBlock) {
    RawHeader raw;
    std::memcpy(&raw, archive_.data() + position_, kBlock);
    if (absl::StartsWith(absl::string_view(raw.magic, 6), "ustar") && ChecksumMatches(raw)) return;
  }
  done_ = true;
}

bool TarWalker::AtEnd(TarItem* item) {
  *item = TarEnd{};
  if (done_) return true;
  const uint64_t left = archive_.size() - position_;
  if (left < kBlock) {
    done_ = true;
    *item =
        TarProblem{"", position_, kTruncated,
                   absl::StrCat("ends after ", archive_.size(), " bytes without the end-of-archive blocks")};
    return true;
  }
  if (!AllZero(archive_.substr(position_, kBlock))) return false;
  done_ = left < 2 * kBlock || AllZero(archive_.substr(position_ + kBlock, kBlock));
  if (!done_) position_ += kBlock;  // a lone zero block
  return done_;
}

bool TarWalker::ReadHeader(Header* header, TarItem* item) {
  RawHeader raw;
  std::memcpy(&raw, archive_.data() + position_, kBlock);
  if (!ChecksumMatches(raw)) {
    *item = BadHeader("the header's checksum is wrong");
    return false;
  }
  if (!ParseNumber(raw.size, sizeof(raw.size), &header->size)) {
    *item = BadHeader("the header's size is not a number");
    return false;
  }
  header->type = raw.type;
  const bool extension = raw.type == 'x' || raw.type == 'g' || raw.type == 'L' || raw.type == 'K';
  header->name = extension || overrides_.path.empty() ? HeaderName(raw) : overrides_.path;
  if (!extension && overrides_.has_size) header->size = overrides_.size;
  if (raw.type >= '1' && raw.type <= '6') header->size = 0;  // links, folders, devices
  const uint64_t left = archive_.size() - position_ - kBlock;
  if (header->size > left) {
    done_ = true;
    *item =
        TarProblem{header->name, position_, kTruncated,
                   absl::StrCat("the member has ", header->size, " bytes, the archive ends after ", left)};
    return false;
  }
  header->content = archive_.substr(position_ + kBlock, header->size);
  return true;
}

void TarWalker::ParsePax(absl::string_view records) {
  while (!records.empty()) {
    const size_t space = records.find(' ');
    uint64_t length;
    if (space == absl::string_view::npos || !absl::SimpleAtoi(records.substr(0, space), &length) ||
        length < space + 3 || length > records.size() || records[length - 1] != '\n') {
      overrides_.error = "the pax header before it is malformed";
      return;
    }
    const absl::string_view record = records.substr(space + 1, length - space - 2);
    records.remove_prefix(length);
    const size_t equals = record.find('=');
    if (equals == absl::string_view::npos) {
      overrides_.error = "the pax header before it is malformed";
      return;
    }
    const absl::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    if (key == "path") {
      overrides_.path = std::string(value);
    } else if (key == "size") {
      overrides_.has_size = absl::SimpleAtoi(value, &overrides_.size);
      if (!overrides_.has_size) overrides_.error = "the pax header before it has a broken size";
    } else if (absl::StartsWith(key, "GNU.sparse.")) {
      overrides_.sparse = true;
    }
  }
}

bool TarWalker::TakeExtension(const Header& header) {
  switch (header.type) {
    case 'x':
      ParsePax(header.content);
      return true;
    case 'L':
      overrides_.path = std::string(Field(header.content.data(), header.content.size()));
      return true;
    case 'g':
    case 'K':
      return true;
    default:
      return false;
  }
}

TarItem TarWalker::Next() {
  TarItem item;
  while (!AtEnd(&item)) {
    if (AllZero(archive_.substr(position_, kBlock))) continue;
    Header header;
    if (!ReadHeader(&header, &item)) return item;
    const uint64_t start = position_;
    // The padding of the very last member may be missing.
    position_ = std::min<uint64_t>(start + kBlock + Padded(header.size), archive_.size());
    if (TakeExtension(header)) continue;
    const Overrides overrides = std::exchange(overrides_, Overrides{});
    if (!overrides.error.empty()) return TarProblem{header.name, start, kBadHeader, overrides.error};
    if (overrides.sparse || header.type == 'S') {
      return TarProblem{header.name, start, kUnsupported, "sparse members have no content in one piece"};
    }
    switch (header.type) {
      case '1':
      case '2':
        return TarMember{std::move(header.name), start + kBlock, 0, true};
      case '3':
      case '4':
      case '5':
      case '6':
      case 'D':
      case 'M':
      case 'N':
      case 'V':
        continue;
      default:
        if (absl::EndsWith(header.name, "/")) continue;  // a folder, as v7 wrote them
        return TarMember{std::move(header.name), start + kBlock, header.size, false};
    }
  }
  return item;
}

}  // namespace doppel
