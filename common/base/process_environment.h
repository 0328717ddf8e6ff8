#pragma once

#include <cstdint>

namespace doppel {

// To be called first thing in main of every process that computes. Two settings are read while libraries
// load, too late to set them from within; if the environment does not have them, sets them and starts this
// very program again:
//  * OMP_WAIT_POLICY=passive: OpenMP threads that spin take the cores from the other processes of the
//  machine.
//  * OPENBLAS_CORETYPE: an OpenBLAS older than the processor does not know it and falls back to its SSE3
//  kernels, which
//    cost two thirds of sgemm; then the newest kernels that the processor's own flags allow are named.
// Whatever the operator has set stays. Returns in the process that is to go on.
void RestartWithComputeEnvironment(char** argv);

// For processes that allocate and free large tensors all the time: keeps freed memory in the process instead
// of handing it back to the kernel, whose page faults otherwise cost a fifth of a training step.
void KeepFreedMemory();

// For processes that move messages of megabytes: a buffer of up to 16 MiB comes from memory that the process
// has already. Fresh pages of the kernel for each cost more than all else that sending does: half of the
// processor time of a stream, where page faults are dear. What is larger goes back to the kernel when it is
// freed, and so does what lies idle, beyond 32 MiB for each arena of malloc.
void KeepFreedMessages();

// Bytes that malloc has given out and not got back. What the process holds beyond is kept for the next one.
// Of glibc; 0 where malloc is another's.
uint64_t HeapInUse();

// The core that OpenBLAS should be told to use, or "" for none: `detected` is what it found by itself.
const char* OpenBlasCoreFor(const char* detected, bool has_avx2, bool has_avx512);

}  // namespace doppel
