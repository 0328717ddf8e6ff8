#pragma once

#include <cstdint>

namespace doppel {

// Random augmentation, a pure function of (options, key). Ranges are half-widths around "no change".
struct AugmentOptions {
  double rotate_degrees = 0;    // ± uniformly
  double scale = 0;             // 1 ± uniformly
  double shear = 0;             // ± uniformly, as a slope
  double translate = 0;         // ± uniformly, as a share of the side
  double flip_probability = 0;  // horizontal
  double brightness = 0;        // ± uniformly, as a share of 255
  double contrast = 0;          // 1 ± uniformly
  double saturation = 0;        // 1 ± uniformly; RGB only
  double hue = 0;               // ± uniformly, as a share of the colour circle; RGB only
  double crop = 0;  // the image is enlarged by this share and a random window of its old size taken out
  double erase_probability = 0;  // random erasing of a rectangle of 2–20 % of the area with a random grey
  bool none() const;
};

// What suits glyphs and other rigid shapes: small affine, no flip.
AugmentOptions MildAffineAugmentation();

// In place, pixels [height, width, channels] uint8, channels 1 or 3. One affine warp for all geometric parts,
// with the edge's pixels continued outwards; then flip, contrast about mid-grey, colours, erasing. The same
// key gives the same pixels. Thread-safe.
void Augment(const AugmentOptions& options, uint64_t key, int height, int width, int channels,
             uint8_t* pixels);

}  // namespace doppel
