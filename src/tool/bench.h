/* bench.h: what symm bench measures. Each operation is a step: one sample, timed, and what it moved verified. */
#ifndef SYMM_TOOL_BENCH_H
#define SYMM_TOOL_BENCH_H

#include "symm/symm.h"

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

	/* For the copies: a block of every rank's, and private memory, all of `bytes` or more. */
	struct symm_mem *data;
	char *source, *target;
	size_t bytes;

	uint64_t errors; /* words that this rank found wrong in the present step */
};

struct symm_bench_op {
	const char *name;
	const char *label; /* for people */
	bool sized;        /* a copy: measured once for each size, has a bandwidth */
	size_t bytes;      /* not sized: what it is about, 0 if it carries nothing */
	int samples;       /* of a full run; 0: by the size */
	/* Collective. *ns: how long one operation took, as rank 0 saw it. */
	int (*step)(struct symm_bench *bench, double *ns);
};

enum { SYMM_BENCH_OPS = 8 };
extern const struct symm_bench_op symm_bench_ops[SYMM_BENCH_OPS];

/* How often an op that moves `bytes` is repeated in a sample, so that the clock does not matter. */
int symm_bench_batch(size_t bytes);
/* Adds the errors of all ranks on rank 0: *total is right there only. Collective. */
int symm_bench_sum(struct symm_bench *bench, uint64_t errors, uint64_t *total);

#endif
