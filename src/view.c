#include "view.h"

#include "base.h"
#include "handle.h"

#include <stdlib.h>
#include <string.h>

struct view *symm_view_get(const struct symm_mem *handle, int *rc)
{
	return symm_handle_get(handle, SYMM_HANDLE_MEM, rc);
}

void symm_view_put(const struct view *view)
{
	symm_handle_put(view->handle);
}

/* One piece of the device's memory: the struct, the table of slots, the counters. */
static int make_sync(struct view *view)
{
	struct symm_device *device = view->alloc->block->device;
	size_t world = (size_t)view->group->world_size;
	size_t table = symm_round_up(sizeof(struct symm_sync), 64);
	size_t local = table + symm_round_up(world * sizeof(char *), 64);
	void *memory;
	int rc = device->ops->local_alloc(device, local + symm_sync_local_bytes((uint32_t)world), &memory);

	if (rc != 0)
		return rc;
	view->sync = memory;
	view->sync->group = view->group->sync;
	view->sync->slot = (char **)((char *)memory + table);
	view->sync->local = (char *)memory + local;
	symm_arena_slots(view->group, view->arena, view->seq, view->sync->slot);
	view->bell.sync = view->sync;
	return 0;
}

static int make_tables(struct view *view)
{
	struct symm_device *device = view->alloc->block->device;
	size_t world = (size_t)view->group->world_size;
	void *tables;
	int rc = device->ops->local_alloc(device, 2 * world * sizeof(void *), &tables);

	if (rc != 0)
		return rc;
	view->buffer = tables;
	view->pad = view->buffer + world;
	for (size_t rank = 0; rank < world; rank++) {
		view->buffer[rank] = view->span.address[rank];
		view->pad[rank] = (char *)view->span.address[rank] + view->alloc->pad_offset;
	}
	return 0;
}

int symm_view_make(struct alloc *alloc, struct group *group, uint64_t seq, struct span *span, struct arena *arena,
		   struct view **out)
{
	struct view *view = calloc(1, sizeof(*view));
	struct symm_device *device = alloc->block->device;
	int rc;

	if (view == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	*view = (struct view){ .alloc = alloc, .group = group, .seq = seq, .span = *span, .arena = arena };
	if ((rc = make_tables(view)) != 0)
		goto fail;
	if ((rc = make_sync(view)) != 0)
		goto fail_tables;
	view->handle = symm_handle_new(SYMM_HANDLE_MEM, view);
	if (view->handle == NULL) {
		rc = SYMM_ENOMEM;
		goto fail_sync;
	}
	symm_group_add_bell(group, &view->bell);
	symm_doing_begin(&view->doing, group->context, true, "of group %s", group->name);
	*out = view;
	return 0;
fail_sync:
	device->ops->local_free(device, view->sync);
fail_tables:
	device->ops->local_free(device, view->buffer);
fail:
	free(view);
	return rc;
}

void symm_view_free(struct view *view)
{
	struct symm_device *device = view->alloc->block->device;

	symm_doing_end(&view->doing);
	symm_group_remove_bell(view->group, &view->bell);
	symm_handle_close(view->handle);
	symm_handle_free(view->handle);
	device->ops->local_free(device, view->sync);
	device->ops->local_free(device, view->buffer);
	symm_span_unmap(&view->span);
	symm_arena_unref(view->arena);
	free(view);
}

int symm_view_close(struct view *view, unsigned own, int64_t deadline)
{
	int64_t wait = 1000;

	symm_handle_close(view->handle);
	symm_sync_tell_one(view->sync, view->sync->group->rank, SYMM_STATE_CLOSED);
	if (!symm_handle_drain(view->handle, own, deadline))
		return symm_error(SYMM_EBUSY, "another thread is still in a call on this symm_mem");
	while (__atomic_load_n(&view->pending, __ATOMIC_ACQUIRE) > 0) {
		if (symm_now() >= deadline)
			return symm_error(SYMM_EBUSY, "%d pieces of work on streams still use this symm_mem",
					  view->pending);
		symm_sleep(wait, deadline);
		if (wait < SYMM_NS_PER_MS)
			wait *= 2;
	}
	/* Peers hear it after what streams still had for them. Who has failed says so to the end: peers that wait
	 * shall hear of the failure, and not of what followed it. */
	symm_sync_tell(view->sync, symm_sync_poisoned(view->group->sync) != 0 ? SYMM_STATE_FAILED : SYMM_STATE_CLOSED);
	return 0;
}
