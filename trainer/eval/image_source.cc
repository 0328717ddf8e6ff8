#include "trainer/eval/image_source.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"

namespace doppel {
namespace {

class CatalogSource : public ImageSource {
 public:
  CatalogSource(const Catalog& catalog, absl::Span<const uint64_t> samples)
      : catalog_(catalog), samples_(samples) {}
  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  absl::StatusOr<SampleBytes> Read(int64_t i) const override { return catalog_.ReadChecked(samples_[i]); }
  std::string Name(int64_t i) const override { return std::string(catalog_.SampleKey(samples_[i])); }
  std::string Where(int64_t i) const override {
    const uint64_t sample = samples_[i];
    return absl::StrCat("sample ", catalog_.SampleKey(sample), " of identity ",
                        catalog_.IdentityName(catalog_.Sample(sample).identity), " (",
                        catalog_.SamplePath(sample), ")");
  }
  uint64_t Key(int64_t i) const override { return samples_[i]; }

 private:
  const Catalog& catalog_;
  const absl::Span<const uint64_t> samples_;
};

class FolderSource : public ImageSource {
 public:
  FolderSource(std::string folder, std::vector<std::string> names)
      : folder_(std::move(folder)), names_(std::move(names)) {}
  int64_t size() const override { return static_cast<int64_t>(names_.size()); }
  absl::StatusOr<SampleBytes> Read(int64_t i) const override {
    ASSIGN_OR_RETURN(std::string bytes, PosixFileSystem().ReadFile(Where(i)));
    auto owner = std::make_shared<const std::string>(std::move(bytes));
    return SampleBytes{*owner, owner};
  }
  std::string Name(int64_t i) const override { return names_[i]; }
  std::string Where(int64_t i) const override { return absl::StrCat(folder_, "/", names_[i]); }

 private:
  const std::string folder_;
  const std::vector<std::string> names_;
};

class MemorySource : public ImageSource {
 public:
  MemorySource(std::vector<absl::string_view> images, std::shared_ptr<const void> owner)
      : images_(std::move(images)), owner_(std::move(owner)) {}
  int64_t size() const override { return static_cast<int64_t>(images_.size()); }
  absl::StatusOr<SampleBytes> Read(int64_t i) const override { return SampleBytes{images_[i], owner_}; }
  std::string Name(int64_t i) const override { return absl::StrCat("image ", i); }

 private:
  const std::vector<absl::string_view> images_;
  const std::shared_ptr<const void> owner_;
};

bool IsImageFile(const std::string& name) {
  const std::string lower = absl::AsciiStrToLower(name);
  constexpr std::array<absl::string_view, 5> kExtensions = {".png", ".jpg", ".jpeg", ".webp", ".bmp"};
  return std::any_of(kExtensions.begin(), kExtensions.end(),
                     [&](absl::string_view extension) { return absl::EndsWith(lower, extension); });
}

bool IsNumberChar(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '-'; }

}  // namespace

std::unique_ptr<ImageSource> MakeCatalogSource(const Catalog& catalog, absl::Span<const uint64_t> samples) {
  return std::make_unique<CatalogSource>(catalog, samples);
}

absl::StatusOr<std::unique_ptr<ImageSource>> MakeFolderSource(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<std::string> names;
  fs::recursive_directory_iterator entry(folder, fs::directory_options::follow_directory_symlink, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code broken;
    if (absl::StartsWith(name, ".")) {
      if (entry->is_directory(broken)) entry.disable_recursion_pending();
      continue;
    }
    if (IsImageFile(name) && entry->is_regular_file(broken)) {
      names.push_back(entry->path().lexically_relative(folder).string());
    }
  }
  if (error) return absl::NotFoundError(absl::StrCat("cannot list ", folder, ": ", error.message()));
  if (names.empty()) {
    return absl::NotFoundError(absl::StrCat(folder, " holds no image (.png, .jpg, .jpeg, .webp, .bmp)"));
  }
  std::sort(names.begin(), names.end());
  return std::unique_ptr<ImageSource>(std::make_unique<FolderSource>(folder, std::move(names)));
}

std::unique_ptr<ImageSource> MakeMemorySource(std::vector<absl::string_view> images,
                                              std::shared_ptr<const void> owner) {
  return std::make_unique<MemorySource>(std::move(images), std::move(owner));
}

std::vector<int64_t> FolderLabels(const ImageSource& source, std::vector<std::string>* names) {
  std::vector<std::string> folders;
  std::vector<std::string> of(source.size());
  for (int64_t i = 0; i < source.size(); ++i) of[i] = DirectoryOf(source.Name(i));
  folders = of;
  std::sort(folders.begin(), folders.end());
  folders.erase(std::unique(folders.begin(), folders.end()), folders.end());
  std::vector<int64_t> labels;
  labels.reserve(of.size());
  for (const std::string& folder : of) {
    labels.push_back(std::lower_bound(folders.begin(), folders.end(), folder) - folders.begin());
  }
  if (names != nullptr) *names = std::move(folders);
  return labels;
}

absl::StatusOr<MarketName> ParseMarketName(absl::string_view path) {
  const absl::string_view name = path.substr(path.rfind('/') + 1);
  for (size_t at = name.find("_c"); at != absl::string_view::npos; at = name.find("_c", at + 1)) {
    size_t begin = at;
    while (begin > 0 && IsNumberChar(name[begin - 1])) --begin;
    size_t end = at + 2;
    while (end < name.size() && absl::ascii_isdigit(static_cast<unsigned char>(name[end]))) ++end;
    MarketName found;
    if (absl::SimpleAtoi(name.substr(begin, at - begin), &found.identity) &&
        absl::SimpleAtoi(name.substr(at + 2, end - at - 2), &found.camera)) {
      return found;
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", path, "\" does not begin with identity and camera, as ", "\"0002_c1s1_000451_03.jpg\" does"));
}

}  // namespace doppel
