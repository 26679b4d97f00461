/* What kernels get of a symm_mem: struct symm_device_view and struct symm_sync_words. Kernels of t/cuda/calls.h and
 * accesses by hand meet the library's calls, both ways. */
#include "ask.h"
#include "cuda_help.h"
#include "t/cuda/calls.h"

#include <signal.h>
#include <sys/wait.h>

enum { WORLD = 2, BLOCK = 1 << 16, FLAGS = BLOCK - 1024, WORDS = 64, LAST = SYMM_CHANNELS - 1, WIDEST = 96 };

#define PATIENCE_NS UINT64_C(20000000000)
#define MS UINT64_C(1000000)

static struct tap_redis redis;
static int *meeting; /* ranks meet here without symm's help */

struct rank {
	struct rig rig;
	struct symm_mem *mem;
	void *block;
	struct symm_device_view view;
	int me, other;
	/* not on the host device: */
	int ordinal;
	struct CUctx_st *context;
	struct CUmod_st *module;
	struct CUstream_st *stream;
};

static int start(int rank, struct rank *r)
{
	*r = (struct rank){ .rig = { .url = redis.url, .world = WORLD }, .me = rank, .other = 1 - rank };
	if (!on_host())
		DO(driver_start(rank, &r->ordinal, &r->context));
	GOOD(rig_join(&r->rig, rank));
	GOOD(rig_memory(&r->rig, BLOCK, &r->block, &r->mem));
	GOOD(symm_mem_device_view(r->mem, &r->view));
	if (!on_host()) {
		CU(cu->cuModuleLoadData(&r->module, test_kernels));
		CU(cu->cuStreamCreate(&r->stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	}
	return 0;
}

/* Its symm_mem has been released. */
static int leave(struct rank *r)
{
	if (!on_host()) {
		CU(cu->cuStreamDestroy(r->stream));
		CU(cu->cuModuleUnload(r->module));
	}
	GOOD(symm_close(r->rig.context));
	return on_host() ? 0 : driver_end(r->ordinal);
}

static int stop(struct rank *r)
{
	GOOD(symm_mem_release(r->mem));
	return leave(r);
}

/* ---- kernels: on the host device a call ---- */

static unsigned threads_of(enum test_scope scope)
{
	return scope == TEST_THREAD ? 1 : scope == TEST_WARP ? 32 : WIDEST;
}

static int begin(struct rank *r, const char *name, enum test_scope scope, void *arg)
{
	struct CUfunc_st *function;
	void *params[] = { arg };

	CU(cu->cuModuleGetFunction(&function, r->module, name));
	CU(cu->cuLaunchKernel(function, 1, 1, 1, threads_of(scope), 1, 1, 0, r->stream, params, NULL));
	return 0;
}

static int end(struct rank *r)
{
	CU(cu->cuStreamSynchronize(r->stream));
	return 0;
}

/* One call by a kernel in that scope: all its threads have the code. */
static int call(struct rank *r, enum test_scope scope, uint32_t op, int channel, uint64_t timeout_ns, int *code)
{
	int32_t *codes = own_memory(r->rig.context, WIDEST * sizeof(*codes));
	struct test_call c = { .view = r->view,
			       .scope = scope,
			       .op = op,
			       .flag = { FLAGS, UINT64_MAX },
			       .peer = r->other,
			       .channel = channel,
			       .timeout_ns = timeout_ns,
			       .codes = codes,
			       .threads = threads_of(scope) };

	CHECK(codes != NULL);
	if (on_host()) {
		test_call_share(&c, 0);
	} else {
		DO(begin(r, "test_call", scope, &c));
		DO(end(r));
	}
	*code = codes[0];
	for (uint32_t i = 0; i < c.threads; i++)
		CHECK(codes[i] == codes[0], "thread %u has %d, the first %d", i, codes[i], codes[0]);
	own_memory_free(r->rig.context, codes);
	return 0;
}

static int exchange(struct rank *r, enum test_scope scope, enum test_meeting by, int n)
{
	static uint64_t flags; /* how far they are */
	uint32_t *wrong = own_memory(r->rig.context, 64);
	struct test_exchange e = { .view = r->view,
				   .scope = scope,
				   .meeting = by,
				   .flag = { FLAGS, flags },
				   .partner = r->other,
				   .channel = 1,
				   .rounds = (uint32_t)n,
				   .words = WORDS,
				   .timeout_ns = PATIENCE_NS,
				   .wrong = wrong,
				   .code = (int32_t *)wrong + 1 };

	CHECK(wrong != NULL);
	if (on_host()) {
		test_exchange_share(&e, 0, 1);
	} else {
		DO(begin(r, "test_exchange", scope, &e));
		DO(end(r));
	}
	if (by == TEST_FLAGS)
		flags += (uint64_t)n;
	CHECK(*e.code == 0, "code %d", *e.code);
	CHECK(*wrong == 0, "%u words", *wrong);
	own_memory_free(r->rig.context, wrong);
	return 0;
}

/* ---- tests ---- */

static int tells(int rank, void *arg)
{
	struct symm_device_view view = { .version = 77 };
	struct symm_sync_words words = { .version = 77 };
	void *buffers[WORLD], *pads[WORLD];
	struct rank r;

	(void)arg;
	DO(start(rank, &r));
	CHECK(r.view.version == SYMM_DEVICE_VIEW_VERSION && r.view.rank == rank && r.view.world_size == WORLD);
	CHECK(r.view.buffer_size == BLOCK && r.view.signal_pad_size == symm_mem_signal_pad_size(r.mem));
	CHECK(r.view.multicast == NULL && r.view.buffers == symm_mem_buffers_dev(r.mem));
	CHECK(device_read(device_of(r.mem), buffers, r.view.buffers, sizeof(buffers)));
	CHECK(device_read(device_of(r.mem), pads, r.view.signal_pads, sizeof(pads)));
	for (int peer = 0; peer < WORLD; peer++)
		CHECK(buffers[peer] == symm_mem_buffer(r.mem, peer) && pads[peer] == symm_mem_signal_pad(r.mem, peer));
	BAD(symm_mem_device_view(NULL, &view), SYMM_EINVAL, "symm_mem_device_view");
	BAD(symm_mem_device_view((struct symm_mem *)(void *)r.rig.group, &view), SYMM_ESTALE, "symm_mem_device_view");
	BAD(symm_mem_sync_words(NULL, &words), SYMM_EINVAL, "symm_mem_sync_words");
	CHECK(view.version == 77 && words.version == 77, "outputs are written on success only");
	GOOD(symm_mem_sync_words(r.mem, &words));
	CHECK(words.version == SYMM_SYNC_WORDS_VERSION && words.rank == rank && words.world_size == WORLD);
	CHECK(words.generation == symm_group_generation(r.rig.group) && words.channels == SYMM_CHANNELS);
	GOOD(symm_barrier(r.mem, 0, 0));
	GOOD(symm_mem_release(r.mem));
	GOOD(symm_free(r.block));
	BAD(symm_mem_device_view(r.mem, &view), SYMM_ESTALE, "symm_mem_device_view");
	return leave(&r);
}

/* A kernel of this rank, and the host of the other, by turns. */
static int meet(struct rank *r, enum test_scope scope, bool kernel, int channel)
{
	int code = 0;

	if (!kernel) {
		GOOD(symm_barrier(r->mem, channel, 0));
		GOOD(symm_wait_signal(r->mem, r->other, channel, 0));
		GOOD(symm_put_signal(r->mem, r->other, channel, 0));
		return 0;
	}
	DO(call(r, scope, SYMM_SYNC_BARRIER, channel, PATIENCE_NS, &code));
	CHECK(code == 0, "barrier: %d", code);
	DO(call(r, scope, SYMM_SYNC_PUT_SIGNAL, channel, PATIENCE_NS, &code));
	CHECK(code == 0, "put_signal: %d", code);
	DO(call(r, scope, SYMM_SYNC_WAIT_SIGNAL, channel, PATIENCE_NS, &code));
	CHECK(code == 0, "wait_signal: %d", code);
	return 0;
}

static int mixes(int rank, void *arg)
{
	struct rank r;

	(void)arg;
	DO(start(rank, &r));
	for (int i = 0; i < 4 * TEST_SCOPES; i++)
		DO(meet(&r, (enum test_scope)(i / 4), i % 2 == rank, i % 4 < 2 ? 0 : LAST));
	GOOD(symm_group_status(r.rig.group));
	return stop(&r);
}

static int exchanges(int rank, void *arg)
{
	struct rank r;

	(void)arg;
	DO(start(rank, &r));
	for (int scope = 0; scope < TEST_SCOPES; scope++) {
		for (int by = 0; by < TEST_MEETINGS; by++)
			DO(exchange(&r, (enum test_scope)scope, (enum test_meeting)by, rounds(2000)));
	}
	return stop(&r);
}

/* A kernel's wait times out: it returns, the host tells who was missing, and the other rank hears of it. */
static int times_out(int rank, void *arg)
{
	struct rank r;
	int code;

	(void)arg;
	DO(start(rank, &r));
	if (rank == 1) {
		BAD(symm_wait_signal(r.mem, 0, 3, 0), SYMM_ETIMEDOUT, "rank 0");
		tap_rally(meeting, WORLD);
		return stop(&r);
	}
	DO(call(&r, TEST_BLOCK, TEST_UNTIL, 0, 20 * MS, &code));
	CHECK(code == SYMM_ETIMEDOUT, "%d", code);
	GOOD(symm_group_status(r.rig.group));
	DO(call(&r, TEST_BLOCK, SYMM_SYNC_WAIT_SIGNAL, 4, 20 * MS, &code));
	CHECK(code == SYMM_ETIMEDOUT, "%d", code);
	BAD(symm_group_status(r.rig.group), SYMM_ETIMEDOUT, "wait_signal");
	CHECK(strstr(symm_last_error(), "rank 1") != NULL, "%s", symm_last_error());
	DO(call(&r, TEST_WARP, SYMM_SYNC_PUT_SIGNAL, 5, PATIENCE_NS, &code));
	CHECK(code == SYMM_ETIMEDOUT, "the next call has the same code, not %d", code);
	DO(call(&r, TEST_BLOCK, SYMM_SYNC_BARRIER, 5, PATIENCE_NS, &code));
	CHECK(code == SYMM_ETIMEDOUT, "and all others, not %d", code);
	tap_rally(meeting, WORLD);
	return stop(&r);
}

/* A wait without end in a kernel ends when the group fails. */
static int is_aborted(int rank, void *arg)
{
	struct rank r;
	int code;

	(void)arg;
	DO(start(rank, &r));
	if (rank == 1) {
		BAD(symm_wait_signal(r.mem, 0, 3, 50), SYMM_ETIMEDOUT, "rank 0");
	} else {
		DO(call(&r, TEST_BLOCK, SYMM_SYNC_BARRIER, 4, SYMM_SYNC_FOREVER, &code));
		CHECK(code == SYMM_EPEER || code == SYMM_ETIMEDOUT, "%d", code);
		BAD(symm_group_status(r.rig.group), SYMM_ETIMEDOUT, "rank 1");
	}
	tap_rally(meeting, WORLD);
	return stop(&r);
}

/* Rank 1 dies while a kernel of rank 0 waits for it without end. */
static int outlives(int rank, void *arg)
{
	struct rank r;
	int code;

	(void)arg;
	DO(start(rank, &r));
	tap_rally(meeting, WORLD);
	if (rank == 1)
		raise(SIGKILL);
	DO(call(&r, TEST_BLOCK, TEST_UNTIL, 0, SYMM_SYNC_FOREVER, &code));
	CHECK(code == SYMM_EPEER, "%d", code);
	GOOD(symm_group_status(r.rig.group));
	DO(call(&r, TEST_BLOCK, SYMM_SYNC_WAIT_SIGNAL, 4, SYMM_SYNC_FOREVER, &code));
	CHECK(code == SYMM_EPEER, "%d", code);
	BAD(symm_group_status(r.rig.group), SYMM_EPEER, "rank 1");
	return stop(&r);
}

static void test_death(void)
{
	int pid[WORLD], status;

	tap_ranks_start(WORLD, outlives, NULL, pid);
	status = tap_wait(pid[1], 60);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "rank 1 dies");
	is_int(tap_wait(pid[0], 60), 0, "a kernel that waited for it ends");
}

/* ---- accesses by hand, by symm-sync-words(7) alone ---- */

static uint64_t get(struct rank *r, uint64_t address)
{
	uint64_t value = 0;

	if (on_host())
		return __atomic_load_n((uint64_t *)(uintptr_t)address, __ATOMIC_ACQUIRE);
	if (!device_read(device_of(r->mem), &value, (void *)(uintptr_t)address, sizeof(value)))
		tap_bail("no read: %s", symm_last_error());
	return value;
}

static void set(struct rank *r, uint64_t address, uint64_t value)
{
	if (on_host())
		__atomic_store_n((uint64_t *)(uintptr_t)address, value, __ATOMIC_RELEASE);
	else if (!device_write(device_of(r->mem), (void *)(uintptr_t)address, &value, sizeof(value)))
		tap_bail("no write: %s", symm_last_error());
}

/* The word that rank `writer` writes into the slot of rank `reader`. */
static uint64_t word_at(const struct symm_sync_words *w, int reader, uint64_t offset, int channel, int writer)
{
	return (uint64_t)(uintptr_t)w->slots[reader] + offset + (uint64_t)channel * w->channel_stride +
	       (uint64_t)writer * 8;
}

static uint64_t word_of(const struct symm_sync_words *w, uint64_t call)
{
	return (uint64_t)w->generation << 32 | (uint32_t)(w->epoch0 + (uint32_t)call);
}

static bool reached(uint64_t word, uint64_t want)
{
	return word >> 32 == want >> 32 && (int32_t)((uint32_t)word - (uint32_t)want) >= 0;
}

static int await_word(struct rank *r, uint64_t address, uint64_t want)
{
	double limit = seconds_now() + patience(20);

	while (!reached(get(r, address), want))
		CHECK(seconds_now() < limit, "the word does not come");
	return 0;
}

static int hand_put(struct rank *r, const struct symm_sync_words *w, int dst, int channel)
{
	uint64_t counter = w->put_ticket + (uint64_t)dst * w->peer_stride + (uint64_t)channel * w->ticket_stride;
	uint64_t ticket = get(r, counter);

	set(r, counter, ticket + 1);
	if (ticket > 0)
		DO(await_word(r, word_at(w, w->rank, w->credit_offset, channel, dst), word_of(w, ticket)));
	set(r, word_at(w, dst, w->signal_offset, channel, w->rank), word_of(w, ticket + 1));
	return 0;
}

static int hand_wait(struct rank *r, const struct symm_sync_words *w, int src, int channel)
{
	uint64_t counter = w->wait_ticket + (uint64_t)src * w->peer_stride + (uint64_t)channel * w->ticket_stride;
	uint64_t ticket = get(r, counter);

	set(r, counter, ticket + 1);
	DO(await_word(r, word_at(w, w->rank, w->signal_offset, channel, src), word_of(w, ticket + 1)));
	set(r, word_at(w, src, w->credit_offset, channel, w->rank), word_of(w, ticket + 1));
	return 0;
}

static int hand_barrier(struct rank *r, const struct symm_sync_words *w, int channel)
{
	uint64_t ticket = get(r, w->barrier_ticket + (uint64_t)channel * w->barrier_stride);

	CHECK(get(r, w->barrier_done + (uint64_t)channel * w->barrier_stride) == ticket);
	set(r, w->barrier_ticket + (uint64_t)channel * w->barrier_stride, ticket + 1);
	for (int peer = 0; peer < w->world_size; peer++)
		if (peer != w->rank)
			set(r, word_at(w, peer, w->barrier_offset, channel, w->rank), word_of(w, ticket + 1));
	for (int peer = 0; peer < w->world_size; peer++)
		if (peer != w->rank)
			DO(await_word(r, word_at(w, w->rank, w->barrier_offset, channel, peer),
				      word_of(w, ticket + 1)));
	set(r, w->barrier_done + (uint64_t)channel * w->barrier_stride, ticket + 1);
	return 0;
}

static int by_hand(struct rank *r, const struct symm_sync_words *w, int channel)
{
	DO(hand_barrier(r, w, channel));
	DO(hand_put(r, w, r->other, channel));
	DO(hand_wait(r, w, r->other, channel));
	DO(hand_put(r, w, r->other, channel));
	return 0;
}

static int by_library(struct rank *r, int channel)
{
	GOOD(symm_barrier(r->mem, channel, 0));
	GOOD(symm_wait_signal(r->mem, r->other, channel, 0));
	GOOD(symm_put_signal(r->mem, r->other, channel, 0));
	GOOD(symm_wait_signal(r->mem, r->other, channel, 0));
	return 0;
}

/* The two ranks take turns at doing it by hand, while the epochs wrap. */
static int meets_by_hand(int rank, void *arg)
{
	struct symm_sync_words words;
	struct rank r;

	(void)arg;
	setenv("SYMM_EPOCH0", "0xfffffff8", 1);
	DO(start(rank, &r));
	GOOD(symm_mem_sync_words(r.mem, &words));
	CHECK(words.epoch0 == 0xfffffff8);
	CHECK(device_holds(device_of(r.mem), (void *)(uintptr_t)words.poison, sizeof(uint32_t), 0));
	for (int i = 0; i < 20; i++)
		for (int channel = 0; channel < SYMM_CHANNELS; channel += LAST)
			DO(i % 2 == rank ? by_hand(&r, &words, channel) : by_library(&r, channel));
	GOOD(symm_group_status(r.rig.group));
	return stop(&r);
}

int main(void)
{
	static const struct {
		const char *name;
		int (*fn)(int rank, void *arg);
	} tests[] = {
		{ "what a view and the words tell", tells },
		{ "kernels meet host calls", mixes },
		{ "kernels exchange words", exchanges },
		{ "a time-out in a kernel", times_out },
		{ "a group that fails ends a kernel's wait", is_aborted },
		{ "words by hand meet host calls", meets_by_hand },
	};

	if (!need_device(WORLD))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	meeting = tap_shared(sizeof(*meeting));
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tap_ranks(tests[i].name, WORLD, tests[i].fn, NULL, 60);
	test_death();
	return tap_done();
}
