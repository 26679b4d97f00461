/* layout.h: the words and structs that ranks, kernels and the host share. Data only; the algorithms are in sync.h.
 *
 * Words. For each (allocation, group) every rank owns one slot of shared words in its sync arena; peers write into
 * it, its owner reads. All words are 64 bits, {generation << 32 | epoch}, zero at rest (a fresh arena needs no
 * initialisation: generation 0 never exists). Rows are padded to 64 bytes. See struct symm_sync_layout for the
 * offsets.
 *
 * Structs. struct symm_sync (one a view) and struct symm_sync_group (one a group and device) are in local memory of
 * the device, at addresses that stay for the life of the symm_mem and of the group: kernels get these addresses, the
 * channel, the peer and the timeout, so that a captured launch stays valid. The host never dereferences them: it reads
 * and writes them through the device's table (src/device.h). struct symm_sync_mirror is in memory that host and
 * kernels reach alike (on a GPU: pinned host memory), and kernels look at it in slow paths only, if they have heard of
 * news there.
 */
#ifndef SYMM_KERNEL_LAYOUT_H
#define SYMM_KERNEL_LAYOUT_H

#include "types.h"

#ifdef __CUDACC__
#define SYMM_FN static __device__ __forceinline__
#define SYMM_FN_BOTH static __host__ __device__ __forceinline__
#else
#define SYMM_FN static inline
#define SYMM_FN_BOTH static inline
#endif

#define SYMM_SYNC_VERSION 4
#define SYMM_SYNC_CHANNELS 33
#define SYMM_SYNC_OWN_CHANNEL 32 /* the library's own: no call of a user's gets there */
#define SYMM_SYNC_BELL_STRIDE 64

/* What a rank tells its peers of itself in the state row of their slots: {generation, one of these}. */
enum { SYMM_STATE_OPEN, SYMM_STATE_CLOSED /* it freed the allocation */, SYMM_STATE_FAILED /* its group failed */ };

/* Why a peer will not come: written by the host, for each peer: symm_sync_gone_at. */
enum { SYMM_GONE_NOT, SYMM_GONE_DIED, SYMM_GONE_LEFT };

/* The order of symm_sync_op.kind. */
enum { SYMM_SYNC_BARRIER, SYMM_SYNC_PUT_SIGNAL, SYMM_SYNC_WAIT_SIGNAL };

/* What the algorithms return, from symm.h, which device code does not include. */
enum {
	SYMM_SYNC_TIMEDOUT = -3, /* SYMM_ETIMEDOUT */
	SYMM_SYNC_GONE = -4,     /* SYMM_EPEER: the peer died, left or failed */
	SYMM_SYNC_CLOSED = -5,   /* SYMM_ESTALE: the peer freed the allocation */
	SYMM_SYNC_MISUSE = -6    /* SYMM_EBUSY: two barriers at once on one channel */
};

#define SYMM_SYNC_NOBODY 0xffffffffu     /* in the place of a rank */
#define SYMM_SYNC_FOREVER (~(uint64_t)0) /* as timeout_ns */

/* Who failed first, at what: written once by whoever set poison from within an algorithm. */
struct symm_sync_record {
	uint32_t op; /* SYMM_SYNC_BARRIER, ... */
	uint32_t channel;
	uint32_t peer; /* the first rank that was waited for and had not come, or the one that died, left or failed */
	uint32_t missing;    /* how many had not come (barrier) */
	int32_t code;        /* negative SYMM code */
	uint32_t heard;      /* 1: peer is not missing, it told that the group has failed; why, it tells the host */
	uint64_t timeout_ns; /* the call's */
};

/* What host and kernels tell each other of a group: each word has one writer. */
struct symm_sync_mirror {
	/* The two words in one aligned 64-bit word: all zero while the group is sound. */
	uint32_t abort;   /* by the host: 0, or the positive SYMM code (-code) with which the group failed */
	uint32_t written; /* by the algorithm that set poison: 1 once record can be read */
	struct symm_sync_record record;
	uint32_t news; /* by the host: how often abort or gone has changed; raised after each change */
	uint32_t unused;
	/* here: gone, see symm_sync_gone_at */
};

struct symm_sync_group {
	uint32_t version;
	uint32_t generation;
	uint32_t rank, world_size;
	uint32_t epoch0;         /* the first epoch of every counter, less 1 (tests start near the wrap) */
	uint32_t oversubscribed; /* CPU: more ranks than cores here: do not spin long */
	uint32_t poison;         /* 0, or the positive SYMM code with which the group failed; set once, by CAS */
	uint32_t unused;
	struct symm_sync_mirror *mirror; /* as kernels address it */
	uint32_t listened;               /* in which period a waiter last looked at the mirror's news */
	uint32_t news;                   /* what it read there */
};

/* What a rank keeps of one peer, in cache lines of its own. */
struct symm_sync_peer {
	char *slot; /* the peer's slot of shared words, as mapped here */
	uint64_t unused[5];
	struct {
		uint64_t put, wait; /* tickets */
	} channel[SYMM_SYNC_CHANNELS];
};

struct symm_sync {
	struct symm_sync_group *group;
	char *own;      /* our own slot: that of peer `rank` */
	uint64_t ended; /* pieces of work that have ended, replayed ones apart: see symm_device_ops.launch */
	uint64_t unused[5];
	struct {
		uint64_t ticket, done, unused[6];
	} barrier[SYMM_SYNC_CHANNELS];
	/* here: struct symm_sync_peer [world_size], see symm_sync_peer_at */
};

SYMM_FN_BOTH size_t symm_sync_bytes(uint32_t world)
{
	return sizeof(struct symm_sync) + world * sizeof(struct symm_sync_peer);
}

SYMM_FN_BOTH struct symm_sync_peer *symm_sync_peer_at(struct symm_sync *sync, uint32_t rank)
{
	/* In this order a kernel's loads carry the constant themselves. */
	struct symm_sync_peer *peer = (struct symm_sync_peer *)(void *)sync + rank;

	return (struct symm_sync_peer *)(void *)((char *)peer + sizeof(*sync));
}

/* The rank's word of the host: SYMM_GONE_... */
SYMM_FN_BOTH uint32_t *symm_sync_gone_at(struct symm_sync_mirror *mirror, uint32_t rank)
{
	return (uint32_t *)(void *)(mirror + 1) + rank;
}

SYMM_FN_BOTH size_t symm_sync_mirror_bytes(uint32_t world)
{
	return sizeof(struct symm_sync_mirror) + world * sizeof(uint32_t);
}

/* Offsets in bytes from the start of a slot, for a world size: word [peer], 8 bytes each, of channel 0's row. Each
 * row has cache lines of its own: a credit that comes does not disturb the wait for a signal beside it. */
struct symm_sync_layout {
	size_t row;     /* bytes from one channel's row to the next */
	size_t barrier; /* inbox: peer has entered barrier number epoch */
	size_t signal;  /* inbox: peer has put signal number epoch */
	size_t credit;  /* peer has consumed my signal number epoch */
	size_t state;   /* one for all channels: peer's SYMM_STATE_ */
	size_t bell;    /* [channel] x SYMM_SYNC_BELL_STRIDE bytes, CPU only: a uint32 futex for sleepers, wait.h */
	size_t bytes;   /* of the whole slot */
};

SYMM_FN_BOTH size_t symm_sync_padded(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63;
}

SYMM_FN_BOTH struct symm_sync_layout symm_sync_layout_of(uint32_t world)
{
	struct symm_sync_layout layout;
	size_t words = symm_sync_padded(sizeof(uint64_t) * world);

	layout.barrier = 0;
	layout.signal = words;
	layout.credit = 2 * words;
	layout.row = 3 * words;
	layout.state = SYMM_SYNC_CHANNELS * layout.row;
	layout.bell = layout.state + words;
	layout.bytes = layout.bell + SYMM_SYNC_CHANNELS * SYMM_SYNC_BELL_STRIDE;
	return layout;
}

SYMM_FN_BOTH uint64_t symm_sync_word_of(uint32_t generation, uint32_t low)
{
	return (uint64_t)generation << 32 | low;
}

/* Where `rank` tells its state to the owner of a slot. */
SYMM_FN_BOTH uint64_t *symm_sync_state_word(char *slot, uint32_t world, uint32_t rank)
{
	return (uint64_t *)(void *)(slot + symm_sync_layout_of(world).state) + rank;
}

/* What a state word tells: SYMM_STATE_... Another generation's tells nothing. */
SYMM_FN_BOTH uint32_t symm_sync_state_of(uint64_t word, uint32_t generation)
{
	return word >> 32 == generation ? (uint32_t)word : (uint32_t)SYMM_STATE_OPEN;
}

/* Data that work carries. */
struct symm_sync_payload {
	void *dst;
	const void *src; /* of a copy; a value has none */
	uint64_t bytes;
	uint64_t value;
};

/* What a kernel is launched with. Frozen in a captured graph: nothing in it may change while a symm_mem lives. What
 * stands in sync and group as well is here because a kernel would wait for each load on the way to a word. */
struct symm_sync_args {
	struct symm_sync *sync;
	struct symm_sync_group *group;
	char *own; /* sync->own */
	uint64_t timeout_ns;
	uint32_t channel, peer;
	uint32_t counted; /* 1: not to be replayed, adds to sync->ended when it ends */
	uint32_t world_size;
	struct symm_sync_payload payload;
	struct symm_sync_result *result; /* NULL, or, in memory that the host reads, where a blocking call waits */
};

/* How a blocking call ends. */
struct symm_sync_result {
	int32_t code;  /* 0 or a negative code */
	uint32_t peer; /* SYMM_SYNC_CLOSED: who has freed the allocation */
	uint32_t done; /* 1 once the rest can be read */
};

#endif
