/* Keeps a context on each GPU until it is ended: while a process has one, others open theirs in half of the time.
 * Measured on H200s: 0.31 instead of 0.70 s, most of it in cuInit. */
#include "src/device/cuda_api.h"
#include "symm/symm.h"

#include <stdio.h>
#include <unistd.h>

int main(void)
{
	const struct symm_cuda_api *cu;
	struct CUctx_st *context;
	int count;

	if (symm_cuda_load(&cu) != SYMM_OK) {
		fprintf(stderr, "hold: %s\n", symm_last_error());
		return 1;
	}
	if (cu->cuDeviceGetCount(&count) != SYMM_CUDA_SUCCESS)
		return 1;
	for (int device = 0; device < count; device++)
		if (cu->cuDevicePrimaryCtxRetain(&context, device) != SYMM_CUDA_SUCCESS)
			return 1;
	pause();
	return 0;
}
