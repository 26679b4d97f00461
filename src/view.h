/* view.h: making and ending a view: an allocation as all ranks of a group share it. */
#ifndef SYMM_VIEW_H
#define SYMM_VIEW_H

#include "alloc.h"

/* A view from the mapped blocks of all ranks; takes span and the reference to arena over on success. Not yet in any
 * list. */
int symm_view_make(struct alloc *alloc, struct group *group, uint64_t seq, struct span *span, struct arena *arena,
		   struct view **view);
/* Frees what symm_view_make made, with everything that it took over. Nothing may use it any more. */
void symm_view_free(struct view *view);
/* Refuses new calls, ends own waits, awaits what is under way, tells peers: `own` calls of the caller's own stay.
 * SYMM_EBUSY at the deadline. */
int symm_view_close(struct view *view, unsigned own, int64_t deadline);
/* A barrier like symm_barrier, on the channel that is the library's own: for one thread of this rank at a time. */
int symm_view_barrier(struct view *view, int64_t deadline);
/* The view behind a handle, held until symm_view_put. */
struct view *symm_view_get(const struct symm_mem *handle, int *rc);
void symm_view_put(const struct view *view);

#endif
