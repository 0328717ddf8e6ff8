#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace doppel {

// JPEG by libjpeg-turbo itself, straight into the caller's memory: the pixels of OpenCV's reader, in half its
// time where images are small (docs/protocol.md has the figures). Pure functions, thread-safe.

// What a decoder is asked for: 1 grey or 3 RGB.
struct JpegWish {
  int channels = 3;
  // The size that the pixels are for; 0: the file's own. Files of more than this are decoded at 1/2, 1/4 or
  // 1/8 where that is exactly the size, or at least twice of it in both directions: what follows is a
  // shrinking by area, and from there on the two can hardly be told apart.
  int height = 0;
  int width = 0;
};

// `place(height, width)` is called once, when the size that comes out is known, and returns where uint8
// [height, width, channels] pixels go. False, and undefined pixels: not a plain file (neither grey nor YCbCr,
// or turned by EXIF) or damaged in any way; a general reader is to judge it.
bool DecodePlainJpeg(absl::string_view encoded, const JpegWish& wish,
                     absl::FunctionRef<uint8_t*(int height, int width)> place);

}  // namespace doppel
