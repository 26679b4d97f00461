/* device.cuh: barriers, signals and peers' memory for users' own kernels.
 *
 * C++11 or later; nvcc and NVRTC of CUDA 12 and 13, for sm_75 and later, where everything here is for device code; and
 * any C++ compiler for the host device, where a thread of the CPU takes the place of a scope. Header-only. A kernel
 * gets a struct symm_device_view by value: symm_mem_device_view. See symm-device(7).
 *
 * The calls share channels and counters with symm_barrier, symm_put_signal and symm_wait_signal: a kernel can signal
 * what a host call or another stream waits for, and the other way round. They return 0 or a negative SYMM code, the
 * same to all threads of the scope. None traps: a wait that fails makes the group fail, as a host call's does, and from
 * then on each call returns the code at once.
 */
#ifndef SYMM_DEVICE_CUH
#define SYMM_DEVICE_CUH

#include "kernel/sync.h"
#include "view.h"

namespace symm
{

typedef ::symm_device_view device_view;

/* Who makes a call together. All threads of the scope make it, with the same arguments, and what each of them wrote
 * before is published by it; what it acquires, all may read after. */
struct thread_scope {
};
struct warp_scope { /* all 32 threads of a warp */
};
struct block_scope { /* all threads of a block: the call is a __syncthreads() as well */
};

/* As timeout_ns: no time-out. */
constexpr uint64_t forever = SYMM_SYNC_FOREVER;

/* ---- who and where ---- */

SYMM_FN_BOTH int rank(const device_view &view)
{
	return view.rank;
}

SYMM_FN_BOTH int world_size(const device_view &view)
{
	return view.world_size;
}

/* The address here of a rank's block, and of its signal pad. Neither checks the rank: it is one of 0 to
 * world_size - 1. */
template <class T> SYMM_FN T *buffer(const device_view &view, int rank)
{
	return static_cast<T *>(view.buffers[rank]);
}

template <class T> SYMM_FN T *signal_pad(const device_view &view, int rank)
{
	return static_cast<T *>(view.signal_pads[rank]);
}

/* ---- scopes ---- */

namespace detail
{

SYMM_FN symm_sync_place place(const device_view &view)
{
	symm_sync_place at;

	at.sync = view.sync;
	at.group = view.group;
	at.own = view.own;
	at.world_size = static_cast<uint32_t>(view.world_size);
	return at;
}

/* 0, or why the call cannot be made: the same for all threads, so that they can return at once. */
SYMM_FN int check(const device_view &view, int peer, int channel)
{
	if (view.version != SYMM_DEVICE_VIEW_VERSION)
		return SYMM_ENOTSUP;
	if (peer < 0 || peer >= view.world_size || channel < 0 || channel >= SYMM_CHANNELS)
		return SYMM_EINVAL;
	return 0;
}

#ifdef __CUDACC__
/* meet: what the threads of the scope did before is seen by those who act. lanes: how many act in a barrier. acts: is
 * this thread one of `lanes`. agree: the code of those who acted, for all; what they have seen, all see. */
SYMM_FN void meet(thread_scope)
{
}

SYMM_FN uint32_t lanes(thread_scope)
{
	return 1;
}

SYMM_FN bool acts(thread_scope, uint32_t)
{
	return true;
}

SYMM_FN int agree(thread_scope, int code)
{
	return code;
}

SYMM_FN void meet(warp_scope)
{
	__syncwarp();
}

SYMM_FN uint32_t lanes(warp_scope)
{
	return SYMM_WAIT_LANES;
}

SYMM_FN bool acts(warp_scope, uint32_t lanes)
{
	return symm_lane(SYMM_WAIT_LANES) < lanes;
}

SYMM_FN int agree(warp_scope, int code)
{
	code = __shfl_sync(SYMM_WARP, code, 0);
	__syncwarp();
	return code;
}

SYMM_FN uint32_t thread_of_block()
{
	return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}

SYMM_FN void meet(block_scope)
{
	__syncthreads();
}

SYMM_FN uint32_t lanes(block_scope)
{
	return blockDim.x * blockDim.y * blockDim.z < SYMM_WAIT_LANES ? 1 : SYMM_WAIT_LANES;
}

SYMM_FN bool acts(block_scope, uint32_t lanes)
{
	return thread_of_block() < lanes;
}

/* A code goes from thread to thread bit by bit, but only after a failure. */
SYMM_FN int agree(block_scope, int code)
{
	int all = 0;

	if (!__syncthreads_or(code != 0))
		return 0;
	for (int bit = 1; bit < 0x80; bit <<= 1)
		if (__syncthreads_or(-code & bit))
			all |= bit;
	return -all;
}
#else
template <class Scope> SYMM_FN void meet(Scope)
{
}

template <class Scope> SYMM_FN uint32_t lanes(Scope)
{
	return SYMM_WAIT_LANES;
}

template <class Scope> SYMM_FN bool acts(Scope, uint32_t)
{
	return true;
}

template <class Scope> SYMM_FN int agree(Scope, int code)
{
	return code;
}
#endif

} // namespace detail

/* ---- barriers and signals ---- */

/* Returns when all ranks have entered the channel's barrier; what each wrote before is then visible to all. */
template <class Scope>
SYMM_FN int barrier(Scope scope, const device_view &view, int channel, uint64_t timeout_ns = forever)
{
	const symm_sync_place at = detail::place(view);
	const uint32_t lanes = detail::lanes(scope);
	int code = detail::check(view, 0, channel);
	uint32_t blame;

	if (code != 0)
		return code;
	detail::meet(scope);
	if (detail::acts(scope, lanes))
		code = symm_sync_barrier(&at, lanes, static_cast<uint32_t>(channel), timeout_ns, &blame);
	return detail::agree(scope, code);
}

/* Signals rank dst; waits while the last signal to it on this channel is unconsumed. */
template <class Scope>
SYMM_FN int put_signal(Scope scope, const device_view &view, int dst, int channel, uint64_t timeout_ns = forever)
{
	const symm_sync_place at = detail::place(view);
	int code = detail::check(view, dst, channel);
	uint32_t blame;

	if (code != 0)
		return code;
	detail::meet(scope);
	if (detail::acts(scope, 1))
		code = symm_sync_put_signal(&at, static_cast<uint32_t>(dst), static_cast<uint32_t>(channel), timeout_ns,
					    &blame);
	return detail::agree(scope, code);
}

/* Waits for a signal from rank src and consumes it. */
template <class Scope>
SYMM_FN int wait_signal(Scope scope, const device_view &view, int src, int channel, uint64_t timeout_ns = forever)
{
	const symm_sync_place at = detail::place(view);
	int code = detail::check(view, src, channel);
	uint32_t blame;

	if (code != 0)
		return code;
	detail::meet(scope);
	if (detail::acts(scope, 1))
		code = symm_sync_wait_signal(&at, static_cast<uint32_t>(src), static_cast<uint32_t>(channel),
					     timeout_ns, &blame);
	return detail::agree(scope, code);
}

/* ---- words of users' own, in symmetric memory or signal pads: integers of 4 or 8 bytes, aligned ---- */

namespace detail
{

template <int bytes> struct width {
};

template <class T> struct word {
	static_assert(T(1) / T(2) == T(0) && (sizeof(T) == 4 || sizeof(T) == 8), "integers of 4 or 8 bytes");
	typedef width<sizeof(T)> size;
};

#ifdef __CUDACC__
SYMM_FN uint32_t load_relaxed(const void *address, width<4>)
{
	return symm_flag_load(static_cast<const uint32_t *>(address));
}

SYMM_FN uint64_t load_relaxed(const void *address, width<8>)
{
	return symm_word_load(static_cast<const uint64_t *>(address));
}

SYMM_FN uint32_t load_acquire(const void *address, width<4>)
{
	return symm_flag_acquire(static_cast<const uint32_t *>(address));
}

SYMM_FN uint64_t load_acquire(const void *address, width<8>)
{
	return symm_word_acquire(static_cast<const uint64_t *>(address));
}

SYMM_FN void store_relaxed(void *address, uint64_t value, width<4>)
{
	symm_flag_publish(static_cast<uint32_t *>(address), static_cast<uint32_t>(value));
}

SYMM_FN void store_relaxed(void *address, uint64_t value, width<8>)
{
	symm_word_publish(static_cast<uint64_t *>(address), value);
}
#endif

} // namespace detail

#ifdef __CUDACC__
template <class T> SYMM_FN T load_relaxed(const T *address)
{
	return static_cast<T>(detail::load_relaxed(address, typename detail::word<T>::size()));
}

/* What the writer of the value published before is seen after. */
template <class T> SYMM_FN T load_acquire(const T *address)
{
	return static_cast<T>(detail::load_acquire(address, typename detail::word<T>::size()));
}

template <class T> SYMM_FN void store_relaxed(T *address, T value)
{
	detail::store_relaxed(address, static_cast<uint64_t>(value), typename detail::word<T>::size());
}

/* What this thread did before is seen by who acquires the value. */
template <class T> SYMM_FN void store_release(T *address, T value)
{
	symm_fence_release();
	store_relaxed(address, value);
}

/* What this thread did before, all see before what it does after. */
SYMM_FN void fence()
{
	__threadfence_system();
}
#else
template <class T> SYMM_FN T load_relaxed(const T *address)
{
	static_cast<void>(sizeof(detail::word<T>));
	return __atomic_load_n(address, SYMM_ATOMIC_POLL);
}

template <class T> SYMM_FN T load_acquire(const T *address)
{
	static_cast<void>(sizeof(detail::word<T>));
	return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}

template <class T> SYMM_FN void store_relaxed(T *address, T value)
{
	static_cast<void>(sizeof(detail::word<T>));
	__atomic_store_n(address, value, __ATOMIC_RELAXED);
}

template <class T> SYMM_FN void store_release(T *address, T value)
{
	static_cast<void>(sizeof(detail::word<T>));
	__atomic_store_n(address, value, __ATOMIC_RELEASE);
}

SYMM_FN void fence()
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
#endif

/* ---- loops of users' own ---- */

/* 0, or the code with which the group has failed: one load of the device's own memory. A peer that died fails the group
 * only when somebody waits for it: see wait_until. */
SYMM_FN int failed(const device_view &view)
{
	return symm_sync_poisoned(view.group);
}

namespace detail
{

template <class Predicate> SYMM_FN bool spin(Predicate &arrived)
{
	for (uint32_t look = 0; look < SYMM_WAIT_SPINS; look++) {
		if (arrived())
			return true;
		symm_wait_pause();
	}
	return false;
}

/* By one thread: like the library's waits it asks for failures and the time once it has lasted. What has come counts
 * even if a failure was seen first. */
template <class Predicate> SYMM_FN int poll(const device_view &view, int src, Predicate &arrived, uint64_t timeout_ns)
{
	const symm_sync_place at = place(view);
	uint64_t start;
	uint32_t heard = 0;
	int code = 0;

	if (spin(arrived))
		return 0;
	start = symm_wait_clock();
	for (uint32_t round = 0; !arrived(); round++) {
		if (code != 0)
			return code;
		code = symm_sync_lost(&at, static_cast<uint32_t>(src), &heard);
		if (code == 0 && symm_wait_clock() - start >= timeout_ns)
			code = SYMM_ETIMEDOUT;
		for (uint32_t look = 0; look < SYMM_WAIT_LOOKS && code == 0 && !arrived(); look++)
			symm_wait_yield(round);
	}
	return 0;
}

} // namespace detail

/* Waits until arrived() is true, which rank src is to bring about: a functor that one thread of the scope calls, again
 * and again; load_relaxed is enough for it, as what rank src published before is seen after. Returns the group's or the
 * rank's failure too, but fails nothing itself: after a time-out the group is as sound as before. */
template <class Scope, class Predicate>
SYMM_FN int wait_until(Scope scope, const device_view &view, int src, Predicate arrived, uint64_t timeout_ns = forever)
{
	int code = detail::check(view, src, 0);

	if (code != 0)
		return code;
	detail::meet(scope);
	if (detail::acts(scope, 1)) {
		code = detail::poll(view, src, arrived, timeout_ns);
		symm_fence_acquire();
	}
	return detail::agree(scope, code);
}

} // namespace symm

#endif
