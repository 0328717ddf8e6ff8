#include "common/catalog/readers/market1501_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/catalog/readers/image_file.h"
#include "common/io/file_system.h"

namespace doppel {
namespace {

constexpr size_t kImagesPerPart = 1000;

bool IsPersonCharacter(char c) { return absl::ascii_isdigit(c) || c == '-'; }

struct PersonImage {
  std::string split;
  std::string person;  // empty: the name does not fit
  std::string key;
};

class PersonReader : public SampleReader {
 public:
  PersonReader(const FileRoot& root, const PersonImage* begin, const PersonImage* end)
      : root_(root), files_(root), begin_(begin), next_(begin), end_(end) {}

  absl::StatusOr<ReaderItem> Next() override {
    if (next_ == end_) return ReaderItem(ReaderEnd{});
    const PersonImage& image = *next_++;
    const auto skip = [&](absl::string_view reason, absl::string_view detail) {
      return ReaderItem(SkippedRecord{absl::StrCat(root_.path, "/", image.key), "", std::string(reason),
                                      std::string(detail)});
    };
    if (image.person.empty())
      return skip("unknown name", "person and camera expected, as 0002_c1s1_000451_03.jpg");
    int64_t number = 0;
    const bool numeric = absl::SimpleAtoi(image.person, &number);
    if (numeric && number == -1) return skip("junk (person -1)", "");
    if (numeric && number == 0 && background_is_0_ && image.split != "gallery")
      return skip("background (person 0)", "");
    SampleEntry entry;
    entry.split = image.split;
    entry.identity = image.person;
    entry.key = image.key;
    return files_.Read(std::move(entry));
  }
  uint64_t work_done() const override { return static_cast<uint64_t>(next_ - begin_); }
  // MSMT17 counts its persons from 0.
  void PersonsStartAt0() { background_is_0_ = false; }

 private:
  const FileRoot& root_;
  ListedFileReader files_;
  const PersonImage* const begin_;
  const PersonImage* next_;
  const PersonImage* const end_;
  bool background_is_0_ = true;
};

class PersonDataset : public DatasetReader {
 public:
  PersonDataset(FileRoot root, std::vector<PersonImage> images, bool lists, std::vector<std::string> notes)
      : root_(std::move(root)), images_(std::move(images)), lists_(lists), notes_(std::move(notes)) {
    v1::CatalogSource& source = sources_.emplace_back();
    source.set_kind(v1::CatalogSource::KIND_DIRECTORY);
    source.set_path(root_.path);
  }
  std::string format() const override { return "market1501"; }
  const std::vector<v1::CatalogSource>& sources() const override { return sources_; }
  size_t num_parts() const override { return (images_.size() + kImagesPerPart - 1) / kImagesPerPart; }
  absl::StatusOr<std::unique_ptr<SampleReader>> OpenPart(size_t part) const override {
    const size_t begin = part * kImagesPerPart;
    auto reader = std::make_unique<PersonReader>(
        root_, images_.data() + begin, images_.data() + std::min(begin + kImagesPerPart, images_.size()));
    if (lists_) reader->PersonsStartAt0();
    return std::unique_ptr<SampleReader>(std::move(reader));
  }
  std::string work_unit() const override { return "images"; }
  uint64_t total_work() const override { return images_.size(); }
  std::vector<std::string> notes() const override { return notes_; }
  std::string PartStamp(size_t part) const override {
    const size_t begin = part * kImagesPerPart, end = std::min(begin + kImagesPerPart, images_.size());
    // All names of the part: what is added or removed before it moves its borders.
    std::string names;
    for (size_t i = begin; i < end; ++i)
      absl::StrAppend(&names, images_[i].key, "=", images_[i].person, "\n");
    return absl::StrCat(root_.follow_links, "|", FileStamp(absl::StrCat(root_.path, "/", images_[begin].key)),
                        "|", names);
  }

 private:
  const FileRoot root_;
  const std::vector<PersonImage> images_;
  const bool lists_;
  const std::vector<std::string> notes_;
  std::vector<v1::CatalogSource> sources_;
};

absl::Status ListBoxes(const FileRoot& root, const std::string& folder, const std::string& split,
                       std::vector<PersonImage>* images) {
  ASSIGN_OR_RETURN(const FolderListing listing, ListFolder(absl::StrCat(root.path, "/", folder)));
  for (const std::string& name : listing.files) {
    if (!IsImageName(name)) continue;  // Thumbs.db
    PersonImage& image = images->emplace_back();
    image.split = split;
    image.key = absl::StrCat(folder, "/", name);
    int camera;
    if (!ParseMarketName(name, &image.person, &camera)) image.person.clear();
  }
  return absl::OkStatus();
}

// One of MSMT17's lists; images lie in the first of `folders` that is there.
absl::Status ReadList(const FileRoot& root, const std::string& list, const std::vector<std::string>& folders,
                      const std::string& split, std::vector<PersonImage>* images) {
  FileSystem& files = PosixFileSystem();
  ASSIGN_OR_RETURN(const std::string text, files.ReadFile(absl::StrCat(root.path, "/", list)));
  std::string prefix;
  for (const std::string& folder : folders) {
    if (!prefix.empty() || !files.Exists(absl::StrCat(root.path, "/", folder))) continue;
    prefix = folder + "/";
  }
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const absl::string_view trimmed = absl::StripAsciiWhitespace(line);
    if (trimmed.empty()) continue;
    const size_t space = trimmed.find_last_of(" \t");
    PersonImage& image = images->emplace_back();
    image.split = split;
    image.key = absl::StrCat(prefix, absl::StripAsciiWhitespace(trimmed.substr(0, space)));
    if (space != absl::string_view::npos) image.person = std::string(trimmed.substr(space + 1));
  }
  return absl::OkStatus();
}

}  // namespace

bool ParseMarketName(absl::string_view name, std::string* person, int* camera) {
  for (size_t at = name.find("_c"); at != absl::string_view::npos; at = name.find("_c", at + 1)) {
    if (at + 2 >= name.size() || !absl::ascii_isdigit(name[at + 2])) continue;
    size_t begin = at;
    while (begin > 0 && IsPersonCharacter(name[begin - 1])) --begin;
    if (begin == at) continue;
    *person = std::string(name.substr(begin, at - begin));
    *camera = name[at + 2] - '0';
    return true;
  }
  return false;
}

int CameraOfKey(absl::string_view key) {
  const size_t slash = key.rfind('/');
  const absl::string_view name = slash == absl::string_view::npos ? key : key.substr(slash + 1);
  std::string person;
  int camera = -1;
  if (ParseMarketName(name, &person, &camera)) return camera;
  const std::vector<absl::string_view> fields = absl::StrSplit(name, '_');
  return fields.size() > 3 && absl::SimpleAtoi(fields[2], &camera) ? camera : -1;
}

absl::StatusOr<std::unique_ptr<DatasetReader>> OpenMarket1501(const std::string& path, bool follow_links) {
  ASSIGN_OR_RETURN(FileRoot root, OpenFileRoot(path, follow_links));
  FileSystem& files = PosixFileSystem();
  std::vector<PersonImage> images;
  std::vector<std::string> notes;
  bool lists = false;
  const std::vector<std::string> train = {"train", "mask_train_v2"}, test = {"test", "mask_test_v2"};
  for (const auto& [list, folders, split] : {std::tuple{"list_train.txt", &train, "train"},
                                             {"list_val.txt", &train, "val"},
                                             {"list_query.txt", &test, "query"},
                                             {"list_gallery.txt", &test, "gallery"}}) {
    if (!files.Exists(absl::StrCat(root.path, "/", list))) continue;
    lists = true;
    RETURN_IF_ERROR(ReadList(root, list, *folders, split, &images));
    notes.push_back(absl::StrCat("split ", split, " from ", list));
  }
  for (const auto& [folder, split] :
       {std::pair{"bounding_box_train", "train"}, {"query", "query"}, {"bounding_box_test", "gallery"}}) {
    if (lists || !files.Exists(absl::StrCat(root.path, "/", folder))) continue;
    RETURN_IF_ERROR(ListBoxes(root, folder, split, &images));
    notes.push_back(absl::StrCat("split ", split, " from ", folder));
  }
  if (images.empty()) {
    return absl::NotFoundError(
        absl::StrCat(path,
                     " holds no images in bounding_box_train, query or bounding_box_test "
                     "(Market-1501, DukeMTMC), and no list_train.txt (MSMT17)"));
  }
  return std::make_unique<PersonDataset>(std::move(root), std::move(images), lists, std::move(notes));
}

}  // namespace doppel
