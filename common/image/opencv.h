#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/image/image.h"
#include "opencv2/core/mat.hpp"

// Inside of common/image alone: what OpenCV does for us, its exceptions turned into statuses.
namespace doppel {

// OpenCV's own threads would fight with ours for the cores. Called before any use of it; once is enough.
void UseOneOpenCvThread();

// To grey or RGB, of the file's own size.
absl::StatusOr<cv::Mat> OpenCvDecode(absl::string_view encoded, int channels);

// Area when shrinking, bilinear when growing. `to` has its size and type already.
absl::Status OpenCvResize(const cv::Mat& from, cv::Mat& to);

}  // namespace doppel
