/* pool.h: a pool, inside: an allocation that has had its rendezvous, and who has what of it.
 *
 * It lives as long as its handle; release.c ends both, with the allocation's use.
 */
#ifndef SYMM_SRC_POOL_H
#define SYMM_SRC_POOL_H

#include "journal.h"
#include "symm/pool.h"

#include <pthread.h>

struct alloc;
struct view;

struct pool {
	struct symm_pool *handle;
	struct alloc *alloc;
	struct view *view;
	struct heap *heap;
	struct journal journal;
	pthread_mutex_t lock; /* heap, journal, and who checks */

	bool checking; /* a thread does, and has the rest for itself */
	pthread_cond_t checked;
	uint64_t checks;
	struct journal told; /* to the peers, at the last check */
};

/* Frees it, with its handle, which is retired. */
void symm_pool_discard(struct pool *pool);

#endif
