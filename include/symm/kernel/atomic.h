/* atomic.h: the few atomic accesses that the algorithms are made of.
 *
 * Words are 64 bits, shared by ranks, each with one writer: loaded relaxed, published with release. Counters are 64
 * bits and this rank's own. Flags are 32 bits: poison, abort, gone, news, bells.
 */
#ifndef SYMM_KERNEL_ATOMIC_H
#define SYMM_KERNEL_ATOMIC_H

#include "types.h"

/* ThreadSanitizer does not follow fences: under it every relaxed load acquires instead. */
#if defined(__SANITIZE_THREAD__)
#define SYMM_ATOMIC_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SYMM_ATOMIC_TSAN 1
#endif
#endif

#ifdef SYMM_ATOMIC_TSAN
#define SYMM_ATOMIC_POLL __ATOMIC_ACQUIRE
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif
#else
#define SYMM_ATOMIC_POLL __ATOMIC_RELAXED
#endif

static inline uint64_t symm_word_load(const uint64_t *word)
{
	return __atomic_load_n(word, SYMM_ATOMIC_POLL);
}

/* What its writer published before is seen after. */
static inline uint64_t symm_word_acquire(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Stands before a publish. Here the store itself releases, so there is nothing to do; on a GPU it is what takes time,
 * and can be done early. */
static inline void symm_fence_release(void)
{
}

/* All that this thread wrote or acquired before the last symm_fence_release is seen by whoever acquires after loading
 * the word. */
static inline void symm_word_publish(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline uint64_t symm_counter_load(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static inline void symm_counter_set(uint64_t *counter, uint64_t value)
{
	__atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

/* The value before. */
static inline uint64_t symm_counter_take(uint64_t *counter)
{
	return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* One more; what this thread and those that it synchronised with did before is over for who sees it. */
static inline void symm_counter_bump(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELEASE);
}

static inline uint32_t symm_flag_load(const uint32_t *flag)
{
	return __atomic_load_n(flag, SYMM_ATOMIC_POLL);
}

static inline void symm_flag_publish(uint32_t *flag, uint32_t value)
{
	__atomic_store_n(flag, value, __ATOMIC_RELEASE);
}

/* Eight flags side by side. Written out, they stay in registers; a loop stores them, and stalls as they are read. */
static inline void symm_flags_load(const uint32_t *from, uint32_t to[8])
{
	to[0] = symm_flag_load(&from[0]);
	to[1] = symm_flag_load(&from[1]);
	to[2] = symm_flag_load(&from[2]);
	to[3] = symm_flag_load(&from[3]);
	to[4] = symm_flag_load(&from[4]);
	to[5] = symm_flag_load(&from[5]);
	to[6] = symm_flag_load(&from[6]);
	to[7] = symm_flag_load(&from[7]);
}

/* One more, after all that this thread wrote before. */
static inline void symm_flag_bump(uint32_t *flag)
{
	__atomic_fetch_add(flag, 1, __ATOMIC_RELEASE);
}

/* The value before. */
static inline uint32_t symm_flag_or(uint32_t *flag, uint32_t bits)
{
	return __atomic_fetch_or(flag, bits, __ATOMIC_RELAXED);
}

/* True if the flag was `from` and is now `to`, by us. */
static inline bool symm_flag_claim(uint32_t *flag, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(flag, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* A hint: the word will be loaded soon. */
static inline void symm_prefetch(const uint64_t *word)
{
	__builtin_prefetch(word);
}

/* What was published by the writers of the words loaded before is seen after. */
static inline void symm_fence_acquire(void)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
}

#endif
