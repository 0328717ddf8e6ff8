#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/image/image.h"

namespace doppel {

struct SheetCell {
  Image image;        // shown at the cell's size; an empty one leaves the cell blank
  std::string label;  // below the image; ASCII (anything else is shown as '?'), shortened to fit
};

struct SheetOptions {
  int columns = 10;
  int cell = 48;      // side of a cell in pixels
  int gap = 4;        // around every cell
  uint8_t paper = 0;  // grey of what is between
};

// A grid of images, row by row. RGB if one of the images is, else grey. INVALID_ARGUMENT if there are no
// cells, or an image does not hold what it says.
absl::StatusOr<Image> MakeContactSheet(const std::vector<SheetCell>& cells, const SheetOptions& options);

}  // namespace doppel
