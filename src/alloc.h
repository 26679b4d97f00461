/* alloc.h: allocations and the views of them, inside; and the one table in which both are found by address.
 *
 * An allocation lives while its pointer is in use (active), while it is cached under an alloc_id (persistent), or
 * while somebody holds a reference to a view of it. Then it is torn down: release.c.
 */
#ifndef SYMM_ALLOC_H
#define SYMM_ALLOC_H

#include "arena.h"
#include "group.h"
#include "memory.h"
#include "multicast.h"

struct alloc {
	struct group *group; /* for which it was allocated */
	struct block *block;
	char *ptr;
	size_t bytes; /* as asked for */
	size_t pad_offset, pad_bytes;
	size_t tail_offset; /* of what a pool keeps there for its peers */
	bool active;        /* the user has the pointer */
	bool tensor;        /* in a tensor, whose end is the end of that */
	bool lent;          /* to a registered allocator, which hands it on, instead of the user */
	bool persistent;
	uint64_t id;
	int busy;          /* rendezvous under way; atomic */
	bool closing;      /* being torn down; a teardown that found it busy may be tried again */
	bool ending;       /* one thread is at that, or takes a view or the pool away; others wait */
	struct pool *pool; /* whose memory it is; NULL: a plain allocation */
	struct view *views;
	struct alloc *next; /* all allocations of the process */
};

/* An allocation as all ranks of one group share it: what a struct symm_mem stands for. */
struct view {
	struct symm_mem *handle;
	struct alloc *alloc;
	struct group *group;
	int refs;          /* the user's */
	int tensors;       /* that show it: each is a reference, and more */
	uint64_t launched; /* sync->ended will have grown to it when nothing is under way */
	uint64_t seq;
	struct span span;
	struct multicast multicast; /* of the span's own block */
	struct arena *arena;
	void **buffer, **pad; /* [world_size]: one piece of memory, with slot */
	char **slot;          /* [world_size]: each rank's slot of shared words, as mapped here */
	/* One piece of the device's local memory, written once. */
	struct symm_sync *sync;
	void **buffers_dev, **pads_dev; /* [world_size], for the user's kernels */
	struct bell bell;
	struct doing doing;          /* standing: its blocking calls pass through */
	struct symm_tickets tickets; /* owned by stats.c: as they were read last */
	struct view *next;           /* of the allocation */
};

/* Guards the table, the lists of views, and all flags and references above. */
void symm_memory_read(void);
void symm_memory_write(void);
void symm_memory_unlock(void);

/* With the lock held: the allocation that the user has at ptr or around it; NULL, with *rc SYMM_ENOENT or
 * SYMM_ESTALE. */
struct alloc *symm_alloc_find(const void *ptr, int *rc);
/* With the lock held: the allocation around ptr in whatever state; NULL if there is none. */
struct alloc *symm_alloc_around(const void *ptr);
/* With the lock held: an allocation that the user has from symm_alloc itself, and that overlaps these bytes; NULL if
 * there is none. */
struct alloc *symm_alloc_overlapping(const void *ptr, size_t bytes);
/* With the lock held: how many allocations the user has from symm_alloc itself on devices of that type. */
size_t symm_alloc_count(const char *type);
/* What symm_alloc asks of its arguments, whoever is to allocate. */
int symm_alloc_check(size_t bytes, const struct symm_alloc_options *options);
/* With the lock held: the view of an allocation in a group (NULL: its own); NULL if there is none. */
struct view *symm_view_of(const struct alloc *alloc, const struct group *group);
/* With the lock held: all allocations of the process. */
struct alloc *symm_alloc_first(void);
/* With the lock held, the first or next allocation for which the group is the own one, or of which it has a view. */
struct alloc *symm_alloc_of_group(const struct group *group);
/* With the lock held: how many tensors there are of memory that goes with the group (NULL: any) of the context. */
size_t symm_alloc_tensors(const struct context *context, const struct group *group);
/* What symm_alloc does, for a pool: with `tail` bytes more, behind the signal pad, for its own use. */
int symm_alloc_for_pool(struct group *group, size_t bytes, const struct symm_alloc_options *options, size_t tail,
			struct pool *pool, struct alloc **alloc);
/* The rendezvous of the allocation around ptr with the group, if it has not been done. failure: 0, or the code of what
 * keeps this rank from taking part, its detail written, which all ranks get to read; then ptr is not looked at. */
int symm_alloc_meet(struct group *group, const void *ptr, int failure, int64_t timeout_ms, struct symm_mem **mem);
/* Takes the allocation out of the table (the lock held) and gives its memory back (no lock). */
void symm_alloc_remove(struct alloc *alloc);
void symm_alloc_destroy(struct alloc *alloc);

#endif
