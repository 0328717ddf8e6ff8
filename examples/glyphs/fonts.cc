#include "examples/glyphs/fonts.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "examples/glyphs/render.h"

namespace doppel::glyphs {

const std::vector<TypefaceSpec>& BuiltinTypefaces() {
  static const auto* const typefaces = new std::vector<TypefaceSpec>{
      {"hanazono-mincho",
       "fonts-hanazono",
       {{"truetype/hanazono/HanaMinA.ttf"}, {"truetype/hanazono/HanaMinB.ttf"}}},
      {"babelstone-han", "fonts-babelstone-han", {{"truetype/babelstone/BabelStoneHan.ttf"}}},
      {"cns11643-kai",
       "fonts-cns11643-kai",
       {{"truetype/cns11643/TW-Kai-98_1.ttf"},
        {"truetype/cns11643/TW-Kai-Ext-B-98_1.ttf"},
        {"truetype/cns11643/TW-Kai-Plus-98_1.ttf"}}},
      {"cns11643-sung",
       "fonts-cns11643-sung",
       {{"truetype/cns11643/TW-Sung-98_1.ttf"},
        {"truetype/cns11643/TW-Sung-Ext-B-98_1.ttf"},
        {"truetype/cns11643/TW-Sung-Plus-98_1.ttf"}}},
      {"ipamj-mincho", "fonts-ipamj-mincho", {{"truetype/ipamj/ipamjm.ttf"}}},
      {"noto-sans-cjk", "fonts-noto-cjk", {{"opentype/noto/NotoSansCJK-Regular.ttc"}}},
      {"noto-serif-cjk", "fonts-noto-cjk", {{"opentype/noto/NotoSerifCJK-Regular.ttc"}}},
      {"wqy-zenhei", "fonts-wqy-zenhei", {{"truetype/wqy/wqy-zenhei.ttc"}}},
      {"wqy-microhei", "fonts-wqy-microhei", {{"truetype/wqy/wqy-microhei.ttc"}}},
      {"arphic-ukai", "fonts-arphic-ukai", {{"truetype/arphic/ukai.ttc"}}},
      {"arphic-uming", "fonts-arphic-uming", {{"truetype/arphic/uming.ttc"}}},
      {"lxgw-wenkai", "fonts-lxgw-wenkai", {{"truetype/lxgw-wenkai/LXGWWenKai-Regular.ttf"}}},
      {"unifont",
       "fonts-unifont",
       {{"opentype/unifont/unifont.otf"}, {"opentype/unifont/unifont_upper.otf"}}},
      {"nanum-gothic", "fonts-nanum", {{"truetype/nanum/NanumGothic.ttf"}}},
      {"nanum-myeongjo", "fonts-nanum", {{"truetype/nanum/NanumMyeongjo.ttf"}}},
      {"un-batang", "fonts-unfonts-core", {{"truetype/unfonts-core/UnBatang.ttf"}}},
      {"un-dotum", "fonts-unfonts-core", {{"truetype/unfonts-core/UnDotum.ttf"}}},
      {"baekmuk-batang", "fonts-baekmuk", {{"truetype/baekmuk/batang.ttf"}}},
      {"baekmuk-dotum", "fonts-baekmuk", {{"truetype/baekmuk/dotum.ttf"}}},
  };
  return *typefaces;
}

absl::Status CheckFontFiles(const std::vector<TypefaceSpec>& typefaces, const std::string& root) {
  std::vector<std::string> missing;
  std::set<std::string> packages;
  for (const TypefaceSpec& typeface : typefaces) {
    for (const TypefaceSpec::File& file : typeface.files) {
      const std::string path = absl::StrCat(root, "/", file.path);
      struct stat info;
      if (stat(path.c_str(), &info) == 0) continue;
      missing.push_back(path);
      packages.insert(typeface.package);
    }
  }
  if (missing.empty()) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("fonts missing: ", absl::StrJoin(missing, ", "),
                                          "; apt-get install ", absl::StrJoin(packages, " ")));
}

struct FontSet::Impl {
  struct Font {
    std::unique_ptr<Face> face;
    Bitmap missing;  // how glyph 0 is drawn
  };
  int size = 0;
  FreeType library;
  std::vector<std::vector<Font>> typefaces;
};

FontSet::FontSet(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FontSet::~FontSet() = default;

absl::StatusOr<std::unique_ptr<FontSet>> FontSet::Open(const std::vector<TypefaceSpec>& typefaces,
                                                       const std::string& root, int size) {
  auto impl = std::make_unique<Impl>();
  impl->size = size;
  for (const TypefaceSpec& spec : typefaces) {
    std::vector<Impl::Font>& fonts = impl->typefaces.emplace_back();
    for (const TypefaceSpec::File& file : spec.files) {
      auto face = Face::Open(impl->library, absl::StrCat(root, "/", file.path), file.face, size);
      if (!face.ok()) return face.status();
      Impl::Font& font = fonts.emplace_back();
      font.face = *std::move(face);
      if (!font.face->RenderGlyph(0, font.missing)) font.missing.clear();
    }
  }
  return std::unique_ptr<FontSet>(new FontSet(std::move(impl)));
}

int FontSet::size() const { return impl_->size; }

std::vector<uint32_t> FontSet::Coverage(int typeface) const {
  std::vector<uint32_t> all;
  for (const Impl::Font& font : impl_->typefaces[typeface]) {
    const std::vector<uint32_t> some = font.face->CodePoints();
    all.insert(all.end(), some.begin(), some.end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

bool FontSet::Render(int typeface, uint32_t code_point, Bitmap& bitmap) const {
  for (const Impl::Font& font : impl_->typefaces[typeface]) {
    const uint32_t glyph = font.face->GlyphOf(code_point);
    if (glyph == 0) continue;
    if (font.face->RenderGlyph(glyph, bitmap) && bitmap != font.missing) return true;
  }
  return false;
}

}  // namespace doppel::glyphs
