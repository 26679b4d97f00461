/* Work that does not begin: the call says so at its deadline and the group fails, and memory stays as long as what was
 * given up may still use it. And a group that has failed while its kernels cannot be told. */
#include "cuda_help.h"

static struct tap_redis redis;

/* ---- failed ---- */

/* Rank 1 fails the group; rank 0's kernels cannot be told, and yet none of its calls succeeds any more. */
static int fails_at_once(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 2 };
	struct symm_mem *mem;
	int *rally = arg;
	double start;
	void *ptr;

	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, 4096, &ptr, &mem));
	if (rank == 0)
		fake_fail("cuMemcpyHtoDAsync:*=2");
	tap_rally(rally, 2);
	if (rank == 1)
		BAD(symm_wait_signal(mem, 0, 0, 10), SYMM_ETIMEDOUT, "timed out");
	for (start = seconds_now(); symm_group_status(rig.group) == 0 && seconds_now() - start < patience(5);)
		nap_ms(1);
	BAD(symm_put_signal(mem, rank, 1, 0), SYMM_ETIMEDOUT, "rank 1 (");
	BAD(symm_wait_signal(mem, rank, 1, 0), SYMM_ETIMEDOUT, "rank 1 (");
	if (rank == 0)
		fake_fail(NULL);
	GOOD(symm_close(rig.context));
	return 0;
}

/* ---- a busy stream ---- */

/* A rank with memory, and a stream of its program's that a kernel keeps busy until *flag is set. */
struct busy {
	struct rig rig;
	struct symm_mem *mem;
	struct CUstream_st *stream;
	uint32_t *flag;
	void *ptr;
	int ordinal;
};

static int busy_begin(struct busy *b, int rank)
{
	struct CUctx_st *context;

	DO(driver_start(rank, &b->ordinal, &context));
	GOOD(rig_join(&b->rig, rank));
	GOOD(rig_memory(&b->rig, 4096, &b->ptr, &b->mem));
	b->flag = own_memory(b->rig.context, sizeof(*b->flag));
	CU(cu->cuStreamCreate(&b->stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	return 0;
}

static void busy_no_more(const struct busy *b)
{
	__atomic_store_n(b->flag, 1, __ATOMIC_RELEASE);
}

static int busy_end(struct busy *b)
{
	CU(cu->cuStreamSynchronize(b->stream));
	CU(cu->cuStreamDestroy(b->stream));
	own_memory_free(b->rig.context, b->flag);
	GOOD(symm_close(b->rig.context));
	return driver_end(b->ordinal);
}

/* ---- not begun ---- */

/* On a GPU of one hardware queue a user's kernel holds up all. */
static int not_begun(int rank, void *arg)
{
	struct busy b = { .rig = { .url = redis.url, .world = 2, .timeout_ms = 10000 } };
	int *rally = arg;
	double start;

	setenv("SYMM_FAKE_QUEUES", "1", 1);
	DO(busy_begin(&b, rank));
	tap_rally(rally, 2);
	if (rank == 0) {
		DO(spin(b.stream, b.flag));
		BAD(symm_barrier(b.mem, 0, 10), SYMM_ETIMEDOUT, "has not begun");
		BAD(symm_group_status(b.rig.group), SYMM_ETIMEDOUT, "has not begun");
	}
	for (start = seconds_now(); symm_group_status(b.rig.group) == 0 && seconds_now() - start < patience(20);)
		nap_ms(1);
	BAD(symm_group_status(b.rig.group), SYMM_ETIMEDOUT, "rank 0 (");
	tap_rally(rally, 2);
	busy_no_more(&b);
	return busy_end(&b);
}

/* What was given up may still begin: its memory is not taken away, and who wants to does not wait without end. */
static int given_up(int rank, void *arg)
{
	struct busy b = { .rig = { .url = redis.url, .world = 1, .timeout_ms = 1000 } };

	(void)arg;
	setenv("SYMM_FAKE_QUEUES", "1", 1);
	DO(busy_begin(&b, rank));
	DO(spin(b.stream, b.flag));
	BAD(symm_barrier(b.mem, 0, 10), SYMM_ETIMEDOUT, "has not begun");
	GOOD(symm_mem_release(b.mem));
	BAD(symm_free(b.ptr), SYMM_EBUSY, "1 pieces of work");
	busy_no_more(&b);
	GOOD(symm_free(b.ptr));
	return busy_end(&b);
}

/* The look whether work is under way fails: that alone does not mean that none is. */
static int not_counted(int rank, void *arg)
{
	struct busy b = { .rig = { .url = redis.url, .world = 1, .timeout_ms = 1000 } };
	char failure[64];

	(void)arg;
	DO(busy_begin(&b, rank));
	DO(spin(b.stream, b.flag));
	GOOD(symm_put_on_stream(b.mem, 0, 0, (char *)b.ptr + 8, 8, b.stream));
	GOOD(symm_mem_release(b.mem));
	snprintf(failure, sizeof(failure), "cuMemcpyDtoHAsync:%d=999", fake_calls("cuMemcpyDtoHAsync") + 1);
	fake_fail(failure);
	BAD(symm_free(b.ptr), SYMM_EBUSY, "1 pieces of work");
	busy_no_more(&b);
	GOOD(symm_free(b.ptr));
	return busy_end(&b);
}

int main(void)
{
	int *rally;

	if (!driver_choose() || !need_device(2))
		return 0;
	if (!faked()) {
		tap_skip_all("only the fake driver has one hardware queue, and copies that fail");
		return 0;
	}
	rally = tap_shared(2 * sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	tap_ranks("a failed group whose kernels cannot be told", 2, fails_at_once, &rally[0], 60);
	tap_ranks("work that does not begin fails the group", 2, not_begun, &rally[1], 60);
	tap_ranks("work that was given up keeps its memory", 1, given_up, NULL, 60);
	tap_ranks("work that cannot be counted once", 1, not_counted, NULL, 60);
	tap_redis_stop(&redis);
	return tap_done();
}
