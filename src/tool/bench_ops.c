#include "bench.h"

#include "base.h"

#include <stdlib.h>
#include <string.h>

#define SIGNALS 100

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
int symm_bench_repeats(const struct symm_bench *bench)
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

/* Word `index` of a rank's block, which the host may not be able to address. */
static int write_word(struct symm_mem *mem, int rank, int index, uint64_t word)
{
	return symm_put(mem, rank, (size_t)index * sizeof(word), &word, sizeof(word));
}

static int read_word(struct symm_mem *mem, int rank, int index, uint64_t *word)
{
	return symm_get(mem, rank, (size_t)index * sizeof(*word), word, sizeof(*word));
}

static int check_word(struct symm_bench *bench, struct symm_mem *mem, int index)
{
	uint64_t word;
	int rc = read_word(mem, bench->rank, index, &word);

	bench->errors += rc == 0 && word != bench->stamp;
	return rc;
}

/* Every rank writes a new stamp into every block, and after the barrier finds all ranks' stamps in its own. */
static int exchange(struct symm_bench *bench, struct symm_mem *mem,
		    int (*barrier)(struct symm_bench *bench, struct symm_mem *mem))
{
	int rc = 0;

	bench->stamp++;
	for (int r = 0; r < bench->ranks && rc == 0; r++)
		rc = write_word(mem, r, bench->rank, bench->stamp);
	if (rc == 0)
		rc = barrier(bench, mem);
	for (int r = 0; r < bench->ranks && rc == 0; r++)
		rc = check_word(bench, mem, r);
	/* Nobody writes the next stamp before all have read this one. */
	return rc == 0 ? symm_barrier(mem, bench->channel, 0) : rc;
}

static int barrier_step(struct symm_bench *bench, double *ns)
{
	int batch = symm_bench_repeats(bench), rc = symm_barrier(bench->board, bench->channel, 0);
	int64_t start = symm_now();

	for (int i = 0; i < batch && rc == 0; i++)
		rc = symm_barrier(bench->board, bench->channel, 0);
	*ns = (double)(symm_now() - start) / batch;
	return rc == 0 ? exchange(bench, bench->board, plain_barrier) : rc;
}

static int barrier_stream_step(struct symm_bench *bench, double *ns)
{
	int batch = symm_bench_repeats(bench), rc = symm_barrier(bench->board, bench->channel, 0);
	int64_t start = symm_now();

	for (int i = 0; i < batch && rc == 0; i++)
		rc = symm_barrier_on_stream(bench->board, bench->channel, 0, bench->stream);
	if (rc == 0)
		rc = symm_stream_synchronize(bench->stream, 0);
	*ns = (double)(symm_now() - start) / batch;
	return rc == 0 ? exchange(bench, bench->board, stream_barrier) : rc;
}

static int enqueue_barriers(struct symm_bench *bench, void *stream)
{
	int rc = 0;

	for (int i = symm_bench_repeats(bench); i > 0 && rc == 0; i--)
		rc = symm_barrier_on_stream(bench->board, bench->channel, 0, stream);
	return rc;
}

static int barrier_graph_step(struct symm_bench *bench, double *ns)
{
	int rc = symm_barrier(bench->board, bench->channel, 0);

	if (rc == 0)
		rc = symm_bench_cuda_replay(bench, enqueue_barriers, ns);
	*ns /= symm_bench_repeats(bench);
	return rc == 0 ? exchange(bench, bench->board, stream_barrier) : rc;
}

/* ---- signals, between ranks 0 and 1; a rank that is alone signals to itself ---- */

static int signal_peer(const struct symm_bench *bench)
{
	return bench->ranks == 1 ? 0 : 1 - bench->rank;
}

static int round_trip(struct symm_bench *bench)
{
	int peer = signal_peer(bench), rc;

	if (bench->rank == 0) {
		rc = symm_put_signal(bench->board, peer, bench->channel, 0);
		return rc == 0 ? symm_wait_signal(bench->board, peer, bench->channel, 0) : rc;
	}
	rc = symm_wait_signal(bench->board, peer, bench->channel, 0);
	return rc == 0 ? symm_put_signal(bench->board, peer, bench->channel, 0) : rc;
}

static int enqueue_round_trips(struct symm_bench *bench, void *stream)
{
	int peer = signal_peer(bench), rc = 0;

	for (int i = 0; i < 2 * SIGNALS && rc == 0; i++) {
		if (i % 2 == bench->rank)
			rc = symm_put_signal_on_stream(bench->board, peer, bench->channel, 0, stream);
		else
			rc = symm_wait_signal_on_stream(bench->board, peer, bench->channel, 0, stream);
	}
	return rc;
}

/* A round trip that carries the stamp to the peer and, as the peer read it, back. */
static int round_trip_checked(struct symm_bench *bench)
{
	int peer = signal_peer(bench), rc;
	uint64_t word;

	if (bench->rank == 0) {
		rc = write_word(bench->board, peer, 0, bench->stamp);
		if (rc == 0)
			rc = round_trip(bench);
		return rc == 0 ? check_word(bench, bench->board, peer) : rc;
	}
	rc = symm_wait_signal(bench->board, peer, bench->channel, 0);
	if (rc == 0)
		rc = read_word(bench->board, bench->rank, 0, &word);
	if (rc != 0)
		return rc;
	bench->errors += word != bench->stamp;
	rc = write_word(bench->board, peer, bench->rank, word);
	return rc == 0 ? symm_put_signal(bench->board, peer, bench->channel, 0) : rc;
}

static int plain_round_trips(struct symm_bench *bench, double *ns)
{
	int64_t start = symm_now();
	int rc = 0;

	for (int i = 0; i < SIGNALS && rc == 0; i++)
		rc = round_trip(bench);
	*ns = (double)(symm_now() - start);
	return rc;
}

static int stream_round_trips(struct symm_bench *bench, double *ns)
{
	int64_t start = symm_now();
	int rc = enqueue_round_trips(bench, bench->stream);

	if (rc == 0)
		rc = symm_stream_synchronize(bench->stream, 0);
	*ns = (double)(symm_now() - start);
	return rc;
}

static int graph_round_trips(struct symm_bench *bench, double *ns)
{
	return symm_bench_cuda_replay(bench, enqueue_round_trips, ns);
}

static int signals(struct symm_bench *bench, int (*round_trips)(struct symm_bench *bench, double *ns), double *ns)
{
	int rc = symm_barrier(bench->board, bench->channel, 0);

	bench->stamp++;
	if (bench->rank > 1 || rc != 0)
		return rc;
	rc = round_trips(bench, ns);
	*ns /= SIGNALS;
	return rc == 0 ? round_trip_checked(bench) : rc;
}

static int signal_step(struct symm_bench *bench, double *ns)
{
	return signals(bench, plain_round_trips, ns);
}

static int signal_stream_step(struct symm_bench *bench, double *ns)
{
	return signals(bench, stream_round_trips, ns);
}

static int signal_graph_step(struct symm_bench *bench, double *ns)
{
	return signals(bench, graph_round_trips, ns);
}

/* ---- allocation and rendezvous ---- */

static int alloc_step(struct symm_bench *bench, double *ns)
{
	int64_t start = symm_now();
	void *ptr;
	int rc = symm_alloc(bench->group, bench->block, NULL, &ptr);

	*ns = (double)(symm_now() - start);
	return rc == 0 ? symm_free(ptr) : rc;
}

static int rendezvous_step(struct symm_bench *bench, double *ns)
{
	struct symm_mem *mem = NULL;
	void *ptr = NULL;
	int64_t start;
	int rc = symm_barrier(bench->board, bench->channel, 0);

	start = symm_now();
	if (rc == 0)
		rc = symm_alloc(bench->group, bench->block, NULL, &ptr);
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

static void fill_words(char *at, size_t bytes, uint64_t word)
{
	for (; bytes >= sizeof(word); bytes -= sizeof(word), at += sizeof(word), word += PATTERN_STEP)
		memcpy(at, &word, sizeof(word));
	memcpy(at, &word, bytes);
}

/* How many words are not as fill_words wrote them. */
static uint64_t count_wrong(const char *at, size_t bytes, uint64_t word)
{
	uint64_t wrong = 0, found;

	for (; bytes >= sizeof(word); bytes -= sizeof(word), at += sizeof(word), word += PATTERN_STEP) {
		memcpy(&found, at, sizeof(found));
		wrong += found != word;
	}
	return wrong + (memcmp(at, &word, bytes) != 0);
}

/* The same in a place of the copies. */
static int fill(struct symm_bench *bench, char *at, uint64_t word)
{
	const char *base = symm_mem_buffer(bench->data, bench->rank);

	fill_words(bench->scratch != NULL ? bench->scratch : at, bench->bytes, word);
	if (bench->scratch == NULL)
		return 0;
	return symm_put(bench->data, bench->rank, (size_t)(at - base), bench->scratch, bench->bytes);
}

static int verify(struct symm_bench *bench, const char *at, uint64_t word)
{
	const char *base = symm_mem_buffer(bench->data, bench->rank);
	int rc = 0;

	if (bench->scratch != NULL)
		rc = symm_get(bench->data, bench->rank, (size_t)(at - base), bench->scratch, bench->bytes);
	bench->errors += rc != 0 ? 0 : count_wrong(bench->scratch != NULL ? bench->scratch : at, bench->bytes, word);
	return rc;
}

/* How far away the peer of this sample is: every distance has its turn. */
static int distance(const struct symm_bench *bench)
{
	return bench->ranks == 1 ? 0 : 1 + bench->round % (bench->ranks - 1);
}

static int put_peer(const struct symm_bench *bench)
{
	return (bench->rank + distance(bench)) % bench->ranks;
}

static int put_once(struct symm_bench *bench)
{
	return symm_put(bench->data, put_peer(bench), 0, bench->source, bench->bytes);
}

static int get_once(struct symm_bench *bench)
{
	return symm_get(bench->data, put_peer(bench), 0, bench->target, bench->bytes);
}

static int put_stream_once(struct symm_bench *bench)
{
	return symm_put_on_stream(bench->data, put_peer(bench), 0, bench->source, bench->bytes, bench->stream);
}

static int get_stream_once(struct symm_bench *bench)
{
	return symm_get_on_stream(bench->data, put_peer(bench), 0, bench->target, bench->bytes, bench->stream);
}

/* On a GPU, a copy within the rank's own block. */
static int memcpy_once(struct symm_bench *bench)
{
	const char *base = symm_mem_buffer(bench->data, bench->rank);

	if (bench->scratch != NULL)
		return symm_put_on_stream(bench->data, bench->rank, (size_t)(bench->target - base), bench->source,
					  bench->bytes, bench->stream);
	memcpy(bench->target, bench->source, bench->bytes);
	/* What was copied is read by others, as far as the compiler knows: no copy may be left out. */
	__asm__ volatile("" ::: "memory");
	return 0;
}

static int copy_batch(struct symm_bench *bench, int (*once)(struct symm_bench *bench), int batch)
{
	int rc = 0;

	for (int i = 0; i < batch && rc == 0; i++)
		rc = once(bench);
	return rc == 0 ? symm_stream_synchronize(bench->stream, 0) : rc;
}

/* Rank 0 copies while the others wait, then all others copy. The first copy brings the pages in and is not timed. */
static int copy_all(struct symm_bench *bench, int (*once)(struct symm_bench *bench), double *ns)
{
	int batch = symm_bench_batch(bench->bytes), rc = symm_barrier(bench->data, bench->channel, 0);

	if (rc == 0 && bench->rank == 0)
		rc = copy_batch(bench, once, 1);
	if (rc == 0 && bench->rank == 0) {
		int64_t start = symm_now();

		rc = copy_batch(bench, once, batch);
		*ns = (double)(symm_now() - start) / batch;
	}
	if (rc == 0)
		rc = symm_barrier(bench->data, bench->channel, 0);
	if (rc == 0 && bench->rank != 0)
		rc = copy_batch(bench, once, 1);
	return rc == 0 ? symm_barrier(bench->data, bench->channel, 0) : rc;
}

/* Fills one place, copies, and verifies every byte of another, where the copy of `origin` has come. */
static int copy_step(struct symm_bench *bench, int (*once)(struct symm_bench *bench), char *from, const char *to,
		     int origin, double *ns)
{
	int rc;

	bench->stamp++;
	rc = fill(bench, from, pattern(bench->rank, bench->stamp));
	if (rc == 0)
		rc = copy_all(bench, once, ns);
	return rc == 0 ? verify(bench, to, pattern(origin, bench->stamp)) : rc;
}

static int memcpy_step(struct symm_bench *bench, double *ns)
{
	return copy_step(bench, memcpy_once, bench->source, bench->target, bench->rank, ns);
}

static int put_with(struct symm_bench *bench, int (*once)(struct symm_bench *bench), double *ns)
{
	return copy_step(bench, once, bench->source, symm_mem_buffer(bench->data, bench->rank),
			 (bench->rank + bench->ranks - distance(bench)) % bench->ranks, ns);
}

static int get_with(struct symm_bench *bench, int (*once)(struct symm_bench *bench), double *ns)
{
	return copy_step(bench, once, symm_mem_buffer(bench->data, bench->rank), bench->target, put_peer(bench), ns);
}

static int put_step(struct symm_bench *bench, double *ns)
{
	return put_with(bench, put_once, ns);
}

static int get_step(struct symm_bench *bench, double *ns)
{
	return get_with(bench, get_once, ns);
}

static int put_stream_step(struct symm_bench *bench, double *ns)
{
	return put_with(bench, put_stream_once, ns);
}

static int get_stream_step(struct symm_bench *bench, double *ns)
{
	return get_with(bench, get_stream_once, ns);
}

/* ---- payloads with a signal, between ranks 0 and 1; a rank that is alone sends to itself ---- */

static int send_payloads(struct symm_bench *bench, int trips)
{
	int peer = signal_peer(bench), rc = 0;

	for (int i = 0; i < 2 * trips && rc == 0; i++) {
		if (i % 2 == bench->rank)
			rc = symm_put_with_signal(bench->data, peer, 0, bench->source, bench->bytes, bench->channel, 0);
		else
			rc = symm_wait_signal(bench->data, peer, bench->channel, 0);
	}
	return rc;
}

/* Each answers with as many bytes; the first round trip brings the pages in and is not timed. */
static int put_with_signal_step(struct symm_bench *bench, double *ns)
{
	int trips = (symm_bench_batch(bench->bytes) + 1) / 2, rc;
	int64_t start;

	bench->stamp++;
	rc = fill(bench, bench->source, pattern(bench->rank, bench->stamp));
	if (rc == 0)
		rc = symm_barrier(bench->data, bench->channel, 0);
	if (rc != 0 || bench->rank > 1)
		return rc;
	rc = send_payloads(bench, 1);
	start = symm_now();
	if (rc == 0)
		rc = send_payloads(bench, trips);
	*ns = (double)(symm_now() - start) / (2 * trips);
	if (rc != 0)
		return rc;
	return verify(bench, symm_mem_buffer(bench->data, bench->rank), pattern(signal_peer(bench), bench->stamp));
}

const struct symm_bench_op symm_bench_ops[SYMM_BENCH_OPS] = {
	{ .name = "barrier", .label = "barrier", .samples = 200, .step = barrier_step },
	{ .name = "barrier_stream", .label = "barrier on a stream", .samples = 100, .step = barrier_stream_step },
	{ .name = "barrier_graph",
	  .label = "barrier in a graph",
	  .cuda = true,
	  .samples = 100,
	  .step = barrier_graph_step },
	{ .name = "signal", .label = "signal round trip", .samples = 200, .step = signal_step },
	{ .name = "signal_stream", .label = "round trip on a stream", .samples = 100, .step = signal_stream_step },
	{ .name = "signal_graph",
	  .label = "round trip in a graph",
	  .cuda = true,
	  .samples = 100,
	  .step = signal_graph_step },
	{ .name = "alloc", .label = "alloc", .block = true, .samples = 50, .step = alloc_step },
	{ .name = "rendezvous",
	  .label = "alloc and rendezvous",
	  .block = true,
	  .samples = 50,
	  .step = rendezvous_step },
	{ .name = "rendezvous_cached", .label = "cached rendezvous", .samples = 50, .step = rendezvous_cached_step },
	{ .name = "pool", .label = "pool: alloc, free", .pool = true, .samples = 50, .step = symm_bench_pool_step },
	{ .name = "pool_full",
	  .label = "the same among 10,000",
	  .pool = true,
	  .samples = 50,
	  .step = symm_bench_pool_full_step },
	{ .name = "pool_check",
	  .label = "pool: check",
	  .pool = true,
	  .samples = 200,
	  .step = symm_bench_pool_check_step },
	{ .name = "access",
	  .label = "driver's access call",
	  .cuda = true,
	  .block = true,
	  .samples = 50,
	  .step = symm_bench_cuda_access },
	{ .name = "memcpy", .label = "memcpy", .sized = true, .step = memcpy_step },
	{ .name = "put", .label = "put", .sized = true, .step = put_step },
	{ .name = "get", .label = "get", .sized = true, .step = get_step },
	{ .name = "put_stream", .label = "put on a stream", .sized = true, .step = put_stream_step },
	{ .name = "get_stream", .label = "get on a stream", .sized = true, .step = get_stream_step },
	{ .name = "put_with_signal", .label = "put with signal", .sized = true, .step = put_with_signal_step },
};

int symm_bench_sum(struct symm_bench *bench, uint64_t errors, uint64_t *total)
{
	uint64_t sum = 0, count = 0;
	int rc = write_word(bench->board, 0, bench->ranks + bench->rank, errors);

	if (rc == 0)
		rc = symm_barrier(bench->board, bench->channel, 0);
	for (int r = 0; r < bench->ranks && bench->rank == 0 && rc == 0; r++, sum += count)
		rc = read_word(bench->board, 0, bench->ranks + r, &count);
	if (rc != 0)
		return rc;
	*total = sum;
	return symm_barrier(bench->board, bench->channel, 0);
}
