/* Barrier, signals, copies and streams through the API: what they order, what they refuse, and how they end. */
#include "ask.h"
#include "rig.h"

#include <pthread.h>

#define MAX_WORLD 33
#define LONG 100000 /* ms: longer than any test */

static struct tap_redis redis;
static int *rally;

static int memory(struct rig *rig, int rank, size_t bytes, struct symm_mem **mem)
{
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(rig_memory(rig, bytes, &ptr, mem));
	return 0;
}

/* Asks for the group's state until it has failed, as a user may; returns the code. */
static int await_failure(struct symm_group *group)
{
	double start = seconds_now();

	while (symm_group_status(group) == 0 && seconds_now() - start < patience(5))
		nap_ms(1);
	return symm_group_status(group);
}

/* ---- barriers and signals ---- */

/* All write their word, meet, and read all words; the words of odd and even rounds are apart. */
static int barriers(struct symm_mem *mem, int channel, int times)
{
	int me = symm_mem_rank(mem), world = symm_mem_world_size(mem);

	for (uint64_t i = 1; i <= (uint64_t)times; i++) {
		CHECK(word_set(mem, me, i % 2, i));
		GOOD(symm_barrier(mem, channel, 0));
		for (int peer = 0; peer < world; peer++)
			CHECK(word_get(mem, peer, i % 2) == i, "(round %d, rank %d)", (int)i, peer);
	}
	GOOD(symm_barrier(mem, channel, 0));
	return 0;
}

/* Each passes its word to the next, in a ring. */
static int ring(struct symm_mem *mem, int channel, int times)
{
	int me = symm_mem_rank(mem), world = symm_mem_world_size(mem), next = (me + 1) % world,
	    before = (me + world - 1) % world;

	for (uint64_t i = 1; i <= (uint64_t)times; i++) {
		uint64_t value = i * 64 + (uint64_t)me;

		GOOD(symm_put(mem, next, 32 + i % 4 * 8, &value, 8));
		GOOD(symm_put_signal(mem, next, channel, 0));
		GOOD(symm_wait_signal(mem, before, channel, 0));
		CHECK(word_get(mem, me, 4 + i % 4) == i * 64 + (uint64_t)before, "(round %d)", (int)i);
	}
	GOOD(symm_barrier(mem, channel, 0));
	return 0;
}

/* The same ring by work that is enqueued beforehand, and a barrier that orders the last word. */
static int ring_on_stream(struct symm_mem *mem, struct symm_context *context, int times)
{
	int me = symm_mem_rank(mem), world = symm_mem_world_size(mem), next = (me + 1) % world,
	    before = (me + world - 1) % world;
	const uint64_t end = (uint64_t)times;
	struct {
		uint64_t value, got;
	} *round = own_memory(context, (end + 1) * sizeof(*round));
	void *stream;

	CHECK(round != NULL);
	GOOD(symm_stream_create(context, &stream));
	for (uint64_t i = 0; i < end; i++) {
		round[i].value = i * 64 + (uint64_t)me;
		GOOD(symm_put_on_stream(mem, next, 64 + i % 4 * 8, &round[i].value, 8, stream));
		GOOD(symm_put_signal_on_stream(mem, next, 7, 0, stream));
		GOOD(symm_wait_signal_on_stream(mem, before, 7, 0, stream));
		GOOD(symm_get_on_stream(mem, me, 64 + i % 4 * 8, &round[i].got, 8, stream));
	}
	GOOD(symm_barrier_on_stream(mem, 7, 0, stream));
	GOOD(symm_get_on_stream(mem, next, 64 + (end - 1) % 4 * 8, &round[end].got, 8, stream));
	GOOD(symm_stream_synchronize(stream, 0));
	for (uint64_t i = 0; i < end; i++)
		CHECK(round[i].got == i * 64 + (uint64_t)before, "(round %d)", (int)i);
	CHECK(round[end].got == (end - 1) * 64 + (uint64_t)me);
	GOOD(symm_stream_destroy(stream));
	own_memory_free(context, round);
	return 0;
}

static int everything(int rank, void *arg)
{
	struct rig *rig = arg;
	int times = rig->world > 8 ? 10 : rounds(200);
	struct symm_mem *mem;

	if (memory(rig, rank, 128, &mem) != 0)
		return 1;
	if (barriers(mem, 0, times) != 0 || ring(mem, 1, times) != 0 || barriers(mem, 31, times) != 0)
		return 1;
	if (ring_on_stream(mem, rig->context, rig->world > 8 ? 10 : rounds(64)) != 0)
		return 1;
	GOOD(symm_group_status(rig->group));
	GOOD(symm_close(rig->context));
	return 0;
}

/* Message passing both ways: what was put before a signal is there after it, in the receiver's block and in the
 * sender's. */
static int litmus(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	uint64_t mine[8], put[8], theirs[8];

	if (memory(rig, rank, 256, &mem) != 0)
		return 1;
	for (uint64_t i = 1; i <= (uint64_t)rounds(20000); i++) {
		size_t at = i % 2 * 64;

		for (int k = 0; k < 8; k++)
			mine[k] = i;
		GOOD(symm_put(mem, 1 - rank, at, mine, 64));
		GOOD(symm_put(mem, rank, 128 + at, mine, 64));
		GOOD(symm_put_signal(mem, 1 - rank, 0, 0));
		GOOD(symm_wait_signal(mem, 1 - rank, 0, 0));
		GOOD(symm_get(mem, rank, at, put, 64));
		GOOD(symm_get(mem, 1 - rank, 128 + at, theirs, 64));
		CHECK(memcmp(put, mine, 64) == 0 && memcmp(theirs, mine, 64) == 0, "(round %d)", (int)i);
	}
	GOOD(symm_close(rig->context));
	return 0;
}

/* All channels at once, on 8 streams that go through them in the same order on every rank: right even where streams
 * share queues. A word is passed on each channel, by a barrier and by a signal. */
static int channels(int rank, void *arg)
{
	enum { STREAMS = 8, ROUNDS = 8 };
	struct rig *rig = arg;
	struct symm_mem *mem;
	struct {
		uint64_t value[ROUNDS], got[ROUNDS][SYMM_CHANNELS][2];
	} * own;
	void *stream[STREAMS];

	if (memory(rig, rank, ROUNDS * SYMM_CHANNELS * 16, &mem) != 0)
		return 1;
	own = own_memory(rig->context, sizeof(*own));
	CHECK(own != NULL);
	for (int i = 0; i < STREAMS; i++)
		GOOD(symm_stream_create(rig->context, &stream[i]));
	for (int round = 0; round < ROUNDS; round++)
		own->value[round] = (uint64_t)round + 1;
	for (int round = 0; round < ROUNDS; round++)
		for (int channel = 0; channel < SYMM_CHANNELS; channel++) {
			size_t at = (size_t)(round * SYMM_CHANNELS + channel) * 16;
			void *on = stream[channel % STREAMS];

			GOOD(symm_put_on_stream(mem, 1 - rank, at, &own->value[round], 8, on));
			GOOD(symm_barrier_on_stream(mem, channel, 0, on));
			GOOD(symm_get_on_stream(mem, rank, at, &own->got[round][channel][0], 8, on));
			GOOD(symm_put_on_stream(mem, 1 - rank, at + 8, &own->value[round], 8, on));
			GOOD(symm_put_signal_on_stream(mem, 1 - rank, channel, 0, on));
			GOOD(symm_wait_signal_on_stream(mem, 1 - rank, channel, 0, on));
			GOOD(symm_get_on_stream(mem, rank, at + 8, &own->got[round][channel][1], 8, on));
		}
	for (int i = 0; i < STREAMS; i++)
		GOOD(symm_stream_synchronize(stream[i], 0));
	for (int round = 0; round < ROUNDS; round++)
		for (int channel = 0; channel < SYMM_CHANNELS; channel++)
			for (int how = 0; how < 2; how++)
				CHECK(own->got[round][channel][how] == own->value[round], "(channel %d)", channel);
	for (int i = 0; i < STREAMS; i++)
		GOOD(symm_stream_destroy(stream[i]));
	own_memory_free(rig->context, own);
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- what is refused ---- */

static int sync_call(struct symm_mem *mem, int what, int peer, int channel, int64_t timeout_ms, void *stream)
{
	switch (what) {
	case 0:
		return symm_barrier(mem, channel, timeout_ms);
	case 1:
		return symm_put_signal(mem, peer, channel, timeout_ms);
	case 2:
		return symm_wait_signal(mem, peer, channel, timeout_ms);
	case 3:
		return symm_barrier_on_stream(mem, channel, timeout_ms, stream);
	case 4:
		return symm_put_signal_on_stream(mem, peer, channel, timeout_ms, stream);
	default:
		return symm_wait_signal_on_stream(mem, peer, channel, timeout_ms, stream);
	}
}

static int refusals(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *stream;

	if (memory(rig, rank, 64, &mem) != 0)
		return 1;
	GOOD(symm_stream_create(rig->context, &stream));
	for (int what = 0; what < 6; what++) {
		BAD(sync_call(mem, what, 0, SYMM_CHANNELS, 0, stream), SYMM_EINVAL,
		    "channel 32: there are channels 0 to 31");
		BAD(sync_call(mem, what, 0, -1, 0, stream), SYMM_EINVAL, "channel -1");
		BAD(sync_call(mem, what, 0, 0, -1, stream), SYMM_EINVAL, "timeout_ms is -1");
		BAD(sync_call(mem, what, 0, 0, INT64_MIN, stream), SYMM_EINVAL, "timeout_ms is ");
		BAD(sync_call(NULL, what, 0, 0, 0, stream), SYMM_EINVAL, "is not a symm_mem");
		if (what % 3 != 0) {
			BAD(sync_call(mem, what, 2, 0, 0, stream), SYMM_EINVAL, "rank 2 is not in the group of 2");
			BAD(sync_call(mem, what, -1, 0, 0, stream), SYMM_EINVAL, "rank -1 ");
		}
		if (what >= 3) {
			if (on_host()) { /* elsewhere NULL is one, and any pointer may be */
				BAD(sync_call(mem, what, 0, 0, 0, NULL), SYMM_EINVAL, "stream is NULL");
				BAD(sync_call(mem, what, 0, 0, 0, &rally), SYMM_EINVAL,
				    "is no stream of the host device");
			}
			BAD(sync_call(mem, what, 0, 0, 0, rig->group), SYMM_ESTALE, "this stream is no more");
		}
	}
	/* What was refused has left no trace. */
	for (int what = 0; what < 6; what++)
		GOOD(sync_call(mem, what, 1 - rank, 31, INT64_MAX, stream));
	GOOD(symm_stream_synchronize(stream, INT64_MAX));
	GOOD(symm_stream_destroy(stream));
	for (int what = 3; what < 6; what++)
		BAD(sync_call(mem, what, 0, 0, 0, stream), SYMM_ESTALE, "this stream is no more");
	GOOD(symm_close(rig->context));
	return 0;
}

static int copy_call(struct symm_mem *mem, int what, int peer, size_t offset, void *local, size_t bytes, void *stream)
{
	switch (what) {
	case 0:
		return symm_put(mem, peer, offset, local, bytes);
	case 1:
		return symm_get(mem, peer, offset, local, bytes);
	case 2:
		return symm_put_on_stream(mem, peer, offset, local, bytes, stream);
	default:
		return symm_get_on_stream(mem, peer, offset, local, bytes, stream);
	}
}

static int ranges(int rank, void *arg)
{
	static const struct {
		size_t offset, bytes;
		int code;
	} cases[] = {
		{ 0, 1000, 0 },
		{ 999, 1, 0 },
		{ 0, 0, 0 },
		{ 1000, 0, 0 },
		{ 0, 1001, SYMM_EINVAL },
		{ 1000, 1, SYMM_EINVAL },
		{ 1001, 0, SYMM_EINVAL },
		{ 1, SIZE_MAX, SYMM_EINVAL },
		{ SIZE_MAX, 2, SYMM_EINVAL },
		{ SIZE_MAX, 0, SYMM_EINVAL },
		{ 0, SIZE_MAX, SYMM_EINVAL },
	};
	struct rig *rig = arg;
	struct symm_mem *mem;
	char local[1000] = "";
	void *stream;

	if (memory(rig, rank, 1000, &mem) != 0)
		return 1;
	GOOD(symm_stream_create(rig->context, &stream));
	for (int what = 0; what < 4; what++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			if (cases[i].code == 0)
				GOOD(copy_call(mem, what, 0, cases[i].offset, local, cases[i].bytes, stream));
			else
				BAD(copy_call(mem, what, 0, cases[i].offset, local, cases[i].bytes, stream),
				    cases[i].code, "do not lie within the block of 1000 bytes");
		GOOD(copy_call(mem, what, 0, 5, NULL, 0, stream));
		BAD(copy_call(mem, what, 0, 5, NULL, 1, stream), SYMM_EINVAL, "the local address is NULL");
		BAD(copy_call(mem, what, 1, 0, local, 1, stream), SYMM_EINVAL, "rank 1 is not in the group of 1");
		BAD(copy_call(mem, what, -1, 0, local, 1, stream), SYMM_EINVAL, "rank -1 ");
		BAD(copy_call((void *)rig->group, what, 0, 0, local, 1, stream), SYMM_ESTALE, "symm_mem");
	}
	if (on_host()) {
		BAD(symm_put_on_stream(mem, 0, 0, local, 1, NULL), SYMM_EINVAL, "stream is NULL");
		BAD(symm_get_on_stream(mem, 0, 0, local, 1, local), SYMM_EINVAL, "is no stream of the host device");
	}
	GOOD(symm_stream_destroy(stream));
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- streams ---- */

static int streams(int rank, void *arg)
{
	enum { N = 100 }; /* a GPU has room for some 1,000 pieces of waiting work, and then makes callers wait */
	struct {
		uint64_t sent[N], got[N];
	} * own;
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *stream, *second;

	if (memory(rig, rank, 64, &mem) != 0)
		return 1;
	own = own_memory(rig->context, sizeof(*own));
	CHECK(own != NULL);
	GOOD(symm_stream_create(rig->context, &stream));
	GOOD(symm_stream_create(rig->context, &second));
	GOOD(symm_stream_synchronize(stream, 0));
	GOOD(symm_wait_signal_on_stream(mem, 0, 3, 0, stream));
	for (uint64_t i = 0; i < N; i++) {
		own->sent[i] = i + 1;
		GOOD(symm_put_on_stream(mem, 0, 8, &own->sent[i], 8, stream));
		GOOD(symm_get_on_stream(mem, 0, 8, &own->got[i], 8, stream));
	}
	BAD(symm_stream_synchronize(stream, 50), SYMM_ETIMEDOUT, "has not ended");
	BAD(symm_stream_synchronize(stream, -1), SYMM_EINVAL, "timeout_ms is -1");
	CHECK(word_get(mem, 0, 1) == 0);
	GOOD(symm_put_signal(mem, 0, 3, 0));
	GOOD(symm_stream_synchronize(stream, 0));
	for (uint64_t i = 0; i < N; i++)
		CHECK(own->got[i] == i + 1, "(copy %d)", (int)i);
	/* What is queued is done, on the host before destroy returns. */
	for (uint64_t i = 0; i < N; i++)
		GOOD(symm_put_on_stream(mem, 0, 16, &own->sent[i], 8, second));
	GOOD(symm_put_signal_on_stream(mem, 0, 4, 0, second));
	GOOD(symm_stream_destroy(second));
	CHECK(!on_host() || word_get(mem, 0, 2) == N);
	GOOD(symm_wait_signal(mem, 0, 4, 0));
	CHECK(word_get(mem, 0, 2) == N);
	BAD(symm_stream_destroy(second), SYMM_ESTALE, "this stream is no more");
	BAD(symm_stream_synchronize(second, 0), SYMM_ESTALE, "this stream is no more");
	BAD(symm_stream_synchronize(&stream, 0), SYMM_EINVAL, "is not a stream");
	BAD(symm_stream_destroy(&stream), SYMM_EINVAL, "is not a stream");
	BAD(symm_stream_synchronize(NULL, 0), SYMM_EINVAL, "");
	GOOD(symm_stream_destroy(NULL));
	BAD(symm_stream_create(rig->context, NULL), SYMM_EINVAL, "stream is NULL");
	own_memory_free(rig->context, own);
	GOOD(symm_close(rig->context));
	GOOD(symm_stream_synchronize(stream, 0));
	GOOD(symm_stream_destroy(stream));
	return 0;
}

/* ---- timeouts and failure ---- */

/* A put blocks while the last signal is unconsumed; on time out the group fails on both ranks, with one text. */
static int put_blocks(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *stream;

	if (memory(rig, rank, 64, &mem) != 0)
		return 1;
	if (rank == 0) {
		GOOD(symm_stream_create(rig->context, &stream));
		GOOD(symm_put_signal_on_stream(mem, 1, 2, 0, stream));
		GOOD(symm_put_signal_on_stream(mem, 1, 2, 0, stream));
		BAD(symm_stream_synchronize(stream, 50), SYMM_ETIMEDOUT, "");
	}
	tap_rally(rally, 2);
	if (rank == 1)
		GOOD(symm_wait_signal(mem, 0, 2, 0));
	else
		GOOD(symm_stream_synchronize(stream, 0));
	tap_rally(rally, 2);
	if (rank == 0) {
		BAD(symm_put_signal(mem, 1, 2, 50), SYMM_ETIMEDOUT,
		    "put_signal on channel 2 timed out waiting for rank 1 (");
		BAD(symm_put_on_stream(mem, 1, 0, "", 1, stream), SYMM_ETIMEDOUT, "has failed");
		BAD(symm_barrier_on_stream(mem, 9, 0, stream), SYMM_ETIMEDOUT, "group world has failed");
		GOOD(symm_stream_destroy(stream));
	}
	CHECK(await_failure(rig->group) == SYMM_ETIMEDOUT);
	BAD(symm_group_status(rig->group), SYMM_ETIMEDOUT, "rank 0 (");
	BAD(symm_group_status(rig->group), SYMM_ETIMEDOUT, "put_signal on channel 2 timed out waiting for rank 1 (");
	BAD(symm_barrier(mem, 5, 0), SYMM_ETIMEDOUT, "put_signal on channel 2 timed out waiting for rank 1 (");
	GOOD(symm_close(rig->context));
	return 0;
}

/* Rank 2 does not come: the others' barrier, one of them on a stream, names it. */
static int barrier_times_out(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	double start;
	void *stream;

	if (memory(rig, rank, 64, &mem) != 0)
		return 1;
	tap_rally(rally, 3);
	start = seconds_now();
	if (rank == 0) {
		GOOD(symm_stream_create(rig->context, &stream));
		GOOD(symm_barrier_on_stream(mem, 6, 200, stream));
		GOOD(symm_stream_synchronize(stream, 0));
		GOOD(symm_stream_destroy(stream));
	} else if (rank == 1) {
		BAD(symm_barrier(mem, 6, LONG), SYMM_ETIMEDOUT, "rank 0 (");
	}
	CHECK(await_failure(rig->group) == SYMM_ETIMEDOUT);
	CHECK(seconds_now() - start > 0.19 && seconds_now() - start < patience(1), "(%f s)", seconds_now() - start);
	BAD(symm_group_status(rig->group), SYMM_ETIMEDOUT, "barrier on channel 6 timed out waiting for rank 2 (");
	GOOD(symm_close(rig->context));
	return 0;
}

struct waiter {
	struct symm_mem *mem;
	int what, channel, code;
	char text[640];
	pthread_t thread;
};

static void *waiter_run(void *arg)
{
	struct waiter *waiter = arg;

	waiter->code = sync_call(waiter->mem, waiter->what, 1, waiter->channel, LONG, NULL);
	snprintf(waiter->text, sizeof(waiter->text), "%s", symm_last_error());
	return NULL;
}

static int waiter_start(struct waiter *waiter)
{
	CHECK(pthread_create(&waiter->thread, NULL, waiter_run, waiter) == 0);
	nap_ms(100); /* it waits by now */
	return 0;
}

/* Two barriers at once on one channel: both fail, and with them the group, also a rank that waits on another channel.
 */
static int misuse(int rank, void *arg)
{
	struct rig *rig = arg;
	struct waiter first = { .what = 0, .channel = 8 };

	if (memory(rig, rank, 64, &first.mem) != 0)
		return 1;
	if (rank == 0) {
		if (waiter_start(&first) != 0)
			return 1;
		BAD(symm_barrier(first.mem, 8, LONG), SYMM_EBUSY, "two barriers at once on channel 8");
		pthread_join(first.thread, NULL);
		CHECK(first.code == SYMM_EBUSY && strstr(first.text, "two barriers at once on channel 8") != NULL,
		      "(%d %s)", first.code, first.text);
	} else {
		BAD(symm_barrier(first.mem, 9, LONG), SYMM_EBUSY, "rank 0 (");
	}
	BAD(symm_group_status(rig->group), SYMM_EBUSY, "two barriers at once on channel 8");
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- ends ---- */

/* A thread that waits, in a barrier or for a signal, is let go when its rank frees the memory. */
static int free_under_waiter(int rank, void *arg)
{
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	for (int what = 0; what < 3; what += 2) {
		struct waiter waiter = { .what = what, .channel = 4 };
		void *ptr;

		GOOD(rig_memory(rig, 64, &ptr, &waiter.mem));
		if (rank == 0) {
			if (waiter_start(&waiter) != 0)
				return 1;
			GOOD(symm_mem_release(waiter.mem));
			GOOD(symm_free(ptr));
			pthread_join(waiter.thread, NULL);
			CHECK(waiter.code == SYMM_ESTALE &&
				      strstr(waiter.text, "this rank has freed the allocation") != NULL,
			      "(%d %s)", waiter.code, waiter.text);
		}
		tap_rally(rally, 2);
		if (rank == 1) {
			BAD(symm_barrier(waiter.mem, 5, LONG), SYMM_ESTALE, "rank 0 (");
			GOOD(symm_mem_release(waiter.mem));
			GOOD(symm_free(ptr));
		}
		GOOD(symm_group_status(rig->group));
	}
	GOOD(symm_close(rig->context));
	return 0;
}

/* Work that waits on a stream ends when its memory is freed, and the stream goes on. */
static int free_under_stream(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem, *other;
	void *stream, *ptr, *rest, *word;
	double start;

	GOOD(rig_join(rig, rank));
	start = seconds_now();
	word = own_memory(rig->context, 8);
	CHECK(word != NULL);
	GOOD(symm_stream_create(rig->context, &stream));
	GOOD(rig_memory(rig, 64, &rest, &other));
	for (int what = 3; what < 6; what++) {
		GOOD(rig_memory(rig, 64, &ptr, &mem));
		if (rank == 0) {
			if (what == 4)
				GOOD(symm_put_signal(mem, 1, 0, 0));
			GOOD(sync_call(mem, what, 1, 0, LONG, stream));
			GOOD(symm_put_on_stream(mem, 1, 0, word, 8, stream));
		}
		GOOD(symm_mem_release(mem));
		if (rank == 0)
			GOOD(symm_free(ptr));
		tap_rally(rally, 2);
		if (rank == 1)
			GOOD(symm_free(ptr));
		GOOD(symm_barrier_on_stream(other, 0, 0, stream));
		GOOD(symm_stream_synchronize(stream, 0));
	}
	CHECK(seconds_now() - start < patience(3));
	GOOD(symm_stream_destroy(stream));
	own_memory_free(rig->context, word);
	GOOD(symm_close(rig->context));
	return 0;
}

/* What stands behind other work on a stream keeps its memory: free, release, leave and close say so, and may be tried
 * again. */
static int busy(int rank, void *arg)
{
	struct rig *rig = arg, second = *rig;
	struct symm_mem *gate, *mem, *found;
	void *stream, *ptr, *word;

	if (memory(&second, rank, 64, &gate) != 0)
		return 1;
	word = own_memory(second.context, 8);
	CHECK(word != NULL);
	rig->timeout_ms = 300;
	rig->job = "busy";
	GOOD(rig_join(rig, rank));
	GOOD(symm_stream_create(rig->context, &stream));
	for (int end = 0; end < 3; end++) {
		GOOD(symm_alloc(rig->group, 64, NULL, &ptr));
		GOOD(symm_rendezvous(ptr, NULL, 20000, &mem));
		GOOD(symm_wait_signal_on_stream(gate, rank, 0, LONG, stream));
		GOOD(symm_put_on_stream(mem, rank, 0, word, 8, stream));
		if (end < 2)
			GOOD(end == 0 ? symm_mem_release(mem) : symm_free(ptr));
		BAD(end == 0   ? symm_free(ptr)
		    : end == 1 ? symm_mem_release(mem)
			       : symm_group_leave(rig->group),
		    SYMM_EBUSY, "1 pieces of work still use this symm_mem");
		if (end == 2)
			BAD(symm_close(rig->context), SYMM_EBUSY, "1 pieces of work");
		BAD(symm_put(mem, rank, 0, word, 8), SYMM_ESTALE, "no more");
		CHECK(symm_mem_find(ptr, rig->group, &found) == SYMM_ESTALE);
		GOOD(symm_put_signal(gate, rank, 0, 0));
		GOOD(symm_stream_synchronize(stream, 10000));
		GOOD(end == 0 ? symm_free(ptr) : end == 1 ? symm_mem_release(mem) : symm_close(rig->context));
		BAD(symm_mem_release(mem), SYMM_ESTALE, "no more");
	}
	GOOD(symm_stream_destroy(stream));
	own_memory_free(second.context, word);
	GOOD(symm_close(second.context));
	return 0;
}

int main(void)
{
	static const struct {
		const char *name;
		int world;
		int (*run)(int rank, void *arg);
		const char *epoch0;
	} tests[] = {
		{ "2 ranks", 2, everything, NULL },
		{ "3 ranks", 3, everything, NULL },
		{ "4 ranks", 4, everything, NULL },
		{ "8 ranks", 8, everything, NULL },
		{ "33 ranks", MAX_WORLD, everything, NULL },
		{ "2 ranks, the epochs wrap", 2, everything, "0xfffffff0" },
		{ "3 ranks, the epochs wrap", 3, everything, "0xfffffff0" },
		{ "message passing", 2, litmus, NULL },
		{ "32 channels on 8 streams", 2, channels, NULL },
		{ "32 channels on 8 streams, the epochs wrap", 2, channels, "0xfffffffd" },
		{ "refusals", 2, refusals, NULL },
		{ "ranges", 1, ranges, NULL },
		{ "streams", 1, streams, NULL },
		{ "a put blocks", 2, put_blocks, NULL },
		{ "a barrier times out", 3, barrier_times_out, NULL },
		{ "two barriers at once", 2, misuse, NULL },
		{ "free under a waiting thread", 2, free_under_waiter, NULL },
		{ "free under waiting work", 2, free_under_stream, NULL },
		{ "busy", 2, busy, NULL },
	};

	if (!need_device(1))
		return 0;
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		struct rig rig = { .url = redis.url, .world = tests[i].world };

		*rally = 0;
		if (tests[i].epoch0 != NULL)
			setenv("SYMM_EPOCH0", tests[i].epoch0, 1);
		if (world_fits(tests[i].name, tests[i].world))
			tap_ranks(tests[i].name, tests[i].world, tests[i].run, &rig, 30);
		unsetenv("SYMM_EPOCH0");
	}
	has_str(ask(&redis, "DBSIZE"), ":0", "nothing is left in Redis");
	tap_redis_stop(&redis);
	return tap_done();
}
