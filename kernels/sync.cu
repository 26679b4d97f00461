/* sync.cu: the kernels, by the names that src/device/cuda finds them by: a warp for the barrier, a block for what
 * carries a payload, one thread for the others. */
#define SYMM_KERNEL_OWN
#include "entry.h"

#define SYMM_PAYLOAD_THREADS 512 /* the most: src/device/cuda_stream.c */

#define KERNEL(name, threads)                                                                                          \
	extern "C" __global__ void __launch_bounds__(threads, 1)                                                       \
		symm_kernel_##name(const __grid_constant__ struct symm_sync_args args)                                 \
	{                                                                                                              \
		symm_entry_##name(&args);                                                                              \
	}

KERNEL(barrier, SYMM_WAIT_LANES)
KERNEL(put_signal, 1)
KERNEL(wait_signal, 1)
KERNEL(write_value, 1)
KERNEL(put_with_signal, SYMM_PAYLOAD_THREADS)
KERNEL(count, 1)
