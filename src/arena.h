/* arena.h: where the words of barrier and signals live: one block per (group, run of rendezvous numbers), cut into
 * slots.
 *
 * The first rendezvous of a run that succeeds exchanges the arena beside its allocation; the rest of the run needs no
 * exchange. Which run a rendezvous belongs to follows from its number alone, and all ranks know alike which of them
 * succeeded, so that all agree on the slot and on whether an arena comes along.
 */
#ifndef SYMM_ARENA_H
#define SYMM_ARENA_H

#include "group.h"
#include "memory.h"

struct arena {
	int refs; /* the group's while it is the current one, and one per slot in use */
	struct span span;
	uint64_t first, end; /* rendezvous numbers of the run: [first, end) */
	size_t slot_bytes;
};

/* The arena of rendezvous seq if it has been exchanged: a reference; else NULL. */
struct arena *symm_arena_of(struct group *group, uint64_t seq);
/* Our own block for a run, to be exchanged. */
int symm_arena_block(struct group *group, struct block **block);
/* Maps the arena of all ranks (memory.h: symm_span_map); on success it takes the references over. */
int symm_arena_make(struct group *group, uint64_t seq, struct block *own, const struct incoming *incoming,
		    struct arena **arena);
/* The exchange has succeeded on all ranks: the arena serves the rest of its run. */
void symm_arena_keep(struct group *group, struct arena *arena);
/* Each rank's slot for seq, as mapped here. */
void symm_arena_slots(const struct group *group, const struct arena *arena, uint64_t seq, char **slot);
void symm_arena_unref(struct arena *arena);

#endif
