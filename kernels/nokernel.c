/* nokernel.c: what stands in for the kernels in a build without nvcc. A CUDA device says so when it is opened. */
#include "device/cuda.h"

const unsigned char symm_cuda_fatbin[] = "NOKERNEL";
const size_t symm_cuda_fatbin_bytes = sizeof(symm_cuda_fatbin);
