#include "common/image/contact_sheet.h"

#include <algorithm>
#include <exception>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/image/opencv.h"
#include "opencv2/core.hpp"
#include "opencv2/imgproc.hpp"

namespace doppel {
namespace {

constexpr int kLabelHeight = 12;
constexpr double kLabelScale = 0.3;

std::string Fit(std::string label, int width) {
  for (char& c : label) {
    if (c < 32 || c > 126) c = '?';
  }
  int baseline = 0;
  auto too_wide = [&] {
    return cv::getTextSize(label, cv::FONT_HERSHEY_SIMPLEX, kLabelScale, 1, &baseline).width > width;
  };
  while (!label.empty() && too_wide()) label.pop_back();
  return label;
}

absl::Status PaintCell(const SheetCell& cell, const SheetOptions& options, int x, int y, cv::Mat& sheet) {
  if (!cell.image.pixels.empty()) {
    Image scaled{options.cell, options.cell, cell.image.channels, {}};
    scaled.pixels.resize(static_cast<size_t>(options.cell) * options.cell * cell.image.channels);
    RETURN_IF_ERROR(ResizeImage(cell.image, options.cell, options.cell, scaled.pixels.data()));
    cv::Mat mat(options.cell, options.cell, scaled.channels == 1 ? CV_8UC1 : CV_8UC3, scaled.pixels.data());
    if (mat.channels() != sheet.channels()) cv::cvtColor(mat, mat, cv::COLOR_GRAY2RGB);
    mat.copyTo(sheet(cv::Rect(x, y, options.cell, options.cell)));
  }
  const std::string label = Fit(cell.label, options.cell);
  const double ink = options.paper < 128 ? 220 : 40;
  cv::putText(sheet, label, cv::Point(x, y + options.cell + kLabelHeight - 3), cv::FONT_HERSHEY_SIMPLEX,
              kLabelScale, cv::Scalar::all(ink), 1, cv::LINE_AA);
  return absl::OkStatus();
}

absl::Status CheckCells(const std::vector<SheetCell>& cells, const SheetOptions& options) {
  if (cells.empty()) return absl::InvalidArgumentError("contact sheet without images");
  if (options.columns <= 0 || options.cell <= 0 || options.gap < 0) {
    return absl::InvalidArgumentError("contact sheet: columns and cell must be at least 1, gap at least 0");
  }
  for (size_t i = 0; i < cells.size(); ++i) {
    const Image& image = cells[i].image;
    if (image.pixels.empty()) continue;
    const bool shape_ok = image.height > 0 && image.width > 0 && (image.channels == 1 || image.channels == 3);
    if (!shape_ok ||
        image.pixels.size() != static_cast<size_t>(image.height) * image.width * image.channels) {
      return absl::InvalidArgumentError(
          absl::StrCat("contact sheet: image ", i, " does not hold what it says"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Image> MakeContactSheet(const std::vector<SheetCell>& cells, const SheetOptions& options) {
  RETURN_IF_ERROR(CheckCells(cells, options));
  UseOneOpenCvThread();
  const bool rgb =
      std::any_of(cells.begin(), cells.end(), [](const SheetCell& c) { return c.image.channels == 3; });
  const bool labels =
      std::any_of(cells.begin(), cells.end(), [](const SheetCell& c) { return !c.label.empty(); });
  const int count = static_cast<int>(cells.size());
  const int columns = std::min(options.columns, count);
  const int rows = (count + columns - 1) / columns;
  const int pitch_x = options.cell + options.gap;
  const int pitch_y = options.cell + options.gap + (labels ? kLabelHeight : 0);
  Image sheet{options.gap + rows * pitch_y, options.gap + columns * pitch_x, rgb ? 3 : 1, {}};
  try {
    sheet.pixels.assign(static_cast<size_t>(sheet.height) * sheet.width * sheet.channels, options.paper);
    cv::Mat mat(sheet.height, sheet.width, rgb ? CV_8UC3 : CV_8UC1, sheet.pixels.data());
    for (int i = 0; i < count; ++i) {
      RETURN_IF_ERROR(PaintCell(cells[i], options, options.gap + i % columns * pitch_x,
                                options.gap + i / columns * pitch_y, mat));
    }
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("contact sheet: ", e.what()));
  }
  return sheet;
}

}  // namespace doppel
