/* What it takes a process to come and to go: the driver, a context, symm, and the way back. One process, then as many
 * as the argument says (4) at once, on the GPUs in turn; medians of a few, in ms. */
#include "gpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { TIMES = 5, MOST = 16 };

static const char *const steps[] = { "driver", "context", "open", "close", "release", "exit" };
enum { DRIVER, CONTEXT, OPEN, CLOSE, RELEASE, EXIT, STEPS };

struct life {
	double at[STEPS + 1]; /* when each step began, and the last ended */
};
static struct life *lives; /* [MOST], shared */
static struct tap_redis redis;

static int live(int rank, void *arg)
{
	struct symm_options options = SYMM_OPTIONS_INIT;
	struct life *life = &lives[rank];
	struct gpu self = { .rank = rank }, *gpu = &self;
	int count;

	(void)arg;
	life->at[DRIVER] = gpu_seconds();
	GOOD(symm_cuda_load(&gpu->cu));
	CU(gpu->cu->cuDeviceGetCount(&count));
	life->at[CONTEXT] = gpu_seconds();
	CU(gpu->cu->cuDevicePrimaryCtxRetain(&gpu->context, rank % count));
	CU(gpu->cu->cuCtxSetCurrent(gpu->context));
	life->at[OPEN] = gpu_seconds();
	options.url = redis.url;
	options.device = "cuda";
	GOOD(symm_open(&options, &gpu->rig.context));
	life->at[CLOSE] = gpu_seconds();
	GOOD(symm_close(gpu->rig.context));
	life->at[RELEASE] = gpu_seconds();
	CU(gpu->cu->cuCtxSetCurrent(NULL));
	CU(gpu->cu->cuDevicePrimaryCtxRelease(rank % count));
	life->at[EXIT] = gpu_seconds();
	return 0;
}

/* So many lives at once; the figures are of the first to be waited for. */
static bool sample(int n, double took[STEPS])
{
	int pid[MOST];
	bool all = true;

	tap_ranks_start(n, live, NULL, pid);
	for (int rank = 0; rank < n; rank++) {
		all &= tap_wait(pid[rank], 60) == 0;
		if (rank == 0)
			lives[0].at[STEPS] = gpu_seconds();
	}
	for (int step = 0; step < STEPS; step++)
		took[step] = (lives[0].at[step + 1] - lives[0].at[step]) * 1e3;
	return all;
}

static bool measure(int n)
{
	double took[STEPS], all[STEPS][TIMES];
	char name[64];

	for (int i = 0; i < TIMES; i++) {
		if (!sample(n, took))
			return false;
		for (int step = 0; step < STEPS; step++)
			all[step][i] = took[step];
	}
	for (int step = 0; step < STEPS; step++) {
		snprintf(name, sizeof(name), "opens.%d.%s", n, steps[step]);
		gpu_figure(name, gpu_median(all[step], TIMES), "ms");
	}
	return true;
}

int main(int argc, char **argv)
{
	int many = argc > 1 ? atoi(argv[1]) : 4;
	bool good;

	if (many < 1 || many > MOST) {
		fprintf(stderr, "usage: opens [1..%d]\n", MOST);
		return 2;
	}
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	lives = tap_shared(MOST * sizeof(*lives));
	good = measure(1) && measure(many);
	tap_redis_stop(&redis);
	return !good;
}
