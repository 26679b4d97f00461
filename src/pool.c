#include "pool.h"

#include "base.h"
#include "handle.h"
#include "log.h"
#include "trace.h"
#include "release.h"
#include "view.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(SYMM_POOL_ALIGN == SYMM_HEAP_ALIGN, "the public alignment is the heap's");

/* What stands in the tail of the allocation, for the peers: two journals, which take turns. */
#define TAIL_BYTES (2 * sizeof(struct journal))

static struct pool *pool_get(const struct symm_pool *handle, int *rc)
{
	return symm_handle_get(handle, SYMM_HANDLE_POOL, rc);
}

static void pool_put(const struct pool *pool)
{
	symm_handle_put(pool->handle);
}

/* ---- making and ending ---- */

static void init_locks(struct pool *pool)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->checked, &attr);
	pthread_condattr_destroy(&attr);
}

static void pool_free(struct pool *pool)
{
	symm_heap_destroy(pool->heap);
	pthread_mutex_destroy(&pool->lock);
	pthread_cond_destroy(&pool->checked);
	free(pool);
}

void symm_pool_discard(struct pool *pool)
{
	symm_handle_free(pool->handle);
	pool_free(pool);
}

static int check_size(size_t bytes, const struct symm_alloc_options *options)
{
	int rc = symm_alloc_check(bytes, options);

	if (rc == 0 && options->persistent)
		rc = symm_error(SYMM_EINVAL, "options.persistent is set: a pool is not persistent, but what "
					     "symm_pool_alloc_persistent gives is");
	return rc;
}

/* Without a rendezvous yet, and, but for its allocation, unknown to all. */
static int pool_make(struct group *group, size_t bytes, const struct symm_alloc_options *options, struct pool **out)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	int rc;

	if (pool == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	init_locks(pool);
	rc = check_size(bytes, options);
	if (rc != 0)
		goto fail;
	pool->handle = symm_handle_new(SYMM_HANDLE_POOL, pool);
	if (pool->handle == NULL) {
		rc = SYMM_ENOMEM;
		goto fail;
	}
	bytes = symm_round_up(bytes, SYMM_POOL_ALIGN);
	rc = symm_alloc_for_pool(group, bytes, options, TAIL_BYTES, pool, &pool->alloc);
	if (rc != 0)
		goto fail_handle;
	rc = symm_heap_create(bytes, &pool->heap);
	if (rc != 0) {
		symm_pool_release(pool->alloc->ptr, pool->handle);
		return rc;
	}
	*out = pool;
	return 0;
fail_handle:
	symm_handle_close(pool->handle);
	symm_handle_free(pool->handle);
fail:
	pool_free(pool);
	return rc;
}

/* Every rank takes part in the rendezvous, also who can only say why it has no pool. The allocation is in use, and so
 * keeps the view without a reference: one that a user drops by mistake is an error of his. */
static int pool_create(struct group *group, size_t bytes, const struct symm_alloc_options *options, int64_t timeout_ms,
		       struct symm_pool **out)
{
	struct pool *pool = NULL;
	struct symm_mem *mem;
	struct symm_err why;
	int rc = pool_make(group, bytes, options, &pool);

	rc = symm_alloc_meet(group, pool != NULL ? pool->alloc->ptr : NULL, rc, timeout_ms, &mem);
	if (rc != 0 && pool != NULL) {
		symm_err_take(&why, rc);
		symm_pool_release(pool->alloc->ptr, pool->handle);
		return symm_err_return(&why);
	}
	if (rc != 0)
		return rc;
	pool->view = symm_view_get(mem, &rc);
	symm_view_put(pool->view);
	symm_mem_release(mem);
	*out = pool->handle;
	return 0;
}

int symm_pool_create(struct symm_group *handle, size_t bytes, const struct symm_alloc_options *options,
		     int64_t timeout_ms, struct symm_pool **pool)
{
	SYMM_TRACE("symm_pool_create");
	static const struct symm_alloc_options defaults = SYMM_ALLOC_OPTIONS_INIT;
	struct group *group;
	int rc;

	if (symm_log_here())
		return symm_log_refuse("symm_pool_create");
	if (pool == NULL)
		return symm_error(SYMM_EINVAL, "symm_pool_create: pool is NULL");
	group = symm_group_get(handle, &rc);
	if (group == NULL)
		return symm_error_prefix(rc, "symm_pool_create");
	rc = pool_create(group, bytes, options != NULL ? options : &defaults, timeout_ms, pool);
	symm_count_end(&group->context->stats, rc);
	symm_group_put(group);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_pool_create");
}

int symm_pool_destroy(struct symm_pool *handle)
{
	SYMM_TRACE("symm_pool_destroy");
	struct pool *pool;
	void *ptr;
	int rc;

	if (symm_log_here())
		return symm_log_refuse("symm_pool_destroy");
	if (handle == NULL)
		return 0;
	pool = symm_handle_get_closed(handle, SYMM_HANDLE_POOL, &rc);
	if (pool != NULL) {
		ptr = pool->alloc->ptr;
		pool_put(pool);
		rc = symm_pool_release(ptr, handle);
	}
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_pool_destroy");
}

/* ---- pieces ---- */

static int take(struct pool *pool, struct heap_piece *piece)
{
	int rc;

	if (piece->bytes == 0)
		return symm_error(SYMM_EINVAL, "0 bytes were asked for");
	pthread_mutex_lock(&pool->lock);
	rc = symm_heap_take(pool->heap, piece);
	if (rc == 0)
		symm_journal_add(&pool->journal, SYMM_JOURNAL_ALLOC, piece);
	pthread_mutex_unlock(&pool->lock);
	return rc;
}

static int give(struct pool *pool, struct heap_piece *piece)
{
	int rc;

	pthread_mutex_lock(&pool->lock);
	rc = symm_heap_give(pool->heap, piece);
	if (rc == 0)
		symm_journal_add(&pool->journal, SYMM_JOURNAL_FREE, piece);
	pthread_mutex_unlock(&pool->lock);
	return rc;
}

static int alloc_piece(struct symm_pool *handle, struct heap_piece *piece, void **ptr)
{
	struct pool *pool;
	int rc;

	if (ptr == NULL)
		return symm_error(SYMM_EINVAL, "ptr is NULL");
	pool = pool_get(handle, &rc);
	if (pool == NULL)
		return rc;
	rc = take(pool, piece);
	if (rc == 0)
		*ptr = pool->alloc->ptr + piece->offset;
	pool_put(pool);
	return rc;
}

int symm_pool_alloc(struct symm_pool *pool, size_t bytes, void **ptr)
{
	SYMM_TRACE("symm_pool_alloc");
	struct heap_piece piece = { .bytes = bytes };
	int rc = alloc_piece(pool, &piece, ptr);

	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_pool_alloc");
}

int symm_pool_alloc_persistent(struct symm_pool *pool, size_t bytes, uint64_t alloc_id, void **ptr)
{
	SYMM_TRACE("symm_pool_alloc_persistent");
	struct heap_piece piece = { .bytes = bytes, .persistent = true, .id = alloc_id };
	int rc = alloc_piece(pool, &piece, ptr);

	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_pool_alloc_persistent");
}

static int offset_of(const struct pool *pool, const void *ptr, size_t *offset)
{
	uintptr_t distance = (uintptr_t)ptr - (uintptr_t)pool->alloc->ptr;

	if (distance >= pool->alloc->bytes)
		return symm_error(SYMM_ENOENT, "%p is not in this rank's segment of the pool, %zu bytes at %p", ptr,
				  pool->alloc->bytes, (void *)pool->alloc->ptr);
	*offset = distance;
	return 0;
}

int symm_pool_free(struct symm_pool *handle, void *ptr)
{
	SYMM_TRACE("symm_pool_free");
	struct heap_piece piece;
	struct pool *pool;
	int rc;

	if (ptr == NULL)
		return 0;
	pool = pool_get(handle, &rc);
	if (pool == NULL)
		return symm_error_prefix(rc, "symm_pool_free");
	rc = offset_of(pool, ptr, &piece.offset);
	if (rc == 0)
		rc = give(pool, &piece);
	pool_put(pool);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_pool_free");
}

/* ---- comparing ---- */

/* Where rank tells of itself at this check. By the time that it writes there again, at the check after the next, all
 * have come to the next, and so have read. */
static char *told_by(const struct pool *pool, int rank)
{
	return (char *)pool->view->buffer[rank] + pool->alloc->tail_offset + pool->checks % 2 * sizeof(struct journal);
}

/* Threads that check take turns. The thread whose turn it is tells what all had done when it came. */
static int check_begin(struct pool *pool, int64_t deadline)
{
	struct timespec until = { deadline / INT64_C(1000000000), deadline % INT64_C(1000000000) };
	int late = 0;

	pthread_mutex_lock(&pool->lock);
	while (pool->checking && late == 0)
		late = pthread_cond_timedwait(&pool->checked, &pool->lock, &until);
	if (!pool->checking) {
		pool->checking = true;
		pool->told = pool->journal;
		late = 0;
	}
	pthread_mutex_unlock(&pool->lock);
	return late == 0 ? 0 : symm_error(SYMM_ETIMEDOUT, "another thread has not ended its check of this pool");
}

static void check_end(struct pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->checking = false;
	pthread_cond_signal(&pool->checked);
	pthread_mutex_unlock(&pool->lock);
}

static int differ(const struct pool *pool, int rank)
{
	struct symm_device *device = pool->alloc->block->device;
	struct journal *theirs = malloc(sizeof(*theirs));
	char name[128];
	int rc;

	if (theirs == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	rc = device->ops->read(device, theirs, told_by(pool, rank), sizeof(*theirs));
	if (rc == 0)
		rc = symm_journal_differ(&pool->told, theirs,
					 symm_group_rank_name(pool->view->group, rank, name, sizeof(name)));
	free(theirs);
	return rc;
}

static int compare(const struct pool *pool, int rank)
{
	struct symm_device *device = pool->alloc->block->device;
	struct journal_head theirs;
	int rc = device->ops->read(device, &theirs, told_by(pool, rank), sizeof(theirs));

	if (rc != 0)
		return rc;
	return memcmp(&theirs, &pool->told.head, sizeof(theirs)) == 0 ? 0 : differ(pool, rank);
}

static int check_all(struct pool *pool, int64_t deadline)
{
	struct symm_device *device = pool->alloc->block->device;
	const struct group *group = pool->view->group;
	int rc = device->ops->write(device, told_by(pool, group->rank), &pool->told, sizeof(pool->told));

	if (rc == 0)
		rc = symm_view_barrier(pool->view, deadline);
	if (rc != 0)
		return rc;
	for (int rank = 0; rank < group->world_size && rc == 0; rank++)
		if (rank != group->rank)
			rc = compare(pool, rank);
	pool->checks++;
	return rc;
}

static int check_in_turn(struct pool *pool, int64_t timeout_ms)
{
	int64_t deadline;
	int rc = symm_context_deadline(pool->view->group->context, timeout_ms, &deadline);

	if (rc == 0)
		rc = check_begin(pool, deadline);
	if (rc != 0)
		return rc;
	rc = check_all(pool, deadline);
	check_end(pool);
	return rc;
}

int symm_pool_check(struct symm_pool *handle, int64_t timeout_ms)
{
	SYMM_TRACE("symm_pool_check");
	struct pool *pool;
	int rc;

	if (symm_log_here())
		return symm_log_refuse("symm_pool_check");
	pool = pool_get(handle, &rc);
	if (pool == NULL)
		return symm_error_prefix(rc, "symm_pool_check");
	/* Held, so that the wait ends when the pool does: symm_view_close. */
	if (symm_view_get(pool->view->handle, &rc) != NULL) {
		rc = check_in_turn(pool, timeout_ms);
		symm_count_end(&pool->view->group->context->stats, rc);
		symm_view_put(pool->view);
	}
	pool_put(pool);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_pool_check");
}

/* ---- queries ---- */

struct symm_mem *symm_pool_mem(struct symm_pool *handle)
{
	int rc;
	struct symm_mem *mem;
	struct pool *pool = pool_get(handle, &rc);

	if (pool == NULL) {
		symm_error_prefix(rc, "symm_pool_mem");
		return NULL;
	}
	mem = pool->view->handle;
	pool_put(pool);
	return mem;
}

static void *peer(const struct pool *pool, const void *ptr, int rank)
{
	size_t offset;

	if (rank < 0 || rank >= pool->view->group->world_size)
		symm_error(SYMM_EINVAL, "rank %d is not in the group of %d", rank, pool->view->group->world_size);
	else if (offset_of(pool, ptr, &offset) == 0)
		return (char *)pool->view->buffer[rank] + offset;
	symm_error_prefix(0, "symm_pool_peer");
	return NULL;
}

void *symm_pool_peer(struct symm_pool *handle, const void *ptr, int rank)
{
	int rc;
	void *address;
	struct pool *pool = pool_get(handle, &rc);

	if (pool == NULL) {
		symm_error_prefix(rc, "symm_pool_peer");
		return NULL;
	}
	address = peer(pool, ptr, rank);
	pool_put(pool);
	return address;
}

int symm_pool_offset(struct symm_pool *handle, const void *ptr, size_t *offset)
{
	struct pool *pool;
	int rc;

	if (offset == NULL)
		return symm_error(SYMM_EINVAL, "symm_pool_offset: offset is NULL");
	pool = pool_get(handle, &rc);
	if (pool != NULL) {
		rc = offset_of(pool, ptr, offset);
		pool_put(pool);
	}
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_pool_offset");
}

int symm_pool_usage(struct symm_pool *handle, size_t *capacity, size_t *used, size_t *largest_free)
{
	struct heap_usage usage;
	struct pool *pool;
	int rc;

	pool = pool_get(handle, &rc);
	if (pool == NULL)
		return symm_error_prefix(rc, "symm_pool_usage");
	pthread_mutex_lock(&pool->lock);
	usage = symm_heap_usage(pool->heap);
	pthread_mutex_unlock(&pool->lock);
	pool_put(pool);
	if (capacity != NULL)
		*capacity = usage.capacity;
	if (used != NULL)
		*used = usage.used;
	if (largest_free != NULL)
		*largest_free = usage.largest;
	return 0;
}
