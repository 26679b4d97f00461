/* device_words.cu: kernels that do one thing each, named after it, for t/device_header.sh to see by which instructions.
 * The last argument keeps what a load gives. */
#include <symm/device.cuh>

#include "kernels/payload.h"

#define KERNEL(name, ...) extern "C" __global__ void name(__VA_ARGS__)

/* ---- symm/kernel/atomic_cuda.h ---- */

KERNEL(word_load, const uint64_t *word, uint64_t *value)
{
	*value = symm_word_load(word);
}

KERNEL(word_acquire, const uint64_t *word, uint64_t *value)
{
	*value = symm_word_acquire(word);
}

KERNEL(word_publish, uint64_t *word)
{
	symm_word_publish(word, 1);
}

KERNEL(counter_load, const uint64_t *counter, uint64_t *value)
{
	*value = symm_counter_load(counter);
}

KERNEL(counter_set, uint64_t *counter)
{
	symm_counter_set(counter, 1);
}

KERNEL(counter_take, uint64_t *counter, uint64_t *value)
{
	*value = symm_counter_take(counter);
}

KERNEL(counter_bump, uint64_t *counter)
{
	symm_counter_bump(counter);
}

KERNEL(flag_load, const uint32_t *flag, uint32_t *value)
{
	*value = symm_flag_load(flag);
}

KERNEL(flag_acquire, const uint32_t *flag, uint32_t *value)
{
	*value = symm_flag_acquire(flag);
}

KERNEL(flag_publish, uint32_t *flag)
{
	symm_flag_publish(flag, 1);
}

KERNEL(flags_load, const uint32_t *flags, uint32_t *value)
{
	uint32_t to[8];

	symm_flags_load(flags, to);
	*value = to[0] + to[7];
}

KERNEL(flag_claim, uint32_t *flag, bool *value)
{
	*value = symm_flag_claim(flag, 0, 1);
}

/* ---- kernels/payload.h ---- */

KERNEL(publish_4, const symm_sync_group *group, uint32_t *word)
{
	symm_payload_publish(group, word, 1, 4);
}

KERNEL(publish_8, const symm_sync_group *group, uint64_t *word)
{
	symm_payload_publish(group, word, 1, 8);
}

/* ---- symm/device.cuh ---- */

KERNEL(load_relaxed_4, const int32_t *word, int32_t *value)
{
	*value = symm::load_relaxed(word);
}

KERNEL(load_relaxed_8, const int64_t *word, int64_t *value)
{
	*value = symm::load_relaxed(word);
}

KERNEL(load_acquire_4, const int32_t *word, int32_t *value)
{
	*value = symm::load_acquire(word);
}

KERNEL(load_acquire_8, const int64_t *word, int64_t *value)
{
	*value = symm::load_acquire(word);
}

KERNEL(store_relaxed_4, int32_t *word)
{
	symm::store_relaxed(word, 1);
}

KERNEL(store_relaxed_8, uint64_t *word)
{
	symm::store_relaxed(word, uint64_t(1));
}

KERNEL(store_release_4, int32_t *word)
{
	symm::store_release(word, 1);
}

KERNEL(store_release_8, uint64_t *word)
{
	symm::store_release(word, uint64_t(1));
}

KERNEL(fence, int *word)
{
	word[0] = 1;
	symm::fence();
	word[1] = 1;
}

KERNEL(failed, symm_device_view view, int *value)
{
	*value = symm::failed(view);
}

KERNEL(meet_warp)
{
	symm::detail::meet(symm::warp_scope());
}

KERNEL(meet_block)
{
	symm::detail::meet(symm::block_scope());
}

KERNEL(agree_warp, int *value)
{
	*value = symm::detail::agree(symm::warp_scope(), *value);
}

KERNEL(agree_block, int *value)
{
	*value = symm::detail::agree(symm::block_scope(), *value);
}

/* ---- the calls that wait ---- */

struct flag_is_set {
	const uint32_t *flag;

	__device__ bool operator()() const
	{
		return symm::load_relaxed(flag) == 1;
	}
};

KERNEL(poll, symm_device_view view, flag_is_set arrived, int *value)
{
	*value = symm::detail::poll(view, 1, arrived, symm::forever);
}

KERNEL(wait_until_thread, symm_device_view view, flag_is_set arrived, int *value)
{
	*value = symm::wait_until(symm::thread_scope(), view, 1, arrived);
}

#define CALLS(name)                                                                                                    \
	KERNEL(barrier_##name, symm_device_view view, int *value)                                                      \
	{                                                                                                              \
		*value = symm::barrier(symm::name##_scope(), view, 0);                                                 \
	}                                                                                                              \
	KERNEL(put_signal_##name, symm_device_view view, int *value)                                                   \
	{                                                                                                              \
		*value = symm::put_signal(symm::name##_scope(), view, 1, 0);                                           \
	}                                                                                                              \
	KERNEL(wait_signal_##name, symm_device_view view, int *value)                                                  \
	{                                                                                                              \
		*value = symm::wait_signal(symm::name##_scope(), view, 1, 0);                                          \
	}                                                                                                              \
	KERNEL(wait_until_##name, symm_device_view view, flag_is_set arrived, int *value)                              \
	{                                                                                                              \
		*value = symm::wait_until(symm::name##_scope(), view, 1, arrived);                                     \
	}

CALLS(warp)
CALLS(block)
