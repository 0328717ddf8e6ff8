#pragma once

#include <cstddef>
#include <cstdint>

namespace doppel {

// The inner loops of similarity.cc, optimised in every build type. In whole numbers, so the same on every
// processor.

// Unit vectors: a cosine takes 28 bits, and sums of int16 products stay within int32.
constexpr float kSimilarityFixedPoint = 16384;

// row * kSimilarityFixedPoint, rounded and limited to int16.
void ToFixedPoint(const float* row, size_t dimensions, int16_t* fixed);

// sum += row, squares += row * row, place by place.
void AddRow(const float* row, size_t dimensions, float* sum, float* squares);

// Products of every one of a few vectors with every one of a panel of them.

constexpr size_t kSimilarityRows = 8;
constexpr size_t kSimilarityWidth = 32;

// Vectors are columns of panels [pairs of dimensions][kSimilarityWidth]: two int16 in each place. `group` is
// the first of kSimilarityRows neighbouring columns of one, `panel` all of another. Writes
// scores[kSimilarityRows][kSimilarityWidth] and says whether any of them is at least `bound`.
using SimilarityKernel = bool (*)(const uint32_t* group, const uint32_t* panel, size_t pairs_of_dimensions,
                                  int32_t bound, int32_t* scores);

// The fastest that this processor has.
SimilarityKernel SimilarityKernelOfThisProcessor();

// The one that every processor has, for comparison.
bool PortableSimilarityKernel(const uint32_t* group, const uint32_t* panel, size_t pairs_of_dimensions,
                              int32_t bound, int32_t* scores);

}  // namespace doppel
