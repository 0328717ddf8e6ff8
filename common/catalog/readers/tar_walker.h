#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "absl/strings/string_view.h"

namespace doppel {

struct TarMember {
  std::string name;
  uint64_t offset = 0;  // of the content, in the archive
  uint64_t size = 0;
  bool link = false;  // a hard or symbolic link: no content of its own
};

// Something that cannot be read; the walk goes on behind it where it can.
struct TarProblem {
  std::string name;  // of the member, if it has one
  uint64_t offset = 0;
  std::string reason;  // "truncated archive", "bad header", "unsupported member"
  std::string detail;
};

struct TarEnd {};

using TarItem = std::variant<TarEnd, TarMember, TarProblem>;

// Pull iterator over the files of a tar archive in memory (v7, ustar, GNU with long names, pax), for its
// index: content is not touched. Folders, devices and pax globals are passed over. A header whose checksum is
// wrong is reported and the walk resumes at the next good one. An archive without the zero blocks at its end
// is reported as truncated.
class TarWalker {
 public:
  // `archive` must outlive the walker.
  explicit TarWalker(absl::string_view archive) : archive_(archive) {}

  TarItem Next();
  uint64_t position() const { return position_; }

 private:
  // What extended headers say of the next member.
  struct Overrides {
    std::string path;
    bool has_size = false;
    uint64_t size = 0;
    bool sparse = false;
    std::string error;
  };
  struct Header;

  bool AtEnd(TarItem* item);
  bool ReadHeader(Header* header, TarItem* item);
  // Applies an extended header to overrides_; true if `header` was one.
  bool TakeExtension(const Header& header);
  void ParsePax(absl::string_view records);
  TarItem BadHeader(std::string detail);
  void Resynchronise();

  const absl::string_view archive_;
  uint64_t position_ = 0;
  bool done_ = false;
  Overrides overrides_;
};

}  // namespace doppel
