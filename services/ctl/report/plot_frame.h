#pragma once

namespace doppel::report {

// Of every plot, in SVG units: the whole, and the margins around the axes.
inline constexpr double kWidth = 560, kHeight = 320;
inline constexpr double kLeft = 62, kRight = 14, kTop = 34, kBottom = 44;

}  // namespace doppel::report
