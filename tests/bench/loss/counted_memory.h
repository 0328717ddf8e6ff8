#pragma once

#include <cstdint>

namespace doppel {

// Counts the memory that this process asks for: LibTorch's tensors (a counting allocator around its own) and
// everything that comes from operator new. BLAS work space is outside.
void StartCountingMemory();
int64_t MemoryInUse();
// The most in use since the last ResetMemoryPeak.
int64_t MemoryPeak();
void ResetMemoryPeak();

}  // namespace doppel
