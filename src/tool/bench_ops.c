#include "bench.h"

#include "base.h"

#include <string.h>

/* What the op `rendezvous` allocates. */
#define BLOCK ((size_t)1 << 20)

static int clamp(size_t value, int low, int high)
{
	if (value < (size_t)low)
		return low;
	return value > (size_t)high ? high : (int)value;
}

int symm_bench_batch(size_t bytes)
{
	return clamp(((size_t)4 << 20) / bytes, 1, 1000);
}

/* Barriers of many ranks on few cores cost a time slice each. */
static int barrier_batch(const struct symm_bench *bench)
{
	return clamp(1000 / ((size_t)bench->ranks * (size_t)bench->ranks), 10, 250);
}

static int plain_barrier(struct symm_bench *bench, struct symm_mem *mem)
{
	return symm_barrier(mem, bench->channel, 0);
}

static int stream_barrier(struct symm_bench *bench, struct symm_mem *mem)
{
	int rc = symm_barrier_on_stream(mem, bench->channel, 0, bench->stream);

	return rc == 0 ? symm_stream_synchronize(bench->stream, 0) : rc;
}

/* Every rank writes a new stamp into every block, and after the barrier finds all ranks' stamps in its own. */
static int exchange(struct symm_bench *bench, struct symm_mem *mem,
		    int (*barrier)(struct symm_bench *bench, struct symm_mem *mem))
{
	const uint64_t *own = symm_mem_buffer(mem, bench->rank);
	int rc;

	bench->stamp++;
	for (int r = 0; r < bench->ranks; r++)
		((uint64_t *)symm_mem_buffer(mem, r))[bench->rank] = bench->stamp;
	rc = barrier(bench, mem);
	if (rc != 0)
		return rc;
	for (int r = 0; r < bench->ranks; r++)
		bench->errors += own[r] != bench->stamp;
	/* Nobody writes the next stamp before all have read this one. */
	return symm_barrier(mem, bench->channel, 0);
}

static int barrier_step(struct symm_bench *bench, double *ns)
{
	int batch = barrier_batch(bench), rc = symm_barrier(bench->board, bench->channel, 0);
	int64_t start = symm_now();

	for (int i = 0; i < batch && rc == 0; i++)
		rc = symm_barrier(bench->board, bench->channel, 0);
	*ns = (double)(symm_now() - start) / batch;
	return rc == 0 ? exchange(bench, bench->board, plain_barrier) : rc;
}

static int barrier_stream_step(struct symm_bench *bench, double *ns)
{
	int batch = barrier_batch(bench), rc = symm_barrier(bench->board, bench->channel, 0);
	int64_t start = symm_now();

	for (int i = 0; i < batch && rc == 0; i++)
		rc = symm_barrier_on_stream(bench->board, bench->channel, 0, bench->stream);
	if (rc == 0)
		rc = symm_stream_synchronize(bench->stream, 0);
	*ns = (double)(symm_now() - start) / batch;
	return rc == 0 ? exchange(bench, bench->board, stream_barrier) : rc;
}

/* There and back between ranks 0 and 1; a rank that is alone signals to itself. */
static int round_trip(struct symm_bench *bench)
{
	int peer = bench->ranks == 1 ? 0 : 1 - bench->rank, rc;

	if (bench->rank == 0) {
		rc = symm_put_signal(bench->board, peer, bench->channel, 0);
		return rc == 0 ? symm_wait_signal(bench->board, peer, bench->channel, 0) : rc;
	}
	rc = symm_wait_signal(bench->board, peer, bench->channel, 0);
	return rc == 0 ? symm_put_signal(bench->board, peer, bench->channel, 0) : rc;
}

/* A round trip that carries the stamp to the peer and, as the peer read it, back. */
static int round_trip_checked(struct symm_bench *bench)
{
	int peer = bench->ranks == 1 ? 0 : 1 - bench->rank, rc;
	uint64_t *own = symm_mem_buffer(bench->board, bench->rank), *theirs = symm_mem_buffer(bench->board, peer);

	if (bench->rank == 0) {
		theirs[0] = bench->stamp;
		rc = round_trip(bench);
		bench->errors += rc == 0 && own[peer] != bench->stamp;
		return rc;
	}
	rc = symm_wait_signal(bench->board, peer, bench->channel, 0);
	if (rc != 0)
		return rc;
	bench->errors += own[0] != bench->stamp;
	theirs[bench->rank] = own[0];
	return symm_put_signal(bench->board, peer, bench->channel, 0);
}

static int signal_step(struct symm_bench *bench, double *ns)
{
	const int batch = 100;
	int rc = symm_barrier(bench->board, bench->channel, 0);
	int64_t start = symm_now();

	bench->stamp++;
	if (bench->rank > 1)
		return rc;
	for (int i = 0; i < batch && rc == 0; i++)
		rc = round_trip(bench);
	*ns = (double)(symm_now() - start) / batch;
	return rc == 0 ? round_trip_checked(bench) : rc;
}

static int rendezvous_step(struct symm_bench *bench, double *ns)
{
	struct symm_mem *mem = NULL;
	void *ptr = NULL;
	int64_t start;
	int rc = symm_barrier(bench->board, bench->channel, 0);

	start = symm_now();
	if (rc == 0)
		rc = symm_alloc(bench->group, BLOCK, NULL, &ptr);
	if (rc == 0)
		rc = symm_rendezvous(ptr, bench->group, 0, &mem);
	*ns = (double)(symm_now() - start);
	if (rc == 0)
		rc = exchange(bench, mem, plain_barrier);
	if (rc == 0) {
		rc = symm_mem_release(mem);
		return rc == 0 ? symm_free(ptr) : rc;
	}
	symm_mem_release(mem);
	symm_free(ptr);
	return rc;
}

static int rendezvous_cached_step(struct symm_bench *bench, double *ns)
{
	const int batch = 1000;
	int rc = 0;
	int64_t start = symm_now();

	for (int i = 0; i < batch && rc == 0; i++) {
		struct symm_mem *mem;

		rc = symm_rendezvous(bench->board_ptr, bench->group, 0, &mem);
		if (rc == 0) {
			bench->errors += mem != bench->board;
			rc = symm_mem_release(mem);
		}
	}
	*ns = (double)(symm_now() - start) / batch;
	return rc;
}

/* ---- copies ---- */

#define PATTERN_STEP UINT64_C(0x9e3779b97f4a7c15)

/* The first word of what `rank` writes at this stamp; each further one is PATTERN_STEP more. */
static uint64_t pattern(int rank, uint64_t stamp)
{
	uint64_t word = ((uint64_t)rank << 40 ^ stamp) * UINT64_C(0xff51afd7ed558ccd);

	return (word ^ word >> 29) * UINT64_C(0xc4ceb9fe1a85ec53);
}

static void fill(char *at, size_t bytes, uint64_t word)
{
	for (; bytes >= sizeof(word); bytes -= sizeof(word), at += sizeof(word), word += PATTERN_STEP)
		memcpy(at, &word, sizeof(word));
	memcpy(at, &word, bytes);
}

/* How many words are not as fill wrote them. */
static uint64_t count_wrong(const char *at, size_t bytes, uint64_t word)
{
	uint64_t wrong = 0, found;

	for (; bytes >= sizeof(word); bytes -= sizeof(word), at += sizeof(word), word += PATTERN_STEP) {
		memcpy(&found, at, sizeof(found));
		wrong += found != word;
	}
	return wrong + (memcmp(at, &word, bytes) != 0);
}

/* How far away the peer of this sample is: every distance has its turn. */
static int distance(const struct symm_bench *bench)
{
	return bench->ranks == 1 ? 0 : 1 + bench->round % (bench->ranks - 1);
}

static int put_once(struct symm_bench *bench)
{
	int peer = (bench->rank + distance(bench)) % bench->ranks;

	return symm_put(bench->data, peer, 0, bench->source, bench->bytes);
}

static int get_once(struct symm_bench *bench)
{
	int peer = (bench->rank + distance(bench)) % bench->ranks;

	return symm_get(bench->data, peer, 0, bench->target, bench->bytes);
}

static int memcpy_once(struct symm_bench *bench)
{
	memcpy(bench->target, bench->source, bench->bytes);
	/* What was copied is read by others, as far as the compiler knows: no copy may be left out. */
	__asm__ volatile("" ::: "memory");
	return 0;
}

/* Rank 0 copies while the others wait, then all others copy. The first copy brings the pages in and is not timed. */
static int copy_all(struct symm_bench *bench, int (*once)(struct symm_bench *bench), double *ns)
{
	int batch = symm_bench_batch(bench->bytes), rc = symm_barrier(bench->data, bench->channel, 0);

	if (rc == 0 && bench->rank == 0)
		rc = once(bench);
	if (rc == 0 && bench->rank == 0) {
		int64_t start = symm_now();

		for (int i = 0; i < batch && rc == 0; i++)
			rc = once(bench);
		*ns = (double)(symm_now() - start) / batch;
	}
	if (rc == 0)
		rc = symm_barrier(bench->data, bench->channel, 0);
	if (rc == 0 && bench->rank != 0)
		rc = once(bench);
	return rc == 0 ? symm_barrier(bench->data, bench->channel, 0) : rc;
}

/* Fills one place, copies, and verifies every byte of another, where the copy of `origin` has come. */
static int copy_step(struct symm_bench *bench, int (*once)(struct symm_bench *bench), char *from, const char *to,
		     int origin, double *ns)
{
	int rc;

	bench->stamp++;
	fill(from, bench->bytes, pattern(bench->rank, bench->stamp));
	rc = copy_all(bench, once, ns);
	if (rc == 0)
		bench->errors += count_wrong(to, bench->bytes, pattern(origin, bench->stamp));
	return rc;
}

static int memcpy_step(struct symm_bench *bench, double *ns)
{
	return copy_step(bench, memcpy_once, bench->source, bench->target, bench->rank, ns);
}

static int put_step(struct symm_bench *bench, double *ns)
{
	return copy_step(bench, put_once, bench->source, symm_mem_buffer(bench->data, bench->rank),
			 (bench->rank + bench->ranks - distance(bench)) % bench->ranks, ns);
}

static int get_step(struct symm_bench *bench, double *ns)
{
	return copy_step(bench, get_once, symm_mem_buffer(bench->data, bench->rank), bench->target,
			 (bench->rank + distance(bench)) % bench->ranks, ns);
}

const struct symm_bench_op symm_bench_ops[SYMM_BENCH_OPS] = {
	{ "barrier", "barrier", false, 0, 200, barrier_step },
	{ "barrier_stream", "barrier on a stream", false, 0, 100, barrier_stream_step },
	{ "signal", "signal round trip", false, 0, 200, signal_step },
	{ "rendezvous", "alloc and rendezvous", false, BLOCK, 50, rendezvous_step },
	{ "rendezvous_cached", "cached rendezvous", false, 0, 50, rendezvous_cached_step },
	{ "memcpy", "memcpy", true, 0, 0, memcpy_step },
	{ "put", "put", true, 0, 0, put_step },
	{ "get", "get", true, 0, 0, get_step },
};

int symm_bench_sum(struct symm_bench *bench, uint64_t errors, uint64_t *total)
{
	uint64_t *counts = (uint64_t *)symm_mem_buffer(bench->board, 0) + bench->ranks;
	uint64_t sum = 0;
	int rc;

	counts[bench->rank] = errors;
	rc = symm_barrier(bench->board, bench->channel, 0);
	if (rc != 0)
		return rc;
	for (int r = 0; r < bench->ranks && bench->rank == 0; r++)
		sum += counts[r];
	*total = sum;
	return symm_barrier(bench->board, bench->channel, 0);
}
