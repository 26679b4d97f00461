/* piece.h: what registered allocators have allocated. */
#ifndef SYMM_PIECE_H
#define SYMM_PIECE_H

#include "allocator.h"
#include "group.h"

#include <sys/queue.h>

struct piece {
	struct allocator *by;
	struct group *group; /* for which it was allocated */
	char *ptr;
	size_t bytes; /* as asked for */
	int calls;    /* under way on it; atomic */
	bool ending;  /* one thread frees it */
	bool tensor;  /* in a tensor, whose end is the end of it */
	LIST_ENTRY(piece) entry;
};

/* Has the allocator allocate, for a group that the caller holds; options and what is in them are complete. A use of the
 * allocator's is taken over, also on failure. */
int symm_piece_make(struct allocator *by, struct group *group, size_t bytes, const struct symm_alloc_options *options,
		    void **ptr);
/* The piece around ptr, there until symm_piece_put; NULL, with *rc 0: no registered allocator has made it; or
 * SYMM_ESTALE: it is being freed. */
struct piece *symm_piece_hold(const void *ptr, int *rc);
void symm_piece_put(struct piece *piece);
/* With the lock of memory held: the piece around ptr; NULL if there is none. */
struct piece *symm_piece_around(const void *ptr);
/* With the lock of memory held: how many pieces of the group (NULL: of the context), or on memory of its, are in
 * tensors. */
size_t symm_piece_tensors(const struct context *context, const struct group *group);
/* Frees the piece at ptr; *found tells whether there was one. */
int symm_piece_free(void *ptr, bool *found);
/* Frees a piece that was a tensor's until now. */
int symm_piece_end_tensor(struct piece *piece);
/* Frees all pieces of a group that takes no more calls. */
int symm_piece_free_all(const struct group *group, int64_t deadline);

#endif
