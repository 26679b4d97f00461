/* wait.h: how a CPU waits for a word that another rank will write: it spins, then yields, then sleeps on a bell.
 *
 * A bell is one 32-bit word beside the words of a channel, in the slot of the rank that sleeps: odd while somebody
 * may sleep on it. Who sleeps makes it odd, looks once more, and sleeps while it keeps that value. Who has published
 * a word looks at the bell and, if it is odd, makes it the next even number and wakes all. Between the store and the
 * look of each side stands a full fence, so that at least one of them sees the other. A writer that dies in between
 * delays a sleeper by SYMM_WAIT_NAP_NS at most.
 */
#ifndef SYMM_KERNEL_WAIT_H
#define SYMM_KERNEL_WAIT_H

#include "atomic.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A wait looks so many times in a row, then so many times with a yield between, then it sleeps, for so long at a
 * stretch. Measured on 2 cores: barriers of 2 ranks take half of Open MPI's time, of 4 and 8 ranks less than its. */
#define SYMM_WAIT_GLANCE 16
#define SYMM_WAIT_SPINS 2000
#define SYMM_WAIT_SPINS_SHARED 1
#define SYMM_WAIT_YIELDS 50
#define SYMM_WAIT_NAP_NS UINT64_C(10000000)

/* One waiter in 2^bits ns looks at the mirror's news for all; 0: each does, as who is woken has to know at once. A test
 * may have others. */
#ifndef SYMM_WAIT_LISTEN_BITS
#define SYMM_WAIT_LISTEN_BITS 0
#endif

#define SYMM_WAIT_LOOKS 1        /* between two looks for failures */
#define SYMM_WAIT_BELLS 1        /* waiters sleep */
#define SYMM_WAIT_GONE_IS_NEAR 1 /* looking who is gone costs no more than another load */
/* Left to itself, a compiler makes calls of what a signal can do without. */
#define SYMM_FN_HOT static inline __attribute__((always_inline))
#define SYMM_FN_COLD static __attribute__((noinline, cold, unused))

/* One thread makes a call. */
#define SYMM_WAIT_LANES 1

static inline uint32_t symm_lane(uint32_t lanes)
{
	(void)lanes;
	return 0;
}

static inline bool symm_lanes_all(uint32_t lanes, bool mine)
{
	(void)lanes;
	return mine;
}

static inline uint32_t symm_lanes_first(uint32_t lanes, uint32_t mine)
{
	(void)lanes;
	return mine;
}

static inline uint32_t symm_lanes_min(uint32_t lanes, uint32_t mine)
{
	(void)lanes;
	return mine;
}

static inline uint32_t symm_lanes_sum(uint32_t lanes, uint32_t mine)
{
	(void)lanes;
	return mine;
}

static inline void symm_lanes_meet(uint32_t lanes)
{
	(void)lanes;
}

static inline void symm_lanes_acquire(uint32_t lanes)
{
	(void)lanes;
	symm_fence_acquire();
}

/* A CPU's stream begins nothing before its turn. */
static inline void symm_stream_enter(void)
{
}

static inline void symm_stream_next(void)
{
}

static inline void symm_wait_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("isb" ::: "memory");
#endif
}

static inline void symm_wait_yield(uint32_t round)
{
	(void)round;
	sched_yield();
}

static inline uint64_t symm_wait_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Who defines SYMM_WAIT_METER(ns) before including this is told how long each wait lasted that a glance did not end. */
#ifdef SYMM_WAIT_METER
#define SYMM_WAIT_METERED 1
#else
#define SYMM_WAIT_METERED 0
#define SYMM_WAIT_METER(ns) ((void)(ns))
#endif

/* Between the store that sleepers wait for and the look at their bell. */
static inline void symm_bell_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Announces a sleeper; what symm_bell_sleep waits to see change. The caller looks at its words in between. */
static inline uint32_t symm_bell_arm(uint32_t *bell)
{
	uint32_t armed = symm_flag_or(bell, 1) | 1;

	symm_bell_fence();
	return armed;
}

/* Returns when the bell was rung since it was armed, after ns, or earlier. */
static inline void symm_bell_sleep(uint32_t *bell, uint32_t armed, uint64_t ns)
{
	struct timespec timeout = { 0, (long)(ns < SYMM_WAIT_NAP_NS ? ns : SYMM_WAIT_NAP_NS) };

	/* Not FUTEX_PRIVATE_FLAG: the ranks share the word across processes. */
	syscall(SYS_futex, bell, FUTEX_WAIT, armed, &timeout, NULL, 0);
}

/* Wakes those who sleep on the bell; after symm_bell_fence, which follows the store that they wait for. */
static inline void symm_bell_ring(uint32_t *bell)
{
	uint32_t seen = symm_flag_load(bell);

	if ((seen & 1) != 0 && symm_flag_claim(bell, seen, seen + 1))
		syscall(SYS_futex, bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

#endif
