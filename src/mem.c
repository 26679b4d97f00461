/* mem.c: what a struct symm_mem tells of itself. */
#include "symm/view.h"

#include "handle.h"
#include "view.h"

int symm_mem_rank(struct symm_mem *handle)
{
	int rc, rank;
	struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return rc;
	rank = view->group->rank;
	symm_view_put(view);
	return rank;
}

int symm_mem_world_size(struct symm_mem *handle)
{
	int rc, world_size;
	struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return rc;
	world_size = view->group->world_size;
	symm_view_put(view);
	return world_size;
}

static void *of_rank(struct symm_mem *handle, int rank, bool pad)
{
	int rc;
	void *address = NULL;
	struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return NULL;
	if (rank >= 0 && rank < view->group->world_size)
		address = pad ? view->pad[rank] : view->buffer[rank];
	else
		symm_error(SYMM_EINVAL, "rank %d is not in the group of %d", rank, view->group->world_size);
	symm_view_put(view);
	return address;
}

void *symm_mem_buffer(struct symm_mem *handle, int rank)
{
	return of_rank(handle, rank, false);
}

void *symm_mem_signal_pad(struct symm_mem *handle, int rank)
{
	return of_rank(handle, rank, true);
}

/* The view's address of a table of addresses. */
static void *const *table(struct symm_mem *handle, size_t offset)
{
	int rc;
	void *const *addresses;
	const struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return NULL;
	addresses = *(void **const *)(const void *)((const char *)view + offset);
	symm_view_put(view);
	return addresses;
}

void *const *symm_mem_buffers(struct symm_mem *handle)
{
	return table(handle, offsetof(struct view, buffer));
}

void *const *symm_mem_signal_pads(struct symm_mem *handle)
{
	return table(handle, offsetof(struct view, pad));
}

void *const *symm_mem_buffers_dev(struct symm_mem *handle)
{
	return table(handle, offsetof(struct view, buffers_dev));
}

void *const *symm_mem_signal_pads_dev(struct symm_mem *handle)
{
	return table(handle, offsetof(struct view, pads_dev));
}

/* Fails without multicast only if it is needed. */
static int multicast(struct symm_mem *handle, bool needed, void **address)
{
	int rc;
	struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return rc;
	*address = view->multicast.address;
	if (*address == NULL && needed)
		rc = symm_error(SYMM_ENOTSUP, "rendezvous %llu of group %s has been made without multicast",
				(unsigned long long)view->seq, view->group->name);
	symm_view_put(view);
	return rc;
}

int symm_mem_has_multicast(struct symm_mem *handle)
{
	void *address;
	int rc = multicast(handle, false, &address);

	return rc != 0 ? rc : address != NULL;
}

void *symm_mem_multicast(struct symm_mem *handle)
{
	void *address;

	return multicast(handle, true, &address) == 0 ? address : NULL;
}

static size_t size(struct symm_mem *handle, bool pad)
{
	int rc;
	size_t bytes;
	struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return 0;
	bytes = pad ? view->alloc->pad_bytes : view->alloc->bytes;
	symm_view_put(view);
	return bytes;
}

size_t symm_mem_buffer_size(struct symm_mem *handle)
{
	return size(handle, false);
}

size_t symm_mem_signal_pad_size(struct symm_mem *handle)
{
	return size(handle, true);
}

/* ---- for kernels ---- */

_Static_assert(SYMM_DEVICE_VIEW_VERSION == SYMM_SYNC_VERSION, "users' kernels have the layout of the words in them");

int symm_mem_device_view(struct symm_mem *handle, struct symm_device_view *out)
{
	int rc;
	struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return symm_error_prefix(rc, "symm_mem_device_view");
	*out = (struct symm_device_view){
		.version = SYMM_DEVICE_VIEW_VERSION,
		.rank = view->group->rank,
		.world_size = view->group->world_size,
		.buffers = view->buffers_dev,
		.signal_pads = view->pads_dev,
		.buffer_size = view->alloc->bytes,
		.signal_pad_size = view->alloc->pad_bytes,
		.multicast = view->multicast.address,
		.sync = view->sync,
		.group = view->group->sync,
		.own = view->bell.slot,
	};
	symm_view_put(view);
	return 0;
}

static uint64_t address(const void *pointer)
{
	return (uint64_t)(uintptr_t)pointer;
}

static struct symm_sync_words words_of(const struct view *view, const struct symm_sync_group *group)
{
	struct symm_sync_layout layout = symm_sync_layout_of(group->world_size);
	struct symm_sync_peer *first = symm_sync_peer_at(view->sync, 0);

	return (struct symm_sync_words){
		.version = SYMM_SYNC_WORDS_VERSION,
		.generation = group->generation,
		.epoch0 = group->epoch0,
		.rank = view->group->rank,
		.world_size = view->group->world_size,
		.channels = SYMM_CHANNELS,
		.slots = (void *const *)view->slot,
		.slot_bytes = layout.bytes,
		.channel_stride = layout.row,
		.barrier_offset = layout.barrier,
		.signal_offset = layout.signal,
		.credit_offset = layout.credit,
		.state_offset = layout.state,
		.bell_offset = layout.bell,
		.bell_stride = SYMM_SYNC_BELL_STRIDE,
		.barrier_ticket = address(&view->sync->barrier[0].ticket),
		.barrier_done = address(&view->sync->barrier[0].done),
		.barrier_stride = sizeof(view->sync->barrier[0]),
		.put_ticket = address(&first->channel[0].put),
		.wait_ticket = address(&first->channel[0].wait),
		.ticket_stride = sizeof(first->channel[0]),
		.peer_stride = sizeof(*first),
		.poison = address(&view->group->sync->poison),
	};
}

int symm_mem_sync_words(struct symm_mem *handle, struct symm_sync_words *words)
{
	struct symm_sync_group group;
	struct symm_device *device;
	int rc;
	struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return symm_error_prefix(rc, "symm_mem_sync_words");
	device = view->alloc->block->device;
	rc = device->ops->read(device, &group, view->group->sync, sizeof(group));
	if (rc == 0)
		*words = words_of(view, &group);
	symm_view_put(view);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_mem_sync_words");
}
