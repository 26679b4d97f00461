/* gpu.h: what the programs here begin with: ranks, each with a GPU, the driver's functions and our test kernels.
 *
 * A program is started by hand, then it forks its ranks and starts a redis-server for them; or once a rank by symmrun,
 * as tools that watch one process need it. Figures are printed one a line: "figure NAME VALUE UNIT".
 */
#ifndef GPU_H
#define GPU_H

#include "src/device/cuda_api.h"
#include "t/rig.h"

struct gpu {
	int rank, world;
	const struct symm_cuda_api *cu;
	int device; /* ranks share devices where there are too few */
	struct CUctx_st *context;
	struct CUmod_st *module; /* the test kernels */
	struct rig rig;          /* not yet opened */
	void *arg;               /* the program's */
};

/* Runs fn in SYMM_TEST_WORLD (2) ranks. The exit status for main. */
int gpu_main(const char *name, int (*fn)(struct gpu *gpu), void *arg, int timeout_s);
/* Returns when all ranks have called it; only for ranks that were forked. */
void gpu_rally(const struct gpu *gpu);
/* The largest of all ranks' values. */
double gpu_most(const struct gpu *gpu, double value);
/* Whether the program looks after its ranks itself: tap_ranks_start with gpu_run. */
struct gpu_start {
	int (*fn)(struct gpu *gpu);
	void *arg;
	int world;
};
int gpu_run(int rank, void *start);
/* The redis-server and what ranks share, for those who do not use gpu_main. */
void gpu_prepare(void);

/* A test kernel, and a launch of it: params as cuLaunchKernel wants them. */
int gpu_kernel(const struct gpu *gpu, const char *name, struct CUfunc_st **function);
int gpu_launch(const struct gpu *gpu, struct CUfunc_st *function, unsigned blocks, unsigned threads, void **params,
	       struct CUstream_st *stream);
/* Zeroed memory of the device. */
int gpu_alloc(const struct gpu *gpu, size_t bytes, void **ptr);

double gpu_seconds(void);
/* Sorts. */
double gpu_median(double *values, int n);
void gpu_figure(const char *name, double value, const char *unit);

static inline unsigned long long gpu_address(const void *ptr)
{
	return (unsigned long long)(uintptr_t)ptr;
}

/* Checks a call of the driver, in a function with a `gpu`. */
#define CU(call)                                                                                                       \
	do {                                                                                                           \
		enum symm_cuda_result result_ = (call);                                                                \
		const char *name_ = "?";                                                                               \
		if (result_ != SYMM_CUDA_SUCCESS) {                                                                    \
			gpu->cu->cuGetErrorName(result_, &name_);                                                      \
			return tap_rank_failed(__FILE__, __LINE__, #call, ": %s", name_);                              \
		}                                                                                                      \
	} while (0)

/* A function of ours that has already told what went wrong. */
#define DO(call)                                                                                                       \
	do {                                                                                                           \
		if ((call) != 0)                                                                                       \
			return 1;                                                                                      \
	} while (0)

#endif
