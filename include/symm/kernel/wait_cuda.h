/* wait_cuda.h: wait.h for kernels: a warp or a single thread spins, with pauses once it has lasted; nobody sleeps. */
#ifndef SYMM_KERNEL_WAIT_CUDA_H
#define SYMM_KERNEL_WAIT_CUDA_H

#include "atomic_cuda.h"

/* A look takes about 0.4 us: the clock, and what tells of failures, is looked at after some 40 us and then as often. */
#define SYMM_WAIT_SPINS 100
#define SYMM_WAIT_LOOKS 50
#define SYMM_WAIT_LISTEN_BITS 16
#define SYMM_WAIT_SPINS_SHARED SYMM_WAIT_SPINS
#define SYMM_WAIT_BELLS 0
#define SYMM_WAIT_GLANCE 0
#define SYMM_WAIT_METERED 0
#define SYMM_WAIT_METER(ns) ((void)(ns))
#define SYMM_WAIT_YIELDS 0
#define SYMM_WAIT_GONE_IS_NEAR 0 /* mirror->gone is the host's memory */

/* All in one piece: a function of its own would want a stack. */
#define SYMM_FN_COLD SYMM_FN
#define SYMM_FN_HOT SYMM_FN

/* A warp makes a call, or one thread: `lanes` is 32 or 1, and the others' values are not asked for then. */
#define SYMM_WAIT_LANES 32
#define SYMM_WARP 0xffffffffu

/* SYMM_KERNEL_OWN is defined where the library's own kernels are compiled: blocks of one warp or one thread. */

SYMM_FN uint32_t symm_lane(uint32_t lanes)
{
#ifdef SYMM_KERNEL_OWN
	return lanes == 1 ? 0 : threadIdx.x;
#else
	uint32_t lane;

	asm("mov.u32 %0, %%laneid;" : "=r"(lane));
	return lanes == 1 ? 0 : lane;
#endif
}

SYMM_FN bool symm_lanes_all(uint32_t lanes, bool mine)
{
	return lanes == 1 ? mine : __all_sync(SYMM_WARP, mine);
}

/* Lane 0's. */
SYMM_FN uint32_t symm_lanes_first(uint32_t lanes, uint32_t mine)
{
	return lanes == 1 ? mine : __shfl_sync(SYMM_WARP, mine, 0);
}

/* sm_75 has no instruction for these two. */
#if __CUDA_ARCH__ >= 800
SYMM_FN uint32_t symm_warp_min(uint32_t mine)
{
	return __reduce_min_sync(SYMM_WARP, mine);
}

SYMM_FN uint32_t symm_warp_sum(uint32_t mine)
{
	return __reduce_add_sync(SYMM_WARP, mine);
}
#else
SYMM_FN uint32_t symm_warp_min(uint32_t mine)
{
	for (int distance = 1; distance < SYMM_WAIT_LANES; distance *= 2) {
		uint32_t other = __shfl_xor_sync(SYMM_WARP, mine, distance);

		mine = other < mine ? other : mine;
	}
	return mine;
}

SYMM_FN uint32_t symm_warp_sum(uint32_t mine)
{
	for (int distance = 1; distance < SYMM_WAIT_LANES; distance *= 2)
		mine += __shfl_xor_sync(SYMM_WARP, mine, distance);
	return mine;
}
#endif

SYMM_FN uint32_t symm_lanes_min(uint32_t lanes, uint32_t mine)
{
	return lanes == 1 ? mine : symm_warp_min(mine);
}

SYMM_FN uint32_t symm_lanes_sum(uint32_t lanes, uint32_t mine)
{
	return lanes == 1 ? mine : symm_warp_sum(mine);
}

/* What all lanes did before has been done for each of them after. */
SYMM_FN void symm_lanes_meet(uint32_t lanes)
{
	if (lanes != 1)
		__syncwarp();
}

/* What was published by the writers of the words that any lane has loaded is seen by all: a value that one lane gave to
 * the others orders nothing for them. */
SYMM_FN void symm_lanes_acquire(uint32_t lanes)
{
	symm_fence_acquire();
	symm_lanes_meet(lanes);
}

/* Early launch, of our own kernels alone: when the next may begin after a user's is for the user to say. Where the host
 * allows it (src/device/cuda_stream.c), a kernel of ours is brought up while the work before it in the stream ends, and
 * has to wait for that itself, before anything else; and one that only has to leave lets the next be brought up. Not
 * before: what comes up early holds a place that kernels may need which we wait for.
 * Measured on two H200s: 2.4 us for a barrier in a graph become 2.1, 5.1 for a round trip of signals 3.7. */
SYMM_FN void symm_stream_enter(void)
{
#if defined(SYMM_KERNEL_OWN) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

SYMM_FN void symm_stream_next(void)
{
#if defined(SYMM_KERNEL_OWN) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

SYMM_FN void symm_wait_pause(void)
{
}

/* Longer and longer, up to half a microsecond. */
SYMM_FN void symm_wait_yield(uint32_t round)
{
	__nanosleep(round < 16 ? 32 * round : 512);
}

SYMM_FN uint64_t symm_wait_clock(void)
{
	uint64_t ns;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns)::"memory");
	return ns;
}

/* ---- nobody sleeps, so there are no bells ---- */

SYMM_FN void symm_bell_fence(void)
{
}

SYMM_FN uint32_t symm_bell_arm(const uint32_t *bell)
{
	(void)bell;
	return 0;
}

SYMM_FN void symm_bell_sleep(const uint32_t *bell, uint32_t armed, uint64_t ns)
{
	(void)bell, (void)armed, (void)ns;
}

SYMM_FN void symm_bell_ring(const uint32_t *bell)
{
	(void)bell;
}

#endif
