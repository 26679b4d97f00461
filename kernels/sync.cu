/* sync.cu: the kernels, by the names that src/device/cuda finds them by: a warp for the barrier, one thread for the
 * others. */
#define SYMM_KERNEL_OWN
#include "entry.h"

#define KERNEL(name, threads)                                                                                          \
	extern "C" __global__ void __launch_bounds__(threads)                                                          \
		symm_kernel_##name(const __grid_constant__ struct symm_sync_args args)                                 \
	{                                                                                                              \
		symm_entry_##name(&args);                                                                              \
	}

KERNEL(barrier, SYMM_WAIT_LANES)
KERNEL(put_signal, 1)
KERNEL(wait_signal, 1)
KERNEL(count, 1)
