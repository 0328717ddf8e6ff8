#pragma once

#include <cstdint>

#include "miner/clustering/row_view.h"

namespace doppel {

// For each of n rows, the number of the centroid (of m ≥ 1) with the highest inner product, and that product.
// Ties go to the lower number. A product is summed in the order of the dimensions with fused multiply-adds,
// one row and centroid independent of the others, so the result has the same bits for any number of threads,
// on any processor with FMA. (BLAS promises neither, and one that does not know the processor is slower by an
// order of magnitude.)
void NearestCentroids(const float* rows, int64_t n, const float* centroids, int64_t m, int dimension,
                      int threads, int64_t* nearest, float* product);

// The same for the rows of a view.
void NearestCentroids(const RowView& rows, const float* centroids, int64_t m, int threads, int64_t* nearest,
                      float* product);

// The same, without any instruction that not every processor has. Sums may differ in the last bits.
void NearestCentroidsPortable(const float* rows, int64_t n, const float* centroids, int64_t m, int dimension,
                              int64_t* nearest, float* product);

}  // namespace doppel
