#include "common/image/image.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/image/header.h"
#include "common/image/jpeg.h"
#include "common/image/opencv.h"
#include "common/image/png.h"
#include "opencv2/core.hpp"

namespace doppel {
namespace {

absl::Status CheckChannels(int channels) {
  if (channels == 1 || channels == 3) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("channels is ", channels, ": expected 1 or 3"));
}

int MatType(int channels) { return channels == 1 ? CV_8UC1 : CV_8UC3; }

// Makes room in `image`, and says where.
uint8_t* Allocate(int height, int width, int channels, Image& image) {
  image.height = height;
  image.width = width;
  image.channels = channels;
  image.pixels.resize(size_t{static_cast<uint32_t>(height)} * width * channels);
  return image.pixels.data();
}

absl::Status CopyOrResize(const cv::Mat& from, int height, int width, int channels, uint8_t* out) {
  cv::Mat to(height, width, MatType(channels), out);
  if (from.rows == height && from.cols == width) {
    from.copyTo(to);
    return absl::OkStatus();
  }
  return OpenCvResize(from, to);
}

}  // namespace

absl::StatusOr<Image> DecodeImage(absl::string_view encoded, int channels) {
  RETURN_IF_ERROR(CheckChannels(channels));
  ASSIGN_OR_RETURN(const ImageHeader header, ReadImageHeader(encoded));
  Image image;
  image.channels = channels;
  image.height = static_cast<int>(header.height);
  image.width = static_cast<int>(header.width);
  if (header.format == ImageFormat::kPng) {
    ASSIGN_OR_RETURN(const PngHeader png, ReadPngHeader(encoded));
    if (IsPlainPng(png)) {
      image.pixels.resize(header.height * header.width * channels);
      RETURN_IF_ERROR(DecodePlainPng(encoded, png, channels, image.pixels.data()));
      return image;
    }
  }
  if (header.format == ImageFormat::kJpeg) {
    const auto place = [&](int height, int width) { return Allocate(height, width, channels, image); };
    if (DecodePlainJpeg(encoded, {channels, 0, 0}, place)) return image;
  }
  ASSIGN_OR_RETURN(const cv::Mat mat, OpenCvDecode(encoded, channels));
  image.height = mat.rows;  // may be turned, by EXIF
  image.width = mat.cols;
  image.pixels.assign(mat.datastart, mat.dataend);
  return image;
}

absl::Status DecodeImageInto(absl::string_view encoded, int height, int width, int channels, uint8_t* out) {
  RETURN_IF_ERROR(CheckChannels(channels));
  if (height <= 0 || width <= 0) {
    return absl::InvalidArgumentError(absl::StrCat("cannot resize to ", width, "x", height));
  }
  ASSIGN_OR_RETURN(const ImageHeader header, ReadImageHeader(encoded));
  if (header.format == ImageFormat::kPng) {
    ASSIGN_OR_RETURN(const PngHeader png, ReadPngHeader(encoded));
    if (IsPlainPng(png)) {
      if (static_cast<int>(png.height) == height && static_cast<int>(png.width) == width) {
        return DecodePlainPng(encoded, png, channels, out);
      }
      ASSIGN_OR_RETURN(const Image image, DecodeImage(encoded, channels));
      return ResizeImage(image, height, width, out);
    }
  }
  if (header.format == ImageFormat::kJpeg) {
    // Straight to where it belongs if that is its size, else through a buffer of its own.
    Image image;
    bool whole = false;
    const auto place = [&](int rows, int columns) {
      whole = rows == height && columns == width;
      return whole ? out : Allocate(rows, columns, channels, image);
    };
    if (DecodePlainJpeg(encoded, {channels, height, width}, place)) {
      return whole ? absl::OkStatus() : ResizeImage(image, height, width, out);
    }
  }
  ASSIGN_OR_RETURN(const cv::Mat mat, OpenCvDecode(encoded, channels));
  return CopyOrResize(mat, height, width, channels, out);
}

absl::Status ResizeImage(const Image& image, int height, int width, uint8_t* out) {
  RETURN_IF_ERROR(CheckChannels(image.channels));
  if (height <= 0 || width <= 0 || image.height <= 0 || image.width <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot resize ", image.width, "x", image.height, " to ", width, "x", height));
  }
  const cv::Mat from(image.height, image.width, MatType(image.channels),
                     const_cast<uint8_t*>(image.pixels.data()));
  return CopyOrResize(from, height, width, image.channels, out);
}

absl::StatusOr<std::string> EncodePng(const Image& image, int compression) {
  RETURN_IF_ERROR(CheckChannels(image.channels));
  const uint64_t expected = uint64_t{static_cast<uint32_t>(image.height)} * image.width * image.channels;
  if (image.height <= 0 || image.width <= 0 || image.pixels.size() != expected) {
    return absl::InvalidArgumentError(absl::StrCat("image says ", image.width, "x", image.height, "x",
                                                   image.channels, " but holds ", image.pixels.size(),
                                                   " bytes"));
  }
  return PngEncoder(compression).Encode(image.height, image.width, image.channels, image.pixels.data());
}

}  // namespace doppel
