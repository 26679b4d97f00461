/* atomic.h: the few atomic accesses that the algorithms are made of.
 *
 * Words are 64 bits, shared by ranks, each with one writer: loaded relaxed, published with release. Counters are 64
 * bits and this rank's own. Flags are 32 bits: poison, gone, bells.
 */
#ifndef SYMM_KERNELS_ATOMIC_H
#define SYMM_KERNELS_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

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

/* All that this thread wrote or acquired before is seen by whoever acquires after loading the word. */
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

static inline uint32_t symm_flag_load(const uint32_t *flag)
{
	return __atomic_load_n(flag, SYMM_ATOMIC_POLL);
}

static inline void symm_flag_publish(uint32_t *flag, uint32_t value)
{
	__atomic_store_n(flag, value, __ATOMIC_RELEASE);
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

/* Stores before are seen by others before loads after are made. */
static inline void symm_fence_full(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
