/* bench.h: what symm bench measures. Each operation is a step: one sample, timed, and what it moved verified. */
#ifndef SYMM_TOOL_BENCH_H
#define SYMM_TOOL_BENCH_H

#include "symm/pool.h"

#include <stdbool.h>

/* One rank of the benchmark. */
struct symm_bench {
	struct symm_context *context;
	struct symm_group *group;
	int rank, ranks, channel;
	void *stream;

	/* Words by which the ranks tell each other things: a stamp from each, and on rank 0 an error count of each. */
	struct symm_mem *board;
	void *board_ptr;
	uint64_t stamp; /* counts the exchanges of data, alike on all ranks */
	int round;      /* counts the samples */

	/* For the copies: a block of every rank's, and places of its own, all of `bytes` or more. On the host these
	 * are private memory. On a GPU they are parts of the rank's own block, and what the host fills in or verifies
	 * goes through `scratch`. */
	struct symm_mem *data;
	char *source, *target;
	char *scratch;
	size_t bytes;

	size_t block;                 /* what the op `rendezvous` allocates */
	struct symm_bench_cuda *cuda; /* NULL on the host device */
	struct symm_bench_pool *pool; /* NULL unless an op is about pools */

	uint64_t errors; /* words that this rank found wrong in the present step */
};

struct symm_bench_op {
	const char *name;
	const char *label; /* for people */
	bool cuda;         /* of CUDA devices only */
	bool block;        /* about a block that is allocated */
	bool pool;         /* about bench->pool */
	bool sized;        /* a copy: measured once for each size, has a bandwidth */
	int samples;       /* of a full run; 0: by the size */
	/* Collective. *ns: how long one operation took, as rank 0 saw it. */
	int (*step)(struct symm_bench *bench, double *ns);
};

enum { SYMM_BENCH_OPS = 19 };
extern const struct symm_bench_op symm_bench_ops[SYMM_BENCH_OPS];

/* How often an op that moves `bytes` is repeated in a sample, so that the clock does not matter. */
int symm_bench_batch(size_t bytes);
/* How many short operations, barriers or signals, make a sample. */
int symm_bench_repeats(const struct symm_bench *bench);
/* Adds the errors of all ranks on rank 0: *total is right there only. Collective. */
int symm_bench_sum(struct symm_bench *bench, uint64_t errors, uint64_t *total);

/* ---- bench_pool.c; these return SYMM codes ---- */

/* Two pools: an empty one, and one of 10,000 pieces. Collective. They go with the group. */
int symm_bench_pool_open(struct symm_group *group, struct symm_bench_pool **pool);
void symm_bench_pool_close(struct symm_bench_pool *pool);
/* One piece allocated and freed; one freed and one allocated among many; what both have done, compared. */
int symm_bench_pool_step(struct symm_bench *bench, double *ns);
int symm_bench_pool_full_step(struct symm_bench *bench, double *ns);
int symm_bench_pool_check_step(struct symm_bench *bench, double *ns);

/* ---- bench_cuda.c; these return SYMM codes ---- */

/* Makes the device of the context current for this thread. */
int symm_bench_cuda_open(struct symm_context *context, struct symm_bench_cuda **cuda);
void symm_bench_cuda_close(struct symm_bench_cuda *cuda);
/* Captures what enqueue puts on a stream into a graph, the first time; launches it and waits for its end. The graphs
 * are told apart by enqueue. *ns: from the launch to the end. */
int symm_bench_cuda_replay(struct symm_bench *bench, int (*enqueue)(struct symm_bench *bench, void *stream),
			   double *ns);
/* Times the driver's call that gives access to as many blocks as a rendezvous has peers, on the next device. */
int symm_bench_cuda_access(struct symm_bench *bench, double *ns);

#endif
