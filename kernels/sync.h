/* sync.h: barrier, put_signal and wait_signal, once for GPU and CPU, and the layout of the words they use.
 *
 * Words. For each (allocation, group) every rank owns one slot of shared words in its sync arena; peers write into
 * it, its owner reads. All words are 64 bits, {generation << 32 | epoch}, zero at rest (a fresh arena needs no
 * initialisation: generation 0 never exists). Rows are padded to 64 bytes. See struct symm_sync_layout for the
 * offsets.
 *
 * Counters. A channel's tickets and the barrier's done count are this rank's own, in local memory of the device. They
 * start at 0; the epoch in a word is the low half of epoch0 + ticket + 1.
 *
 * Failure. One struct symm_sync_group per (group, device) holds the poison word: 0, or the positive SYMM code (-code)
 * with which the group failed. The first to fail sets it by compare-and-swap and alone writes the record. From then
 * on every call fails with that code, before it stores anything or takes a ticket; the counters mean nothing any
 * more. A closed peer fails only the calls that wait for it or signal it, with SYMM_ESTALE, and poisons nothing:
 * channels that have nothing to do with it go on.
 */
#ifndef SYMM_KERNELS_SYNC_H
#define SYMM_KERNELS_SYNC_H

#include "atomic.h"
#include "wait.h"

#include <stddef.h>
#include <stdint.h>

#define SYMM_SYNC_VERSION 1
#define SYMM_SYNC_CHANNELS 32

/* What a rank tells its peers of itself in the state row of their slots: {generation, one of these}. */
enum { SYMM_STATE_OPEN, SYMM_STATE_CLOSED /* it freed the allocation */, SYMM_STATE_FAILED /* its group failed */ };

/* Why a peer will not come: written by the host into symm_sync_group.gone[peer]. */
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

#define SYMM_SYNC_FOREVER UINT64_MAX /* as timeout_ns */

/* Who failed first, at what: written once by whoever set poison. */
struct symm_sync_record {
	uint32_t op; /* SYMM_SYNC_BARRIER, ... */
	uint32_t channel;
	uint32_t peer; /* the first rank that was waited for and had not come, or the one that died, left or failed */
	uint32_t missing; /* how many had not come (barrier) */
	int32_t code;     /* negative SYMM code */
	uint32_t heard;   /* 1: peer is not missing, it told that the group has failed; why, it tells the host */
	uint32_t written; /* 1 once the rest can be read */
};

struct symm_sync_group {
	uint32_t version;
	uint32_t generation;
	uint32_t rank, world_size;
	uint32_t epoch0;         /* the first epoch of every counter, less 1 (tests start near the wrap) */
	uint32_t oversubscribed; /* CPU: more ranks than cores here: do not spin long */
	uint32_t poison;
	struct symm_sync_record record;
	uint32_t *gone; /* [world_size], written by the host */
};

/* Hangs off a stable address for the life of the symm_mem. */
struct symm_sync {
	struct symm_sync_group *group;
	char **slot; /* [world_size]: each rank's slot of shared words, as mapped here; slot[rank] is our own */
	char *local; /* our tickets and counts: symm_sync_local_bytes(), zero at first */
};

/* Offsets in bytes from the start of a slot, for a world size: word [peer], 8 bytes each, of channel 0's row. Each
 * row has cache lines of its own: a credit that comes does not disturb the wait for a signal beside it. */
struct symm_sync_layout {
	size_t row;     /* bytes from one channel's row to the next */
	size_t barrier; /* inbox: peer has entered barrier number epoch */
	size_t signal;  /* inbox: peer has put signal number epoch */
	size_t credit;  /* peer has consumed my signal number epoch */
	size_t state;   /* one for all channels: peer's SYMM_STATE_ */
	size_t bell;    /* [channel] x 64 bytes, CPU only: a uint32 futex for sleeping waiters, wait.h */
	size_t bytes;   /* of the whole slot */
};

static inline size_t symm_sync_padded(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63;
}

static inline struct symm_sync_layout symm_sync_layout(uint32_t world)
{
	struct symm_sync_layout layout;
	size_t words = symm_sync_padded(sizeof(uint64_t) * world);

	layout.barrier = 0;
	layout.signal = words;
	layout.credit = 2 * words;
	layout.row = 3 * words;
	layout.state = SYMM_SYNC_CHANNELS * layout.row;
	layout.bell = layout.state + words;
	layout.bytes = layout.bell + SYMM_SYNC_CHANNELS * 64;
	return layout;
}

/* Our own counters: for each channel a row {barrier ticket, barriers done}, and a row of {put, wait} tickets [peer]. */
static inline size_t symm_sync_local_row(uint32_t world)
{
	return symm_sync_padded(2 * sizeof(uint64_t) * world);
}

static inline size_t symm_sync_local_bytes(uint32_t world)
{
	return SYMM_SYNC_CHANNELS * (64 + symm_sync_local_row(world));
}

static inline uint64_t *symm_sync_barrier_counters(const struct symm_sync *s, uint32_t channel)
{
	return (uint64_t *)(void *)(s->local + (size_t)channel * 64);
}

static inline uint64_t *symm_sync_signal_counters(const struct symm_sync *s, uint32_t channel, uint32_t peer)
{
	size_t row = symm_sync_local_row(s->group->world_size);

	return (uint64_t *)(void *)(s->local + SYMM_SYNC_CHANNELS * 64 + channel * row) + 2 * (size_t)peer;
}

/* The word of `writer` in the slot of `owner`, of the row at an offset of the layout. */
static inline uint64_t *symm_sync_at(const struct symm_sync *s, uint32_t owner, size_t offset, uint32_t writer)
{
	return (uint64_t *)(void *)(s->slot[owner] + offset) + writer;
}

static inline uint32_t *symm_sync_bell(const struct symm_sync *s, const struct symm_sync_layout *layout, uint32_t owner,
				       uint32_t channel)
{
	return (uint32_t *)(void *)(s->slot[owner] + layout->bell + (size_t)channel * 64);
}

static inline uint64_t symm_sync_word(const struct symm_sync_group *group, uint32_t low)
{
	return (uint64_t)group->generation << 32 | low;
}

static inline bool symm_sync_reached(uint64_t word, uint64_t want)
{
	return word >> 32 == want >> 32 && (int32_t)((uint32_t)word - (uint32_t)want) >= 0;
}

/* ---- states and failure ---- */

/* What a peer has told of itself for this allocation: SYMM_STATE_... */
static inline uint32_t symm_sync_state(const struct symm_sync *s, uint32_t peer)
{
	struct symm_sync_layout layout = symm_sync_layout(s->group->world_size);
	uint64_t word = symm_word_load(symm_sync_at(s, s->group->rank, layout.state, peer));

	return word >> 32 == s->group->generation ? (uint32_t)word : SYMM_STATE_OPEN;
}

/* Wakes all that sleep on the slot of `owner`: of our own after poison or gone has changed. */
static inline void symm_sync_wake(const struct symm_sync *s, uint32_t owner)
{
	struct symm_sync_layout layout = symm_sync_layout(s->group->world_size);

	symm_fence_full();
	for (uint32_t channel = 0; channel < SYMM_SYNC_CHANNELS; channel++)
		symm_bell_ring(symm_sync_bell(s, &layout, owner, channel));
}

/* Tells one rank our state, SYMM_STATE_CLOSED or SYMM_STATE_FAILED, and wakes it if it waits. */
static inline void symm_sync_tell_one(const struct symm_sync *s, uint32_t peer, uint32_t state)
{
	struct symm_sync_layout layout = symm_sync_layout(s->group->world_size);

	symm_word_publish(symm_sync_at(s, peer, layout.state, s->group->rank), symm_sync_word(s->group, state));
	symm_sync_wake(s, peer);
}

/* Tells all ranks, ourselves too. */
static inline void symm_sync_tell(const struct symm_sync *s, uint32_t state)
{
	for (uint32_t peer = 0; peer < s->group->world_size; peer++)
		symm_sync_tell_one(s, peer, state);
}

/* 0, or the code with which the group failed. */
static inline int symm_sync_poisoned(const struct symm_sync_group *group)
{
	return -(int)symm_flag_load(&group->poison);
}

/* Fails the group with the record; false if it had failed before. Who calls it tells peers and wakes sleepers, of each
 * symm_sync of the group. */
static inline bool symm_sync_poison(struct symm_sync_group *group, const struct symm_sync_record *record)
{
	if (!symm_flag_claim(&group->poison, 0, (uint32_t)-record->code))
		return false;
	group->record.op = record->op;
	group->record.channel = record->channel;
	group->record.peer = record->peer;
	group->record.missing = record->missing;
	group->record.code = record->code;
	group->record.heard = record->heard;
	symm_flag_publish(&group->record.written, 1);
	return true;
}

/* Fails the group from within a call, unless it has failed already; returns the code that stands. */
static inline int symm_sync_fail(const struct symm_sync *s, struct symm_sync_record *record)
{
	record->heard = record->code == SYMM_SYNC_GONE && symm_sync_state(s, record->peer) == SYMM_STATE_FAILED;
	if (symm_sync_poison(s->group, record))
		symm_sync_tell(s, SYMM_STATE_FAILED);
	return symm_sync_poisoned(s->group);
}

/* ---- waiting ---- */

/* A wait for the words of ranks [peer, end) in our own slot. */
struct symm_sync_wait {
	struct symm_sync *sync;
	uint32_t op, channel;
	size_t offset; /* of the row */
	uint64_t want;
	uint32_t peer, end; /* peer: the first that has not come */
};

static inline bool symm_sync_missing(const struct symm_sync_wait *w, uint32_t peer)
{
	uint32_t rank = w->sync->group->rank;

	if (w->op == SYMM_SYNC_BARRIER && peer == rank)
		return false;
	return !symm_sync_reached(symm_word_load(symm_sync_at(w->sync, rank, w->offset, peer)), w->want);
}

static inline bool symm_sync_arrived(struct symm_sync_wait *w)
{
	while (w->peer < w->end && !symm_sync_missing(w, w->peer))
		w->peer++;
	return w->peer == w->end;
}

/* True if the peer went without having closed: who leaves closes first, so the flag is looked at first. */
static inline bool symm_sync_gone(const struct symm_sync *s, uint32_t peer)
{
	if (symm_flag_load(&s->group->gone[peer]) == SYMM_GONE_NOT)
		return false;
	symm_fence_acquire();
	return symm_sync_state(s, peer) != SYMM_STATE_CLOSED;
}

/* Why the wait cannot end well: 0 or a code, and the peer to blame. A rank that failed concerns all waits, and so
 * does our own close; a peer that is gone or closed only those who wait for it. */
static inline int symm_sync_broken(const struct symm_sync_wait *w, uint32_t *blame)
{
	const struct symm_sync_group *group = w->sync->group;
	int code = symm_sync_poisoned(group);

	for (uint32_t peer = 0; code == 0 && peer < group->world_size; peer++) {
		bool missing = peer >= w->peer && peer < w->end && symm_sync_missing(w, peer);
		bool gone = missing && symm_sync_gone(w->sync, peer);
		uint32_t state = symm_sync_state(w->sync, peer);

		if (state == SYMM_STATE_FAILED || gone)
			code = SYMM_SYNC_GONE;
		else if (state == SYMM_STATE_CLOSED && (missing || peer == group->rank))
			code = SYMM_SYNC_CLOSED;
		if (code != 0)
			*blame = peer;
	}
	return code;
}

static inline int symm_sync_wait_fail(const struct symm_sync_wait *w, int code, uint32_t blame)
{
	struct symm_sync_record record = { w->op, w->channel, blame, 0, code, 0, 0 };

	if (code == SYMM_SYNC_CLOSED)
		return code;
	for (uint32_t peer = w->peer; peer < w->end; peer++)
		record.missing += symm_sync_missing(w, peer);
	return symm_sync_fail(w->sync, &record);
}

static inline void symm_sync_sleep(struct symm_sync_wait *w, uint64_t ns)
{
	struct symm_sync_layout layout = symm_sync_layout(w->sync->group->world_size);
	uint32_t *bell = symm_sync_bell(w->sync, &layout, w->sync->group->rank, w->channel);
	uint32_t armed = symm_bell_arm(bell), blame;

	if (!symm_sync_arrived(w) && symm_sync_broken(w, &blame) == 0)
		symm_bell_sleep(bell, armed, ns);
}

/* A wait that spinning did not end. What has come counts even if a failure was seen first: hence the second look. */
static __attribute__((noinline, cold, unused)) int symm_sync_await_long(struct symm_sync_wait *w, uint64_t timeout_ns)
{
	uint64_t start = symm_wait_clock(), spent;
	uint32_t blame;
	int code;

	for (uint32_t round = 0; !symm_sync_arrived(w); round++) {
		spent = symm_wait_clock() - start;
		blame = w->peer;
		code = symm_sync_broken(w, &blame);
		if (code == 0 && spent >= timeout_ns)
			code = SYMM_SYNC_TIMEDOUT;
		if (code != 0) {
			symm_fence_acquire();
			return symm_sync_arrived(w) ? 0 : symm_sync_wait_fail(w, code, blame);
		}
		if (round < SYMM_WAIT_YIELDS)
			symm_wait_yield();
		else
			symm_sync_sleep(w, timeout_ns - spent);
	}
	return 0;
}

/* True if all came within so many looks: few where ranks share cores, and the one that we wait for may need ours. */
static inline bool symm_sync_spin(struct symm_sync_wait *w, uint32_t looks)
{
	if (w->sync->group->oversubscribed)
		looks = SYMM_WAIT_SPINS_SHARED;
	for (; !symm_sync_arrived(w); looks--) {
		if (looks == 0)
			return false;
		symm_wait_pause();
	}
	return true;
}

/* 0 once all have come, and what they published before can be read. */
static inline int symm_sync_await(struct symm_sync_wait *w, uint64_t timeout_ns)
{
	int code = 0;

	if (!symm_sync_spin(w, SYMM_WAIT_SPINS))
		code = symm_sync_await_long(w, timeout_ns);
	symm_fence_acquire();
	return code;
}

/* ---- the primitives: 0 or a negative code ---- */

/* Tells all peers that we are in the barrier. The fence before the bells costs less when the stores have had time to
 * drain, so it stands after a few looks for the peers, who are mostly on their way. */
static inline void symm_sync_announce(struct symm_sync_wait *w, const struct symm_sync_layout *layout)
{
	const struct symm_sync *s = w->sync;
	uint32_t world = s->group->world_size, rank = s->group->rank;

	for (uint32_t peer = 0; peer < world; peer++)
		if (peer != rank)
			symm_word_publish(symm_sync_at(s, peer, w->offset, rank), w->want);
	symm_sync_spin(w, SYMM_WAIT_GLANCE);
	symm_fence_full();
	for (uint32_t peer = 0; peer < world; peer++)
		if (peer != rank)
			symm_bell_ring(symm_sync_bell(s, layout, peer, w->channel));
}

/* Enters the channel's next barrier and waits for all ranks. */
static inline int symm_sync_barrier(struct symm_sync *s, uint32_t channel, uint64_t timeout_ns)
{
	struct symm_sync_group *group = s->group;
	struct symm_sync_layout layout = symm_sync_layout(group->world_size);
	struct symm_sync_wait w = { s, SYMM_SYNC_BARRIER, channel, layout.barrier + channel * layout.row, 0,
				    0, group->world_size };
	struct symm_sync_record misuse = { SYMM_SYNC_BARRIER, channel, group->rank, 0, SYMM_SYNC_MISUSE, 0, 0 };
	uint64_t *counters = symm_sync_barrier_counters(s, channel), ticket;
	int code = symm_sync_poisoned(group);

	if (code != 0)
		return code;
	ticket = symm_counter_take(&counters[0]);
	if (ticket != symm_counter_load(&counters[1]))
		return symm_sync_fail(s, &misuse);
	w.want = symm_sync_word(group, group->epoch0 + (uint32_t)ticket + 1);
	symm_sync_announce(&w, &layout);
	code = symm_sync_await(&w, timeout_ns);
	/* A closed peer fails this barrier and each that follows, but is no misuse of the next. */
	if (code == 0 || code == SYMM_SYNC_CLOSED)
		symm_counter_set(&counters[1], ticket + 1);
	return code;
}

/* Publishes our signal or credit to a peer, and wakes it if it sleeps. */
static inline void symm_sync_send(const struct symm_sync *s, const struct symm_sync_layout *layout, uint32_t peer,
				  size_t offset, uint32_t channel, uint64_t word)
{
	offset += channel * layout->row;
	symm_word_publish(symm_sync_at(s, peer, offset, s->group->rank), word);
	symm_fence_full();
	symm_bell_ring(symm_sync_bell(s, layout, peer, channel));
}

/* Why rank dst cannot be signalled: 0 or a code. */
static inline int symm_sync_reachable(const struct symm_sync *s, uint32_t dst, uint32_t channel)
{
	struct symm_sync_record record = { SYMM_SYNC_PUT_SIGNAL, channel, dst, 0, SYMM_SYNC_GONE, 0, 0 };
	bool gone = symm_sync_gone(s, dst);
	uint32_t state = symm_sync_state(s, dst);

	if (state == SYMM_STATE_FAILED || gone)
		return symm_sync_fail(s, &record);
	return state == SYMM_STATE_CLOSED ? SYMM_SYNC_CLOSED : 0;
}

/* Signals rank dst, once it has consumed the last signal of this channel. */
static inline int symm_sync_put_signal(struct symm_sync *s, uint32_t dst, uint32_t channel, uint64_t timeout_ns)
{
	struct symm_sync_group *group = s->group;
	struct symm_sync_layout layout = symm_sync_layout(group->world_size);
	struct symm_sync_wait w = { s,      SYMM_SYNC_PUT_SIGNAL, channel, layout.credit + channel * layout.row, 0, dst,
				    dst + 1 };
	int code = symm_sync_poisoned(group);
	uint64_t ticket;
	uint32_t epoch;

	if (code == 0)
		code = symm_sync_reachable(s, dst, channel);
	if (code != 0)
		return code;
	ticket = symm_counter_take(&symm_sync_signal_counters(s, channel, dst)[0]);
	epoch = group->epoch0 + (uint32_t)ticket;
	w.want = symm_sync_word(group, epoch);
	if (ticket != 0)
		code = symm_sync_await(&w, timeout_ns);
	if (code == 0)
		symm_sync_send(s, &layout, dst, layout.signal, channel, symm_sync_word(group, epoch + 1));
	return code;
}

/* Waits for the channel's next signal from rank src and gives the credit for another. */
static inline int symm_sync_wait_signal(struct symm_sync *s, uint32_t src, uint32_t channel, uint64_t timeout_ns)
{
	struct symm_sync_group *group = s->group;
	struct symm_sync_layout layout = symm_sync_layout(group->world_size);
	struct symm_sync_wait w = {
		s, SYMM_SYNC_WAIT_SIGNAL, channel, layout.signal + channel * layout.row, 0, src, src + 1
	};
	int code = symm_sync_poisoned(group);
	uint64_t ticket;

	if (code != 0)
		return code;
	ticket = symm_counter_take(&symm_sync_signal_counters(s, channel, src)[1]);
	w.want = symm_sync_word(group, group->epoch0 + (uint32_t)ticket + 1);
	code = symm_sync_await(&w, timeout_ns);
	if (code != 0)
		return code;
	/* Who answers a signal needs its own credit next: it comes while ours goes out. */
	symm_prefetch(symm_sync_at(s, group->rank, layout.credit + channel * layout.row, src));
	symm_sync_send(s, &layout, src, layout.credit, channel, w.want);
	return 0;
}

#endif
