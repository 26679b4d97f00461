#include "view.h"

#include "base.h"
#include "handle.h"
#include "log.h"

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

static int make_tables(struct view *view)
{
	size_t world = (size_t)view->group->world_size;
	void **tables = malloc(3 * world * sizeof(*tables));

	if (tables == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	view->buffer = tables;
	view->pad = tables + world;
	view->slot = (char **)(tables + 2 * world);
	for (size_t rank = 0; rank < world; rank++) {
		view->buffer[rank] = view->span.address[rank];
		view->pad[rank] = (char *)view->span.address[rank] + view->alloc->pad_offset;
	}
	symm_arena_slots(view->group, view->arena, view->seq, view->slot);
	view->bell.slot = view->slot[view->group->rank];
	return 0;
}

/* What the device gets: the struct with its peers, and behind it the tables of buffers and pads. */
static void fill_image(const struct view *view, struct symm_sync *sync, void **tables)
{
	size_t world = (size_t)view->group->world_size;

	sync->group = view->group->sync;
	sync->own = view->slot[view->group->rank];
	for (uint32_t rank = 0; rank < world; rank++)
		symm_sync_peer_at(sync, rank)->slot = view->slot[rank];
	memcpy(tables, view->buffer, world * sizeof(*tables));
	memcpy(tables + world, view->pad, world * sizeof(*tables));
}

static int make_sync(struct view *view)
{
	struct symm_device *device = view->alloc->block->device;
	size_t world = (size_t)view->group->world_size, structs = symm_sync_bytes((uint32_t)world);
	size_t bytes = structs + 2 * world * sizeof(void *);
	char *image = calloc(1, bytes);
	void *memory;
	int rc;

	if (image == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	fill_image(view, (struct symm_sync *)(void *)image, (void **)(void *)(image + structs));
	rc = device->ops->local_alloc(device, bytes, &memory);
	if (rc != 0)
		goto out;
	rc = device->ops->write(device, memory, image, bytes);
	if (rc != 0) {
		device->ops->local_free(device, memory);
		goto out;
	}
	view->sync = memory;
	view->buffers_dev = (void **)(void *)((char *)memory + structs);
	view->pads_dev = view->buffers_dev + world;
out:
	free(image);
	return rc;
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
	free(view->buffer);
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
	free(view->buffer);
	symm_multicast_free(&view->multicast);
	symm_span_unmap(&view->span);
	symm_arena_unref(view->arena);
	free(view);
}

static void tell(const struct view *view, int rank, uint32_t state)
{
	struct symm_device *device = view->alloc->block->device;
	uint32_t world = (uint32_t)view->group->world_size;
	uint64_t word = symm_sync_word_of((uint32_t)view->group->generation, state);
	uint64_t *at = symm_sync_state_word(view->slot[rank], world, (uint32_t)view->group->rank);

	if (device->ops->write(device, at, &word, sizeof(word)) != 0)
		symm_log(SYMM_LOG_INFO, "group %s: rank %d is not told: %s", view->group->name, rank,
			 symm_last_error());
	device->ops->wake(device, view->slot[rank], world);
}

/* How many pieces of work are under way. A device that has failed does no more, and says so again. */
static int count_work(const struct view *view, uint64_t *n)
{
	struct symm_device *device = view->alloc->block->device;
	uint64_t launched = __atomic_load_n(&view->launched, __ATOMIC_RELAXED), ended = 0;
	int rc = launched > 0 ? SYMM_EDEVICE : 0;

	for (int look = 0; look < 2 && rc == SYMM_EDEVICE; look++)
		rc = device->ops->read(device, &ended, &view->sync->ended, sizeof(ended));
	if (rc == SYMM_EDEVICE) {
		symm_log(SYMM_LOG_WARN, "group %s: %s", view->group->name, symm_last_error());
		ended = launched;
		rc = 0;
	}
	*n = launched - ended;
	return rc;
}

static int await_work(const struct view *view, int64_t deadline)
{
	int64_t wait = 1000;
	uint64_t n;
	int rc;

	while ((rc = count_work(view, &n)) == 0 && n > 0) {
		if (symm_now() >= deadline)
			return symm_error(SYMM_EBUSY, "%llu pieces of work still use this symm_mem",
					  (unsigned long long)n);
		symm_sleep(wait, deadline);
		if (wait < SYMM_NS_PER_MS)
			wait *= 2;
	}
	return rc;
}

int symm_view_close(struct view *view, unsigned own, int64_t deadline)
{
	int rc;

	symm_handle_close(view->handle);
	tell(view, view->group->rank, SYMM_STATE_CLOSED);
	if (!symm_handle_drain(view->handle, own, deadline))
		return symm_error(SYMM_EBUSY, "another thread is still in a call on this symm_mem");
	rc = await_work(view, deadline);
	if (rc != 0)
		return rc;
	symm_stats_read(view);
	/* Peers hear it after what streams still had for them. Who has failed says so to the end: peers that wait
	 * shall hear of the failure, and not of what followed it. */
	for (int rank = 0; rank < view->group->world_size; rank++)
		tell(view, rank, symm_group_is_sound(view->group) ? SYMM_STATE_CLOSED : SYMM_STATE_FAILED);
	return 0;
}
