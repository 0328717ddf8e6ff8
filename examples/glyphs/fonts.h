#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace doppel::glyphs {

// One design of letters, spread over one or more font files; the first that has a code point gives its glyph.
struct TypefaceSpec {
  std::string name;     // "noto-sans-cjk": no dots, part of a sample's key
  std::string package;  // the Debian package that brings it
  struct File {
    std::string path;  // below the fonts' root
    int face = 0;      // within a collection
  };
  std::vector<File> files;
};

// The typefaces that the data set is made of; the rule behind the choice is in README.md.
const std::vector<TypefaceSpec>& BuiltinTypefaces();

// NOT_FOUND names every missing file and the packages to install.
absl::Status CheckFontFiles(const std::vector<TypefaceSpec>& typefaces, const std::string& root);

// uint8 grey, size × size, white on black.
using Bitmap = std::vector<uint8_t>;

// The typefaces opened for drawing. Not thread-safe: one per thread.
class FontSet {
 public:
  // `size`: side of the bitmaps.
  static absl::StatusOr<std::unique_ptr<FontSet>> Open(const std::vector<TypefaceSpec>& typefaces,
                                                       const std::string& root, int size);
  ~FontSet();
  FontSet(const FontSet&) = delete;
  FontSet& operator=(const FontSet&) = delete;

  int size() const;
  // Code points of a typeface, ascending.
  std::vector<uint32_t> Coverage(int typeface) const;
  // False if the typeface has no such glyph, or one that is blank, damaged or drawn as its font's sign for
  // "missing".
  bool Render(int typeface, uint32_t code_point, Bitmap& bitmap) const;

 private:
  struct Impl;
  explicit FontSet(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace doppel::glyphs
