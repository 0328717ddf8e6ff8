#include "common/image/opencv.h"

#include <exception>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "opencv2/core.hpp"
#include "opencv2/imgcodecs.hpp"
#include "opencv2/imgproc.hpp"

namespace doppel {

void UseOneOpenCvThread() {
  static std::once_flag once;
  std::call_once(once, [] { cv::setNumThreads(1); });
}

absl::StatusOr<cv::Mat> OpenCvDecode(absl::string_view encoded, int channels) {
  UseOneOpenCvThread();
  try {
    const cv::Mat bytes(1, static_cast<int>(encoded.size()), CV_8U, const_cast<char*>(encoded.data()));
    cv::Mat mat = cv::imdecode(bytes, channels == 1 ? cv::IMREAD_GRAYSCALE : cv::IMREAD_COLOR);
    if (mat.empty())
      return absl::InvalidArgumentError("image cannot be decoded: damaged or of an unknown kind");
    if (channels == 3) cv::cvtColor(mat, mat, cv::COLOR_BGR2RGB);
    return mat;
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("image cannot be decoded: ", e.what()));
  }
}

absl::Status OpenCvResize(const cv::Mat& from, cv::Mat& to) {
  UseOneOpenCvThread();
  try {
    const bool shrinks = to.rows <= from.rows && to.cols <= from.cols;
    cv::resize(from, to, to.size(), 0, 0, shrinks ? cv::INTER_AREA : cv::INTER_LINEAR);
    return absl::OkStatus();
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("resize of an image: ", e.what()));
  }
}

}  // namespace doppel
