/* payload.h: what carries data: a value that is published, and a payload with the signal that tells of it. A block's
 * threads share the payload; on a CPU there is one. */
#ifndef SYMM_KERNELS_PAYLOAD_H
#define SYMM_KERNELS_PAYLOAD_H

#include "symm/kernel/sync.h"

#ifdef __CUDACC__

SYMM_FN uint32_t symm_block_lane(void)
{
	return threadIdx.x;
}

/* What all threads of the block stored before, the first may publish after. */
SYMM_FN void symm_block_meet(void)
{
	__syncthreads();
}

/* Four loads are under way at a time: the compiler does not move one before a store. */
SYMM_FN void symm_payload_copy_wide(uint4 *dst, const uint4 *src, uint64_t n)
{
	uint64_t i = threadIdx.x, step = blockDim.x;

	for (; i + 3 * step < n; i += 4 * step) {
		uint4 a = src[i], b = src[i + step], c = src[i + 2 * step], d = src[i + 3 * step];

		dst[i] = a;
		dst[i + step] = b;
		dst[i + 2 * step] = c;
		dst[i + 3 * step] = d;
	}
	for (; i < n; i += step)
		dst[i] = src[i];
}

/* Sixteen bytes at a time where both sides allow it, what is left by bytes. */
SYMM_FN void symm_payload_copy(char *dst, const char *src, uint64_t bytes)
{
	bool wide = (((uintptr_t)dst | (uintptr_t)src) & 15) == 0;
	uint64_t done = wide ? bytes & ~(uint64_t)15 : 0;

	symm_payload_copy_wide((uint4 *)dst, (const uint4 *)src, done / 16);
	for (uint64_t i = done + threadIdx.x; i < bytes; i += blockDim.x)
		dst[i] = src[i];
}

#else

#include <string.h>

SYMM_FN uint32_t symm_block_lane(void)
{
	return 0;
}

SYMM_FN void symm_block_meet(void)
{
}

/* A block may be copied onto itself. */
SYMM_FN void symm_payload_copy(char *dst, const char *src, uint64_t bytes)
{
	memmove(dst, src, bytes);
}

#endif

/* Stores a value of 4 or 8 bytes at once; who acquires it sees what came before. 0, or why the group failed. */
SYMM_FN int symm_payload_publish(const struct symm_sync_group *group, void *dst, uint64_t value, uint64_t bytes)
{
	int code = symm_sync_poisoned(group);

	if (code != 0)
		return code;
	symm_fence_release();
	if (bytes == sizeof(uint32_t))
		symm_flag_publish((uint32_t *)dst, (uint32_t)value);
	else
		symm_word_publish((uint64_t *)dst, value);
	return 0;
}

/* Copies, and then signals rank `peer`; the code of the signal, for the block's first thread. */
SYMM_FN int symm_payload_put(const struct symm_sync_place *at, const struct symm_sync_payload *payload, uint32_t peer,
			     uint32_t channel, uint64_t timeout_ns, uint32_t *blame)
{
	if (symm_sync_poisoned(at->group) == 0)
		symm_payload_copy((char *)payload->dst, (const char *)payload->src, payload->bytes);
	symm_block_meet();
	return symm_block_lane() == 0 ? symm_sync_put_signal(at, peer, channel, timeout_ns, blame) : 0;
}

#endif
