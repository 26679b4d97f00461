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

/* In the place of SYMM_SYNC_BARRIER and others: a loop of the user's own. */
#define TEST_UNTIL 100

/* A word of a rank's block that its peer sets, and how far. */
struct test_flag {
	uint64_t offset, value;
};

/* One call: a kernel of one block, all of it in one scope. */
struct test_call {
	struct symm_device_view view;
	uint32_t scope, op; /* enum test_scope, SYMM_SYNC_BARRIER, ... */
	struct test_flag flag;
	int32_t peer, channel;
	uint64_t timeout_ns;
	int32_t *codes; /* [threads]: what each was returned */
	uint32_t threads;
};

enum test_meeting {
	TEST_BARRIERS, /* all ranks */
	TEST_SIGNALS,  /* one partner, a signal each way; */
	TEST_FLAGS,    /* the same by words of the block */
	TEST_MEETINGS
};

/* Message passing, over and over within one kernel: all threads write, meet their peers, and check words that other
 * threads than themselves have written. Two halves by turns, as in t/gpu/litmus.c. */
struct test_exchange {
	struct symm_device_view view;
	uint32_t scope;
	uint32_t meeting;      /* enum test_meeting */
	struct test_flag flag; /* as it was before the first round */
	int32_t partner, channel;
	uint32_t rounds, words; /* words: that each rank writes to each in a round */
	uint32_t blind;         /* 1: without barriers and signals: then words must be wrong */
	uint64_t offset, timeout_ns;
	uint32_t *wrong; /* one number: how many words were not what they should be */
	int32_t *code;   /* one number, 0 at first: why it ended early */
};

SYMM_FN uint64_t *test_flag_of(const struct symm_device_view *view, const struct test_flag *flag, int32_t rank)
{
	return (uint64_t *)(void *)((char *)view->buffers[rank] + flag->offset);
}

#ifdef __CUDACC__
SYMM_FN void test_join(symm::thread_scope)
{
}

SYMM_FN void test_join(symm::warp_scope)
{
	__syncwarp();
}

SYMM_FN void test_join(symm::block_scope)
{
	__syncthreads();
}

/* What all of the scope wrote before is seen by who sees the flag. */
template <class Scope>
SYMM_FN void test_raise_in(Scope scope, const symm_device_view &view, int peer, const test_flag &flag, bool acts)
{
	test_join(scope);
	if (acts)
		symm::store_release(test_flag_of(&view, &flag, peer), flag.value);
}

SYMM_FN void test_raise(uint32_t scope, const symm_device_view &view, int peer, const test_flag &flag)
{
	if (scope == TEST_THREAD)
		test_raise_in(symm::thread_scope(), view, peer, flag, true);
	else if (scope == TEST_WARP)
		test_raise_in(symm::warp_scope(), view, peer, flag, threadIdx.x == 0);
	else
		test_raise_in(symm::block_scope(), view, peer, flag, threadIdx.x == 0);
}

template <class Scope>
SYMM_FN int test_until_in(Scope scope, const symm_device_view &view, int peer, const test_flag &flag, uint64_t ns)
{
	const uint64_t *here = test_flag_of(&view, &flag, view.rank), value = flag.value;

	return symm::wait_until(
		scope, view, peer, [=] { return symm::load_relaxed(here) >= value; }, ns);
}

SYMM_FN int test_until(uint32_t scope, const symm_device_view &view, int peer, const test_flag &flag, uint64_t ns)
{
	if (scope == TEST_THREAD)
		return test_until_in(symm::thread_scope(), view, peer, flag, ns);
	if (scope == TEST_WARP)
		return test_until_in(symm::warp_scope(), view, peer, flag, ns);
	return test_until_in(symm::block_scope(), view, peer, flag, ns);
}
#define TEST_RAISE(with, flag) test_raise(with->scope, with->view, with->partner, flag)
#define TEST_UNTIL_FLAG(with, peer, flag) test_until(with->scope, with->view, peer, flag, with->timeout_ns)

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
SYMM_FN int test_until(const struct symm_device_view *view, int peer, const struct test_flag *flag, uint64_t ns)
{
	struct symm_sync_place at = { view->sync, view->group, view->own, (uint32_t)view->world_size };
	const uint64_t *here = test_flag_of(view, flag, view->rank);
	uint64_t start = symm_wait_clock();
	uint32_t heard = 0;
	int code = 0;

	while (__atomic_load_n(here, __ATOMIC_ACQUIRE) < flag->value) {
		if (code == 0)
			code = symm_sync_lost(&at, (uint32_t)peer, &heard);
		if (code == 0 && symm_wait_clock() - start >= ns)
			code = SYMM_ETIMEDOUT;
		if (code != 0)
			return code;
		test_rest();
	}
	return 0;
}
#define TEST_RAISE(with, flag)                                                                                         \
	__atomic_store_n(test_flag_of(&with->view, &(flag), with->partner), (flag).value, __ATOMIC_RELEASE)
#define TEST_UNTIL_FLAG(with, peer, flag) test_until(&with->view, peer, &(flag), with->timeout_ns)

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
	int code = call->op == TEST_UNTIL ? TEST_UNTIL_FLAG(call, call->peer, call->flag)
					  : TEST_PRIMITIVE(call, call->op, call->peer);

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
	return e->meeting == TEST_BARRIERS || peer == e->partner;
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

SYMM_FN int test_exchange_meet(const struct test_exchange *e, uint32_t round)
{
	struct test_flag flag = { e->flag.offset, e->flag.value + round };
	int code;

	if (e->blind)
		return 0;
	if (e->meeting == TEST_BARRIERS)
		return TEST_PRIMITIVE(e, SYMM_SYNC_BARRIER, 0);
	if (e->meeting == TEST_FLAGS) {
		TEST_RAISE(e, flag);
		return TEST_UNTIL_FLAG(e, e->partner, flag);
	}
	code = TEST_PRIMITIVE(e, SYMM_SYNC_PUT_SIGNAL, e->partner);
	return code != 0 ? code : TEST_PRIMITIVE(e, SYMM_SYNC_WAIT_SIGNAL, e->partner);
}

SYMM_FN void test_exchange_share(const struct test_exchange *e, uint32_t thread, uint32_t threads)
{
	uint32_t wrong = 0;
	int code = 0;

	for (uint32_t round = 1; round <= e->rounds && code == 0; round++) {
		test_exchange_write(e, round, thread, threads);
		code = test_exchange_meet(e, round);
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
