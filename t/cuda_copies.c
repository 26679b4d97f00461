/* What moves data, on the CUDA device: captured, replayed and mixed with calls of other kinds; what of it kernels do
 * and what the driver; and memory that stays as long as work on a stream uses it. */
#include "cuda_help.h"

#define WORLD 2
#define CHANNEL 2
#define SMALL ((size_t)256 << 10) /* the most that one kernel carries */
#define LARGE (2 * SMALL)
#define FILL UINT64_C(0x0505050505050505)
#define VALUE UINT64_C(0x123456789abcdef0)

/* Where what stands in a block, in words of 8 bytes. */
enum { AT_SMALL, AT_LARGE = SMALL / 8, AT_FILL = (SMALL + LARGE) / 8, AT_COPY = AT_FILL + 2, AT_VALUE, WORDS };

static struct tap_redis redis;

/* For copies, where kernels and the host reach it. */
struct own {
	uint64_t sent[LARGE / 8];
	uint64_t got[7];
};

struct rank {
	struct rig rig;
	int me, peer, ordinal;
	struct CUctx_st *context;
	struct symm_mem *mem;
	void *ptr;
	struct CUstream_st *stream;
	struct own *own;
};

static int begin(struct rank *r, int rank, int64_t timeout_ms)
{
	*r = (struct rank){ .rig = { .url = redis.url, .world = WORLD, .timeout_ms = timeout_ms },
			    .me = rank,
			    .peer = 1 - rank };
	DO(driver_start(rank, &r->ordinal, &r->context));
	GOOD(rig_join(&r->rig, rank));
	GOOD(rig_memory(&r->rig, WORDS * sizeof(uint64_t), &r->ptr, &r->mem));
	CU(cu->cuStreamCreate(&r->stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	r->own = own_memory(r->rig.context, sizeof(*r->own));
	CHECK(r->own != NULL);
	return 0;
}

static int end(struct rank *r)
{
	GOOD(symm_group_status(r->rig.group));
	CU(cu->cuStreamDestroy(r->stream));
	own_memory_free(r->rig.context, r->own);
	GOOD(symm_close(r->rig.context));
	return driver_end(r->ordinal);
}

/* ---- rounds of everything ---- */

static int enqueue_sends(const struct rank *r)
{
	const uint64_t *sent = r->own->sent;

	GOOD(symm_put_with_signal_on_stream(r->mem, r->peer, AT_SMALL * 8, sent, SMALL, CHANNEL, 0, r->stream));
	GOOD(symm_put_with_signal_on_stream(r->mem, r->peer, AT_LARGE * 8, sent, LARGE, CHANNEL + 1, 0, r->stream));
	GOOD(symm_memset32_on_stream(r->mem, r->peer, AT_FILL * 8, (uint32_t)FILL, 4, r->stream));
	GOOD(symm_copy_on_stream(r->mem, r->peer, AT_COPY * 8, r->peer, SMALL - 8, 8, r->stream));
	GOOD(symm_write_value_on_stream(r->mem, r->peer, AT_VALUE * 8, VALUE, 8, r->stream));
	GOOD(symm_put_signal_on_stream(r->mem, r->peer, CHANNEL + 2, 0, r->stream));
	return 0;
}

/* Fetches what has come, clears what is the same each time, and lets the peer go on. */
static int enqueue_receives(const struct rank *r)
{
	static const size_t words[] = { AT_SMALL, AT_LARGE - 1, AT_LARGE, AT_FILL - 1, AT_FILL + 1, AT_COPY, AT_VALUE };

	for (int i = 0; i < 3; i++)
		GOOD(symm_wait_signal_on_stream(r->mem, r->peer, CHANNEL + i, 0, r->stream));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		GOOD(symm_get_on_stream(r->mem, r->me, words[i] * 8, &r->own->got[i], 8, r->stream));
	GOOD(symm_memset32_on_stream(r->mem, r->me, AT_FILL * 8, 0, 8, r->stream));
	GOOD(symm_barrier_on_stream(r->mem, CHANNEL, 0, r->stream));
	return 0;
}

static int enqueue(const struct rank *r)
{
	DO(enqueue_sends(r));
	return enqueue_receives(r);
}

/* The same with the caller waiting; what is sent is pageable memory. */
static int blocking_round(const struct rank *r, int round)
{
	uint64_t *sent = malloc(LARGE), got;
	size_t at = (round % 2 == 0 ? AT_SMALL : AT_LARGE) * 8, bytes = round % 2 == 0 ? SMALL : LARGE;

	CHECK(sent != NULL);
	sent[0] = (uint64_t)round;
	sent[bytes / 8 - 1] = ~(uint64_t)round;
	GOOD(symm_put_with_signal(r->mem, r->peer, at, sent, bytes, CHANNEL, 0));
	GOOD(symm_wait_signal(r->mem, r->peer, CHANNEL, 0));
	GOOD(symm_get(r->mem, r->me, at, &got, 8));
	CHECK(got == (uint64_t)round, "round %d", round);
	GOOD(symm_get(r->mem, r->me, at + bytes - 8, &got, 8));
	CHECK(got == ~(uint64_t)round, "round %d", round);
	GOOD(symm_copy(r->mem, r->peer, AT_COPY * 8, r->me, at, 8));
	GOOD(symm_memset32(r->mem, r->peer, AT_VALUE * 8, 0, 2));
	GOOD(symm_write_value(r->mem, r->peer, AT_VALUE * 8, (uint64_t)round, 4));
	GOOD(symm_barrier(r->mem, CHANNEL, 0));
	CHECK(word_get(r->mem, r->me, AT_VALUE) == (uint64_t)round, "round %d", round);
	GOOD(symm_barrier(r->mem, CHANNEL, 0));
	free(sent);
	return 0;
}

static uint64_t word_of(int round, int rank, bool last)
{
	return (uint64_t)round * 8 + (uint64_t)rank * 2 + last + 1;
}

static void set_round(const struct rank *r, int round)
{
	uint64_t *sent = r->own->sent;

	sent[0] = word_of(round, r->me, false);
	sent[SMALL / 8 - 1] = sent[LARGE / 8 - 1] = word_of(round, r->me, true);
}

static int check_round(const struct rank *r, int round)
{
	uint64_t first = word_of(round, r->peer, false), last = word_of(round, r->peer, true);
	const uint64_t expected[] = { first, last, first, last, FILL, last, VALUE };

	for (int i = 0; i < 7; i++)
		CHECK(r->own->got[i] == expected[i], "round %d, %d: %llx", round, i,
		      (unsigned long long)r->own->got[i]);
	return 0;
}

static int replay(int rank, void *arg)
{
	struct CUgraphExec_st *exec;
	struct rank r;

	(void)arg;
	DO(begin(&r, rank, 0));
	CU(cu->cuStreamBeginCapture(r.stream, SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL));
	DO(enqueue(&r));
	DO(graph_end(r.stream, &exec));
	CHECK(word_get(r.mem, r.me, AT_VALUE) == 0, "a capture runs nothing");
	GOOD(symm_barrier(r.mem, 0, 0));
	for (int round = 1; round <= rounds(300); round++) {
		set_round(&r, round);
		if (round % 3 == 0)
			DO(enqueue(&r));
		else
			CU(cu->cuGraphLaunch(exec, r.stream));
		CU(cu->cuStreamSynchronize(r.stream));
		DO(check_round(&r, round));
		if (round % 4 == 0)
			DO(blocking_round(&r, round));
	}
	CU(cu->cuGraphExecDestroy(exec));
	return end(&r);
}

/* ---- who does it ---- */

/* What the driver is asked for. */
struct calls {
	int copies, fills, kernels;
};

static struct calls calls_now(void)
{
	return (struct calls){ fake_calls("cuMemcpyAsync"), fake_calls("cuMemsetD32Async"),
			       fake_calls("cuLaunchKernel") + fake_calls("cuLaunchKernelEx") };
}

#define ASKED(call, copies_, fills_, kernels_)                                                                         \
	do {                                                                                                           \
		struct calls before_ = calls_now(), after_;                                                            \
		GOOD(call);                                                                                            \
		after_ = calls_now();                                                                                  \
		CHECK(after_.copies - before_.copies == (copies_) && after_.fills - before_.fills == (fills_) &&       \
			      after_.kernels - before_.kernels == (kernels_),                                          \
		      "%s: %d copies, %d fills, %d kernels", #call, after_.copies - before_.copies,                    \
		      after_.fills - before_.fills, after_.kernels - before_.kernels);                                 \
	} while (0)

/* To this rank itself; each signal is consumed. */
static int ask_for_payloads(const struct rank *r, void *pageable)
{
	const struct {
		const void *src;
		size_t bytes;
		int copies;
	} cases[] = {
		{ r->own->sent, 8, 0 },
		{ r->own->sent, SMALL, 0 },
		{ r->own->sent, SMALL + 1, 1 },
		{ (char *)r->ptr + LARGE, 8, 0 },
		{ pageable, 8, 1 },
		{ pageable, LARGE, 1 },
		{ NULL, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const void *src = cases[i].src;
		size_t bytes = cases[i].bytes;

		ASKED(symm_put_with_signal_on_stream(r->mem, r->me, 0, src, bytes, 0, 0, r->stream), cases[i].copies, 0,
		      1);
		GOOD(symm_wait_signal_on_stream(r->mem, r->me, 0, 0, r->stream));
		CU(cu->cuStreamSynchronize(r->stream));
		ASKED(symm_put_with_signal(r->mem, r->me, 0, src, bytes, 0, 0), cases[i].copies, 0, 1);
		GOOD(symm_wait_signal(r->mem, r->me, 0, 0));
	}
	return 0;
}

/* A copy and a fill are the driver's; a kernel counts them, unless they are captured. */
static int asked(int rank, void *arg)
{
	void *pageable = calloc(1, LARGE);
	struct CUgraphExec_st *exec;
	struct rank r;

	(void)arg;
	DO(begin(&r, rank, 0));
	DO(ask_for_payloads(&r, pageable));
	ASKED(symm_copy_on_stream(r.mem, r.peer, 0, r.me, 0, 8, r.stream), 1, 0, 1);
	ASKED(symm_memset32_on_stream(r.mem, r.peer, 0, 1, 2, r.stream), 0, 1, 1);
	ASKED(symm_write_value_on_stream(r.mem, r.peer, 0, 1, 8, r.stream), 0, 0, 1);
	ASKED(symm_memset32_on_stream(r.mem, r.peer, 0, 1, 0, r.stream), 0, 0, 0);
	CU(cu->cuStreamSynchronize(r.stream));
	ASKED(symm_copy(r.mem, r.peer, 0, r.me, 0, 8), 1, 0, 0);
	ASKED(symm_memset32(r.mem, r.peer, 0, 1, 2), 0, 1, 0);
	ASKED(symm_write_value(r.mem, r.peer, 0, 1, 8), 0, 0, 1);
	CU(cu->cuStreamBeginCapture(r.stream, SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL));
	ASKED(symm_copy_on_stream(r.mem, r.peer, 0, r.me, 0, 8, r.stream), 1, 0, 0);
	ASKED(symm_memset32_on_stream(r.mem, r.peer, 0, 1, 2, r.stream), 0, 1, 0);
	ASKED(symm_write_value_on_stream(r.mem, r.peer, 0, 1, 8, r.stream), 0, 0, 1);
	ASKED(symm_put_with_signal_on_stream(r.mem, r.me, 0, r.own->sent, LARGE, 0, 0, r.stream), 1, 0, 1);
	DO(graph_end(r.stream, &exec));
	CU(cu->cuGraphExecDestroy(exec));
	free(pageable);
	return end(&r);
}

/* ---- failures ---- */

/* What the driver refuses is told, nothing of it is left, and the next call goes through. */
static int refused(int rank, void *arg)
{
	struct rank r;

	(void)arg;
	DO(begin(&r, rank, 0));
	fake_fail("cuMemsetD32Async:*=2");
	BAD(symm_memset32_on_stream(r.mem, r.peer, 0, 1, 2, r.stream), SYMM_ENOMEM, "cannot enqueue a fill on cuda:");
	BAD(symm_memset32(r.mem, r.peer, 0, 1, 2), SYMM_ENOMEM, "cannot fill 8 bytes on cuda:");
	fake_fail("cuMemcpyAsync:*=2");
	BAD(symm_copy_on_stream(r.mem, r.peer, 0, r.me, 0, 8, r.stream), SYMM_ENOMEM, "cannot enqueue a copy on cuda:");
	BAD(symm_put_with_signal_on_stream(r.mem, r.peer, 0, r.own->sent, LARGE, 0, 0, r.stream), SYMM_ENOMEM,
	    "cannot enqueue a copy with its signal on cuda:");
	BAD(symm_put_with_signal(r.mem, r.peer, 0, r.own->sent, LARGE, 0, 0), SYMM_ENOMEM, "cannot copy 524288 bytes");
	fake_fail("cuLaunchKernel:*=2,cuLaunchKernelEx:*=2");
	BAD(symm_put_with_signal_on_stream(r.mem, r.peer, 0, r.own->sent, LARGE, 0, 0, r.stream), SYMM_ENOMEM,
	    "cannot enqueue a copy with its signal on cuda:");
	BAD(symm_write_value_on_stream(r.mem, r.peer, 0, 1, 8, r.stream), SYMM_ENOMEM,
	    "cannot enqueue a value on cuda:");
	BAD(symm_write_value(r.mem, r.peer, 0, 1, 8), SYMM_ENOMEM, "cannot launch a kernel on cuda:");
	fake_fail(NULL);
	GOOD(symm_barrier(r.mem, 0, 0));
	DO(blocking_round(&r, 1));
	return end(&r);
}

/* A stream of another device is not taken, and nothing has been enqueued. */
static int foreign_streams(int rank, void *arg)
{
	struct CUstream_st *other;
	struct rank r;
	int ordinal;

	(void)arg;
	DO(begin(&r, rank, 0));
	DO(foreign_begin(r.ordinal, &ordinal, &other));
	if (other != NULL) {
		BAD(symm_copy_on_stream(r.mem, 0, 0, 1, 0, 8, other), SYMM_EINVAL, "another device or context");
		BAD(symm_memset32_on_stream(r.mem, 0, 0, 1, 1, other), SYMM_EINVAL, "another device or context");
		BAD(symm_write_value_on_stream(r.mem, 0, 0, 1, 8, other), SYMM_EINVAL, "another device or context");
		BAD(symm_put_with_signal_on_stream(r.mem, 0, 0, r.own->sent, 8, 0, 0, other), SYMM_EINVAL,
		    "another device or context");
		BAD(symm_put_with_signal_on_stream(r.mem, 0, 0, r.own->sent, LARGE, 0, 0, other), SYMM_EINVAL,
		    "another device or context");
		DO(foreign_end(ordinal, other, r.context));
	}
	CHECK(word_get(r.mem, r.me, 0) == 0);
	GOOD(symm_barrier(r.mem, 0, 0));
	DO(blocking_round(&r, 1));
	return end(&r);
}

/* ---- work under way ---- */

/* Behind a busy stream each of them holds the memory; the driver takes no unmapping of what is in use. */
static int free_meanwhile(int rank, void *arg)
{
	uint32_t *flag;
	struct rank r;

	(void)arg;
	DO(begin(&r, rank, 300));
	flag = own_memory(r.rig.context, 64);
	CHECK(flag != NULL);
	GOOD(symm_barrier(r.mem, 0, 20000));
	DO(spin(r.stream, flag));
	GOOD(symm_put_with_signal_on_stream(r.mem, r.me, 0, r.own->sent, 8, 0, 0, r.stream));
	GOOD(symm_put_with_signal_on_stream(r.mem, r.me, 0, r.own->sent, LARGE, 1, 0, r.stream));
	GOOD(symm_copy_on_stream(r.mem, r.me, 0, r.peer, 64, 8, r.stream));
	GOOD(symm_memset32_on_stream(r.mem, r.me, 0, 1, 8, r.stream));
	GOOD(symm_write_value_on_stream(r.mem, r.me, 0, 1, 8, r.stream));
	GOOD(symm_mem_release(r.mem));
	BAD(symm_free(r.ptr), SYMM_EBUSY, "5 pieces of work still use this symm_mem");
	__atomic_store_n(flag, 1, __ATOMIC_RELEASE);
	GOOD(symm_free(r.ptr));
	CU(cu->cuStreamSynchronize(r.stream));
	own_memory_free(r.rig.context, flag);
	return end(&r);
}

int main(void)
{
	static const struct {
		const char *name;
		int (*run)(int rank, void *arg);
		bool fake;
	} tests[] = {
		{ "a graph, replayed", replay, false },
		{ "what the driver is asked for", asked, true },
		{ "what the driver refuses", refused, true },
		{ "streams of others", foreign_streams, false },
		{ "free while a stream is busy", free_meanwhile, true },
	};

	if (!driver_choose() || !need_device(WORLD))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (!tests[i].fake || fake_only(tests[i].name, WORLD))
			tap_ranks(tests[i].name, WORLD, tests[i].run, NULL, 60);
	tap_redis_stop(&redis);
	return tap_done();
}
