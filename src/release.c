#include "release.h"

#include "base.h"
#include "builtin.h"
#include "fork.h"
#include "handle.h"
#include "log.h"
#include "pool.h"
#include "trace.h"
#include "view.h"

/* With the memory lock held for writing. */
static bool has_references(const struct alloc *alloc)
{
	for (const struct view *view = alloc->views; view != NULL; view = view->next)
		if (view->refs > 0 || view->tensors > 0)
			return true;
	return false;
}

static bool is_wanted(const struct alloc *alloc)
{
	return alloc->active || alloc->persistent || has_references(alloc);
}

static int await_busy(const struct alloc *alloc, int64_t deadline)
{
	while (__atomic_load_n(&alloc->busy, __ATOMIC_ACQUIRE) > 0) {
		if (symm_now() >= deadline)
			return symm_error(SYMM_EBUSY,
					  "a rendezvous of the allocation at %p is under way in another thread",
					  (void *)alloc->ptr);
		symm_sleep(SYMM_NS_PER_MS, deadline);
	}
	return 0;
}

static void view_unlink(struct view *view)
{
	struct view **at = &view->alloc->views;

	while (*at != view)
		at = &(*at)->next;
	*at = view->next;
}

/* Each view's group is held meanwhile: it may be left by another thread. */
static void free_views(struct alloc *alloc)
{
	struct view *view;

	while ((view = alloc->views) != NULL) {
		struct group *group = view->group;
		int rc;

		symm_handle_get_closed(group->handle, SYMM_HANDLE_GROUP, &rc);
		symm_memory_write();
		alloc->views = view->next;
		symm_stats_keep(view);
		symm_memory_unlock();
		symm_view_free(view);
		symm_group_put(group);
	}
}

/* The allocation is marked ending: this thread alone does this. */
static int drop_pool(struct alloc *alloc, int64_t deadline)
{
	struct pool *pool = alloc->pool;

	if (pool == NULL)
		return 0;
	symm_handle_close(pool->handle);
	if (!symm_handle_drain(pool->handle, 0, deadline))
		return symm_error(SYMM_EBUSY, "another thread is still in a call on this symm_pool");
	symm_handle_retire(pool->handle, 0);
	symm_memory_write();
	alloc->pool = NULL;
	symm_memory_unlock();
	symm_pool_discard(pool);
	return 0;
}

/* The allocation is marked closing: nobody finds it any more; and ending: this thread alone does this. A call on the
 * handle `held` is the caller's. */
static int teardown(struct alloc *alloc, const struct symm_mem *held, int64_t deadline)
{
	int rc = await_busy(alloc, deadline);

	for (struct view *view = alloc->views; view != NULL && rc == 0; view = view->next)
		rc = symm_view_close(view, view->handle == held ? 1 : 0, deadline);
	/* What waited in a call on the pool has been ended with the view. */
	if (rc == 0)
		rc = drop_pool(alloc, deadline);
	if (rc != 0) {
		symm_memory_write();
		alloc->ending = false;
		symm_memory_unlock();
		return rc;
	}
	for (struct view *view = alloc->views; view != NULL; view = view->next)
		symm_handle_retire(view->handle, view->handle == held ? 1 : 0);
	if (held != NULL)
		symm_handle_put(held);
	free_views(alloc);
	symm_memory_write();
	symm_alloc_remove(alloc);
	symm_memory_unlock();
	symm_alloc_destroy(alloc);
	return 0;
}

static int64_t deadline_of(const struct alloc *alloc)
{
	int64_t deadline;

	symm_context_deadline(alloc->group->context, 0, &deadline);
	return deadline;
}

/* With the lock held for writing: if nobody wants the allocation any more, and no other thread ends it, the caller has
 * to tear it down. */
static bool is_mine_to_end(struct alloc *alloc)
{
	if (is_wanted(alloc) || alloc->ending)
		return false;
	alloc->closing = true;
	alloc->ending = true;
	return true;
}

/* With the lock held: 0 if the use of the allocation (NULL: none) around ptr may be ended, by a pool or (NULL) the
 * user; SYMM_EBUSY: not now. */
static int check_pointer(const struct alloc *alloc, const void *ptr, const struct symm_pool *pool)
{
	if (pool != NULL && (alloc == NULL || alloc->pool == NULL || alloc->pool->handle != pool))
		return symm_error(SYMM_ESTALE, "this symm_pool is no more");
	if (pool == NULL && alloc != NULL && alloc->pool != NULL)
		return symm_error(SYMM_EINVAL, "%p is a symm_pool's: symm_pool_free gives it back", ptr);
	if (alloc == NULL || alloc->ptr != ptr)
		return symm_error(SYMM_ENOENT, "%p is not the address of an allocation of symm_alloc", ptr);
	if (pool == NULL && !alloc->active && !alloc->closing)
		return symm_error(SYMM_ENOENT, "the allocation at %p has been freed", ptr);
	if (alloc->tensor)
		return symm_error(SYMM_EINVAL, "the allocation at %p is a tensor's: it goes with that tensor's deleter",
				  ptr);
	if (alloc->ending)
		return symm_error(SYMM_EBUSY,
				  "another thread is freeing the allocation at %p, or leaving a group that shares it",
				  ptr);
	return 0;
}

/* The allocation whose first address is ptr, for this thread alone if it is a pool's; *last tells that it is to be
 * torn down. SYMM_EBUSY: not now. */
static int give_up_pointer(void *ptr, const struct symm_pool *pool, struct alloc **out, bool *last, int64_t *deadline)
{
	struct alloc *alloc;
	int rc;

	symm_memory_write();
	alloc = symm_alloc_around(ptr);
	rc = check_pointer(alloc, ptr, pool);
	if (rc == 0)
		alloc->active = false;
	*last = rc == 0 && is_mine_to_end(alloc);
	if (rc == 0 && pool != NULL)
		alloc->ending = true;
	if ((rc == 0 || rc == SYMM_EBUSY) && *deadline == 0)
		*deadline = deadline_of(alloc);
	*out = alloc;
	symm_memory_unlock();
	return rc;
}

/* This thread no longer ends the allocation, unless nobody wants it any more. rc: what has come of it so far. */
static int go_on(struct alloc *alloc, int rc, int64_t deadline)
{
	bool last;

	symm_memory_write();
	alloc->ending = false;
	last = rc == 0 && is_mine_to_end(alloc);
	symm_memory_unlock();
	return last ? teardown(alloc, NULL, deadline) : rc;
}

static int give_up(void *ptr, const struct symm_pool *pool)
{
	struct alloc *alloc;
	int64_t deadline = 0;
	bool last;
	int rc;

	while ((rc = give_up_pointer(ptr, pool, &alloc, &last, &deadline)) == SYMM_EBUSY && symm_now() < deadline)
		symm_sleep(SYMM_NS_PER_MS, deadline);
	if (rc != 0)
		return rc;
	if (last)
		return teardown(alloc, NULL, deadline);
	return pool != NULL ? go_on(alloc, drop_pool(alloc, deadline), deadline) : 0;
}

int symm_builtin_free(void *arg, void *ptr)
{
	int rc = symm_fork_check();

	(void)arg;
	if (ptr == NULL || rc != 0)
		return rc;
	return give_up(ptr, NULL);
}

int symm_pool_release(void *ptr, const struct symm_pool *pool)
{
	return give_up(ptr, pool);
}

int symm_mem_retain(struct symm_mem *handle)
{
	int rc;
	struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return symm_error_prefix(rc, "symm_mem_retain");
	symm_memory_read();
	__atomic_fetch_add(&view->refs, 1, __ATOMIC_RELAXED);
	symm_memory_unlock();
	symm_view_put(view);
	return 0;
}

int symm_mem_release(struct symm_mem *handle)
{
	SYMM_TRACE("symm_mem_release");
	struct view *view;
	struct alloc *alloc;
	bool last = false;
	int rc;

	if (handle == NULL)
		return 0;
	if (symm_log_here())
		return symm_log_refuse("symm_mem_release");
	view = symm_handle_get_closed(handle, SYMM_HANDLE_MEM, &rc);
	if (view == NULL)
		return symm_error_prefix(rc, "symm_mem_release");
	alloc = view->alloc;
	symm_memory_write();
	if (view->refs > 0)
		view->refs--;
	else
		rc = symm_error(SYMM_EINVAL, "symm_mem_release: the symm_mem has no reference to release");
	last = rc == 0 && is_mine_to_end(alloc);
	symm_memory_unlock();
	if (!last) {
		symm_view_put(view);
		return rc;
	}
	rc = teardown(alloc, handle, deadline_of(alloc));
	if (rc == 0)
		return 0;
	symm_memory_write();
	view->refs++;
	symm_memory_unlock();
	symm_view_put(view);
	return symm_error_prefix(rc, "symm_mem_release");
}

/* ---- tensors ---- */

/* With the lock held for writing. */
static int check_leaving(const struct group *group)
{
	if (group->leaving || group->context->closing)
		return symm_error(SYMM_ESTALE, "another thread is leaving group %s", group->name);
	return 0;
}

/* With the lock held. */
static size_t count_tensors(const struct context *context, const struct group *group)
{
	return symm_alloc_tensors(context, group) + symm_piece_tensors(context, group);
}

size_t symm_tensors_alive(const struct context *context, const struct group *group)
{
	size_t n;

	symm_memory_read();
	n = count_tensors(context, group);
	symm_memory_unlock();
	return n;
}

int symm_tensors_refuse(struct context *context, struct group *group)
{
	size_t n;

	symm_memory_write();
	n = count_tensors(context, group);
	if (n == 0 && group != NULL)
		__atomic_store_n(&group->leaving, true, __ATOMIC_RELEASE);
	else if (n == 0)
		context->closing = true;
	symm_memory_unlock();
	if (n == 0)
		return 0;
	return symm_error(SYMM_EBUSY, "%zu tensor%s of the memory of %s%s %s alive: call %s first", n,
			  n == 1 ? "" : "s", group != NULL ? "group " : "this context",
			  group != NULL ? group->name : "", n == 1 ? "is" : "are",
			  n == 1 ? "its deleter" : "their deleters");
}

static int use_alloc(const void *ptr, struct use *use)
{
	int rc = 0;

	use->alloc = symm_alloc_find(ptr, &rc);
	if (rc == 0)
		rc = check_leaving(use->alloc->group);
	if (rc != 0)
		return rc;
	use->alloc->tensor = true;
	use->device = use->alloc->block->device;
	return 0;
}

/* Who reads a tensor has to know on which device it is: that is told by the memory behind it. */
static int use_piece(const void *ptr, struct use *use)
{
	struct piece *piece = use->piece;
	const struct alloc *behind = symm_alloc_around(ptr);
	int rc = check_leaving(piece->group);

	if (rc != 0)
		return rc;
	if (piece->ending)
		return symm_error(SYMM_ESTALE, "the allocation at %p is being freed", ptr);
	if (behind == NULL)
		return symm_error(SYMM_ENOTSUP,
				  "allocator %s: the memory at %p is of no device that DLPack knows, so it cannot be a "
				  "tensor",
				  piece->by->type, ptr);
	rc = check_leaving(behind->group);
	if (rc != 0)
		return rc;
	piece->tensor = true;
	use->device = behind->block->device;
	return 0;
}

int symm_use_begin(const void *ptr, struct use *use)
{
	struct use made = { NULL, NULL, NULL };
	int rc;

	symm_memory_write();
	made.piece = symm_piece_around(ptr);
	rc = made.piece != NULL ? use_piece(ptr, &made) : use_alloc(ptr, &made);
	symm_memory_unlock();
	if (rc == 0)
		*use = made;
	return rc;
}

int symm_view_begin_tensor(struct view *view)
{
	int rc;

	symm_memory_write();
	rc = check_leaving(view->group);
	if (rc == 0)
		rc = check_leaving(view->alloc->group);
	if (rc == 0 && view->alloc->closing)
		rc = symm_error(SYMM_ESTALE, "the allocation at %p is being freed", (void *)view->alloc->ptr);
	if (rc == 0)
		view->tensors++;
	symm_memory_unlock();
	return rc;
}

static void warn_that_it_stays(void)
{
	symm_log(SYMM_LOG_WARN, "the memory of a tensor stays until its group is left: %s", symm_last_error());
}

/* With the lock held for writing, which goes. A deleter has nobody to tell: what cannot go now goes when the group is
 * left. In exit() all goes by itself, and the device perhaps has. */
static void end_unwanted(struct alloc *alloc)
{
	bool last = !symm_is_finalizing() && is_mine_to_end(alloc);

	symm_memory_unlock();
	if (last && teardown(alloc, NULL, deadline_of(alloc)) != 0)
		warn_that_it_stays();
}

static void end_piece(struct piece *piece)
{
	if (symm_is_finalizing()) {
		symm_memory_write();
		piece->tensor = false;
		symm_memory_unlock();
	} else if (symm_piece_end_tensor(piece) != 0) {
		warn_that_it_stays();
	}
}

void symm_use_end(const struct use *use)
{
	if (use->piece != NULL) {
		end_piece(use->piece);
		return;
	}
	symm_memory_write();
	use->alloc->tensor = false;
	use->alloc->active = false;
	end_unwanted(use->alloc);
}

void symm_view_end_tensor(struct view *view)
{
	symm_memory_write();
	view->tensors--;
	end_unwanted(view->alloc);
}

/* ---- leaving ---- */

/* An allocation of another group goes on without this group's view, unless nobody wants it any more then. */
static int drop_view(struct view *view, int64_t deadline)
{
	struct alloc *alloc = view->alloc;
	int rc = symm_view_close(view, 0, deadline);

	if (rc == 0) {
		symm_handle_retire(view->handle, 0);
		symm_memory_write();
		view_unlink(view);
		symm_stats_keep(view);
		symm_memory_unlock();
		symm_view_free(view);
	}
	return go_on(alloc, rc, deadline);
}

/* The next allocation that the group has a part in, for this thread alone; NULL if there is none, or (SYMM_EBUSY) none
 * to be had. */
static struct alloc *take_alloc(struct group *group, int64_t deadline, int *rc)
{
	struct alloc *alloc;
	bool taken;

	for (;;) {
		symm_memory_write();
		alloc = symm_alloc_of_group(group);
		taken = alloc != NULL && !alloc->ending;
		if (taken) {
			alloc->ending = true;
			alloc->closing |= alloc->group == group;
		}
		symm_memory_unlock();
		if (taken || alloc == NULL)
			return alloc;
		if (symm_now() >= deadline) {
			*rc = symm_error(SYMM_EBUSY, "another thread is freeing an allocation of group %s",
					 group->name);
			return NULL;
		}
		symm_sleep(SYMM_NS_PER_MS, deadline);
	}
}

static int drop_memory(struct group *group, int64_t deadline)
{
	struct alloc *alloc;
	int rc = symm_piece_free_all(group, deadline); /* they may stand on allocations */

	while (rc == 0 && (alloc = take_alloc(group, deadline, &rc)) != NULL)
		rc = alloc->group == group ? teardown(alloc, NULL, deadline)
					   : drop_view(symm_view_of(alloc, group), deadline);
	return rc;
}

/* The group is this thread's alone. */
static int leave(struct group *group, int64_t deadline)
{
	struct symm_group *handle = group->handle;
	int rc = symm_tensors_refuse(group->context, group);

	if (rc != 0) {
		symm_handle_put_alone(handle);
		return rc;
	}
	symm_handle_close(handle);
	if (!symm_handle_drain(handle, 1, deadline))
		rc = symm_error(SYMM_EBUSY, "another thread is still in a call on group %s", group->name);
	else
		rc = drop_memory(group, deadline);
	if (rc != 0) {
		symm_handle_put_alone(handle);
		return rc;
	}
	/* A view that another thread has taken out of its allocation holds the group until it is freed. */
	symm_handle_retire(handle, 1);
	symm_handle_put(handle);
	symm_arena_unref(group->arena);
	symm_handle_free(handle);
	symm_log(SYMM_LOG_INFO, "leave job=%s group=%s rank=%d", group->context->job, group->name, group->rank);
	symm_group_unmake(group, symm_now() + group->ks.lease_ms * SYMM_NS_PER_MS);
	return 0;
}

int symm_group_leave(struct symm_group *handle)
{
	SYMM_TRACE("symm_group_leave");
	struct symm_context *context;
	struct group *group;
	int64_t deadline;
	int rc;

	if (handle == NULL)
		return 0;
	if (symm_log_here())
		return symm_log_refuse("symm_group_leave");
	group = symm_handle_get_alone(handle, SYMM_HANDLE_GROUP, &rc);
	if (group == NULL)
		return symm_error_prefix(rc, "symm_group_leave");
	/* Held to the end, because the store is the context's: it may be closed by another thread. */
	context = group->context->handle;
	symm_handle_get_closed(context, SYMM_HANDLE_CONTEXT, &rc);
	symm_context_deadline(group->context, 0, &deadline);
	rc = leave(group, deadline);
	symm_handle_put(context);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_group_leave");
}

int symm_group_leave_all(struct context *context, int64_t deadline)
{
	struct symm_group *handle;
	int rc = 0;

	while (rc == 0 && (handle = symm_group_of(context, NULL)) != NULL) {
		struct group *group = symm_handle_get_alone(handle, SYMM_HANDLE_GROUP, &rc);

		if (group != NULL) {
			rc = leave(group, deadline);
		} else if (symm_now() < deadline) { /* another thread leaves it */
			symm_sleep(SYMM_NS_PER_MS, deadline);
			rc = 0;
		}
	}
	return rc;
}
