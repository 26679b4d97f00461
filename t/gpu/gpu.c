#include "gpu.h"

#include "t/cuda/kernels.h"

#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct tap_redis redis;
static int *rally;      /* shared by the ranks */
static double *figures; /* [MOST_RANKS], a rank's own: gpu_most */
#define MOST_RANKS 64

double gpu_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double gpu_median(double *values, int n)
{
	qsort(values, (size_t)n, sizeof(values[0]), compare);
	return values[n / 2];
}

void gpu_figure(const char *name, double value, const char *unit)
{
	printf("figure %s %.3f %s\n", name, value, unit);
	fflush(stdout);
}

static int number(const char *variable, int otherwise)
{
	const char *text = getenv(variable);

	return text != NULL ? atoi(text) : otherwise;
}

/* The device is current before the context is opened, so that "cuda" means it. */
static int open_device(struct gpu *gpu)
{
	int count;

	GOOD(symm_cuda_load(&gpu->cu));
	CU(gpu->cu->cuDeviceGetCount(&count));
	gpu->device = gpu->rank % count;
	CU(gpu->cu->cuDevicePrimaryCtxRetain(&gpu->context, gpu->device));
	CU(gpu->cu->cuCtxSetCurrent(gpu->context));
	CU(gpu->cu->cuModuleLoadData(&gpu->module, test_kernels));
	return 0;
}

static int close_device(struct gpu *gpu)
{
	CU(gpu->cu->cuModuleUnload(gpu->module));
	CU(gpu->cu->cuCtxSetCurrent(NULL));
	CU(gpu->cu->cuDevicePrimaryCtxRelease(gpu->device));
	return 0;
}

int gpu_run(int rank, void *start)
{
	const struct gpu_start *how = start;
	struct gpu gpu = { .rank = rank, .world = how->world, .arg = how->arg };

	gpu.rig.url = rally != NULL ? redis.url : NULL;
	gpu.rig.job = getenv("SYMM_JOB");
	gpu.rig.world = how->world;
	gpu.rig.timeout_ms = 60000;
	DO(open_device(&gpu));
	DO(how->fn(&gpu));
	return close_device(&gpu);
}

void gpu_prepare(void)
{
	setenv("SYMM_DEVICE", "cuda", 0);
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	rally = tap_shared(sizeof(*rally));
	figures = tap_shared(MOST_RANKS * sizeof(*figures));
}

/* All go on within a microsecond or two: nobody naps. */
void gpu_rally(const struct gpu *gpu)
{
	int *count = rally, round = __atomic_fetch_add(count, 1, __ATOMIC_ACQ_REL) / gpu->world;

	while (__atomic_load_n(count, __ATOMIC_ACQUIRE) / gpu->world <= round)
		sched_yield();
}

double gpu_most(const struct gpu *gpu, double value)
{
	double most = value;

	figures[gpu->rank] = value;
	gpu_rally(gpu);
	for (int rank = 0; rank < gpu->world; rank++)
		most = figures[rank] > most ? figures[rank] : most;
	gpu_rally(gpu);
	return most;
}

int gpu_main(const char *name, int (*fn)(struct gpu *gpu), void *arg, int timeout_s)
{
	struct gpu_start start = { fn, arg, number("SYMM_TEST_WORLD", 2) };
	int rank = number("SYMM_RANK", -1);

	if (rank >= 0) {
		start.world = number("SYMM_WORLD_SIZE", start.world);
		return gpu_run(rank, &start);
	}
	gpu_prepare();
	tap_ranks(name, start.world, gpu_run, &start, timeout_s);
	return tap_done();
}

int gpu_kernel(const struct gpu *gpu, const char *name, struct CUfunc_st **function)
{
	CU(gpu->cu->cuModuleGetFunction(function, gpu->module, name));
	if (gpu->cu->cuFuncLoad != NULL)
		CU(gpu->cu->cuFuncLoad(*function));
	return 0;
}

int gpu_launch(const struct gpu *gpu, struct CUfunc_st *function, unsigned blocks, unsigned threads, void **params,
	       struct CUstream_st *stream)
{
	void *none[] = { NULL };

	CU(gpu->cu->cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, params != NULL ? params : none,
				   NULL));
	return 0;
}

int gpu_alloc(const struct gpu *gpu, size_t bytes, void **ptr)
{
	unsigned long long address;

	CU(gpu->cu->cuMemAlloc(&address, bytes));
	CU(gpu->cu->cuMemsetD8Async(address, 0, bytes, NULL));
	CU(gpu->cu->cuStreamSynchronize(NULL));
	*ptr = (void *)(uintptr_t)address;
	return 0;
}
