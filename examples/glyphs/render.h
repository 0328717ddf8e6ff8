#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

struct FT_LibraryRec_;
struct FT_FaceRec_;

namespace doppel::glyphs {

// FreeType's state. Not thread-safe: one per thread.
class FreeType {
 public:
  FreeType();
  ~FreeType();
  FreeType(const FreeType&) = delete;
  FreeType& operator=(const FreeType&) = delete;
  FT_LibraryRec_* get() const { return library_; }

 private:
  FT_LibraryRec_* library_ = nullptr;
};

// One face of one font file, drawn at one size without hinting, so that the same font gives the same pixels.
class Face {
 public:
  // `library` must outlive the face. `size`: side of the bitmaps; the em takes 11/12 of it.
  static absl::StatusOr<std::unique_ptr<Face>> Open(const FreeType& library, const std::string& path,
                                                    int index, int size);
  ~Face();
  Face(const Face&) = delete;
  Face& operator=(const Face&) = delete;

  // 0: none.
  uint32_t GlyphOf(uint32_t code_point) const;
  // Of the font's Unicode table, ascending.
  std::vector<uint32_t> CodePoints() const;
  // White on black, on a fixed baseline, the advance centred; pushed in, and made smaller if need be, until
  // nothing is cut off. False if nothing visible comes out.
  bool RenderGlyph(uint32_t glyph, std::vector<uint8_t>& bitmap) const;

 private:
  Face(const FreeType& library, FT_FaceRec_* face, int size) : library_(library), face_(face), size_(size) {}
  const FreeType& library_;
  FT_FaceRec_* const face_;
  const int size_;
};

}  // namespace doppel::glyphs
