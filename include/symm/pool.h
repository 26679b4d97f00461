/* pool.h: a pool: one rendezvous for a large segment of symmetric memory, of which pieces are allocated and freed
 * without another.
 *
 * symm_pool_alloc, symm_pool_alloc_persistent and symm_pool_free are local, call no driver and no store, and take well
 * under a microsecond. The same calls in the same order on every rank give the same offsets on every rank; what the
 * ranks have done is counted and hashed, and symm_pool_check compares it. A call that fails changes and counts nothing.
 *
 * Return values, errors and threads are as in symm.h. When the group is left or the context closed, the pool is gone,
 * as all memory of the group is.
 */
#ifndef SYMM_POOL_H
#define SYMM_POOL_H

#include "symm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What symm_pool_alloc gives begins at a multiple of this in the segment, which itself begins at one; sizes are rounded
 * up to it. */
#define SYMM_POOL_ALIGN 256

struct symm_pool;

/* Makes a pool of `bytes`, rounded up to SYMM_POOL_ALIGN. options may be NULL; its `persistent` must be 0. Collective,
 * bytes and options the same on every rank. */
SYMM_API int symm_pool_create(struct symm_group *group, size_t bytes, const struct symm_alloc_options *options,
			      int64_t timeout_ms, struct symm_pool **pool);
/* Ends the pool and all that was allocated from it, as symm_free ends an allocation. Local. NULL is fine. SYMM_EBUSY: a
 * stream or another thread still uses it; the call may be repeated. */
SYMM_API int symm_pool_destroy(struct symm_pool *pool);

/* Allocates `bytes`, of undefined content. SYMM_ENOMEM: no free piece is large enough. */
SYMM_API int symm_pool_alloc(struct symm_pool *pool, size_t bytes, void **ptr);
/* The same, kept for alloc_id when it is freed: the next call with the id gives the same address. SYMM_EBUSY: it has
 * not been freed; SYMM_EMISMATCH: another size. Ids are the pool's own. */
SYMM_API int symm_pool_alloc_persistent(struct symm_pool *pool, size_t bytes, uint64_t alloc_id, void **ptr);
/* Ends the use of what was allocated at ptr; it may be given out again at once. NULL is fine. */
SYMM_API int symm_pool_free(struct symm_pool *pool, void *ptr);

/* SYMM_OK if all ranks have done the same with their pools so far; else SYMM_EMISMATCH on every rank, and the detail
 * names the first operation that differs. Collective: one barrier, on no channel of the user's. */
SYMM_API int symm_pool_check(struct symm_pool *pool, int64_t timeout_ms);

/* The segment as all ranks share it, for symm_put, symm_barrier and the rest; owned by the pool: no symm_mem_release.
 * NULL for a bad handle. */
SYMM_API struct symm_mem *symm_pool_mem(struct symm_pool *pool);
/* Where what rank has at the place of ptr is seen here. ptr: any address in this rank's segment. NULL for a bad handle,
 * rank or address. */
SYMM_API void *symm_pool_peer(struct symm_pool *pool, const void *ptr, int rank);
/* How many bytes into the segment ptr, any address in it, is: the offset for symm_put and symm_get. */
SYMM_API int symm_pool_offset(struct symm_pool *pool, const void *ptr, size_t *offset);
/* In bytes: the pool's size, what is allocated or kept for an alloc_id, and the most that an allocation can get now.
 * Each may be NULL. */
SYMM_API int symm_pool_usage(struct symm_pool *pool, size_t *capacity, size_t *used, size_t *largest_free);

#ifdef __cplusplus
}
#endif
#endif
