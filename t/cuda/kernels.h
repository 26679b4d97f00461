/* kernels.h: what the kernels of tests do, for GPU and CPU. Plain loads and stores, so that nothing but the library's
 * synchronisation puts them in order. `thread` of `threads` does its share. */
#ifndef TEST_CUDA_KERNELS_H
#define TEST_CUDA_KERNELS_H

#include "symm/kernel/layout.h"

#ifdef __CUDACC__
SYMM_FN void test_add(uint32_t *sum, uint32_t n)
{
	atomicAdd(sum, n);
}

SYMM_FN void test_rest(void)
{
}

SYMM_FN uint32_t test_look(const uint32_t *flag)
{
	return *(const volatile uint32_t *)flag;
}
#else
#include <unistd.h>

/* The kernels as a module's image: t/libkernels.a. */
extern const unsigned char test_kernels[];
extern const size_t test_kernels_bytes;

SYMM_FN void test_add(uint32_t *sum, uint32_t n)
{
	__atomic_fetch_add(sum, n, __ATOMIC_RELAXED);
}

SYMM_FN void test_rest(void)
{
	usleep(20);
}

SYMM_FN uint32_t test_look(const uint32_t *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}
#endif

SYMM_FN void test_fill64_share(uint64_t *to, uint64_t value, uint64_t n, uint64_t thread, uint64_t threads)
{
	for (uint64_t i = thread; i < n; i += threads)
		to[i] = value;
}

/* Adds to *errors how many of the words are not `value`. */
SYMM_FN void test_expect64_share(const uint64_t *from, uint64_t value, uint64_t n, uint32_t *errors, uint64_t thread,
				 uint64_t threads)
{
	uint32_t wrong = 0;

	for (uint64_t i = thread; i < n; i += threads)
		wrong += from[i] != value;
	if (wrong > 0)
		test_add(errors, wrong);
}

/* Until somebody sets the flag, in pinned memory. */
SYMM_FN void test_spin_until(const uint32_t *flag)
{
	while (test_look(flag) == 0)
		test_rest();
}

/* Reads the words over and over, until the flag is set. */
SYMM_FN void test_reread_until(const volatile uint64_t *from, uint64_t n, const uint32_t *flag, uint64_t thread,
			       uint64_t threads)
{
	do {
		for (uint64_t i = thread; i < n; i += threads)
			(void)from[i];
		test_rest();
	} while (test_look(flag) == 0);
}

/* ---- copies ---- */

struct test_wide {
	uint64_t low, high;
} __attribute__((aligned(16)));

/* Four loads are on their way before the first store. */
SYMM_FN void test_copy_share(struct test_wide *to, const struct test_wide *from, uint64_t n, uint64_t thread,
			     uint64_t threads)
{
	uint64_t i = thread;

	for (; i + 3 * threads < n; i += 4 * threads) {
		struct test_wide a = from[i], b = from[i + threads];
		struct test_wide c = from[i + 2 * threads], d = from[i + 3 * threads];

		to[i] = a;
		to[i + threads] = b;
		to[i + 2 * threads] = c;
		to[i + 3 * threads] = d;
	}
	for (; i < n; i += threads)
		to[i] = from[i];
}

/* ---- message passing: t/gpu/litmus.c ---- */

#define TEST_LANES 32

/* What one thread counts, alone: rounds, and words that were not what the round's should be. */
struct test_lane {
	uint64_t written, read, wrong;
};

struct test_litmus {
	void *const *buffers;    /* of all ranks */
	uint64_t offset, half;   /* in each: two halves, used by turns, of a slot of words for each writer */
	uint32_t words;          /* of a slot */
	uint32_t rank, from, to; /* this one, and those that it writes to and reads of: from <= peer < to */
	uint32_t tag;
	struct test_lane *lanes; /* [TEST_LANES] */
};

SYMM_FN uint64_t *test_litmus_slot(const struct test_litmus *l, uint64_t round, uint32_t at, uint32_t writer)
{
	char *block = (char *)l->buffers[at] + l->offset + (round & 1) * l->half;

	return (uint64_t *)block + (uint64_t)writer * l->words;
}

SYMM_FN uint64_t test_litmus_word(const struct test_litmus *l, uint64_t round, uint32_t writer, uint32_t i)
{
	return round << 32 | (uint64_t)writer << 20 | l->tag << 12 | i;
}

SYMM_FN void test_litmus_write_share(const struct test_litmus *l, uint32_t thread, uint32_t threads)
{
	uint64_t round = ++l->lanes[thread].written;

	for (uint32_t peer = l->from; peer < l->to; peer++) {
		uint64_t *slot = test_litmus_slot(l, round, peer, l->rank);

		for (uint32_t i = thread; i < l->words; i += threads)
			slot[i] = test_litmus_word(l, round, l->rank, i);
	}
}

SYMM_FN void test_litmus_read_share(const struct test_litmus *l, uint32_t thread, uint32_t threads)
{
	uint64_t round = ++l->lanes[thread].read, wrong = 0;

	for (uint32_t peer = l->from; peer < l->to; peer++) {
		const uint64_t *slot = test_litmus_slot(l, round, l->rank, peer);

		for (uint32_t i = thread; i < l->words; i += threads)
			wrong += slot[i] != test_litmus_word(l, round, peer, i);
	}
	l->lanes[thread].wrong += wrong;
}

#endif
