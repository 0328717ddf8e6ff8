#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/catalog/catalog.h"

namespace doppel {

// Encoded images to embed, by number. Thread-safe.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  virtual int64_t size() const = 0;
  virtual absl::StatusOr<SampleBytes> Read(int64_t i) const = 0;
  // For messages and lists: "identity/file.jpg".
  virtual std::string Name(int64_t i) const = 0;
  // Begins every error about the image.
  virtual std::string Where(int64_t i) const { return Name(i); }
  // What draws its augmentation.
  virtual uint64_t Key(int64_t i) const { return static_cast<uint64_t>(i); }
};

// These samples of a catalog, CRC checked. Neither is owned.
std::unique_ptr<ImageSource> MakeCatalogSource(const Catalog& catalog, absl::Span<const uint64_t> samples);

// The image files below a folder (.png .jpg .jpeg .webp .bmp, in any case; hidden ones left out), sorted
// bytewise by path relative to it. NOT_FOUND: no such folder, or no image in it.
absl::StatusOr<std::unique_ptr<ImageSource>> MakeFolderSource(const std::string& folder);

// Images in memory, called "image i". `owner` keeps them alive.
std::unique_ptr<ImageSource> MakeMemorySource(std::vector<absl::string_view> images,
                                              std::shared_ptr<const void> owner);

// Label of every image of a folder: the folder that it lies in (relative path), numbered in bytewise order.
std::vector<int64_t> FolderLabels(const ImageSource& source, std::vector<std::string>* names = nullptr);

// Identity and camera out of a file's name, "0002_c1s1_000451_03.jpg": as the expression ([-\d]+)_c(\d+)
// finds them. INVALID_ARGUMENT names the file.
struct MarketName {
  int64_t identity = 0;
  int64_t camera = 0;
};
absl::StatusOr<MarketName> ParseMarketName(absl::string_view path);

}  // namespace doppel
