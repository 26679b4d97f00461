/* atomic_cuda.h: atomic.h for kernels. Addresses are of global memory: the device's own, or a peer's or the
 * host's, mapped here.
 *
 * The system's scope where another device or the host takes part, else this device's. A publish is a fence
 * (symm_fence_release) and a relaxed store, as the fence may stand long before the store.
 */
#ifndef SYMM_KERNEL_ATOMIC_CUDA_H
#define SYMM_KERNEL_ATOMIC_CUDA_H

#include "layout.h"

#define SYMM_GLOBAL(address) "l"(__cvta_generic_to_global(address))

SYMM_FN uint64_t symm_word_load(const uint64_t *word)
{
	uint64_t value;

	asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : SYMM_GLOBAL(word) : "memory");
	return value;
}

SYMM_FN uint64_t symm_word_acquire(const uint64_t *word)
{
	uint64_t value;

	asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : SYMM_GLOBAL(word) : "memory");
	return value;
}

/* nvcc 13 has fences for one direction. A full one stands for both and takes longer: a round trip of signals 0.5 us. */
#if __CUDACC_VER_MAJOR__ >= 13
#define SYMM_FENCE_RELEASE "fence.release.sys;"
#define SYMM_FENCE_ACQUIRE "fence.acquire.sys;"
#else
#define SYMM_FENCE_RELEASE "fence.acq_rel.sys;"
#define SYMM_FENCE_ACQUIRE "fence.acq_rel.sys;"
#endif

/* What this thread's stream did before, and this thread before its last fence, is seen by others before what it
 * publishes after. */
SYMM_FN void symm_fence_release(void)
{
	asm volatile(SYMM_FENCE_RELEASE ::: "memory");
}

SYMM_FN void symm_fence_acquire(void)
{
	asm volatile(SYMM_FENCE_ACQUIRE ::: "memory");
}

SYMM_FN void symm_word_publish(uint64_t *word, uint64_t value)
{
	asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::SYMM_GLOBAL(word), "l"(value) : "memory");
}

SYMM_FN uint64_t symm_counter_load(const uint64_t *counter)
{
	uint64_t value;

	asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : SYMM_GLOBAL(counter) : "memory");
	return value;
}

SYMM_FN void symm_counter_set(uint64_t *counter, uint64_t value)
{
	asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::SYMM_GLOBAL(counter), "l"(value) : "memory");
}

SYMM_FN uint64_t symm_counter_take(uint64_t *counter)
{
	uint64_t value;
	uint32_t lane;

	/* 1, but not to the compiler, which else makes one addition of what it takes for a warp's many. */
	asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
	asm volatile("atom.relaxed.gpu.global.add.u64 %0, [%1], %2;"
		     : "=l"(value)
		     : SYMM_GLOBAL(counter), "l"((uint64_t)(lane >> 5) + 1)
		     : "memory");
	return value;
}

/* Without a fence, which would cost every launch half a microsecond: who sees the count does more than that before he
 * takes memory away (view.c writes to each peer), and no store is under way for longer. */
SYMM_FN void symm_counter_bump(uint64_t *counter)
{
	asm volatile("red.relaxed.sys.global.add.u64 [%0], 1;" ::SYMM_GLOBAL(counter) : "memory");
}

SYMM_FN uint32_t symm_flag_load(const uint32_t *flag)
{
	uint32_t value;

	asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : SYMM_GLOBAL(flag) : "memory");
	return value;
}

SYMM_FN uint32_t symm_flag_acquire(const uint32_t *flag)
{
	uint32_t value;

	asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : SYMM_GLOBAL(flag) : "memory");
	return value;
}

SYMM_FN void symm_flag_publish(uint32_t *flag, uint32_t value)
{
	asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::SYMM_GLOBAL(flag), "r"(value) : "memory");
}

SYMM_FN void symm_flags_load(const uint32_t *from, uint32_t to[8])
{
	for (int i = 0; i < 8; i += 4)
		asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
			     : "=r"(to[i]), "=r"(to[i + 1]), "=r"(to[i + 2]), "=r"(to[i + 3])
			     : SYMM_GLOBAL(from + i)
			     : "memory");
}

SYMM_FN bool symm_flag_claim(uint32_t *flag, uint32_t from, uint32_t to)
{
	uint32_t seen;

	asm volatile("atom.relaxed.gpu.global.cas.b32 %0, [%1], %2, %3;"
		     : "=r"(seen)
		     : SYMM_GLOBAL(flag), "r"(from), "r"(to)
		     : "memory");
	return seen == from;
}

/* Nobody gains by it here. */
SYMM_FN void symm_prefetch(const uint64_t *word)
{
	(void)word;
}

#endif
