#include "trainer/loss/kernels/row_kernels.h"

#define DOPPEL_ROW_KERNELS row_kernels_baseline
#include "trainer/loss/kernels/row_kernels_body.h"
#undef DOPPEL_ROW_KERNELS

namespace doppel {

const RowKernels* RowKernelsBaseline() { return &row_kernels_baseline::kKernels; }

#ifndef DOPPEL_ROW_KERNELS_X86
const RowKernels* RowKernelsAvx2() { return nullptr; }
const RowKernels* RowKernelsAvx512() { return nullptr; }
#endif

const RowKernels& BestRowKernels() {
  static const RowKernels* const kBest = [] {
    if (const RowKernels* wide = RowKernelsAvx512(); wide != nullptr) return wide;
    if (const RowKernels* half = RowKernelsAvx2(); half != nullptr) return half;
    return RowKernelsBaseline();
  }();
  return *kBest;
}

}  // namespace doppel
