// Files that come from elsewhere: data sets, images, evaluation sets, arrays.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/catalog/catalog.h"
#include "common/catalog/catalog_builder.h"
#include "common/catalog/readers/csv_rows.h"
#include "common/catalog/readers/image_check.h"
#include "common/catalog/readers/image_size.h"
#include "common/catalog/readers/market1501_reader.h"
#include "common/catalog/readers/reader.h"
#include "common/catalog/readers/tar_walker.h"
#include "common/catalog/readers/webdataset_reader.h"
#include "common/image/header.h"
#include "common/image/jpeg.h"
#include "common/image/png.h"
#include "common/io/memory_file_system.h"
#include "common/io/npy.h"
#include "tests/fuzz/fuzz_target.h"
#include "trainer/eval/insightface_bin.h"
#include "trainer/eval/lfw.h"

namespace doppel {
namespace {

void FuzzTar(absl::string_view input) {
  TarWalker walker(input);
  // Every item moves on by a header at least.
  for (size_t items = 0;; ++items) {
    FuzzCheck(items <= 2 * input.size() / 512 + 4, "the walk ends");
    const TarItem item = walker.Next();
    if (std::holds_alternative<TarEnd>(item)) break;
    if (const auto* member = std::get_if<TarMember>(&item); member != nullptr && !member->link) {
      FuzzCheck(member->offset <= input.size() && member->size <= input.size() - member->offset,
                "a member lies within the archive");
    }
  }
}

// Imports what can be imported, and reads it again.
void ImportAndRead(const char* format, const std::string& path, absl::string_view file) {
  const auto dataset = OpenDataset(format, path);
  if (!dataset.ok()) return;
  for (size_t part = 0; part < (*dataset)->num_parts(); ++part) {
    const auto reader = (*dataset)->OpenPart(part);
    if (!reader.ok()) continue;
    for (size_t items = 0;; ++items) {
      FuzzCheck(items <= 2 * file.size() + 16, "a part ends");
      const auto item = (*reader)->Next();
      if (!item.ok() || std::holds_alternative<ReaderEnd>(*item)) break;
      if (const auto* entry = std::get_if<SampleEntry>(&*item)) {
        FuzzCheck(entry->source < (*dataset)->sources().size(), "a sample's source is one of the data set's");
        if ((*dataset)->sources()[entry->source].kind() == v1::CatalogSource::KIND_FILE) {
          FuzzCheck(entry->offset <= file.size() && entry->size <= file.size() - entry->offset,
                    "a sample lies within its file");
        }
      }
    }
  }
  CatalogBuildOptions options;
  options.force = true;
  options.threads = 1;
  const std::string directory = FuzzFolder() + "/imported-" + format;
  if (!BuildCatalog(**dataset, directory, options).ok()) return;
  const auto catalog = Catalog::Open(directory);
  FuzzCheck(catalog.ok(), "what was imported can be opened");
  FuzzCheck((*catalog)->Verify().ok(), "what was imported verifies");
  for (uint64_t sample = 0; sample < (*catalog)->num_samples(); ++sample) {
    FuzzCheck((*catalog)->ReadChecked(sample).ok(), "what was imported can be read");
  }
}

void FuzzWebDataset(absl::string_view input) {
  ImportAndRead("webdataset", FuzzFile("data.tar", input), input);
}

// The index, then the records; without an index if it is empty.
void FuzzRecordIo(absl::string_view input) {
  FuzzPieces pieces(input);
  const std::string index = pieces.Next(), records = pieces.Next();
  const std::string path = FuzzFile("data.rec", records);
  if (!index.empty()) {
    FuzzFile("data.idx", index);
  } else {
    std::remove((FuzzFolder() + "/data.idx").c_str());
  }
  ImportAndRead("recordio", path, records);
}

void FuzzCsv(absl::string_view input) {
  std::vector<std::string> fields;
  size_t at = 0, skipped = 0;
  while (true) {
    const size_t before = at;
    const bool row = ReadCsvRow(input, &at, &fields);
    FuzzCheck(row == SkipCsvRow(input, &skipped) && at == skipped, "reading and skipping agree");
    if (!row) break;
    FuzzCheck(at > before && at <= input.size(), "a row moves on");
  }
  FuzzFile("image.pgm", "P5 2 2 255\nabcd");
  ImportAndRead("csv", FuzzFile("data.csv", input), input);
}

void FuzzNames(absl::string_view input) {
  std::string person;
  int camera = 0;
  ParseMarketName(input, &person, &camera);
  CameraOfKey(input);
  // A pattern may name ten million files: not here.
  if (input.size() < 64 && std::count(input.begin(), input.end(), '{') < 3 &&
      input.find("..") == input.npos) {
    ExpandBraces(std::string(input)).IgnoreError();
  }
  ParseLfwPairs(input, "pairs.txt").IgnoreError();
}

void FuzzImage(absl::string_view input) {
  CheckImage(input).IgnoreError();
  const ImageSize size = ReadImageSize(input);
  const auto header = ReadImageHeader(input);
  if (header.ok()) {
    FuzzCheck(header->width > 0 && header->height > 0 && header->width <= kMaxPixels / header->height,
              "no image is larger than the limit");
    FuzzCheck(size.width == 0 || (size.width == header->width && size.height == header->height),
              "import and decoder see one size");
  }
  // Whatever is asked for, the place is as large as what comes.
  for (const JpegWish& wish : {JpegWish{}, JpegWish{1, 8, 8}, JpegWish{3, 5, 3}}) {
    if (!header.ok() || uint64_t{header->width} * header->height > 1 << 20) break;
    std::vector<uint8_t> pixels;
    DecodePlainJpeg(input, wish, [&](int height, int width) {
      FuzzCheck(height > 0 && width > 0 && static_cast<uint32_t>(height) <= header->height &&
                    static_cast<uint32_t>(width) <= header->width,
                "no image is decoded to more than its header says");
      pixels.resize(size_t{1} * height * width * wish.channels);
      return pixels.data();
    });
  }
  const auto png = ReadPngHeader(input);
  if (!png.ok() || !IsPlainPng(*png) || uint64_t{png->width} * png->height > 1 << 20) return;
  for (int channels : {1, 3}) {
    std::vector<uint8_t> pixels(size_t{png->width} * png->height * channels);
    DecodePlainPng(input, *png, channels, pixels.data()).IgnoreError();
  }
}

void FuzzInsightFaceBin(absl::string_view input) {
  // A copy of its own size: a view that leaves it is seen.
  const auto owner = std::make_shared<std::vector<char>>(input.begin(), input.end());
  const absl::string_view data(owner->data(), owner->size());
  const auto bin = ParseInsightFaceBin(data, "fuzz.bin", owner);
  if (!bin.ok()) return;
  FuzzCheck(bin->images.size() == 2 * bin->same.size(), "two images for each pair");
  for (absl::string_view image : bin->images) CheckImage(image).IgnoreError();
}

void FuzzNpy(absl::string_view input) {
  InMemoryFileSystem fs;
  auto file = fs.Create("/a.npy");
  if (!file.ok() || !(*file)->Append(input).ok()) return;
  const auto array = ReadNpy(fs, "/a.npy");
  if (!array.ok()) return;
  FuzzCheck(array->size() >= 0 && array->data.size() <= input.size(),
            "an array has the bytes that were there");
  const auto floats = NpyToFloats(*array);
  const auto ints = NpyToInts(*array);
  FuzzCheck(!floats.ok() || floats->size() == static_cast<size_t>(array->size()),
            "as many floats as the shape says");
  FuzzCheck(!ints.ok() || ints->size() == static_cast<size_t>(array->size()),
            "as many integers as the shape says");
}

constexpr FuzzTarget kDataTargets[] = {
    {"tar", "the walk over a tar archive", FuzzTar},
    {"webdataset", "a shard: tar, .cls and .json, then its catalog", FuzzWebDataset},
    {"recordio", "a .rec with or without .idx, then its catalog", FuzzRecordIo},
    {"csv", "both lists of image files, then the catalog", FuzzCsv},
    {"names", "file names of Market-1501, shard patterns, LFW's pairs", FuzzNames},
    {"image", "headers of images, and the decoders of plain PNG and JPEG", FuzzImage},
    {"insightface_bin", "the pickle of InsightFace's verification sets", FuzzInsightFaceBin},
    {"npy", "NumPy arrays", FuzzNpy},
};

}  // namespace

absl::Span<const FuzzTarget> DataFuzzTargets() { return kDataTargets; }

}  // namespace doppel
