/* sync.h: barrier, put_signal and wait_signal, once for GPU and CPU. What they work on is in layout.h.
 *
 * Lanes. On a GPU a warp makes a barrier together, lane i for the peers i, i + 32, ...; signals are for one lane, and
 * so is everything on a CPU. All lanes of a call take the same path and return the same code.
 *
 * Counters. A channel's tickets and the barrier's done count are this rank's own. They start at 0; the epoch in a word
 * is the low half of epoch0 + ticket + 1. Tickets are taken while poison is still on its way from memory.
 *
 * Failure. The poison word of the group is 0, or the positive SYMM code (-code) with which the group failed. The first
 * to fail sets it by compare-and-swap and alone writes the record; who sees that the host failed the group sets it
 * too, without a record. From then on every call fails with that code, before it stores anything for peers; the
 * counters mean nothing any more. A closed peer fails only the calls that wait for it or signal it, with SYMM_ESTALE,
 * and poisons nothing: channels that have nothing to do with it go on.
 *
 * A fast path reads the device's own memory alone. The clock is looked at once a wait has lasted, and so is the mirror,
 * which on a GPU is the host's memory, if there are news: symm_sync_news.
 */
#ifndef SYMM_KERNEL_SYNC_H
#define SYMM_KERNEL_SYNC_H

#include "layout.h"

#ifdef __CUDACC__
#include "atomic_cuda.h"
#include "wait_cuda.h"
#else
#include "atomic.h"
#include "wait.h"
#endif

/* The first words of struct symm_sync_group, loaded at once. */
struct symm_sync_facts {
	uint32_t version, generation, rank, world_size, epoch0, oversubscribed, poison, unused;
};

/* Where a call finds what: the same for all calls on a symm_mem. */
struct symm_sync_place {
	struct symm_sync *sync;
	struct symm_sync_group *group;
	char *own;
	uint32_t world_size;
};

/* One call of one rank: a wait for the words of the ranks [peer, end) in our own slot, of which each lane sees to
 * every `lanes`th. */
struct symm_sync_call {
	struct symm_sync_place at;
	uint64_t timeout_ns;
	uint32_t op, channel, lanes;
	struct symm_sync_facts facts;
	uint64_t want;
	size_t offset;      /* of the row of words */
	uint32_t heard;     /* the news that need no second look: they did not end this wait */
	uint32_t peer, end; /* peer: the lane's first that has not come */
};

SYMM_FN struct symm_sync_facts symm_sync_facts_of(const struct symm_sync_group *group)
{
	struct symm_sync_facts facts;
	uint32_t words[8];

	symm_flags_load((const uint32_t *)(const void *)group, words);
	facts.version = words[0];
	facts.generation = words[1];
	facts.rank = words[2];
	facts.world_size = words[3];
	facts.epoch0 = words[4];
	facts.oversubscribed = words[5];
	facts.poison = words[6];
	facts.unused = words[7];
	return facts;
}

SYMM_FN uint64_t *symm_sync_at(char *slot, size_t offset, uint32_t writer)
{
	return (uint64_t *)(void *)(slot + offset) + writer;
}

SYMM_FN uint64_t symm_sync_word(const struct symm_sync_call *c, uint32_t low)
{
	return symm_sync_word_of(c->facts.generation, low);
}

SYMM_FN bool symm_sync_reached(uint64_t word, uint64_t want)
{
	return word >> 32 == want >> 32 && (int32_t)((uint32_t)word - (uint32_t)want) >= 0;
}

/* ---- bells ---- */

SYMM_FN uint32_t *symm_sync_bell(char *slot, const struct symm_sync_layout *layout, uint32_t channel)
{
	return (uint32_t *)(void *)(slot + layout->bell + (size_t)channel * SYMM_SYNC_BELL_STRIDE);
}

/* Wakes all that sleep on a slot, after words in it, or the mirror of its owner's group, have changed. */
SYMM_FN void symm_sync_wake_slot(char *slot, uint32_t world)
{
	struct symm_sync_layout layout = symm_sync_layout_of(world);

	if (!SYMM_WAIT_BELLS)
		return;
	symm_bell_fence();
	for (uint32_t channel = 0; channel < SYMM_SYNC_CHANNELS; channel++)
		symm_bell_ring(symm_sync_bell(slot, &layout, channel));
}

/* ---- states and failure ---- */

/* What a peer has told of itself for this allocation: SYMM_STATE_... */
SYMM_FN uint32_t symm_sync_state(const struct symm_sync_call *c, uint32_t peer)
{
	uint64_t word = symm_word_load(symm_sync_state_word(c->at.own, c->at.world_size, peer));

	return symm_sync_state_of(word, c->facts.generation);
}

/* Tells all ranks that our group has failed, ourselves too, and wakes those who wait. */
SYMM_FN void symm_sync_tell_failed(const struct symm_sync_call *c)
{
	uint32_t world = c->at.world_size;

	symm_fence_release();
	for (uint32_t peer = symm_lane(c->lanes); peer < world; peer += c->lanes) {
		char *slot = symm_sync_peer_at(c->at.sync, peer)->slot;

		symm_word_publish(symm_sync_state_word(slot, world, c->facts.rank),
				  symm_sync_word(c, SYMM_STATE_FAILED));
		symm_sync_wake_slot(slot, world);
	}
}

/* 0, or the code with which the group failed. */
SYMM_FN int symm_sync_poisoned(const struct symm_sync_group *group)
{
	return -(int)symm_flag_load(&group->poison);
}

/* Fails the group with the record; false if it had failed before. */
SYMM_FN bool symm_sync_poison(struct symm_sync_group *group, const struct symm_sync_record *record)
{
	struct symm_sync_mirror *mirror = group->mirror;

	if (!symm_flag_claim(&group->poison, 0, (uint32_t)-record->code))
		return false;
	mirror->record = *record;
	symm_fence_release();
	symm_flag_publish(&mirror->written, 1);
	return true;
}

/* Fails the group from within a call, unless it has failed already; returns the code that stands. */
SYMM_FN int symm_sync_fail(const struct symm_sync_call *c, uint32_t blame, uint32_t missing, int code)
{
	struct symm_sync_record record = { c->op, c->channel, blame, missing, code, 0, c->timeout_ns };
	uint32_t first = 0;

	record.heard = code == SYMM_SYNC_GONE && symm_sync_state(c, blame) == SYMM_STATE_FAILED;
	if (symm_lane(c->lanes) == 0)
		first = symm_sync_poison(c->at.group, &record);
	if (symm_lanes_first(c->lanes, first))
		symm_sync_tell_failed(c);
	return -(int)symm_lanes_first(c->lanes, (uint32_t)-symm_sync_poisoned(c->at.group));
}

/* ---- waiting ---- */

SYMM_FN const uint64_t *symm_sync_inbox(const struct symm_sync_call *c, uint32_t peer)
{
	return symm_sync_at(c->at.own, c->offset, peer);
}

/* A rank does not wait for itself in a barrier. */
SYMM_FN bool symm_sync_expected(const struct symm_sync_call *c, uint32_t peer)
{
	return c->op != SYMM_SYNC_BARRIER || peer != c->facts.rank;
}

SYMM_FN bool symm_sync_missing(const struct symm_sync_call *c, uint32_t peer)
{
	return symm_sync_expected(c, peer) && !symm_sync_reached(symm_word_load(symm_sync_inbox(c, peer)), c->want);
}

SYMM_FN bool symm_sync_arrived(struct symm_sync_call *c)
{
	while (c->peer < c->end && !symm_sync_missing(c, c->peer))
		c->peer += c->lanes;
	return symm_lanes_all(c->lanes, c->peer >= c->end);
}

/* The same, and what those who have come published before can be read. */
SYMM_FN bool symm_sync_acquired(struct symm_sync_call *c)
{
	while (c->peer < c->end && (!symm_sync_expected(c, c->peer) ||
				    symm_sync_reached(symm_word_acquire(symm_sync_inbox(c, c->peer)), c->want)))
		c->peer += c->lanes;
	return symm_lanes_all(c->lanes, c->peer >= c->end);
}

/* True if the peer went without having closed: who leaves closes first, so the flag is looked at first. */
SYMM_FN bool symm_sync_gone(const struct symm_sync_call *c, uint32_t peer)
{
	if (symm_flag_load(symm_sync_gone_at(c->at.group->mirror, peer)) == SYMM_GONE_NOT)
		return false;
	symm_fence_acquire();
	return symm_sync_state(c, peer) != SYMM_STATE_CLOSED;
}

/* The code with which the group failed here, if it did: the host's word for it becomes poison. */
SYMM_FN int symm_sync_ended(struct symm_sync_group *group)
{
	uint32_t abort;

	if (symm_sync_poisoned(group) == 0) {
		abort = symm_flag_load(&group->mirror->abort);
		if (abort != 0)
			symm_flag_claim(&group->poison, 0, abort);
	}
	return symm_sync_poisoned(group);
}

/* True for one waiter of the group's in a period of the clock. Which of two came first cannot be told in general, as
 * the last may be none yet, or hours ago; but who read the clock just before a period began does not take it back. */
SYMM_FN bool symm_sync_listens(struct symm_sync_group *group, uint32_t period)
{
	uint32_t last = symm_flag_load(&group->listened);

	return last - period > 1 && symm_flag_claim(&group->listened, last, period);
}

/* How often the host has changed the mirror, as far as we know. A GPU's way to the host's memory is narrow, and what
 * queues there holds up the fences of those who work: on an H200, beside 232 blocks that waited and looked there every
 * 50 us each, copies took 6.3 ms instead of 0.23. So one waiter looks, at one word, and the others at what it read. */
SYMM_FN uint32_t symm_sync_news(struct symm_sync_group *group)
{
	uint32_t news;

	if (SYMM_WAIT_LISTEN_BITS != 0 &&
	    !symm_sync_listens(group, (uint32_t)(symm_wait_clock() >> SYMM_WAIT_LISTEN_BITS)))
		return symm_flag_load(&group->news);
	news = symm_flag_load(&group->mirror->news);
	if (news != symm_flag_load(&group->news)) {
		symm_fence_acquire();
		symm_fence_release();
		symm_flag_publish(&group->news, news);
	}
	return news;
}

/* Why the wait cannot end well, as one of its lanes sees it: 0 or a code, and the peer to blame. A rank that failed
 * concerns all waits, and so does our own close; a peer that is gone or closed only those who wait for it. The mirror
 * is looked at if there are news. */
SYMM_FN int symm_sync_lane_broken(const struct symm_sync_call *c, bool news, uint32_t *blame)
{
	int code = news ? symm_sync_ended(c->at.group) : symm_sync_poisoned(c->at.group);

	*blame = 0;
	for (uint32_t peer = symm_lane(c->lanes); code == 0 && peer < c->at.world_size; peer += c->lanes) {
		bool missing = peer >= c->peer && peer < c->end && symm_sync_missing(c, peer);
		bool gone = news && missing && symm_sync_gone(c, peer);
		uint32_t state = symm_sync_state(c, peer);

		if (state == SYMM_STATE_FAILED || gone)
			code = SYMM_SYNC_GONE;
		else if (state == SYMM_STATE_CLOSED && (missing || peer == c->facts.rank))
			code = SYMM_SYNC_CLOSED;
		*blame = peer;
	}
	return code;
}

/* The same for all lanes: the lowest rank is blamed. A rank has 24 bits here and a code 8. */
SYMM_FN int symm_sync_broken(struct symm_sync_call *c, uint32_t *blame)
{
	uint32_t mine = symm_lane(c->lanes) == 0 ? symm_sync_news(c->at.group) : 0;
	uint32_t news = symm_lanes_first(c->lanes, mine), peer, first;
	int code;

	if (news != c->heard)
		symm_lanes_acquire(c->lanes);
	code = symm_sync_lane_broken(c, news != c->heard, &peer);
	first = symm_lanes_min(c->lanes, code == 0 ? SYMM_SYNC_NOBODY : peer << 8 | (uint32_t)-code);
	if (first == SYMM_SYNC_NOBODY) {
		c->heard = news;
		return 0;
	}
	*blame = first >> 8;
	return -(int)(first & 0xff);
}

SYMM_FN int symm_sync_wait_fail(const struct symm_sync_call *c, int code, uint32_t blame)
{
	uint32_t missing = 0;

	if (code == SYMM_SYNC_CLOSED)
		return code;
	for (uint32_t peer = c->peer; peer < c->end; peer += c->lanes)
		missing += symm_sync_missing(c, peer);
	return symm_sync_fail(c, blame, symm_lanes_sum(c->lanes, missing), code);
}

SYMM_FN void symm_sync_sleep(struct symm_sync_call *c, uint64_t ns)
{
	struct symm_sync_layout layout = symm_sync_layout_of(c->at.world_size);
	uint32_t *bell = symm_sync_bell(c->at.own, &layout, c->channel);
	uint32_t armed = symm_bell_arm(bell), blame;

	if (!symm_sync_arrived(c) && symm_sync_broken(c, &blame) == 0)
		symm_bell_sleep(bell, armed, ns);
}

/* Between two looks for failures. */
SYMM_FN void symm_sync_rest(struct symm_sync_call *c, uint32_t round, uint64_t ns)
{
	if (SYMM_WAIT_BELLS && round >= SYMM_WAIT_YIELDS)
		symm_sync_sleep(c, ns);
	else
		for (uint32_t look = 0; look < SYMM_WAIT_LOOKS && !symm_sync_arrived(c); look++)
			symm_wait_yield(round);
}

/* A wait that spinning did not end. What has come counts even if a failure was seen first: hence the second look. */
SYMM_FN_COLD int symm_sync_await_long(struct symm_sync_call *c, uint32_t *blame)
{
	uint64_t start = symm_wait_clock(), spent;
	uint32_t who;
	int code;

	for (uint32_t round = 0; !symm_sync_arrived(c); round++) {
		spent = symm_wait_clock() - start;
		who = symm_lanes_min(c->lanes, c->peer < c->end ? c->peer : SYMM_SYNC_NOBODY);
		code = symm_sync_broken(c, &who);
		if (code == 0 && symm_lanes_first(c->lanes, spent >= c->timeout_ns))
			code = SYMM_SYNC_TIMEDOUT;
		if (code != 0) {
			symm_lanes_acquire(c->lanes);
			if (symm_sync_arrived(c))
				return 0;
			*blame = who;
			return symm_sync_wait_fail(c, code, who);
		}
		symm_sync_rest(c, round, c->timeout_ns - spent);
	}
	return 0;
}

/* True if all came within so many looks, and were acquired: few looks where ranks share cores, and the one that we wait
 * for may need ours. */
SYMM_FN bool symm_sync_spin(struct symm_sync_call *c, uint32_t looks)
{
	if (c->facts.oversubscribed)
		looks = SYMM_WAIT_SPINS_SHARED;
	for (; !symm_sync_acquired(c); looks--) {
		if (looks == 0)
			return false;
		symm_wait_pause();
	}
	return true;
}

/* 0 once all have come, and what they published before can be read. */
SYMM_FN int symm_sync_await_unmetered(struct symm_sync_call *c, uint32_t *blame)
{
	int code;

	if (symm_sync_spin(c, SYMM_WAIT_SPINS))
		return 0;
	code = symm_sync_await_long(c, blame);
	symm_fence_acquire();
	return code;
}

/* To look at the clock takes as long as the shortest waits. */
SYMM_FN int symm_sync_await(struct symm_sync_call *c, uint32_t *blame)
{
	uint64_t start;
	int code;

	if (!SYMM_WAIT_METERED)
		return symm_sync_await_unmetered(c, blame);
	if (symm_sync_spin(c, SYMM_WAIT_GLANCE))
		return 0;
	start = symm_wait_clock();
	code = symm_sync_await_unmetered(c, blame);
	SYMM_WAIT_METER(symm_wait_clock() - start);
	return code;
}

/* ---- the primitives: 0 or a negative code; for SYMM_SYNC_CLOSED, *blame has freed the allocation ---- */

/* A call that has just begun to load what it needs: it waits for the words of [peer, end) in the channel's row. */
SYMM_FN_HOT struct symm_sync_call symm_sync_call_of(const struct symm_sync_place *at, uint32_t op, uint32_t lanes,
						    uint32_t channel, uint64_t timeout_ns, uint32_t peer, uint32_t end)
{
	struct symm_sync_layout layout = symm_sync_layout_of(at->world_size);
	struct symm_sync_call c;

	c.at = *at;
	c.timeout_ns = timeout_ns;
	c.op = op;
	c.channel = channel;
	c.lanes = lanes;
	c.facts = symm_sync_facts_of(at->group);
	c.want = 0;
	c.offset = op == SYMM_SYNC_BARRIER      ? layout.barrier
		   : op == SYMM_SYNC_PUT_SIGNAL ? layout.credit
						: layout.signal;
	c.offset += channel * layout.row;
	c.heard = 0;
	c.peer = peer;
	c.end = end;
	return c;
}

/* The fence before the bells costs less when the stores have had time to drain, so it stands after a few looks for the
 * peers, who are mostly on their way. */
SYMM_FN void symm_sync_ring_peers(struct symm_sync_call *c)
{
	struct symm_sync_layout layout = symm_sync_layout_of(c->at.world_size);

	if (!SYMM_WAIT_BELLS)
		return;
	symm_sync_spin(c, SYMM_WAIT_GLANCE);
	symm_bell_fence();
	for (uint32_t peer = 0; peer < c->at.world_size; peer++)
		if (peer != c->facts.rank)
			symm_bell_ring(symm_sync_bell(symm_sync_peer_at(c->at.sync, peer)->slot, &layout, c->channel));
}

/* Tells all peers that we are in the barrier; the lane's first has `slot`. */
SYMM_FN void symm_sync_announce(const struct symm_sync_call *c, char *slot)
{
	for (uint32_t peer = symm_lane(c->lanes); peer < c->at.world_size;) {
		if (peer != c->facts.rank)
			symm_word_publish(symm_sync_at(slot, c->offset, c->facts.rank), c->want);
		peer += c->lanes;
		if (peer < c->at.world_size)
			slot = symm_sync_peer_at(c->at.sync, peer)->slot;
	}
}

/* Enters the channel's next barrier and waits for all ranks: SYMM_WAIT_LANES lanes together, or one thread. */
SYMM_FN int symm_sync_barrier(const struct symm_sync_place *at, uint32_t lanes, uint32_t channel, uint64_t timeout_ns,
			      uint32_t *blame)
{
	uint32_t lane = symm_lane(lanes);
	uint64_t *ticket = &at->sync->barrier[channel].ticket, *done = &at->sync->barrier[channel].done;
	uint64_t mine = lane == 0 ? symm_counter_take(ticket) : 0, number = symm_counter_load(done);
	struct symm_sync_call c =
		symm_sync_call_of(at, SYMM_SYNC_BARRIER, lanes, channel, timeout_ns, lane, at->world_size);
	char *slot = lane < at->world_size ? symm_sync_peer_at(at->sync, lane)->slot : NULL;
	int code;

	symm_fence_release();
	/* Of the two, poison wins: who finds the group failed already returns its code. */
	if (symm_lanes_first(c.lanes, c.facts.poison | (mine != number)))
		return symm_sync_fail(&c, c.facts.rank, 0, SYMM_SYNC_MISUSE);
	c.want = symm_sync_word(&c, c.facts.epoch0 + (uint32_t)number + 1);
	symm_sync_announce(&c, slot);
	symm_sync_ring_peers(&c);
	code = symm_sync_await(&c, blame);
	symm_stream_next();
	/* A closed peer fails this barrier and each that follows, but is no misuse of the next. */
	if (lane == 0 && (code == 0 || code == SYMM_SYNC_CLOSED))
		symm_counter_set(done, number + 1);
	return code;
}

/* Publishes our signal or credit to a peer, and wakes it if it sleeps. */
SYMM_FN void symm_sync_send(const struct symm_sync_call *c, char *slot, size_t row, uint32_t epoch)
{
	struct symm_sync_layout layout = symm_sync_layout_of(c->at.world_size);

	symm_word_publish(symm_sync_at(slot, row + c->channel * layout.row, c->facts.rank), symm_sync_word(c, epoch));
	symm_bell_fence();
	symm_bell_ring(symm_sync_bell(slot, &layout, c->channel));
}

/* Why rank dst, whose state is given, cannot be signalled: 0 or a code. */
SYMM_FN int symm_sync_unreachable(const struct symm_sync_call *c, uint32_t dst, uint64_t state, uint32_t *blame)
{
	bool gone = SYMM_WAIT_GONE_IS_NEAR && symm_sync_gone(c, dst);

	state = symm_sync_state_of(state, c->facts.generation);
	if (c->facts.poison != 0 || state == SYMM_STATE_FAILED || gone)
		return symm_sync_fail(c, dst, 0, SYMM_SYNC_GONE);
	if (state != SYMM_STATE_CLOSED)
		return 0;
	*blame = dst;
	return SYMM_SYNC_CLOSED;
}

/* Signals rank dst, once it has consumed the last signal of this channel. */
SYMM_FN_HOT int symm_sync_put_signal(const struct symm_sync_place *at, uint32_t dst, uint32_t channel,
				     uint64_t timeout_ns, uint32_t *blame)
{
	uint64_t ticket = symm_counter_take(&symm_sync_peer_at(at->sync, dst)->channel[channel].put);
	struct symm_sync_call c = symm_sync_call_of(at, SYMM_SYNC_PUT_SIGNAL, 1, channel, timeout_ns, dst, dst + 1);
	uint64_t state = symm_word_load(symm_sync_state_word(at->own, at->world_size, dst));
	uint64_t credit = symm_word_load(symm_sync_inbox(&c, dst));
	char *slot = symm_sync_peer_at(at->sync, dst)->slot;
	uint32_t epoch;
	bool ready;
	int code;

	symm_fence_release();
	epoch = c.facts.epoch0 + (uint32_t)ticket;
	c.want = symm_sync_word(&c, epoch);
	ready = ticket == 0 || symm_sync_reached(credit, c.want);
	if (ready)
		symm_stream_next();
	code = symm_sync_unreachable(&c, dst, state, blame);
	if (code == 0 && !ready)
		code = symm_sync_await(&c, blame);
	if (code == 0)
		symm_sync_send(&c, slot, symm_sync_layout_of(at->world_size).signal, epoch + 1);
	symm_fence_acquire();
	return code;
}

/* Waits for the channel's next signal from rank src and gives the credit for another. */
SYMM_FN int symm_sync_wait_signal(const struct symm_sync_place *at, uint32_t src, uint32_t channel, uint64_t timeout_ns,
				  uint32_t *blame)
{
	uint64_t ticket = symm_counter_take(&symm_sync_peer_at(at->sync, src)->channel[channel].wait);
	struct symm_sync_call c = symm_sync_call_of(at, SYMM_SYNC_WAIT_SIGNAL, 1, channel, timeout_ns, src, src + 1);
	uint64_t signal = symm_word_load(symm_sync_inbox(&c, src));
	size_t credits = symm_sync_layout_of(at->world_size).credit;
	char *slot = symm_sync_peer_at(at->sync, src)->slot;
	uint32_t epoch;
	int code = 0;

	symm_fence_release();
	if (c.facts.poison != 0)
		return -(int)c.facts.poison;
	epoch = c.facts.epoch0 + (uint32_t)ticket + 1;
	c.want = symm_sync_word(&c, epoch);
	if (!symm_sync_reached(signal, c.want))
		code = symm_sync_await(&c, blame);
	symm_stream_next();
	if (code != 0)
		return code;
	/* Who answers a signal needs its own credit next: it comes while ours goes out. */
	symm_prefetch(symm_sync_at(at->own, credits + channel * symm_sync_layout_of(at->world_size).row, src));
	symm_sync_send(&c, slot, credits, epoch);
	symm_fence_acquire();
	return 0;
}

/* Why nothing will come from `peer` any more, for waits of users' own: 0 or a code. *heard is 0 before the first. */
SYMM_FN int symm_sync_lost(const struct symm_sync_place *at, uint32_t peer, uint32_t *heard)
{
	struct symm_sync_call c = symm_sync_call_of(at, SYMM_SYNC_WAIT_SIGNAL, 1, 0, 0, peer, peer + 1);
	uint32_t news = symm_sync_news(at->group), state;
	int code = symm_sync_poisoned(at->group);
	bool gone = false;

	if (code == 0 && news != *heard) {
		symm_fence_acquire();
		code = symm_sync_ended(at->group);
		gone = symm_sync_gone(&c, peer);
	}
	state = symm_sync_state(&c, peer);
	if (code != 0)
		return code;
	if (gone || state == SYMM_STATE_FAILED)
		return SYMM_SYNC_GONE;
	if (state == SYMM_STATE_CLOSED)
		return SYMM_SYNC_CLOSED;
	*heard = news;
	return 0;
}

#endif
