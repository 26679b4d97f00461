#include "stats.h"

#include "handle.h"
#include "view.h"

#include <stdlib.h>
#include <string.h>

/* Another thread may have read later tickets. */
static void raise_to(uint64_t *counter, uint64_t value)
{
	uint64_t now = __atomic_load_n(counter, __ATOMIC_RELAXED);

	while (now < value && !__atomic_compare_exchange_n(counter, &now, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static struct symm_tickets tickets_of(struct symm_sync *sync, uint32_t world)
{
	struct symm_tickets sum = { 0, 0, 0 };

	for (int channel = 0; channel < SYMM_CHANNELS; channel++) {
		sum.barriers += sync->barrier[channel].ticket;
		for (uint32_t peer = 0; peer < world; peer++) {
			sum.puts += symm_sync_peer_at(sync, peer)->channel[channel].put;
			sum.waits += symm_sync_peer_at(sync, peer)->channel[channel].wait;
		}
	}
	return sum;
}

void symm_stats_read(struct view *view)
{
	struct symm_device *device = view->alloc->block->device;
	uint32_t world = (uint32_t)view->group->world_size;
	size_t bytes = symm_sync_bytes(world);
	struct symm_sync *copy = malloc(bytes);
	struct symm_tickets sum;

	if (copy != NULL && device->ops->read(device, copy, view->sync, bytes) == 0) {
		sum = tickets_of(copy, world);
		raise_to(&view->tickets.barriers, sum.barriers);
		raise_to(&view->tickets.puts, sum.puts);
		raise_to(&view->tickets.waits, sum.waits);
	}
	free(copy);
}

static void add_tickets(struct symm_stats *stats, const struct symm_tickets *tickets)
{
	symm_count(&stats->barriers, __atomic_load_n(&tickets->barriers, __ATOMIC_RELAXED));
	symm_count(&stats->signals_put, __atomic_load_n(&tickets->puts, __ATOMIC_RELAXED));
	symm_count(&stats->signals_waited, __atomic_load_n(&tickets->waits, __ATOMIC_RELAXED));
}

void symm_stats_keep(struct view *view)
{
	add_tickets(&view->group->context->stats, &view->tickets);
}

/* ---- the call ---- */

/* Views of a context, held, so that their devices can be asked without the memory lock. */
struct held {
	struct view **view;
	size_t n, room;
};

static bool hold(struct held *held, struct view *view)
{
	struct view **more;
	int rc;

	if (held->n == held->room) {
		more = realloc(held->view, (held->room + 16) * sizeof(struct view *));
		if (more == NULL)
			return false;
		held->view = more;
		held->room += 16;
	}
	if (symm_handle_get(view->handle, SYMM_HANDLE_MEM, &rc) != NULL)
		held->view[held->n++] = view;
	return true;
}

/* Has all views read that are not being closed: those have been. */
static int read_all(const struct context *context)
{
	struct held held = { NULL, 0, 0 };
	bool enough = true;

	symm_memory_read();
	for (struct alloc *alloc = symm_alloc_first(); alloc != NULL; alloc = alloc->next)
		for (struct view *view = alloc->views; view != NULL; view = view->next)
			if (view->group->context == context)
				enough = enough && hold(&held, view);
	symm_memory_unlock();
	for (size_t i = 0; i < held.n; i++) {
		symm_stats_read(held.view[i]);
		symm_view_put(held.view[i]);
	}
	free(held.view);
	return enough ? 0 : symm_error(SYMM_ENOMEM, "no memory");
}

static void add_alloc(const struct alloc *alloc, const struct context *context, struct symm_stats *stats)
{
	if (alloc->group->context == context) {
		stats->allocations++;
		stats->allocated_bytes += alloc->block->bytes;
	}
	for (const struct view *view = alloc->views; view != NULL; view = view->next) {
		if (view->group->context != context)
			continue;
		stats->mapped_bytes += view->span.n_foreign * alloc->block->bytes;
		add_tickets(stats, &view->tickets);
	}
}

/* Each field by itself: others count meanwhile. */
static void load(const struct symm_stats *from, struct symm_stats *to)
{
	for (size_t at = sizeof(from->size); at < sizeof(*from); at += sizeof(uint64_t)) {
		const uint64_t *counter = (const void *)((const char *)from + at);
		uint64_t *copy = (void *)((char *)to + at);

		*copy = __atomic_load_n(counter, __ATOMIC_RELAXED);
	}
}

static int collect(const struct context *context, struct symm_stats *out)
{
	struct symm_store_counts store = symm_store_counts(context->store);
	struct symm_stats stats = SYMM_STATS_INIT;
	int rc = read_all(context);

	if (rc != 0)
		return rc;
	symm_memory_read();
	load(&context->stats, &stats);
	for (const struct alloc *alloc = symm_alloc_first(); alloc != NULL; alloc = alloc->next)
		add_alloc(alloc, context, &stats);
	symm_memory_unlock();
	stats.store_commands = store.commands;
	stats.store_retries = store.retries;
	stats.store_reconnects = store.reconnects;
	*out = stats;
	return 0;
}

int symm_context_stats(struct symm_context *handle, struct symm_stats *stats)
{
	struct context *context;
	int rc;

	if (stats == NULL)
		return symm_error(SYMM_EINVAL, "symm_context_stats: stats is NULL");
	if (stats->size != sizeof(*stats))
		return symm_error(SYMM_EINVAL,
				  "symm_context_stats: stats.size is %zu, not %zu: start from SYMM_STATS_INIT",
				  stats->size, sizeof(*stats));
	context = symm_handle_get(handle, SYMM_HANDLE_CONTEXT, &rc);
	if (context == NULL)
		return symm_error_prefix(rc, "symm_context_stats");
	rc = collect(context, stats);
	symm_handle_put(handle);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_context_stats");
}
