/* device_header.c: symm/device.cuh in kernels, in the scopes of a thread, a warp and a block: they pass messages in
 * both directions within one kernel, they meet host calls, they refuse wrong arguments, they end after a time-out, and
 * so do loops of users' own; and what a barrier and a signal cost there. Kernels are in t/cuda/calls.h.
 *
 * usage: device_header [ROUNDS]       of each exchange of messages (20000)
 */
#include "gpu.h"

#include "t/cuda/calls.h"

#include <stdlib.h>

enum { WORDS = 64, LANES = 16, BLIND_ROUNDS = 500, WAIT_MS = 50, SAMPLES = 9, MOST_THREADS = 512 };

#define MS UINT64_C(1000000)

/* A scope, in a block of so many threads: whole warps and not, and threads that each go their own way. */
static const struct shape {
	const char *name;
	uint32_t scope;
	unsigned threads;
} shapes[] = { { "thread", TEST_THREAD, 1 },   { "warp", TEST_WARP, 32 },        { "block", TEST_BLOCK, 256 },
	       { "threads", TEST_THREAD, 16 }, { "block_512", TEST_BLOCK, 512 }, { "block_48", TEST_BLOCK, 48 },
	       { "block_16", TEST_BLOCK, 16 } };
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]), TIMED = 3 };

struct result {
	uint32_t wrong;
	int32_t code;
	int32_t codes[MOST_THREADS];
};

struct scopes {
	struct gpu *gpu;
	struct CUfunc_st *exchange, *call;
	struct CUstream_st *stream;
	struct CUevent_st *from, *to;
	struct symm_mem *mem;
	struct symm_device_view view;
	struct result *result; /* of the device */
	int partner;
	struct test_flag flag; /* LANES of them */
};

static int start(struct scopes *s, void **block)
{
	struct gpu *gpu = s->gpu;
	void *result;

	s->partner = gpu->rank ^ 1;
	CHECK(gpu->world % 2 == 0, "wants pairs of ranks");
	GOOD(rig_join(&gpu->rig, gpu->rank));
	s->flag.offset = (size_t)2 * LANES * gpu->world * WORDS * sizeof(uint64_t);
	GOOD(rig_memory(&gpu->rig, s->flag.offset + LANES * sizeof(uint64_t), block, &s->mem));
	GOOD(symm_mem_device_view(s->mem, &s->view));
	DO(gpu_kernel(gpu, "test_exchange", &s->exchange));
	DO(gpu_kernel(gpu, "test_call", &s->call));
	DO(gpu_alloc(gpu, sizeof(struct result), &result));
	s->result = result;
	CU(gpu->cu->cuStreamCreate(&s->stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	CU(gpu->cu->cuEventCreate(&s->from, 0));
	CU(gpu->cu->cuEventCreate(&s->to, 0));
	return 0;
}

static int stop(struct scopes *s, void *block)
{
	const struct gpu *gpu = s->gpu;

	CU(gpu->cu->cuEventDestroy(s->from));
	CU(gpu->cu->cuEventDestroy(s->to));
	CU(gpu->cu->cuStreamDestroy(s->stream));
	CU(gpu->cu->cuMemFree(gpu_address(s->result)));
	GOOD(symm_mem_release(s->mem));
	GOOD(symm_free(block));
	GOOD(symm_close(gpu->rig.context));
	return 0;
}

static int clear(const struct scopes *s)
{
	const struct gpu *gpu = s->gpu;

	CU(gpu->cu->cuMemsetD8Async(gpu_address(s->result), 0, sizeof(struct result), s->stream));
	return 0;
}

static int fetch(const struct scopes *s, struct result *result)
{
	const struct gpu *gpu = s->gpu;

	CU(gpu->cu->cuStreamSynchronize(s->stream));
	CU(gpu->cu->cuMemcpyDtoH(result, gpu_address(s->result), sizeof(*result)));
	return 0;
}

/* ---- messages ---- */

static struct test_exchange exchange_of(const struct scopes *s, const struct shape *shape, uint32_t meeting, int rounds)
{
	return (struct test_exchange){ .view = s->view,
				       .scope = shape->scope,
				       .meeting = meeting,
				       .flag = s->flag,
				       .partner = s->partner,
				       .channel = 1,
				       .rounds = (uint32_t)rounds,
				       .words = WORDS,
				       .timeout_ns = 30000 * MS,
				       .wrong = &s->result->wrong,
				       .code = &s->result->code };
}

static int launch(const struct scopes *s, const struct shape *shape, struct test_exchange *exchange)
{
	void *params[] = { exchange };

	return gpu_launch(s->gpu, s->exchange, 1, shape->threads, params, s->stream);
}

static int messages(struct scopes *s, const struct shape *shape, uint32_t meeting, int n, double *wrong)
{
	struct test_exchange exchange = exchange_of(s, shape, meeting, n);
	struct result result;

	DO(clear(s));
	DO(launch(s, shape, &exchange));
	DO(fetch(s, &result));
	CHECK(result.code == 0, "%s: code %d", shape->name, result.code);
	*wrong += result.wrong;
	if (meeting == TEST_FLAGS)
		s->flag.value += (uint64_t)n;
	return 0;
}

/* Without a barrier words must be wrong: the check can fail. */
static int blind(const struct scopes *s)
{
	struct test_exchange exchange = exchange_of(s, &shapes[2], TEST_BARRIERS, BLIND_ROUNDS);
	struct result result;

	exchange.blind = 1;
	GOOD(symm_barrier(s->mem, 0, 0));
	DO(clear(s));
	DO(launch(s, &shapes[2], &exchange));
	DO(fetch(s, &result));
	GOOD(symm_barrier(s->mem, 0, 0));
	CHECK(gpu_most(s->gpu, result.wrong) > 0, "without barriers all words were right");
	return 0;
}

static int pass_messages(struct scopes *s, int n)
{
	double wrong = 0;

	for (int i = 0; i < SHAPES; i++)
		for (uint32_t meeting = 0; meeting < TEST_MEETINGS; meeting++)
			DO(messages(s, &shapes[i], meeting, n, &wrong));
	gpu_figure("device.wrong", wrong, "words");
	CHECK(wrong == 0);
	return blind(s);
}

/* ---- single calls ---- */

/* All threads have the same code. */
static int call(const struct scopes *s, const struct shape *shape, struct test_call *how, int *code)
{
	void *params[] = { how };
	struct result result;

	how->view = s->view;
	how->scope = shape->scope;
	how->codes = s->result->codes;
	how->threads = shape->threads;
	DO(gpu_launch(s->gpu, s->call, 1, shape->threads, params, s->stream));
	DO(fetch(s, &result));
	for (unsigned i = 0; i < shape->threads; i++)
		CHECK(result.codes[i] == result.codes[0], "%s: thread %u has %d, the first %d", shape->name, i,
		      result.codes[i], result.codes[0]);
	*code = result.codes[0];
	return 0;
}

/* Kernels of one rank of a pair, host calls of the other, by turns. */
static int meet_host(const struct scopes *s, const struct shape *shape)
{
	static const uint32_t ops[] = { SYMM_SYNC_PUT_SIGNAL, SYMM_SYNC_WAIT_SIGNAL };
	int code;

	for (int turn = 0; turn < 2; turn++) {
		if (turn != (s->gpu->rank & 1)) {
			GOOD(symm_wait_signal(s->mem, s->partner, 2, 0));
			GOOD(symm_put_signal(s->mem, s->partner, 2, 0));
			GOOD(symm_barrier(s->mem, 2, 0));
			continue;
		}
		for (int i = 0; i < 3; i++) {
			struct test_call how = { .op = i < 2 ? ops[i] : SYMM_SYNC_BARRIER,
						 .peer = s->partner,
						 .channel = 2,
						 .timeout_ns = 30000 * MS };

			DO(call(s, shape, &how, &code));
			CHECK(code == 0, "%s: code %d", shape->name, code);
		}
	}
	return 0;
}

/* Nothing happens, and nothing fails. */
static int refuse(const struct scopes *s, const struct shape *shape)
{
	struct test_call wrong[] = { { .op = SYMM_SYNC_BARRIER, .channel = SYMM_CHANNELS },
				     { .op = SYMM_SYNC_PUT_SIGNAL, .channel = -1 },
				     { .op = SYMM_SYNC_WAIT_SIGNAL, .peer = s->gpu->world },
				     { .op = SYMM_SYNC_PUT_SIGNAL, .peer = -1 } };
	int code;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		DO(call(s, shape, &wrong[i], &code));
		CHECK(code == SYMM_EINVAL, "%s: code %d", shape->name, code);
	}
	GOOD(symm_group_status(s->gpu->rig.group));
	return 0;
}

/* A loop of the user's own ends after a time-out, and nothing fails. */
static int until(const struct scopes *s, const struct shape *shape)
{
	struct test_call how = {
		.op = TEST_UNTIL, .peer = s->partner, .flag = { s->flag.offset, UINT64_MAX }, .timeout_ns = WAIT_MS * MS
	};
	double start_s = gpu_seconds();
	int code;

	DO(call(s, shape, &how, &code));
	CHECK(code == SYMM_ETIMEDOUT, "%s: code %d", shape->name, code);
	CHECK(gpu_seconds() - start_s >= WAIT_MS / 1e3, "it took %.3f s", gpu_seconds() - start_s);
	GOOD(symm_group_status(s->gpu->rig.group));
	return 0;
}

/* The last: the group fails. */
static int time_out(const struct scopes *s)
{
	struct test_call how = {
		.op = SYMM_SYNC_WAIT_SIGNAL, .peer = s->partner, .channel = 5, .timeout_ns = WAIT_MS * MS
	};
	double start_s = gpu_seconds();
	int code;

	DO(call(s, &shapes[2], &how, &code));
	CHECK(code == SYMM_ETIMEDOUT || code == SYMM_EPEER, "code %d", code);
	CHECK(gpu_seconds() - start_s < 1, "it took %.3f s", gpu_seconds() - start_s);
	BAD(symm_group_status(s->gpu->rig.group), SYMM_ETIMEDOUT, "wait_signal on channel 5");
	how.op = SYMM_SYNC_BARRIER;
	DO(call(s, &shapes[1], &how, &code));
	CHECK(code == SYMM_ETIMEDOUT || code == SYMM_EPEER, "the next call has code %d", code);
	return 0;
}

/* ---- timing ---- */

/* us a round: a barrier, or a signal each way at once. */
static int sample(const struct scopes *s, const struct shape *shape, struct test_exchange *exchange, double *us)
{
	const struct gpu *gpu = s->gpu;
	float ms;

	gpu_rally(gpu);
	CU(gpu->cu->cuEventRecord(s->from, s->stream));
	DO(launch(s, shape, exchange));
	CU(gpu->cu->cuEventRecord(s->to, s->stream));
	CU(gpu->cu->cuEventSynchronize(s->to));
	CU(gpu->cu->cuEventElapsedTime(&ms, s->from, s->to));
	*us = (double)ms * 1e3 / exchange->rounds;
	return 0;
}

static int measure(const struct scopes *s, const struct shape *shape, uint32_t meeting, int n)
{
	struct test_exchange exchange = exchange_of(s, shape, meeting, n);
	double samples[SAMPLES];
	char name[64];

	exchange.words = 0;
	for (int i = 0; i < SAMPLES; i++)
		DO(sample(s, shape, &exchange, &samples[i]));
	snprintf(name, sizeof(name), "device.%s_%s", meeting == TEST_SIGNALS ? "signals" : "barrier", shape->name);
	if (s->gpu->rank == 0)
		gpu_figure(name, gpu_median(samples, SAMPLES), "us");
	return 0;
}

static int run(struct gpu *gpu)
{
	const int *n = gpu->arg;
	struct scopes s = { .gpu = gpu };
	void *block;

	DO(start(&s, &block));
	DO(pass_messages(&s, *n));
	for (int i = 0; i < SHAPES; i++) {
		if (shapes[i].scope == TEST_THREAD && shapes[i].threads > 1)
			continue; /* each would make the call */
		DO(meet_host(&s, &shapes[i]));
		/* The fake driver's kernels are plain C, which looks at no arguments. */
		if (getenv("SYMM_LIBCUDA") == NULL)
			DO(refuse(&s, &shapes[i]));
		DO(until(&s, &shapes[i]));
	}
	for (int i = 0; i < TIMED; i++) {
		DO(measure(&s, &shapes[i], TEST_BARRIERS, *n / 10 + 1));
		DO(measure(&s, &shapes[i], TEST_SIGNALS, *n / 10 + 1));
	}
	GOOD(symm_barrier(s.mem, 0, 0));
	DO(time_out(&s));
	gpu_rally(gpu);
	return stop(&s, block);
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 20000;

	return gpu_main("device_header", run, &n, 200);
}
