#include "arena.h"

#include "base.h"

#include <stdlib.h>

#define WANTED_BYTES ((size_t)256 << 10)
#define MOST_SLOTS 64

static size_t slot_bytes(const struct group *group)
{
	return symm_sync_layout_of((uint32_t)group->world_size).bytes;
}

static uint64_t slots(const struct group *group)
{
	size_t n = WANTED_BYTES / slot_bytes(group);

	return n < 1 ? 1 : n > MOST_SLOTS ? MOST_SLOTS : n;
}

static uint64_t run_start(const struct group *group, uint64_t seq)
{
	return (seq - 1) / slots(group) * slots(group) + 1;
}

struct arena *symm_arena_of(struct group *group, uint64_t seq)
{
	struct arena *arena = group->arena;

	if (arena == NULL || seq < arena->first || seq >= arena->end)
		return NULL;
	__atomic_fetch_add(&arena->refs, 1, __ATOMIC_RELAXED);
	return arena;
}

int symm_arena_block(struct group *group, struct block **block)
{
	struct symm_device *device = group->context->device;
	size_t bytes = symm_round_up(slot_bytes(group) * slots(group), device->ops->granularity(device));

	return symm_block_create(device, bytes, group->foreign, block);
}

int symm_arena_make(struct group *group, uint64_t seq, struct block *own, const struct incoming *incoming,
		    struct arena **out)
{
	struct arena *arena = calloc(1, sizeof(*arena));
	int rc;

	if (arena == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	rc = symm_span_map(&arena->span, own, group->rank, group->world_size, incoming);
	if (rc != 0) {
		free(arena);
		return rc;
	}
	arena->refs = 1;
	arena->first = run_start(group, seq);
	arena->end = arena->first + slots(group);
	arena->slot_bytes = slot_bytes(group);
	*out = arena;
	return 0;
}

void symm_arena_keep(struct group *group, struct arena *arena)
{
	symm_arena_unref(group->arena);
	__atomic_fetch_add(&arena->refs, 1, __ATOMIC_RELAXED);
	group->arena = arena;
}

void symm_arena_slots(const struct group *group, const struct arena *arena, uint64_t seq, char **slot)
{
	for (int rank = 0; rank < group->world_size; rank++)
		slot[rank] = (char *)arena->span.address[rank] + (seq - arena->first) * arena->slot_bytes;
}

void symm_arena_unref(struct arena *arena)
{
	if (arena == NULL || __atomic_sub_fetch(&arena->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	symm_span_unmap(&arena->span);
	free(arena);
}
