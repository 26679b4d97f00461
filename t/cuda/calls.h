/* calls.h: what the tests' kernels that call symm/device.cuh do, for GPU and CPU. On a CPU one thread stands for a
 * scope, and the algorithms are called as C has them. */
#ifndef TEST_CUDA_CALLS_H
#define TEST_CUDA_CALLS_H

#include "t/cuda/kernels.h"

#ifdef __CUDACC__
#include "symm/device.cuh"
#else
#include "symm/kernel/sync.h"
#include "symm/view.h"
#endif

enum test_scope { TEST_THREAD, TEST_WARP, TEST_BLOCK, TEST_SCOPES };

/* One call: a kernel of one block, all of it in one scope. */
struct test_call {
	struct symm_device_view view;
	uint32_t scope, op; /* enum test_scope, SYMM_SYNC_BARRIER, ... */
	int32_t peer, channel;
	uint64_t timeout_ns;
	int32_t *codes; /* [threads]: what each was returned */
	uint32_t threads;
};

/* Message passing, over and over within one kernel: all threads write, meet their peers, and check words that other
 * threads than themselves have written. Two halves by turns, as in t/gpu/litmus.c. */
struct test_exchange {
	struct symm_device_view view;
	uint32_t scope;
	uint32_t signals; /* 0: a barrier, and all ranks; 1: a signal each way, and one partner */
	int32_t partner, channel;
	uint32_t rounds, words; /* words: that each rank writes to each in a round */
	uint32_t blind;         /* 1: without barriers and signals: then words must be wrong */
	uint64_t offset, timeout_ns;
	uint32_t *wrong; /* one number: how many words were not what they should be */
	int32_t *code;   /* one number, 0 at first: why it ended early */
};

#ifdef __CUDACC__
template <class Scope>
SYMM_FN int test_scoped(Scope scope, const symm_device_view &view, uint32_t op, int peer, int channel, uint64_t ns)
{
	if (op == SYMM_SYNC_BARRIER)
		return symm::barrier(scope, view, channel, ns);
	if (op == SYMM_SYNC_PUT_SIGNAL)
		return symm::put_signal(scope, view, peer, channel, ns);
	return symm::wait_signal(scope, view, peer, channel, ns);
}

SYMM_FN int test_primitive(uint32_t scope, const symm_device_view &view, uint32_t op, int peer, int channel,
			   uint64_t ns)
{
	if (scope == TEST_THREAD)
		return test_scoped(symm::thread_scope(), view, op, peer, channel, ns);
	if (scope == TEST_WARP)
		return test_scoped(symm::warp_scope(), view, op, peer, channel, ns);
	return test_scoped(symm::block_scope(), view, op, peer, channel, ns);
}
#define TEST_PRIMITIVE(with, op, peer)                                                                                 \
	test_primitive(with->scope, with->view, op, peer, with->channel, with->timeout_ns)
#else
SYMM_FN int test_primitive(const struct symm_device_view *view, uint32_t op, int peer, int channel, uint64_t ns)
{
	struct symm_sync_place at = { view->sync, view->group, view->own, (uint32_t)view->world_size };
	uint32_t blame;

	if (op == SYMM_SYNC_BARRIER)
		return symm_sync_barrier(&at, SYMM_WAIT_LANES, (uint32_t)channel, ns, &blame);
	if (op == SYMM_SYNC_PUT_SIGNAL)
		return symm_sync_put_signal(&at, (uint32_t)peer, (uint32_t)channel, ns, &blame);
	return symm_sync_wait_signal(&at, (uint32_t)peer, (uint32_t)channel, ns, &blame);
}
#define TEST_PRIMITIVE(with, op, peer) test_primitive(&with->view, op, peer, with->channel, with->timeout_ns)
#endif

/* On a CPU one thread answers for all. */
SYMM_FN void test_call_share(const struct test_call *call, uint32_t thread)
{
	int code = TEST_PRIMITIVE(call, call->op, call->peer);

#ifdef __CUDACC__
	call->codes[thread] = code;
#else
	for (uint32_t i = thread; i < call->threads; i++)
		call->codes[i] = code;
#endif
}

/* Where `writer` writes in a round, in the block of `at`. */
SYMM_FN uint64_t *test_exchange_slot(const struct test_exchange *e, uint32_t round, int32_t at, int32_t writer)
{
	uint64_t number = (uint64_t)(round & 1) * (uint64_t)e->view.world_size + (uint64_t)writer;

	return (uint64_t *)(void *)((char *)e->view.buffers[at] + e->offset) + number * e->words;
}

SYMM_FN uint64_t test_exchange_word(uint32_t round, int32_t writer, int32_t reader, uint32_t i)
{
	return (uint64_t)round << 32 | (uint64_t)(uint32_t)writer << 24 | (uint64_t)(uint32_t)reader << 16 | i;
}

SYMM_FN bool test_exchange_with(const struct test_exchange *e, int32_t peer)
{
	return !e->signals || peer == e->partner;
}

SYMM_FN void test_exchange_write(const struct test_exchange *e, uint32_t round, uint32_t thread, uint32_t threads)
{
	for (int32_t peer = 0; peer < e->view.world_size; peer++) {
		uint64_t *slot = test_exchange_slot(e, round, peer, e->view.rank);

		for (uint32_t i = thread; test_exchange_with(e, peer) && i < e->words; i += threads)
			slot[i] = test_exchange_word(round, e->view.rank, peer, i);
	}
}

SYMM_FN uint32_t test_exchange_check(const struct test_exchange *e, uint32_t round, uint32_t thread, uint32_t threads)
{
	uint32_t wrong = 0;

	for (int32_t peer = 0; peer < e->view.world_size; peer++) {
		const uint64_t *slot = test_exchange_slot(e, round, e->view.rank, peer);

		for (uint32_t i = thread; test_exchange_with(e, peer) && i < e->words; i += threads)
			wrong += slot[i] != test_exchange_word(round, peer, e->view.rank, i);
	}
	return wrong;
}

SYMM_FN int test_exchange_meet(const struct test_exchange *e)
{
	int code;

	if (e->blind)
		return 0;
	if (!e->signals)
		return TEST_PRIMITIVE(e, SYMM_SYNC_BARRIER, 0);
	code = TEST_PRIMITIVE(e, SYMM_SYNC_PUT_SIGNAL, e->partner);
	return code != 0 ? code : TEST_PRIMITIVE(e, SYMM_SYNC_WAIT_SIGNAL, e->partner);
}

SYMM_FN void test_exchange_share(const struct test_exchange *e, uint32_t thread, uint32_t threads)
{
	uint32_t wrong = 0;
	int code = 0;

	for (uint32_t round = 1; round <= e->rounds && code == 0; round++) {
		test_exchange_write(e, round, thread, threads);
		code = test_exchange_meet(e);
		if (code == 0)
			wrong += test_exchange_check(e, round, threads - 1 - thread, threads);
	}
	if (wrong > 0)
		test_add(e->wrong, wrong);
	if (thread == 0 && code != 0)
		*e->code = code;
}

/* Bytes of a rank's block from e->offset on. */
SYMM_FN_BOTH uint64_t test_exchange_bytes(const struct test_exchange *e)
{
	return 2 * (uint64_t)e->view.world_size * e->words * sizeof(uint64_t);
}

#endif
