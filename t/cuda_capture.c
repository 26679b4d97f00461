/* Work on streams of all kinds, and captured: a graph is replayed right, mixed with eager and blocking calls, and
 * whatever else is done during a capture leaves it valid. */
#include "cuda_help.h"

#include <pthread.h>

#define WORLD 2
#define CHANNELS 8 /* with a word of the block each, for each rank */

static struct tap_redis redis;

struct rank {
	struct rig rig;
	int me, peer, ordinal, rc;
	struct CUctx_st *context;
	struct symm_mem *mem;
	void *ptr;
	struct {
		uint64_t sent, got;
	} * own; /* [CHANNELS], for copies */
};

static int begin(struct rank *r, int rank)
{
	*r = (struct rank){ .rig = { .url = redis.url, .world = WORLD }, .me = rank, .peer = 1 - rank };
	DO(driver_start(rank, &r->ordinal, &r->context));
	GOOD(rig_join(&r->rig, rank));
	GOOD(rig_memory(&r->rig, CHANNELS * sizeof(uint64_t), &r->ptr, &r->mem));
	r->own = own_memory(r->rig.context, CHANNELS * sizeof(*r->own));
	CHECK(r->own != NULL);
	return 0;
}

static int end(struct rank *r)
{
	GOOD(symm_group_status(r->rig.group));
	own_memory_free(r->rig.context, r->own);
	GOOD(symm_close(r->rig.context));
	return driver_end(r->ordinal);
}

static int stream_make(struct CUstream_st **stream, unsigned int flags)
{
	CU(cu->cuStreamCreate(stream, flags));
	return 0;
}

/* One round: a word to the peer, and the peer's here, by a put, signals, a get and a barrier. */
static int enqueue_first(const struct rank *r, int channel, void *stream)
{
	size_t at = (size_t)channel * sizeof(uint64_t);

	GOOD(symm_put_on_stream(r->mem, r->peer, at, &r->own[channel].sent, 8, stream));
	GOOD(symm_put_signal_on_stream(r->mem, r->peer, channel, 0, stream));
	return 0;
}

static int enqueue_rest(const struct rank *r, int channel, void *stream)
{
	size_t at = (size_t)channel * sizeof(uint64_t);

	GOOD(symm_wait_signal_on_stream(r->mem, r->peer, channel, 0, stream));
	GOOD(symm_get_on_stream(r->mem, r->me, at, &r->own[channel].got, 8, stream));
	GOOD(symm_barrier_on_stream(r->mem, channel, 0, stream));
	return 0;
}

static int enqueue(const struct rank *r, int channel, void *stream)
{
	DO(enqueue_first(r, channel, stream));
	return enqueue_rest(r, channel, stream);
}

static int capture(const struct rank *r, int channel, struct CUstream_st *stream, struct CUgraphExec_st **exec)
{
	CU(cu->cuStreamBeginCapture(stream, SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL));
	DO(enqueue(r, channel, stream));
	return graph_end(stream, exec);
}

static uint64_t word_of(int round, int rank)
{
	return (uint64_t)round * 4 + (uint64_t)rank + 1;
}

static void set_round(const struct rank *r, int channel, int round)
{
	r->own[channel].sent = word_of(round, r->me);
}

static int check_round(const struct rank *r, int channel, int round)
{
	CHECK(r->own[channel].got == word_of(round, r->peer), "channel %d, round %d: %llu", channel, round,
	      (unsigned long long)r->own[channel].got);
	return 0;
}

/* ---- replay ---- */

/* On a channel of its own, with the caller waiting. */
static int blocking_round(const struct rank *r, int channel, int round)
{
	uint64_t got, sent = word_of(round, r->me);
	size_t at = (size_t)channel * sizeof(uint64_t);

	GOOD(symm_put(r->mem, r->peer, at, &sent, sizeof(sent)));
	GOOD(symm_put_signal(r->mem, r->peer, channel, 0));
	GOOD(symm_wait_signal(r->mem, r->peer, channel, 0));
	GOOD(symm_get(r->mem, r->me, at, &got, sizeof(got)));
	GOOD(symm_barrier(r->mem, channel, 0));
	CHECK(got == word_of(round, r->peer), "round %d", round);
	return 0;
}

/* Each round counts, whoever made it. */
static int check_counts(const struct rank *r, uint64_t n)
{
	struct symm_stats stats = SYMM_STATS_INIT;

	GOOD(symm_context_stats(r->rig.context, &stats));
	CHECK(stats.barriers == n && stats.signals_put == n && stats.signals_waited == n, "%llu, %llu, %llu, not %llu",
	      (unsigned long long)stats.barriers, (unsigned long long)stats.signals_put,
	      (unsigned long long)stats.signals_waited, (unsigned long long)n);
	return 0;
}

static int replay(int rank, void *arg)
{
	struct rank r;
	struct CUstream_st *stream;
	struct CUgraphExec_st *exec;

	(void)arg;
	DO(begin(&r, rank));
	DO(stream_make(&stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	set_round(&r, 0, 0);
	DO(capture(&r, 0, stream, &exec));
	CHECK(r.own[0].got == 0, "a capture runs nothing");
	for (int round = 1; round <= rounds(1500); round++) {
		set_round(&r, 0, round);
		if (round % 3 == 0)
			DO(enqueue(&r, 0, stream));
		else
			CU(cu->cuGraphLaunch(exec, stream));
		if (round % 8 == 0)
			DO(blocking_round(&r, 1, round));
		CU(cu->cuStreamSynchronize(stream));
		DO(check_round(&r, 0, round));
	}
	/* And many of them in a row. */
	set_round(&r, 0, 7);
	for (int i = 0; i < rounds(300); i++)
		CU(cu->cuGraphLaunch(exec, stream));
	CU(cu->cuStreamSynchronize(stream));
	DO(check_round(&r, 0, 7));
	DO(check_counts(&r, (uint64_t)(rounds(1500) + rounds(1500) / 8 + rounds(300))));
	CU(cu->cuGraphExecDestroy(exec));
	CU(cu->cuStreamDestroy(stream));
	return end(&r);
}

/* Two graphs on streams that they change, each after its own last launch. */
static int two_graphs(int rank, void *arg)
{
	struct rank r;
	struct CUstream_st *stream[2];
	struct CUgraphExec_st *exec[2];

	(void)arg;
	DO(begin(&r, rank));
	for (int i = 0; i < 2; i++)
		DO(stream_make(&stream[i], SYMM_CUDA_STREAM_NON_BLOCKING));
	for (int i = 0; i < 2; i++)
		DO(capture(&r, i, stream[i], &exec[i]));
	for (int round = 1; round <= rounds(500); round++) {
		for (int i = 0; i < 2; i++) {
			set_round(&r, i, round);
			CU(cu->cuGraphLaunch(exec[i], stream[(round + i) % 2]));
		}
		if (round % 16 == 0)
			DO(blocking_round(&r, 2, round));
		for (int i = 0; i < 2; i++)
			CU(cu->cuStreamSynchronize(stream[i]));
		for (int i = 0; i < 2; i++)
			DO(check_round(&r, i, round));
	}
	for (int i = 0; i < 2; i++) {
		CU(cu->cuGraphExecDestroy(exec[i]));
		CU(cu->cuStreamDestroy(stream[i]));
	}
	return end(&r);
}

/* Both graphs use one channel, and one after the other replays it. */
static int one_channel(int rank, void *arg)
{
	struct rank r;
	struct CUstream_st *stream;
	struct CUgraphExec_st *exec[2];

	(void)arg;
	DO(begin(&r, rank));
	DO(stream_make(&stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	for (int i = 0; i < 2; i++)
		DO(capture(&r, 3, stream, &exec[i]));
	for (int round = 1; round <= rounds(200); round++) {
		set_round(&r, 3, round);
		CU(cu->cuGraphLaunch(exec[round % 2], stream));
		CU(cu->cuGraphLaunch(exec[round / 2 % 2], stream));
		DO(enqueue(&r, 3, stream));
		CU(cu->cuStreamSynchronize(stream));
		DO(check_round(&r, 3, round));
	}
	for (int i = 0; i < 2; i++)
		CU(cu->cuGraphExecDestroy(exec[i]));
	CU(cu->cuStreamDestroy(stream));
	return end(&r);
}

/* ---- what is done during a capture ---- */

struct busy {
	struct rank *r;
	struct CUstream_st *capturing;
	int rc;
};

static int is_capturing(const struct busy *b)
{
	enum symm_cuda_capture_status status = SYMM_CUDA_STREAM_CAPTURE_STATUS_NONE;
	struct CUctx_st *before;

	CU(cu->cuCtxGetCurrent(&before));
	CU(cu->cuCtxSetCurrent(b->r->context));
	CU(cu->cuStreamIsCapturing(b->capturing, &status));
	CU(cu->cuCtxSetCurrent(before));
	CHECK(status == SYMM_CUDA_STREAM_CAPTURE_STATUS_ACTIVE, "%d", (int)status);
	return 0;
}

/* The call, after which the capture is still valid. */
#define VALID(call)                                                                                                    \
	do {                                                                                                           \
		GOOD(call);                                                                                            \
		DO(is_capturing(b));                                                                                   \
	} while (0)

static int busy_with_memory(const struct busy *b, struct symm_group *group)
{
	const struct rank *r = b->r;
	struct symm_stats stats = SYMM_STATS_INIT;
	struct symm_mem *mem;
	uint64_t word = 7, got = 0;
	void *ptr;

	BAD(symm_alloc(group, (size_t)1 << 44, NULL, &ptr), SYMM_ENOMEM, "");
	VALID(symm_alloc(group, 64, NULL, &ptr));
	VALID(symm_rendezvous(ptr, group, 0, &mem));
	VALID(symm_put(mem, r->peer, 0, &word, sizeof(word)));
	VALID(symm_barrier(mem, 0, 0));
	VALID(symm_get(mem, r->me, 0, &got, sizeof(got)));
	CHECK(got == 7);
	VALID(symm_put_signal(mem, r->peer, 1, 0));
	VALID(symm_wait_signal(mem, r->peer, 1, 0));
	VALID(symm_context_stats(r->rig.context, &stats));
	VALID(symm_mem_release(mem));
	VALID(symm_free(ptr));
	return 0;
}

static int busy_with_stream(const struct busy *b)
{
	const struct rank *r = b->r;
	void *stream;

	VALID(symm_stream_create(r->rig.context, &stream));
	VALID(symm_barrier_on_stream(r->mem, 7, 0, stream));
	VALID(symm_put_on_stream(r->mem, r->peer, 56, &r->own[7].sent, 8, stream));
	VALID(symm_stream_synchronize(stream, 0));
	VALID(symm_stream_destroy(stream));
	return 0;
}

static int be_busy(const struct busy *b)
{
	const struct rank *r = b->r;
	struct symm_context *second;
	struct symm_group *group;
	struct rig rig = r->rig;

	VALID(symm_group_status(r->rig.group));
	DO(busy_with_memory(b, r->rig.group));
	DO(busy_with_stream(b));
	VALID(symm_group_join(r->rig.context, "second", SYMM_AUTO, SYMM_AUTO, 0, &group));
	DO(busy_with_memory(b, group));
	VALID(symm_group_leave(group));
	VALID(rig_open(&rig, r->me));
	second = rig.context;
	VALID(symm_close(second));
	DO(blocking_round(r, 6, 3));
	return is_capturing(b);
}

static void *busy_thread(void *arg)
{
	struct busy *b = arg;

	b->rc = be_busy(b);
	return NULL;
}

struct during {
	const char *name;
	enum symm_cuda_capture_mode mode;
	bool same_thread, other_thread;
	unsigned int flags; /* of the stream */
};

/* The thread that captures goes on while the other is busy; both at once would be two collectives in one order only by
 * chance. */
static int busy_all(const struct during *d, struct busy *b)
{
	pthread_t thread;

	if (d->same_thread)
		DO(be_busy(b));
	if (!d->other_thread)
		return 0;
	CHECK(pthread_create(&thread, NULL, busy_thread, b) == 0);
	pthread_join(thread, NULL);
	return b->rc;
}

static int during(int rank, void *arg)
{
	const struct during *d = arg;
	struct CUstream_st *stream;
	struct CUgraphExec_st *exec;
	struct rank r;
	struct busy b = { .r = &r };

	DO(begin(&r, rank));
	DO(stream_make(&stream, d->flags));
	b.capturing = stream;
	CU(cu->cuStreamBeginCapture(stream, d->mode));
	DO(enqueue_first(&r, 4, stream));
	DO(busy_all(d, &b));
	DO(enqueue_rest(&r, 4, stream));
	DO(busy_all(d, &b));
	DO(graph_end(stream, &exec));
	for (int round = 1; round <= rounds(50); round++) {
		set_round(&r, 4, round);
		CU(cu->cuGraphLaunch(exec, stream));
		CU(cu->cuStreamSynchronize(stream));
		DO(check_round(&r, 4, round));
	}
	CU(cu->cuGraphExecDestroy(exec));
	CU(cu->cuStreamDestroy(stream));
	return end(&r);
}

/* The default stream would have to wait for the capture: refused, and the capture is none the worse. */
static int legacy_meanwhile(int rank, void *arg)
{
	struct CUstream_st *stream;
	struct CUgraphExec_st *exec;
	struct rank r;
	struct busy b = { .r = &r };

	(void)arg;
	DO(begin(&r, rank));
	DO(stream_make(&stream, 0));
	b.capturing = stream;
	CU(cu->cuStreamBeginCapture(stream, SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	DO(enqueue_first(&r, 0, stream));
	BAD(symm_barrier_on_stream(r.mem, 1, 0, NULL), SYMM_EINVAL,
	    "default stream cannot be used while another stream is captured");
	DO(is_capturing(&b));
	BAD(symm_put_on_stream(r.mem, r.peer, 0, &r.own[1].sent, 8, SYMM_CUDA_STREAM_LEGACY), SYMM_EINVAL, "captured");
	DO(is_capturing(&b));
	DO(enqueue_rest(&r, 0, stream));
	DO(graph_end(stream, &exec));
	set_round(&r, 0, 1);
	CU(cu->cuGraphLaunch(exec, stream));
	CU(cu->cuStreamSynchronize(stream));
	DO(check_round(&r, 0, 1));
	CU(cu->cuGraphExecDestroy(exec));
	CU(cu->cuStreamDestroy(stream));
	return end(&r);
}

/* A captured launch is not counted as work under way: the allocation can be freed once the graph is gone. */
static int free_after_graph(int rank, void *arg)
{
	struct CUstream_st *stream;
	struct CUgraphExec_st *exec;
	struct rank r;

	(void)arg;
	DO(begin(&r, rank));
	DO(stream_make(&stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	DO(capture(&r, 0, stream, &exec));
	CU(cu->cuGraphLaunch(exec, stream));
	CU(cu->cuStreamSynchronize(stream));
	CU(cu->cuGraphExecDestroy(exec));
	GOOD(symm_mem_release(r.mem));
	GOOD(symm_free(r.ptr));
	CU(cu->cuStreamDestroy(stream));
	return end(&r);
}

/* ---- kinds of streams ---- */

static int wait_for(const struct rank *r, void *stream, bool is_symms)
{
	struct CUctx_st *before;

	if (is_symms) {
		GOOD(symm_stream_synchronize(stream, 0));
		return 0;
	}
	CU(cu->cuCtxGetCurrent(&before));
	CU(cu->cuCtxSetCurrent(r->context));
	CU(cu->cuStreamSynchronize(stream));
	CU(cu->cuCtxSetCurrent(before));
	return 0;
}

static int streams(int rank, void *arg)
{
	struct CUstream_st *own[2];
	void *symms, *kinds[6];
	struct rank r;

	(void)arg;
	DO(begin(&r, rank));
	DO(stream_make(&own[0], SYMM_CUDA_STREAM_NON_BLOCKING));
	DO(stream_make(&own[1], 0));
	GOOD(symm_stream_create(r.rig.context, &symms));
	memcpy(kinds, (void *[]){ symms, own[0], own[1], NULL, SYMM_CUDA_STREAM_LEGACY, SYMM_CUDA_STREAM_PER_THREAD },
	       sizeof(kinds));
	for (int round = 0; round < 2 * rounds(20); round++) {
		/* With the context that they belong to, and with none. */
		CU(cu->cuCtxSetCurrent(round % 2 == 0 ? r.context : NULL));
		for (int kind = 0; kind < 6; kind++) {
			set_round(&r, 5, 6 * round + kind);
			DO(enqueue(&r, 5, kinds[kind]));
			DO(wait_for(&r, kinds[kind], kind == 0));
			DO(check_round(&r, 5, 6 * round + kind));
		}
	}
	CU(cu->cuCtxSetCurrent(r.context));
	GOOD(symm_stream_destroy(symms));
	for (int i = 0; i < 2; i++)
		CU(cu->cuStreamDestroy(own[i]));
	return end(&r);
}

/* Neither a stream of another device nor what is no stream is taken, and nothing has been enqueued. */
static int foreign_streams(int rank, void *arg)
{
	struct CUstream_st *other;
	struct rank r;
	int ordinal;

	(void)arg;
	DO(begin(&r, rank));
	DO(foreign_begin(r.ordinal, &ordinal, &other));
	if (other != NULL) {
		BAD(symm_barrier_on_stream(r.mem, 0, 0, other), SYMM_EINVAL, "belongs to another device or context");
		BAD(symm_put_signal_on_stream(r.mem, r.peer, 0, 0, other), SYMM_EINVAL, "symm_put_signal_on_stream: ");
		BAD(symm_get_on_stream(r.mem, r.me, 0, &r.own[0].got, 8, other), SYMM_EINVAL, "another device");
		DO(foreign_end(ordinal, other, r.context));
	}
	if (faked())
		BAD(symm_barrier_on_stream(r.mem, 0, 0, r.own), SYMM_EINVAL, "is not a stream of cuda:");
	DO(blocking_round(&r, 0, 1));
	return end(&r);
}

/* Two ranks of one process on one device: on the default stream they would wait for each other. */
static int crowd(struct rank *r)
{
	void *stream, *kinds[2];

	GOOD(rig_enter(&r->rig));
	GOOD(rig_memory(&r->rig, CHANNELS * sizeof(uint64_t), &r->ptr, &r->mem));
	r->own = own_memory(r->rig.context, CHANNELS * sizeof(*r->own));
	CHECK(r->own != NULL);
	GOOD(symm_stream_create(r->rig.context, &stream));
	BAD(symm_barrier_on_stream(r->mem, 0, 0, NULL), SYMM_EINVAL, "use a stream made with symm_stream_create");
	BAD(symm_barrier_on_stream(r->mem, 0, 0, SYMM_CUDA_STREAM_LEGACY), SYMM_EINVAL, "symm_stream_create");
	kinds[0] = stream;
	kinds[1] = SYMM_CUDA_STREAM_PER_THREAD;
	for (int round = 0; round < rounds(50); round++) {
		set_round(r, 0, round);
		DO(enqueue(r, 0, kinds[round % 2]));
		DO(wait_for(r, kinds[round % 2], round % 2 == 0));
		DO(check_round(r, 0, round));
	}
	own_memory_free(r->rig.context, r->own);
	GOOD(symm_stream_destroy(stream));
	return 0;
}

static void *crowd_thread(void *arg)
{
	struct rank *r = arg;

	r->rc = crowd(r);
	return NULL;
}

static int crowded(int rank, void *arg)
{
	struct rank r[WORLD];
	pthread_t thread[WORLD];

	(void)arg;
	for (int i = 0; i < WORLD; i++) {
		r[i] = (struct rank){ .rig = { .url = redis.url, .world = WORLD }, .me = i, .peer = 1 - i };
		DO(driver_start(rank, &r[i].ordinal, &r[i].context));
		GOOD(rig_open(&r[i].rig, i));
	}
	for (int i = 0; i < WORLD; i++)
		CHECK(pthread_create(&thread[i], NULL, crowd_thread, &r[i]) == 0);
	for (int i = 0; i < WORLD; i++) {
		pthread_join(thread[i], NULL);
		CHECK(r[i].rc == 0, "rank %d", i);
	}
	for (int i = 0; i < WORLD; i++) {
		GOOD(symm_close(r[i].rig.context));
		DO(driver_end(r[i].ordinal));
	}
	return 0;
}

int main(void)
{
	static const struct {
		const char *name;
		int world;
		int (*run)(int rank, void *arg);
	} tests[] = {
		{ "a graph, replayed", WORLD, replay },
		{ "two graphs", WORLD, two_graphs },
		{ "two graphs on one channel", WORLD, one_channel },
		{ "the default stream during a capture", WORLD, legacy_meanwhile },
		{ "free after a graph", WORLD, free_after_graph },
		{ "streams of all kinds", WORLD, streams },
		{ "streams of others", WORLD, foreign_streams },
		{ "ranks of one process", 1, crowded },
	};
	static struct during captures[] = {
		{ "this thread, global", SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL, true, false, 1 },
		{ "this thread, thread-local", SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL, true, false, 1 },
		{ "another thread, global", SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL, false, true, 1 },
		{ "another thread, thread-local", SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL, false, true, 1 },
		{ "both threads, global, a blocking stream", SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL, true, true, 0 },
	};

	if (!driver_choose() || !need_device(WORLD))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tap_ranks(tests[i].name, tests[i].world, tests[i].run, NULL, 120);
	for (size_t i = 0; i < sizeof(captures) / sizeof(captures[0]); i++) {
		char name[96];

		snprintf(name, sizeof(name), "busy during a capture: %s", captures[i].name);
		tap_ranks(name, WORLD, during, &captures[i], 120);
	}
	tap_redis_stop(&redis);
	return tap_done();
}
