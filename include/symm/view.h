/* view.h: a symm_mem as kernels see it, and the words by which its ranks synchronise.
 *
 * For C, C++, CUDA and NVRTC. Kernels in CUDA C++ take a struct symm_device_view by value and use symm/device.cuh;
 * those in other languages, Triton or Fortran, meet the library's calls with the help of struct symm_sync_words and the
 * steps in symm-sync-words(7).
 */
#ifndef SYMM_DEVICE_VIEW_H
#define SYMM_DEVICE_VIEW_H

#include "kernel/types.h"
#include "symm.h"

/* Increased when a struct here, or what it leads to, changes: a kernel and the library must have been made with the
 * same. */
#define SYMM_DEVICE_VIEW_VERSION 4
#define SYMM_SYNC_WORDS_VERSION 1

struct symm_sync;
struct symm_sync_group;

/* All that kernels need; the pointers are the device's, and owned by the symm_mem. */
struct symm_device_view {
	uint32_t version; /* SYMM_DEVICE_VIEW_VERSION */
	int32_t rank, world_size;
	void *const *buffers;     /* [world_size]: each rank's block */
	void *const *signal_pads; /* [world_size]: its signal pad, which belongs to users' kernels */
	uint64_t buffer_size;     /* bytes of a block, as asked for */
	uint64_t signal_pad_size; /* bytes */
	void *multicast;          /* for all ranks' blocks at once; NULL without multicast */
	/* What the primitives of symm/device.cuh work on; not for others. */
	struct symm_sync *sync;
	struct symm_sync_group *group;
	char *own;
};

/* Where the words of barriers and signals are, at rest or not. Offsets, strides and addresses are in bytes.
 *
 * A *word* is 64 bits: generation << 32 | epoch. Rank `writer` writes its word of a channel into the slot of rank
 * `reader` at slots[reader] + the primitive's offset + channel * channel_stride + writer * 8. */
struct symm_sync_words {
	uint32_t version;    /* SYMM_SYNC_WORDS_VERSION */
	uint32_t generation; /* the high half of each word that counts */
	uint32_t epoch0;     /* the epoch of call number n of a channel, from 1 on, is epoch0 + n, modulo 2^32 */
	int32_t rank, world_size;
	uint32_t channels;
	void *const *slots;      /* [world_size]: read by the host, point to device memory */
	uint64_t slot_bytes;     /* of each */
	uint64_t channel_stride; /* from a channel's words to the next channel's */
	uint64_t barrier_offset, signal_offset, credit_offset; /* of channel 0's words in a slot */
	uint64_t state_offset;                                 /* [world_size] words: generation << 32 | 0: sound */
	uint64_t bell_offset, bell_stride;                     /* a channel's uint32_t, a futex; host device only */
	/* Counters of calls, uint64_t, in local memory of the device: 0 at first, this rank's own. */
	uint64_t barrier_ticket, barrier_done; /* addresses of channel 0's; the next channel's barrier_stride further */
	uint64_t barrier_stride;
	uint64_t put_ticket, wait_ticket; /* addresses for rank 0 and channel 0 */
	uint64_t ticket_stride;           /* from a channel's to the next's */
	uint64_t peer_stride;             /* from a rank's to the next's */
	uint64_t poison;                  /* address of a uint32_t: not 0: the group has failed, store nothing */
};

#ifndef __CUDACC_RTC__
#ifdef __cplusplus
extern "C" {
#endif

/* The view for kernels; valid as long as the symm_mem lives. Local. */
SYMM_API int symm_mem_device_view(struct symm_mem *mem, struct symm_device_view *view);
/* Where the words are; valid as long as the symm_mem lives. Local. */
SYMM_API int symm_mem_sync_words(struct symm_mem *mem, struct symm_sync_words *words);

#ifdef __cplusplus
}
#endif
#endif
#endif
