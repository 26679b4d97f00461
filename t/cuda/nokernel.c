/* In the place of compiled kernels, in a build without nvcc. */
#include "t/cuda/kernels.h"

const unsigned char test_kernels[] = "NOKERNEL";
const size_t test_kernels_bytes = sizeof(test_kernels);
