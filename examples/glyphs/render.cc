#include "examples/glyphs/render.h"

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_OUTLINE_H

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace doppel::glyphs {
namespace {

// Fainter than this is blank to a reader.
constexpr uint8_t kVisible = 32;
// Share of the em below the baseline, as usual with Han type.
constexpr double kDescent = 0.12;
constexpr double kEmShare = 11.0 / 12;

// Moves [low, high] by `shift`, then by as little as it takes to lie within [0, room]. Returns the whole
// move.
FT_Pos PushInto(FT_Pos low, FT_Pos high, FT_Pos shift, FT_Pos room) {
  if (high + shift > room) shift = room - high;
  if (low + shift < 0) shift = -low;
  return shift;
}

// Places the outline in a square of `size` pixels, y upwards.
void Place(FT_Outline& outline, FT_Pos advance, int size) {
  const FT_Pos room = FT_Pos{size} * 64;
  FT_BBox box;
  FT_Outline_Get_CBox(&outline, &box);
  const FT_Pos extent = std::max(box.xMax - box.xMin, box.yMax - box.yMin);
  if (extent > room) {
    const FT_Fixed scale = FT_DivFix(room - 64, extent);
    const FT_Matrix matrix{scale, 0, 0, scale};
    FT_Outline_Transform(&outline, &matrix);
    FT_Outline_Get_CBox(&outline, &box);
    advance = FT_MulFix(advance, scale);
  }
  // Marks without an advance of their own stand alone here: centred.
  const FT_Pos dx = advance > 0 ? (room - advance) / 2 : (room - box.xMin - box.xMax) / 2;
  const double em = size * kEmShare;
  const FT_Pos dy = static_cast<FT_Pos>(((size - em) / 2 + em * kDescent) * 64);
  FT_Outline_Translate(&outline, PushInto(box.xMin, box.xMax, dx, room),
                       PushInto(box.yMin, box.yMax, dy, room));
}

}  // namespace

FreeType::FreeType() {
  if (FT_Init_FreeType(&library_) != 0) library_ = nullptr;
}
FreeType::~FreeType() {
  if (library_ != nullptr) FT_Done_FreeType(library_);
}

absl::StatusOr<std::unique_ptr<Face>> Face::Open(const FreeType& library, const std::string& path, int index,
                                                 int size) {
  if (library.get() == nullptr) return absl::InternalError("FreeType cannot be initialised");
  FT_Face raw = nullptr;
  if (const FT_Error error = FT_New_Face(library.get(), path.c_str(), index, &raw); error != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": face ", index, " cannot be opened (FreeType error ", error, ")"));
  }
  std::unique_ptr<Face> face(new Face(library, raw, size));
  if (FT_Select_Charmap(raw, FT_ENCODING_UNICODE) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no Unicode table"));
  }
  if (!FT_IS_SCALABLE(raw) ||
      FT_Set_Char_Size(raw, 0, static_cast<FT_F26Dot6>(size * kEmShare * 64), 72, 72) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a scalable font"));
  }
  return face;
}

Face::~Face() { FT_Done_Face(face_); }

uint32_t Face::GlyphOf(uint32_t code_point) const { return FT_Get_Char_Index(face_, code_point); }

std::vector<uint32_t> Face::CodePoints() const {
  std::vector<uint32_t> code_points;
  FT_UInt glyph = 0;
  for (FT_ULong c = FT_Get_First_Char(face_, &glyph); glyph != 0; c = FT_Get_Next_Char(face_, c, &glyph)) {
    code_points.push_back(static_cast<uint32_t>(c));
  }
  return code_points;
}

bool Face::RenderGlyph(uint32_t glyph, std::vector<uint8_t>& bitmap) const {
  if (FT_Load_Glyph(face_, glyph, FT_LOAD_NO_HINTING | FT_LOAD_NO_BITMAP) != 0) return false;
  if (face_->glyph->format != FT_GLYPH_FORMAT_OUTLINE || face_->glyph->outline.n_points == 0) return false;
  FT_Outline& outline = face_->glyph->outline;
  Place(outline, face_->glyph->advance.x, size_);

  bitmap.assign(static_cast<size_t>(size_) * size_, 0);
  FT_Bitmap target{};
  target.rows = target.width = static_cast<unsigned>(size_);
  target.pitch = size_;
  target.buffer = bitmap.data();
  target.num_grays = 256;
  target.pixel_mode = FT_PIXEL_MODE_GRAY;
  if (FT_Outline_Get_Bitmap(library_.get(), &outline, &target) != 0) return false;
  return std::any_of(bitmap.begin(), bitmap.end(), [](uint8_t pixel) { return pixel >= kVisible; });
}

}  // namespace doppel::glyphs
