/* release.h: how things end. Every ending is local and waits for no peer: new calls are refused, own waits end, what
 * runs on streams is awaited (SYMM_EBUSY at the deadline, nothing unmapped: it may be tried again), peers are told,
 * memory goes.
 *
 * A tensor is in the hands of a library that knows nothing of groups: it is not taken away. So while there are tensors
 * of its memory, a group is not left, and its context not closed; once that has begun, there are no new ones. */
#ifndef SYMM_RELEASE_H
#define SYMM_RELEASE_H

#include "piece.h"

struct symm_pool;

/* Ends a pool, and the use of its memory, given the first address of that. */
int symm_pool_release(void *ptr, const struct symm_pool *pool);
/* Leaves all groups of the context. */
int symm_group_leave_all(struct context *context, int64_t deadline);
/* How many tensors there are of the memory of the group (NULL: of the context's groups). */
size_t symm_tensors_alive(const struct context *context, const struct group *group);
/* Refuses new tensors of the group's memory (NULL: of the context's) for good; or SYMM_EBUSY, and nothing is changed,
 * for there are some. */
int symm_tensors_refuse(struct context *context, struct group *group);

/* What a tensor is the use of, in the place of symm_free. Its end is that of "active", or of the piece. */
struct use {
	struct piece *piece; /* that a registered allocator has made; NULL: */
	struct alloc *alloc; /* the user's own */
	struct symm_device *device;
};
int symm_use_begin(const void *ptr, struct use *use);
void symm_use_end(const struct use *use);
/* A tensor that shows a rank's part of the view, into which the caller has a call. */
int symm_view_begin_tensor(struct view *view);
void symm_view_end_tensor(struct view *view);

#endif
