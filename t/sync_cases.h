/* sync_cases.h: ranks over one array of slots, and what they do there: t/sync.c runs it with processes, t/sync_tsan.c
 * with threads. */
#ifndef SYNC_CASES_H
#define SYNC_CASES_H

#include "kernels/payload.h"
#include "tap/tap.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE UINT64_C(60000000000)
#define EPOCH0 UINT32_C(0xfffffff0) /* the epochs wrap early in every case */
#define BOX_DEPTH 4
#define CROWD 4

/* What a payload is passed in: plain memory, so that only the synchronisation orders its accesses. */
struct box {
	uint64_t value;
	char pad[56];
};

struct arena {
	uint32_t world;
	int rounds;
	char *slots;
	struct box *boxes; /* [BOX_DEPTH][SYMM_SYNC_CHANNELS][world] */
};

static inline size_t arena_boxes(uint32_t world)
{
	return (size_t)BOX_DEPTH * SYMM_SYNC_CHANNELS * world;
}

static inline size_t arena_bytes(uint32_t world)
{
	return symm_sync_layout_of(world).bytes * world + sizeof(struct box) * arena_boxes(world);
}

static inline struct arena arena_in(char *memory, uint32_t world, int rounds)
{
	return (struct arena){ world, rounds, memory,
			       (struct box *)(void *)(memory + symm_sync_layout_of(world).bytes * world) };
}

static inline void *zeroed(size_t bytes)
{
	void *memory = aligned_alloc(64, symm_sync_padded(bytes));

	return memset(memory, 0, symm_sync_padded(bytes));
}

/* Of pieces that are zero. */
static inline void sync_init(const struct arena *arena, uint32_t rank, struct symm_sync *s,
			     struct symm_sync_group *group, struct symm_sync_mirror *mirror)
{
	*group = (struct symm_sync_group){ .version = SYMM_SYNC_VERSION,
					   .generation = 7,
					   .rank = rank,
					   .world_size = arena->world,
					   .epoch0 = EPOCH0,
					   .oversubscribed = arena->world > 2,
					   .mirror = mirror };
	s->group = group;
	for (uint32_t peer = 0; peer < arena->world; peer++)
		symm_sync_peer_at(s, peer)->slot = arena->slots + peer * symm_sync_layout_of(arena->world).bytes;
	s->own = symm_sync_peer_at(s, rank)->slot;
}

static inline struct symm_sync *sync_new(const struct arena *arena, uint32_t rank)
{
	struct symm_sync *s = zeroed(symm_sync_bytes(arena->world));

	sync_init(arena, rank, s, zeroed(sizeof(*s->group)), zeroed(symm_sync_mirror_bytes(arena->world)));
	return s;
}

static inline void sync_free(struct symm_sync *s)
{
	free(s->group->mirror);
	free(s->group);
	free(s);
}

/* ---- calls, by anybody who does not care who is to blame ---- */

static inline struct symm_sync_place place_of(struct symm_sync *s)
{
	return (struct symm_sync_place){ s, s->group, s->own, s->group->world_size };
}

static inline int barrier(struct symm_sync *s, uint32_t channel, uint64_t timeout)
{
	struct symm_sync_place at = place_of(s);
	uint32_t blame;

	return symm_sync_barrier(&at, SYMM_WAIT_LANES, channel, timeout, &blame);
}

static inline int put_signal(struct symm_sync *s, uint32_t dst, uint32_t channel, uint64_t timeout)
{
	struct symm_sync_place at = place_of(s);
	uint32_t blame;

	return symm_sync_put_signal(&at, dst, channel, timeout, &blame);
}

static inline int wait_signal(struct symm_sync *s, uint32_t src, uint32_t channel, uint64_t timeout)
{
	struct symm_sync_place at = place_of(s);
	uint32_t blame;

	return symm_sync_wait_signal(&at, src, channel, timeout, &blame);
}

/* ---- scenarios ---- */

static inline struct box *box_at(const struct arena *arena, uint32_t round, uint32_t channel, uint32_t rank)
{
	return &arena->boxes[(round % BOX_DEPTH * SYMM_SYNC_CHANNELS + channel) * arena->world + rank];
}

/* All write, meet, and read what all wrote. A box is used again two barriers later. */
static inline int case_barriers(const struct arena *arena, struct symm_sync *s)
{
	uint32_t me = s->group->rank;

	for (uint32_t round = 0; round < (uint32_t)arena->rounds; round++)
		for (uint32_t channel = 0; channel < SYMM_SYNC_CHANNELS; channel++) {
			uint32_t turn = round * SYMM_SYNC_CHANNELS + channel;

			box_at(arena, turn % 2, 0, me)->value = turn;
			CHECK(barrier(s, channel, PATIENCE) == 0);
			for (uint32_t peer = 0; peer < arena->world; peer++)
				CHECK(box_at(arena, turn % 2, 0, peer)->value == turn, " (turn %u, peer %u)", turn,
				      peer);
		}
	return 0;
}

/* Everyone signals the next rank and hears the one before, with a payload, on all channels. Two credits later a box
 * has been read. */
static inline int case_ring(const struct arena *arena, struct symm_sync *s)
{
	uint32_t me = s->group->rank, next = (me + 1) % arena->world, before = (me + arena->world - 1) % arena->world;

	for (uint32_t round = 0; round < (uint32_t)arena->rounds; round++) {
		for (uint32_t channel = 0; channel < SYMM_SYNC_CHANNELS; channel++) {
			box_at(arena, round, channel, me)->value = round + channel;
			CHECK(put_signal(s, next, channel, PATIENCE) == 0);
		}
		for (uint32_t channel = SYMM_SYNC_CHANNELS; channel-- > 0;) {
			CHECK(wait_signal(s, before, channel, PATIENCE) == 0);
			CHECK(box_at(arena, round, channel, before)->value == round + channel);
		}
	}
	return 0;
}

/* Two ranks answer each other: message passing both ways. */
static inline int case_ping_pong(const struct arena *arena, struct symm_sync *s)
{
	uint32_t me = s->group->rank, peer = 1 - me, last = SYMM_SYNC_CHANNELS - 1;
	struct box *mine = box_at(arena, 0, 0, me), *yours = box_at(arena, 0, 0, peer);

	for (uint64_t i = 1; i <= (uint64_t)arena->rounds; i++) {
		if (me == 1)
			CHECK(wait_signal(s, peer, last, PATIENCE) == 0 && yours->value == i);
		mine->value = i;
		CHECK(put_signal(s, peer, last, PATIENCE) == 0);
		if (me == 0)
			CHECK(wait_signal(s, peer, last, PATIENCE) == 0 && yours->value == i);
	}
	return 0;
}

/* The same, and the value comes with the signal. */
static inline int case_payloads(const struct arena *arena, struct symm_sync *s)
{
	uint32_t me = s->group->rank, peer = 1 - me, blame;
	struct symm_sync_place at = place_of(s);

	for (uint64_t i = 1; i <= (uint64_t)arena->rounds; i++) {
		struct box *inbox = box_at(arena, (uint32_t)i, 0, me), *outbox = box_at(arena, (uint32_t)i, 0, peer);
		struct box sent = { i, "" };
		const struct symm_sync_payload payload = { outbox, &sent, sizeof(sent), 0 };

		if (me == 1)
			CHECK(wait_signal(s, peer, 3, PATIENCE) == 0 && inbox->value == i);
		CHECK(symm_payload_put(&at, &payload, peer, 3, PATIENCE, &blame) == 0);
		if (me == 0)
			CHECK(wait_signal(s, peer, 3, PATIENCE) == 0 && inbox->value == i);
	}
	return 0;
}

static inline uint64_t published(const struct box *flag, uint64_t bytes)
{
	const uint32_t *low = (const uint32_t *)(const void *)&flag->value;

	return bytes == 4 ? __atomic_load_n(low, __ATOMIC_ACQUIRE) : symm_word_acquire(&flag->value);
}

/* The same, and a published value of either size takes the place of the signal. */
static inline int case_published(const struct arena *arena, struct symm_sync *s)
{
	uint32_t me = s->group->rank, peer = 1 - me;
	struct box *mine = box_at(arena, 0, 0, me), *yours = box_at(arena, 0, 0, peer);
	struct box *my_flag = box_at(arena, 0, 1, me), *your_flag = box_at(arena, 0, 1, peer);
	uint64_t bytes = me == 0 ? 4 : 8;

	for (uint64_t i = 1; i <= (uint64_t)arena->rounds; i++) {
		for (int turn = 0; turn < 2; turn++) {
			if (turn == (int)me) {
				mine->value = i;
				CHECK(symm_payload_publish(s->group, &my_flag->value, i, bytes) == 0);
				continue;
			}
			while (published(your_flag, 12 - bytes) != i)
				symm_wait_yield(0);
			CHECK(yours->value == i);
		}
	}
	return 0;
}

struct crowd {
	struct symm_sync *sync;
	uint64_t put, wait; /* how many each thread does */
	uint32_t peer;
	int code;
};

static inline void *crowd_thread(void *arg)
{
	struct crowd *crowd = arg;
	int code = 0;

	for (uint64_t i = 0; i < crowd->put && code == 0; i++)
		code = put_signal(crowd->sync, crowd->peer, 5, PATIENCE);
	for (uint64_t i = 0; i < crowd->wait && code == 0; i++)
		code = wait_signal(crowd->sync, crowd->peer, 5, PATIENCE);
	crowd->code = code;
	return NULL;
}

/* Threads of a rank put and wait at once, on one channel: as many signals are consumed as were put. */
static inline int case_crowd(const struct arena *arena, struct symm_sync *s)
{
	struct crowd crowd[2 * CROWD];
	pthread_t thread[2 * CROWD];
	uint64_t each = (uint64_t)arena->rounds;

	for (int i = 0; i < 2 * CROWD; i++) {
		crowd[i] = (struct crowd){ s, i % 2 ? each : 0, i % 2 ? 0 : each, 1 - s->group->rank, -1 };
		CHECK(pthread_create(&thread[i], NULL, crowd_thread, &crowd[i]) == 0);
	}
	for (int i = 0; i < 2 * CROWD; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < 2 * CROWD; i++)
		CHECK(crowd[i].code == 0);
	/* Nothing is left over. */
	CHECK(barrier(s, 5, PATIENCE) == 0);
	if (s->group->rank == 0)
		CHECK(wait_signal(s, 1, 5, 1000000) == SYMM_SYNC_TIMEDOUT);
	return 0;
}

struct scenario {
	const char *name;
	int (*run)(const struct arena *arena, struct symm_sync *s);
	uint32_t world;
	int rounds;
};

#endif
