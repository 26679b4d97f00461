#include "bench.h"

#include "base.h"

#include <stdlib.h>

#define POOL_BYTES ((size_t)32 << 20)
#define PIECE_BYTES 2048u /* at most */
#define BATCH 1000

/* Pieces that live for the op `pool_full`, as a random trace leaves them. */
#define PIECES 10000

struct symm_bench_pool {
	struct symm_pool *pool, *full;
	void *piece[PIECES];
	uint64_t seed; /* every rank does the same */
};

static uint32_t next_random(struct symm_bench_pool *p)
{
	p->seed = p->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(p->seed >> 33);
}

static size_t random_bytes(struct symm_bench_pool *p)
{
	return 1 + next_random(p) % PIECE_BYTES;
}

/* Another piece of another size in the place of one. */
static int replace(struct symm_bench_pool *p)
{
	void **piece = &p->piece[next_random(p) % PIECES];
	int rc = symm_pool_free(p->full, *piece);

	return rc == 0 ? symm_pool_alloc(p->full, random_bytes(p), piece) : rc;
}

static int fill(struct symm_bench_pool *p)
{
	int rc = 0;

	for (int i = 0; i < PIECES && rc == 0; i++)
		rc = symm_pool_alloc(p->full, random_bytes(p), &p->piece[i]);
	for (int i = 0; i < 10 * PIECES && rc == 0; i++)
		rc = replace(p);
	return rc;
}

int symm_bench_pool_open(struct symm_group *group, struct symm_bench_pool **out)
{
	struct symm_bench_pool *p = calloc(1, sizeof(*p));
	int rc = p != NULL ? symm_pool_create(group, POOL_BYTES, NULL, 0, &p->pool) : SYMM_ENOMEM;

	if (rc == 0)
		rc = symm_pool_create(group, POOL_BYTES, NULL, 0, &p->full);
	if (rc == 0)
		rc = fill(p);
	if (rc != 0)
		free(p);
	else
		*out = p;
	return rc;
}

void symm_bench_pool_close(struct symm_bench_pool *pool)
{
	free(pool);
}

/* All ranks have done the same, or it is an error. */
static int check(struct symm_bench *bench, struct symm_pool *pool)
{
	int rc = symm_pool_check(pool, 0);

	bench->errors += rc == SYMM_EMISMATCH;
	return rc == SYMM_EMISMATCH ? 0 : rc;
}

int symm_bench_pool_step(struct symm_bench *bench, double *ns)
{
	struct symm_bench_pool *p = bench->pool;
	int64_t start = symm_now();
	void *ptr;
	int rc = 0;

	for (int i = 0; i < BATCH && rc == 0; i++) {
		rc = symm_pool_alloc(p->pool, 4096, &ptr);
		if (rc == 0)
			rc = symm_pool_free(p->pool, ptr);
	}
	*ns = (double)(symm_now() - start) / BATCH;
	return rc == 0 ? check(bench, p->pool) : rc;
}

int symm_bench_pool_full_step(struct symm_bench *bench, double *ns)
{
	int64_t start = symm_now();
	int rc = 0;

	for (int i = 0; i < BATCH && rc == 0; i++)
		rc = replace(bench->pool);
	*ns = (double)(symm_now() - start) / BATCH;
	return rc == 0 ? check(bench, bench->pool->full) : rc;
}

int symm_bench_pool_check_step(struct symm_bench *bench, double *ns)
{
	int batch = symm_bench_repeats(bench), rc = symm_barrier(bench->board, bench->channel, 0);
	int64_t start = symm_now();

	for (int i = 0; i < batch && rc == 0; i++)
		rc = check(bench, bench->pool->pool);
	*ns = (double)(symm_now() - start) / batch;
	return rc;
}
