#define DOPPEL_ROW_KERNELS row_kernels_avx512
#include "trainer/loss/kernels/row_kernels_body.h"

namespace doppel {

const RowKernels* RowKernelsAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
             ? &row_kernels_avx512::kKernels
             : nullptr;
}

}  // namespace doppel
