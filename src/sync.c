/* sync.c: barrier, signals and copies: arguments checked, then run now or enqueued on a stream. */
#include "base.h"
#include "stream.h"
#include "view.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert(SYMM_SYNC_CHANNELS == SYMM_CHANNELS, "the public number of channels is the kernels'");

/* Work on a stream: counted in its view, so that the view is not unmapped under it. */
static void finished(void *arg)
{
	struct view *view = arg;

	symm_group_check(view->group);
	__atomic_fetch_sub(&view->pending, 1, __ATOMIC_RELEASE);
}

/* Who has freed the allocation, in words: this rank, or the first peer that op concerns. */
static int tell_closed(const struct view *view, const struct symm_sync_op *op)
{
	uint32_t world = (uint32_t)view->group->world_size, peer = op->peer;
	char name[128];

	if (symm_sync_state(view->sync, (uint32_t)view->group->rank) == SYMM_STATE_CLOSED)
		return symm_error(SYMM_ESTALE, "this rank has freed the allocation");
	if (op->kind == SYMM_OP_BARRIER)
		for (peer = 0; peer < world - 1 && symm_sync_state(view->sync, peer) != SYMM_STATE_CLOSED; peer++)
			;
	return symm_error(SYMM_ESTALE, "%s has freed the allocation",
			  symm_group_rank_name(view->group, (int)peer, name, sizeof(name)));
}

static int result(const struct view *view, const struct symm_sync_op *op, int code)
{
	int rc;

	if (code == 0 || op->kind == SYMM_OP_COPY)
		return code;
	rc = symm_group_check(view->group);
	return rc != 0 ? rc : tell_closed(view, op);
}

static int enqueue(struct view *view, const struct symm_sync_op *op, void *stream)
{
	struct symm_device *device = view->alloc->block->device;
	struct stream *held;
	void *raw;
	int rc = symm_stream_hold(stream, device, &held, &raw);

	if (rc != 0)
		return rc;
	__atomic_fetch_add(&view->pending, 1, __ATOMIC_RELAXED);
	rc = device->ops->launch(device, raw, op, finished, view);
	if (rc != 0)
		__atomic_fetch_sub(&view->pending, 1, __ATOMIC_RELAXED);
	symm_stream_unhold(held);
	return rc;
}

static int check_op(const struct view *view, int peer, int channel, int64_t timeout_ms, struct symm_sync_op *op)
{
	int64_t ns;
	int rc;

	if (channel < 0 || channel >= SYMM_CHANNELS)
		return symm_error(SYMM_EINVAL, "channel %d: there are channels 0 to %d", channel, SYMM_CHANNELS - 1);
	if (peer < 0 || peer >= view->group->world_size)
		return symm_error(SYMM_EINVAL, "rank %d is not in the group of %d", peer, view->group->world_size);
	rc = symm_context_timeout(view->group->context, timeout_ms, &ns);
	if (rc != 0)
		return rc;
	op->sync = view->sync;
	op->channel = (uint32_t)channel;
	op->peer = (uint32_t)peer;
	op->timeout_ns = (uint64_t)ns;
	return 0;
}

/* Where a call runs: at once, or on a stream, which may be NULL on devices that have a default one. */
struct where {
	bool on_stream;
	void *stream;
};
static const struct where now = { false, NULL };

static int run(struct view *view, const struct symm_sync_op *op, struct where where)
{
	static const char *const names[] = { "barrier", "put_signal", "wait_signal", "copy" };
	struct symm_device *device = view->alloc->block->device;
	int rc;

	if (where.on_stream)
		return enqueue(view, op, where.stream);
	symm_doing_pass(&view->doing, names[op->kind], op->channel);
	rc = device->ops->run(device, op);
	symm_doing_pass(&view->doing, NULL, 0);
	return result(view, op, rc);
}

static int synchronise(struct symm_mem *handle, struct symm_sync_op op, int peer, int channel, int64_t timeout_ms,
		       struct where where, const char *call)
{
	int rc;
	struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return symm_error_prefix(rc, "%s", call);
	rc = check_op(view, peer, channel, timeout_ms, &op);
	if (rc == 0 && where.on_stream)
		rc = symm_group_check(view->group);
	if (rc == 0)
		rc = run(view, &op, where);
	symm_view_put(view);
	return rc == 0 ? 0 : symm_error_prefix(rc, "%s", call);
}

#define ON_STREAM(stream) ((struct where){ true, stream })
#define OP(what) ((struct symm_sync_op){ .kind = what })

int symm_barrier(struct symm_mem *mem, int channel, int64_t timeout_ms)
{
	return synchronise(mem, OP(SYMM_OP_BARRIER), 0, channel, timeout_ms, now, "symm_barrier");
}

int symm_barrier_on_stream(struct symm_mem *mem, int channel, int64_t timeout_ms, void *stream)
{
	return synchronise(mem, OP(SYMM_OP_BARRIER), 0, channel, timeout_ms, ON_STREAM(stream),
			   "symm_barrier_on_stream");
}

int symm_put_signal(struct symm_mem *mem, int dst, int channel, int64_t timeout_ms)
{
	return synchronise(mem, OP(SYMM_OP_PUT_SIGNAL), dst, channel, timeout_ms, now, "symm_put_signal");
}

int symm_put_signal_on_stream(struct symm_mem *mem, int dst, int channel, int64_t timeout_ms, void *stream)
{
	return synchronise(mem, OP(SYMM_OP_PUT_SIGNAL), dst, channel, timeout_ms, ON_STREAM(stream),
			   "symm_put_signal_on_stream");
}

int symm_wait_signal(struct symm_mem *mem, int src, int channel, int64_t timeout_ms)
{
	return synchronise(mem, OP(SYMM_OP_WAIT_SIGNAL), src, channel, timeout_ms, now, "symm_wait_signal");
}

int symm_wait_signal_on_stream(struct symm_mem *mem, int src, int channel, int64_t timeout_ms, void *stream)
{
	return synchronise(mem, OP(SYMM_OP_WAIT_SIGNAL), src, channel, timeout_ms, ON_STREAM(stream),
			   "symm_wait_signal_on_stream");
}

/* ---- copies ---- */

struct range {
	int rank;
	size_t offset, bytes;
};

static int check_range(const struct view *view, const struct range *range, const void *local)
{
	if (range->rank < 0 || range->rank >= view->group->world_size)
		return symm_error(SYMM_EINVAL, "rank %d is not in the group of %d", range->rank,
				  view->group->world_size);
	if (local == NULL && range->bytes > 0)
		return symm_error(SYMM_EINVAL, "the local address is NULL");
	if (range->offset > view->alloc->bytes || range->bytes > view->alloc->bytes - range->offset)
		return symm_error(SYMM_EINVAL, "%zu bytes from offset %zu do not lie within the block of %zu bytes",
				  range->bytes, range->offset, view->alloc->bytes);
	return symm_group_check(view->group);
}

/* A put has a source (and `to` is NULL), a get a destination. */
static int copy(struct symm_mem *handle, struct range range, bool put, void *to, const void *from, struct where where,
		const char *call)
{
	struct symm_sync_op op = { .kind = SYMM_OP_COPY, .dst = to, .src = from, .bytes = range.bytes };
	int rc;
	struct view *view = symm_view_get(handle, &rc);

	if (view == NULL)
		return symm_error_prefix(rc, "%s", call);
	rc = check_range(view, &range, put ? from : to);
	if (rc == 0 && range.bytes > 0) {
		char *block = (char *)view->buffer[range.rank] + range.offset;

		if (put)
			op.dst = block;
		else
			op.src = block;
		rc = run(view, &op, where);
	}
	symm_view_put(view);
	return rc == 0 ? 0 : symm_error_prefix(rc, "%s", call);
}

int symm_put(struct symm_mem *mem, int dst, size_t offset, const void *src, size_t bytes)
{
	return copy(mem, (struct range){ dst, offset, bytes }, true, NULL, src, now, "symm_put");
}

int symm_put_on_stream(struct symm_mem *mem, int dst, size_t offset, const void *src, size_t bytes, void *stream)
{
	return copy(mem, (struct range){ dst, offset, bytes }, true, NULL, src, ON_STREAM(stream),
		    "symm_put_on_stream");
}

int symm_get(struct symm_mem *mem, int src, size_t offset, void *dst, size_t bytes)
{
	return copy(mem, (struct range){ src, offset, bytes }, false, dst, NULL, now, "symm_get");
}

int symm_get_on_stream(struct symm_mem *mem, int src, size_t offset, void *dst, size_t bytes, void *stream)
{
	return copy(mem, (struct range){ src, offset, bytes }, false, dst, NULL, ON_STREAM(stream),
		    "symm_get_on_stream");
}
