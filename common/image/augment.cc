#include "common/image/augment.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <exception>

#include "common/base/log.h"
#include "common/base/philox.h"
#include "common/image/opencv.h"
#include "opencv2/core.hpp"
#include "opencv2/imgproc.hpp"

namespace doppel {
namespace {

// Which random number serves for what: fixed, so that one option does not shift another's draw.
enum Draw : uint64_t {
  kRotate,
  kScale,
  kShear,
  kTranslateX,
  kTranslateY,
  kFlip,
  kBrightness,
  kContrast,
  kErase,
  kEraseArea,
  kEraseAspect,
  kEraseX,
  kEraseY,
  kEraseGrey,
  kSaturation,
  kHue,
  kCropX,
  kCropY
};

double Symmetric(const Philox& random, Draw draw, double half_width) {
  return half_width == 0 ? 0 : (2 * random.Uniform(draw) - 1) * half_width;
}

bool HasGeometry(const AugmentOptions& o) {
  return o.rotate_degrees != 0 || o.scale != 0 || o.shear != 0 || o.translate != 0 || o.crop != 0;
}

// Output pixel → input pixel, about the centre.
cv::Matx23d DrawWarp(const AugmentOptions& o, const Philox& random, int height, int width) {
  const double angle = Symmetric(random, kRotate, o.rotate_degrees) * CV_PI / 180;
  const double enlarged = 1 + std::max(0.0, o.crop);
  const double zoom = 1 / (std::max(0.05, 1 + Symmetric(random, kScale, o.scale)) * enlarged);
  const double shear = Symmetric(random, kShear, o.shear);
  // The window keeps within the image: what enlarging cuts off is what it may move by.
  const double room = (1 - 1 / enlarged) / 2;
  const double dx = (Symmetric(random, kTranslateX, o.translate) + Symmetric(random, kCropX, room)) * width;
  const double dy = (Symmetric(random, kTranslateY, o.translate) + Symmetric(random, kCropY, room)) * height;
  const double c = std::cos(angle) * zoom, s = std::sin(angle) * zoom;
  const double a = c, b = c * shear - s, d = s, e = s * shear + c;
  const double cx = (width - 1) / 2.0, cy = (height - 1) / 2.0;
  return {a, b, cx + dx - a * cx - b * cy, d, e, cy + dy - d * cx - e * cy};
}

void Tone(const AugmentOptions& o, const Philox& random, cv::Mat& mat) {
  const double contrast = 1 + Symmetric(random, kContrast, o.contrast);
  const double brightness = Symmetric(random, kBrightness, o.brightness) * 255;
  std::array<uint8_t, 256> table;
  for (int i = 0; i < 256; ++i) {
    table[i] =
        static_cast<uint8_t>(std::clamp(std::lround((i - 127.5) * contrast + 127.5 + brightness), 0l, 255l));
  }
  const size_t n = mat.total() * mat.elemSize();
  for (size_t i = 0; i < n; ++i) mat.data[i] = table[mat.data[i]];
}

// Turns and stretches the chroma plane of YIQ: one matrix for both.
void Colour(const AugmentOptions& o, const Philox& random, cv::Mat& mat) {
  const double strength = std::max(0.0, 1 + Symmetric(random, kSaturation, o.saturation));
  const double angle = Symmetric(random, kHue, o.hue) * 2 * CV_PI;
  const double c = strength * std::cos(angle), s = strength * std::sin(angle);
  const cv::Matx33d to_yiq(0.299, 0.587, 0.114, 0.595716, -0.274453, -0.321263, 0.211456, -0.522591,
                           0.311135);
  const cv::Matx33d turn(1, 0, 0, 0, c, -s, 0, s, c);
  cv::transform(mat, mat, to_yiq.inv() * turn * to_yiq);
}

void Erase(const Philox& random, cv::Mat& mat) {
  const double area = (0.02 + 0.18 * random.Uniform(kEraseArea)) * mat.rows * mat.cols;
  const double aspect = std::exp((2 * random.Uniform(kEraseAspect) - 1) * std::log(3.0));
  const int h = std::clamp(static_cast<int>(std::lround(std::sqrt(area * aspect))), 1, mat.rows);
  const int w = std::clamp(static_cast<int>(std::lround(area / h)), 1, mat.cols);
  const int y = static_cast<int>(random.Below(mat.rows - h + 1, kEraseY));
  const int x = static_cast<int>(random.Below(mat.cols - w + 1, kEraseX));
  mat(cv::Rect(x, y, w, h)).setTo(cv::Scalar::all(static_cast<double>(random.Below(256, kEraseGrey))));
}

void AugmentMat(const AugmentOptions& o, const Philox& random, cv::Mat& mat) {
  if (HasGeometry(o)) {
    const cv::Mat source = mat.clone();
    cv::warpAffine(source, mat, DrawWarp(o, random, mat.rows, mat.cols), mat.size(),
                   cv::INTER_LINEAR | cv::WARP_INVERSE_MAP, cv::BORDER_REPLICATE);
  }
  if (o.flip_probability > 0 && random.Uniform(kFlip) < o.flip_probability) cv::flip(mat, mat, 1);
  if (o.brightness != 0 || o.contrast != 0) Tone(o, random, mat);
  if (mat.channels() == 3 && (o.saturation != 0 || o.hue != 0)) Colour(o, random, mat);
  if (o.erase_probability > 0 && random.Uniform(kErase) < o.erase_probability) Erase(random, mat);
}

}  // namespace

bool AugmentOptions::none() const {
  return !HasGeometry(*this) && flip_probability == 0 && brightness == 0 && contrast == 0 &&
         saturation == 0 && hue == 0 && erase_probability == 0;
}

AugmentOptions MildAffineAugmentation() {
  AugmentOptions options;
  options.rotate_degrees = 6;
  options.scale = 0.1;
  options.shear = 0.08;
  options.translate = 0.05;
  options.brightness = 0.05;
  options.contrast = 0.15;
  return options;
}

void Augment(const AugmentOptions& options, uint64_t key, int height, int width, int channels,
             uint8_t* pixels) {
  if (options.none() || height <= 0 || width <= 0) return;
  UseOneOpenCvThread();
  try {
    cv::Mat mat(height, width, channels == 1 ? CV_8UC1 : CV_8UC3, pixels);
    AugmentMat(options, Philox(key), mat);
  } catch (const std::exception& e) {
    // Nothing but memory can run out here, and an image that is not augmented is still a good one.
    DOPPEL_LOG(kError, "augmentation left out: ", e.what());
  }
}

}  // namespace doppel
