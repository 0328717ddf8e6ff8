#define DOPPEL_ROW_KERNELS row_kernels_avx2
#include "trainer/loss/kernels/row_kernels_body.h"

namespace doppel {

const RowKernels* RowKernelsAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &row_kernels_avx2::kKernels
                                                                         : nullptr;
}

}  // namespace doppel
