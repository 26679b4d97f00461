/* How work on a GPU fails: a record and a code instead of a trap, on every rank, soon; and what ends well although
 * something has failed. */
#include "cuda_help.h"
#include "group.h"

#include "symm/kernel/atomic.h"

#include <signal.h>
#include <sys/wait.h>

#define LONG 100000 /* ms: longer than any test */
#define SOON 0.1    /* s: within which a failure ends what waits */

static struct tap_redis redis;

/* What ranks tell each other. */
static struct {
	int rally;
	double at; /* when something happened */
} * shared;

struct rank {
	struct rig rig;
	int me, ordinal;
	struct CUctx_st *context;
	struct CUstream_st *stream;
	struct symm_mem *mem;
	void *ptr;
};

static int begin(struct rank *r, int rank, int world)
{
	*r = (struct rank){ .rig = { .url = redis.url, .world = world }, .me = rank };
	DO(driver_start(rank, &r->ordinal, &r->context));
	CU(cu->cuStreamCreate(&r->stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	GOOD(rig_join(&r->rig, rank));
	GOOD(rig_memory(&r->rig, 256, &r->ptr, &r->mem));
	tap_rally(&shared->rally, world);
	return 0;
}

/* The context still works: a copy there and back. */
static int context_works(const struct rank *r)
{
	uint64_t *own = own_memory(r->rig.context, 3 * sizeof(*own));
	unsigned long long there;

	CHECK(own != NULL);
	own[0] = 4711;
	CU(cu->cuMemAlloc(&there, sizeof(*own)));
	CU(cu->cuMemcpyHtoDAsync(there, &own[0], sizeof(*own), r->stream));
	CU(cu->cuMemcpyDtoHAsync(&own[1], there, sizeof(*own), r->stream));
	CU(cu->cuStreamSynchronize(r->stream));
	CHECK(own[1] == 4711);
	CU(cu->cuMemFree(there));
	own_memory_free(r->rig.context, own);
	return 0;
}

static int end(struct rank *r)
{
	DO(context_works(r));
	CU(cu->cuStreamDestroy(r->stream));
	GOOD(symm_close(r->rig.context));
	return driver_end(r->ordinal);
}

static struct group *group_of(const struct rank *r)
{
	int rc;
	struct group *group = symm_group_get(r->rig.group, &rc);

	symm_group_put(group);
	return group;
}

static int await_failure(const struct rank *r)
{
	double start = seconds_now();

	while (symm_group_status(r->rig.group) == 0 && seconds_now() - start < patience(10))
		usleep(200);
	return symm_group_status(r->rig.group);
}

/* ---- a time-out ---- */

/* Work of the kind that waits for rank 1. */
static int enqueue(const struct rank *r, int kind, int channel, int64_t timeout_ms)
{
	if (kind == SYMM_OP_BARRIER)
		return symm_barrier_on_stream(r->mem, channel, timeout_ms, r->stream);
	if (kind == SYMM_OP_WAIT_SIGNAL)
		return symm_wait_signal_on_stream(r->mem, 1, channel, timeout_ms, r->stream);
	return symm_put_signal_on_stream(r->mem, 1, channel, timeout_ms, r->stream);
}

static const char *const kinds[] = { "barrier", "put_signal", "wait_signal" };

static int check_timeout(const struct rank *r, int kind)
{
	char text[64];

	CHECK(await_failure(r) == SYMM_ETIMEDOUT);
	snprintf(text, sizeof(text), "%s on channel 3 timed out waiting for rank 1 (", kinds[kind]);
	BAD(symm_group_status(r->rig.group), SYMM_ETIMEDOUT, text);
	BAD(symm_group_status(r->rig.group), SYMM_ETIMEDOUT, "failed: rank 0 (");
	return 0;
}

/* Later calls fail at once; what was enqueued already stores nothing more. */
static int times_out(int rank, void *arg)
{
	const int kind = *(int *)arg;
	struct rank r;
	double start;

	DO(begin(&r, rank, 3));
	if (rank == 0) {
		if (kind == SYMM_OP_PUT_SIGNAL)
			GOOD(enqueue(&r, kind, 3, 0));
		start = seconds_now();
		GOOD(enqueue(&r, kind, 3, 200));
		CU(cu->cuStreamSynchronize(r.stream));
		CHECK(seconds_now() - start > 0.19 && seconds_now() - start < patience(2), "%f s",
		      seconds_now() - start);
		CHECK(symm_group_status(r.rig.group) == SYMM_ETIMEDOUT, "at once, by who has synchronised");
	}
	DO(check_timeout(&r, kind));
	start = seconds_now();
	BAD(symm_barrier_on_stream(r.mem, 4, LONG, r.stream), SYMM_ETIMEDOUT, "timed out waiting for rank 1");
	BAD(symm_put_signal_on_stream(r.mem, 1, 4, LONG, r.stream), SYMM_ETIMEDOUT, "rank 1");
	BAD(symm_wait_signal_on_stream(r.mem, 1, 4, LONG, r.stream), SYMM_ETIMEDOUT, "rank 1");
	BAD(symm_put_on_stream(r.mem, 1, 0, r.ptr, 8, r.stream), SYMM_ETIMEDOUT, "rank 1");
	BAD(symm_barrier(r.mem, 4, LONG), SYMM_ETIMEDOUT, "rank 1");
	BAD(symm_put(r.mem, 1, 0, r.ptr, 8), SYMM_ETIMEDOUT, "rank 1");
	CHECK(seconds_now() - start < patience(1), "%f s", seconds_now() - start);
	tap_rally(&shared->rally, 3);
	return end(&r);
}

/* The words that peers may write by barriers and signals: of all channels. */
static int read_words(const struct rank *r, char *words, size_t bytes)
{
	int rc;
	struct view *view = symm_view_get(r->mem, &rc);

	CHECK(view != NULL);
	CHECK(device_read(device_of(r->mem), words, view->bell.slot, bytes));
	symm_view_put(view);
	return 0;
}

static int capture_all(const struct rank *r, struct CUgraphExec_st **exec)
{
	CU(cu->cuStreamBeginCapture(r->stream, SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL));
	GOOD(symm_put_signal_on_stream(r->mem, 1, 0, LONG, r->stream));
	GOOD(symm_barrier_on_stream(r->mem, 1, LONG, r->stream));
	GOOD(symm_wait_signal_on_stream(r->mem, 1, 2, LONG, r->stream));
	return graph_end(r->stream, exec);
}

/* A graph that is replayed, and work behind the failure in the stream, touch no word of rank 1's any more. */
static int stores_nothing(int rank, void *arg)
{
	const size_t bytes = symm_sync_layout_of(2).state;
	char *before = malloc(bytes), *after = malloc(bytes);
	struct CUgraphExec_st *exec;
	struct rank r;

	(void)arg;
	DO(begin(&r, rank, 2));
	if (rank == 0) {
		DO(capture_all(&r, &exec));
		GOOD(symm_wait_signal_on_stream(r.mem, 1, 3, 50, r.stream));
		GOOD(symm_put_signal_on_stream(r.mem, 1, 4, LONG, r.stream));
		GOOD(symm_barrier_on_stream(r.mem, 5, LONG, r.stream));
	}
	CHECK(await_failure(&r) == SYMM_ETIMEDOUT);
	DO(read_words(&r, before, bytes));
	tap_rally(&shared->rally, 2);
	if (rank == 0) {
		for (int i = 0; i < 10; i++)
			CU(cu->cuGraphLaunch(exec, r.stream));
		CU(cu->cuStreamSynchronize(r.stream));
		CU(cu->cuGraphExecDestroy(exec));
	}
	tap_rally(&shared->rally, 2);
	DO(read_words(&r, after, bytes));
	CHECK(memcmp(before, after, bytes) == 0, "words were stored");
	for (size_t i = 0; rank == 1 && i < bytes; i++)
		CHECK(after[i] == 0, "word at %zu", i);
	free(before);
	free(after);
	return end(&r);
}

/* All ranks know soon, though rank 0's user calls nothing, rank 1's sits in the driver and rank 2's has no work. */
static int spreads(int rank, void *arg)
{
	struct rank r;
	double seen;

	(void)arg;
	DO(begin(&r, rank, 3));
	if (rank == 0) {
		GOOD(symm_barrier_on_stream(r.mem, 0, 100, r.stream));
		CU(cu->cuStreamSynchronize(r.stream));
		shared->at = seconds_now();
		nap_ms(500);
	}
	if (rank == 1) {
		GOOD(symm_wait_signal_on_stream(r.mem, 2, 7, LONG, r.stream));
		CU(cu->cuStreamSynchronize(r.stream));
	}
	CHECK(await_failure(&r) == SYMM_ETIMEDOUT);
	seen = seconds_now();
	BAD(symm_group_status(r.rig.group), SYMM_ETIMEDOUT, "barrier on channel 0 timed out waiting for rank 1 (");
	tap_rally(&shared->rally, 3);
	CHECK(rank == 0 || seen - shared->at < patience(SOON), "%f s", seen - shared->at);
	return end(&r);
}

/* ---- who is gone ---- */

/* Rank 1 is killed while the others' kernels wait for it. */
static int killed(int rank, void *arg)
{
	const int kind = *(int *)arg;
	struct rank r;
	char text[64];
	double seen;

	DO(begin(&r, rank, 3));
	if (kind == SYMM_OP_PUT_SIGNAL && rank == 0)
		GOOD(enqueue(&r, kind, 3, 0));
	if (rank == 1) {
		tap_rally(&shared->rally, 3);
		nap_ms(50);
		shared->at = seconds_now();
		raise(SIGKILL);
	}
	if (rank == 0 || kind == SYMM_OP_BARRIER)
		GOOD(enqueue(&r, kind, 3, LONG));
	tap_rally(&shared->rally, 3);
	CU(cu->cuStreamSynchronize(r.stream));
	CHECK(await_failure(&r) == SYMM_EPEER);
	seen = seconds_now() - shared->at;
	snprintf(text, sizeof(text), "%s on channel 3 cannot meet rank 1 (", kinds[kind]);
	BAD(symm_group_status(r.rig.group), SYMM_EPEER, text);
	BAD(symm_group_status(r.rig.group), SYMM_EPEER, "which died");
	CHECK(seen < patience(1), "%f s", seen);
	return end(&r);
}

static void test_killed(int kind)
{
	char name[64];
	int pid[3];

	snprintf(name, sizeof(name), "a killed peer: %s", kinds[kind]);
	tap_ranks_start(3, killed, &kind, pid);
	for (int rank = 0; rank < 3; rank++) {
		int status = tap_wait(pid[rank], 60);

		if (rank == 1)
			ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: rank 1 dies", name);
		else
			ok(status == 0, "%s: rank %d", name, rank);
	}
}

/* What a peer had signalled before it died is there; what it had not is an error. */
static int satisfied(int rank, void *arg)
{
	struct rank r;
	double start = seconds_now();

	(void)arg;
	DO(begin(&r, rank, 2));
	if (rank == 1) {
		GOOD(word_set(r.mem, 0, 0, 99) ? 0 : SYMM_EDEVICE);
		GOOD(symm_put_signal(r.mem, 0, 0, 0));
		GOOD(symm_put_signal(r.mem, 0, 1, 0));
		tap_rally(&shared->rally, 2);
		raise(SIGKILL);
	}
	tap_rally(&shared->rally, 2);
	while (symm_group_gone(group_of(&r), 1) == SYMM_GONE_NOT && seconds_now() - start < patience(10))
		usleep(1000);
	CHECK(symm_group_gone(group_of(&r), 1) == SYMM_GONE_DIED);
	GOOD(symm_wait_signal_on_stream(r.mem, 1, 0, LONG, r.stream));
	GOOD(symm_wait_signal(r.mem, 1, 1, LONG));
	CU(cu->cuStreamSynchronize(r.stream));
	GOOD(symm_group_status(r.rig.group));
	CHECK(word_get(r.mem, 0, 0) == 99);
	GOOD(symm_wait_signal_on_stream(r.mem, 1, 0, LONG, r.stream));
	CU(cu->cuStreamSynchronize(r.stream));
	BAD(symm_group_status(r.rig.group), SYMM_EPEER, "wait_signal on channel 0 cannot meet rank 1 (");
	return end(&r);
}

static void test_satisfied(void)
{
	int pid[2], status;

	tap_ranks_start(2, satisfied, NULL, pid);
	status = tap_wait(pid[1], 60);
	ok(WIFSIGNALED(status), "a satisfied condition wins: rank 1 dies");
	ok(tap_wait(pid[0], 60) == 0, "a satisfied condition wins: rank 0");
}

/* ---- ends of memory and of groups ---- */

/* Rank 1 frees: who waits for it is told, and nothing else fails. */
static int peer_frees(int rank, void *arg)
{
	struct rank r;
	struct symm_mem *second;
	void *ptr;

	(void)arg;
	DO(begin(&r, rank, 2));
	GOOD(rig_memory(&r.rig, 256, &ptr, &second));
	if (rank == 0) {
		GOOD(symm_wait_signal_on_stream(r.mem, 1, 0, LONG, r.stream));
		tap_rally(&shared->rally, 2);
		CU(cu->cuStreamSynchronize(r.stream));
		BAD(symm_wait_signal(r.mem, 1, 0, LONG), SYMM_ESTALE, "rank 1 (");
		BAD(symm_put_signal(r.mem, 1, 0, LONG), SYMM_ESTALE, "has freed the allocation");
		BAD(symm_barrier(r.mem, 0, LONG), SYMM_ESTALE, "rank 1 (");
	} else {
		tap_rally(&shared->rally, 2);
		nap_ms(50);
		GOOD(symm_mem_release(r.mem));
		GOOD(symm_free(r.ptr));
	}
	GOOD(symm_group_status(r.rig.group));
	GOOD(symm_barrier_on_stream(second, 0, 0, r.stream));
	CU(cu->cuStreamSynchronize(r.stream));
	GOOD(symm_group_status(r.rig.group));
	return end(&r);
}

/* What the host hears of, kernels see in the mirror first, and end. */
static int host_aborts(int rank, void *arg)
{
	struct group *group;
	struct rank r;
	struct symm_err why;
	double start;

	DO(begin(&r, rank, 2));
	if (rank == 0) {
		group = group_of(&r);
		GOOD(enqueue(&r, *(int *)arg, 3, LONG));
		if (*(int *)arg == SYMM_OP_PUT_SIGNAL)
			GOOD(enqueue(&r, *(int *)arg, 3, LONG));
		nap_ms(50);
		CHECK(cu->cuStreamQuery(r.stream) == SYMM_CUDA_NOT_READY);
		start = seconds_now();
		__atomic_store_n(&group->mirror->abort, (uint32_t)-SYMM_EPEER, __ATOMIC_RELEASE);
		symm_flag_bump(&group->mirror->news);
		CU(cu->cuStreamSynchronize(r.stream));
		start = seconds_now() - start;
		symm_err_set(&why, SYMM_EPEER, "the test failed it");
		symm_group_fail(group, 0, &why, false);
		CHECK(start < patience(SOON), "%f s", start);
		BAD(symm_group_status(r.rig.group), SYMM_EPEER, "the test failed it");
	}
	tap_rally(&shared->rally, 2);
	return end(&r);
}

/* Another rank's call fails: kernels that wait for somebody else end. */
static int peer_fails(int rank, void *arg)
{
	struct rank r;

	(void)arg;
	DO(begin(&r, rank, 3));
	if (rank == 2) {
		nap_ms(50);
		BAD(symm_barrier(r.mem, 9, 50), SYMM_ETIMEDOUT, "waiting for rank 0 (");
		shared->at = seconds_now();
	} else {
		GOOD(symm_wait_signal_on_stream(r.mem, 1 - rank, 0, LONG, r.stream));
		CU(cu->cuStreamSynchronize(r.stream));
		BAD(symm_group_status(r.rig.group), SYMM_ETIMEDOUT, "barrier on channel 9 timed out");
	}
	tap_rally(&shared->rally, 3);
	CHECK(seconds_now() - shared->at < patience(SOON), "%f s", seconds_now() - shared->at);
	return end(&r);
}

/* Two streams use one channel at once. */
static int misuse(int rank, void *arg)
{
	struct CUstream_st *second;
	struct rank r;

	(void)arg;
	DO(begin(&r, rank, 2));
	if (rank == 0) {
		CU(cu->cuStreamCreate(&second, SYMM_CUDA_STREAM_NON_BLOCKING));
		GOOD(symm_barrier_on_stream(r.mem, 0, LONG, r.stream));
		nap_ms(50);
		GOOD(symm_barrier_on_stream(r.mem, 0, LONG, second));
		CU(cu->cuStreamSynchronize(r.stream));
		CU(cu->cuStreamSynchronize(second));
		CU(cu->cuStreamDestroy(second));
	}
	CHECK(await_failure(&r) == SYMM_EBUSY);
	BAD(symm_group_status(r.rig.group), SYMM_EBUSY, "two barriers at once on channel 0");
	return end(&r);
}

/* A rank may signal itself, and a bad rank leaves no trace. */
static int to_oneself(int rank, void *arg)
{
	struct rank r;

	(void)arg;
	DO(begin(&r, rank, 2));
	if (rank == 0) {
		GOOD(symm_put_signal_on_stream(r.mem, 0, 0, 0, r.stream));
		BAD(symm_wait_signal_on_stream(r.mem, 5, 0, 0, r.stream), SYMM_EINVAL, "rank 5 is not in the group");
		GOOD(symm_wait_signal_on_stream(r.mem, 0, 0, 0, r.stream));
		CU(cu->cuStreamSynchronize(r.stream));
	}
	GOOD(symm_group_status(r.rig.group));
	return end(&r);
}

static void test(const char *name, int world, int (*run)(int rank, void *arg), void *arg)
{
	shared->rally = 0;
	tap_ranks(name, world, run, arg, 60);
}

static void test_kinds(const char *what, int world, int (*run)(int rank, void *arg))
{
	for (int kind = SYMM_OP_BARRIER; kind <= SYMM_OP_WAIT_SIGNAL; kind++) {
		char name[64];

		snprintf(name, sizeof(name), "%s: %s", what, kinds[kind]);
		test(name, world, run, &kind);
	}
}

int main(void)
{
	if (!driver_choose() || !need_device(2))
		return 0;
	shared = tap_shared(sizeof(*shared));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	if (world_fits("a time-out", 3))
		test_kinds("a time-out", 3, times_out);
	test("after a failure nothing is stored", 2, stores_nothing, NULL);
	if (world_fits("a failure spreads", 3))
		test("a failure spreads", 3, spreads, NULL);
	for (int kind = SYMM_OP_BARRIER; kind <= SYMM_OP_WAIT_SIGNAL && world_fits("a killed peer", 3); kind++) {
		shared->rally = 0;
		test_killed(kind);
	}
	shared->rally = 0;
	test_satisfied();
	test("a peer frees", 2, peer_frees, NULL);
	test_kinds("the host aborts", 2, host_aborts);
	if (world_fits("a peer fails", 3))
		test("a peer fails", 3, peer_fails, NULL);
	test("two barriers at once", 2, misuse, NULL);
	test("signals to oneself", 2, to_oneself, NULL);
	tap_redis_stop(&redis);
	return tap_done();
}
