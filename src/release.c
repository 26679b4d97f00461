#include "release.h"

#include "base.h"
#include "fork.h"
#include "handle.h"
#include "view.h"

/* With the memory lock held for writing. */
static bool has_references(const struct alloc *alloc)
{
	for (const struct view *view = alloc->views; view != NULL; view = view->next)
		if (view->refs > 0)
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
			return symm_error(SYMM_EBUSY, "a rendezvous of the allocation at %p is under way in another thread",
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

/* The allocation is marked closing: nobody finds it any more. own: calls on the handle `held` that are the caller's. */
static int teardown(struct alloc *alloc, const struct symm_mem *held, int64_t deadline)
{
	int rc = await_busy(alloc, deadline);

	for (struct view *view = alloc->views; view != NULL && rc == 0; view = view->next)
		rc = symm_view_close(view, view->handle == held ? 1 : 0, deadline);
	if (rc != 0)
		return rc;
	symm_memory_write();
	symm_alloc_remove(alloc);
	symm_memory_unlock();
	if (held != NULL)
		symm_handle_put(held);
	while (alloc->views != NULL) {
		struct view *view = alloc->views;

		alloc->views = view->next;
		symm_view_free(view);
	}
	symm_alloc_destroy(alloc);
	return 0;
}

static int64_t deadline_of(const struct alloc *alloc)
{
	int64_t deadline;

	symm_context_deadline(alloc->group->context, 0, &deadline);
	return deadline;
}

/* The allocation whose first address is ptr, marked: *last tells that it is to be torn down. */
static int give_up_pointer(void *ptr, struct alloc **out, bool *last)
{
	struct alloc *alloc;
	int rc = 0;

	symm_memory_write();
	alloc = symm_alloc_around(ptr);
	if (alloc == NULL || alloc->ptr != ptr)
		rc = symm_error(SYMM_ENOENT, "%p is not the address of an allocation of symm_alloc", ptr);
	else if (!alloc->active && !alloc->closing)
		rc = symm_error(SYMM_ENOENT, "the allocation at %p has been freed", ptr);
	else
		alloc->active = false;
	*last = rc == 0 && !is_wanted(alloc);
	if (*last)
		alloc->closing = true;
	*out = alloc;
	symm_memory_unlock();
	return rc;
}

int symm_free(void *ptr)
{
	struct alloc *alloc;
	bool last;
	int rc = symm_fork_check();

	if (ptr == NULL || rc != 0)
		return rc;
	rc = give_up_pointer(ptr, &alloc, &last);
	if (rc == 0 && last)
		rc = teardown(alloc, NULL, deadline_of(alloc));
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_free");
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
	struct view *view;
	struct alloc *alloc;
	bool last = false;
	int rc;

	if (handle == NULL)
		return 0;
	view = symm_handle_get_closed(handle, SYMM_HANDLE_MEM, &rc);
	if (view == NULL)
		return symm_error_prefix(rc, "symm_mem_release");
	alloc = view->alloc;
	symm_memory_write();
	if (view->refs > 0)
		view->refs--;
	else
		rc = symm_error(SYMM_EINVAL, "symm_mem_release: the symm_mem has no reference to release");
	last = rc == 0 && !is_wanted(alloc);
	if (last)
		alloc->closing = true;
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

/* ---- leaving ---- */

/* An allocation of another group goes on without this group's view. */
static int drop_view(struct view *view, int64_t deadline)
{
	int rc = symm_view_close(view, 0, deadline);

	if (rc != 0)
		return rc;
	symm_memory_write();
	view_unlink(view);
	symm_memory_unlock();
	symm_view_free(view);
	return 0;
}

static int drop_memory(struct group *group, int64_t deadline)
{
	int rc = 0;

	while (rc == 0) {
		struct alloc *alloc;

		symm_memory_write();
		alloc = symm_alloc_of_group(group);
		if (alloc != NULL && alloc->group == group)
			alloc->closing = true;
		symm_memory_unlock();
		if (alloc == NULL)
			break;
		rc = alloc->group == group ? teardown(alloc, NULL, deadline) : drop_view(symm_view_of(alloc, group), deadline);
	}
	return rc;
}

static int leave(struct group *group, int64_t deadline)
{
	struct symm_group *handle = group->handle;
	int rc;

	symm_handle_close(handle);
	__atomic_store_n(&group->leaving, true, __ATOMIC_RELEASE);
	if (!symm_handle_drain(handle, 1, deadline))
		rc = symm_error(SYMM_EBUSY, "another thread is still in a call on group %s", group->name);
	else
		rc = drop_memory(group, deadline);
	symm_handle_put(handle);
	if (rc != 0)
		return rc;
	symm_arena_unref(group->arena);
	symm_handle_free(handle);
	symm_group_unmake(group, symm_now() + group->ks.lease_ms * SYMM_NS_PER_MS);
	return 0;
}

int symm_group_leave(struct symm_group *handle)
{
	struct group *group;
	int64_t deadline;
	int rc;

	if (handle == NULL)
		return 0;
	group = symm_handle_get_closed(handle, SYMM_HANDLE_GROUP, &rc);
	if (group == NULL)
		return symm_error_prefix(rc, "symm_group_leave");
	symm_context_deadline(group->context, 0, &deadline);
	rc = leave(group, deadline);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_group_leave");
}

int symm_group_leave_all(struct context *context, int64_t deadline)
{
	struct group *group;
	int rc = 0;

	while (rc == 0 && (group = symm_group_of(context, NULL)) != NULL) {
		int held;

		if (symm_handle_get_closed(group->handle, SYMM_HANDLE_GROUP, &held) != NULL)
			rc = leave(group, deadline);
	}
	return rc;
}
