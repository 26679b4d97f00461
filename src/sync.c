/* sync.c: barrier and signals: arguments checked, then run now or enqueued on a stream. */
#include "sync.h"

#include "base.h"
#include "log.h"
#include "stream.h"
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert(sizeof(struct symm_sync) % 64 == 0 && sizeof(struct symm_sync_peer) % 64 == 0,
	       "peers do not share cache lines");
_Static_assert(SYMM_CHANNELS == SYMM_SYNC_OWN_CHANNEL && SYMM_SYNC_CHANNELS == SYMM_CHANNELS + 1,
	       "behind the users' channels is the library's own");

/* Work on a stream has failed, on a device that says so. */
static void failed(void *arg)
{
	struct view *view = arg;

	symm_group_check(view->group);
}

/* The code that an algorithm gave, in words; peer: who has freed the allocation, if somebody has. */
static int explain(const struct view *view, int code, uint32_t peer)
{
	char name[128];
	int rc;

	if (code != SYMM_SYNC_CLOSED)
		return symm_group_failed(view->group, code);
	rc = symm_group_check(view->group);
	if (rc != 0)
		return rc;
	if (peer == (uint32_t)view->group->rank)
		return symm_error(SYMM_ESTALE, "this rank has freed the allocation");
	return symm_error(SYMM_ESTALE, "%s has freed the allocation",
			  symm_group_rank_name(view->group, (int)peer, name, sizeof(name)));
}

/* Counted in the view, so that it is not unmapped under the work. */
static int enqueue(struct view *view, struct symm_sync_op *op, void *stream)
{
	struct symm_device *device = view->alloc->block->device;
	const struct group *group = view->group;
	struct stream *held;
	uint64_t count = 0;
	void *raw;
	int rc = symm_stream_hold(stream, device, &held, &raw);

	if (rc != 0)
		return rc;
	op->crowded = group->roster->n - group->foreign > 1;
	rc = device->ops->launch(device, raw, op, failed, view, &count);
	if (rc == 0) {
		__atomic_fetch_add(&view->launched, count, __ATOMIC_RELAXED);
		symm_count(&group->context->stats.enqueued, 1);
	}
	symm_stream_unhold(held);
	return rc;
}

int symm_sync_prepare(const struct view *view, int peer, int channel, int64_t timeout_ms, struct symm_sync_op *op)
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
	op->channel = (uint32_t)channel;
	op->peer = (uint32_t)peer;
	op->timeout_ns = (uint64_t)ns;
	return 0;
}

/* The device has not done it in time, and may still do it, of which the peers know nothing. */
static int give_up(const struct view *view, const char *what, uint32_t channel)
{
	struct group *group = view->group;
	struct symm_err why;
	char name[128], where[32] = "";

	if (channel != SYMM_DOING_NO_CHANNEL)
		snprintf(where, sizeof(where), " on channel %u", channel);
	symm_error_prefix(SYMM_ETIMEDOUT, "%s: %s%s", symm_group_rank_name(group, group->rank, name, sizeof(name)),
			  what, where);
	symm_err_take(&why, SYMM_ETIMEDOUT);
	symm_group_fail(group, group->rank, &why, true);
	return symm_group_failed(group, SYMM_ETIMEDOUT);
}

int symm_sync_run(struct view *view, struct symm_sync_op *op, struct where where)
{
	static const char *const names[] = { "barrier",  "put_signal",  "wait_signal",    "copy",
					     "memset32", "write_value", "put_with_signal" };
	struct symm_device *device = view->alloc->block->device;
	uint64_t count, waited_ns;
	uint32_t peer = 0;
	int rc, code;

	op->sync = view->sync;
	op->group = view->group->sync;
	op->own = view->bell.slot;
	op->world_size = (uint32_t)view->group->world_size;
	op->crowded = false;
	if (where.on_stream)
		return enqueue(view, op, where.stream);
	symm_doing_pass(&view->doing, names[op->kind], op->channel);
	rc = device->ops->run(device, op, &code, &peer, &count, &waited_ns);
	if (count > 0)
		__atomic_fetch_add(&view->launched, count, __ATOMIC_RELAXED);
	if (waited_ns > 0)
		symm_count(&view->group->context->stats.waited_ns, waited_ns);
	symm_doing_pass(&view->doing, NULL, 0);
	if (rc == SYMM_ETIMEDOUT)
		return give_up(view, names[op->kind], op->channel);
	if (rc != 0)
		return rc;
	return code == 0 ? 0 : explain(view, code, peer);
}

/* An op is filled in where it is used, and no more of it than is: to clear it takes as long as a signal's words. */
static int synchronise(struct symm_mem *handle, int kind, int peer, int channel, int64_t timeout_ms, struct where where,
		       const char *call)
{
	SYMM_TRACE(call);
	struct symm_sync_op op;
	struct view *view;
	int rc;

	if (symm_log_here() && !where.on_stream)
		return symm_log_refuse(call);
	view = symm_view_get(handle, &rc);
	if (view == NULL)
		return symm_error_prefix(rc, "%s", call);
	op.kind = kind;
	rc = symm_sync_prepare(view, peer, channel, timeout_ms, &op);
	/* What runs now finds the poison, but on devices where that comes later than the failure. */
	if (rc == 0 && (where.on_stream || view->group->context->device->ops->watched))
		rc = symm_group_check(view->group);
	if (rc == 0)
		rc = symm_sync_run(view, &op, where);
	symm_count_end(&view->group->context->stats, rc);
	symm_view_put(view);
	return rc == 0 ? 0 : symm_error_prefix(rc, "%s", call);
}

int symm_view_barrier(struct view *view, int64_t deadline)
{
	struct symm_sync_op op = { .kind = SYMM_OP_BARRIER, .channel = SYMM_SYNC_OWN_CHANNEL };
	int64_t left = deadline - symm_now();
	int rc = symm_group_check(view->group);

	op.timeout_ns = left > 0 ? (uint64_t)left : 0;
	return rc == 0 ? symm_sync_run(view, &op, AT_ONCE) : rc;
}

int symm_barrier(struct symm_mem *mem, int channel, int64_t timeout_ms)
{
	return synchronise(mem, SYMM_OP_BARRIER, 0, channel, timeout_ms, AT_ONCE, "symm_barrier");
}

int symm_barrier_on_stream(struct symm_mem *mem, int channel, int64_t timeout_ms, void *stream)
{
	return synchronise(mem, SYMM_OP_BARRIER, 0, channel, timeout_ms, ON_STREAM(stream), "symm_barrier_on_stream");
}

int symm_put_signal(struct symm_mem *mem, int dst, int channel, int64_t timeout_ms)
{
	return synchronise(mem, SYMM_OP_PUT_SIGNAL, dst, channel, timeout_ms, AT_ONCE, "symm_put_signal");
}

int symm_put_signal_on_stream(struct symm_mem *mem, int dst, int channel, int64_t timeout_ms, void *stream)
{
	return synchronise(mem, SYMM_OP_PUT_SIGNAL, dst, channel, timeout_ms, ON_STREAM(stream),
			   "symm_put_signal_on_stream");
}

int symm_wait_signal(struct symm_mem *mem, int src, int channel, int64_t timeout_ms)
{
	return synchronise(mem, SYMM_OP_WAIT_SIGNAL, src, channel, timeout_ms, AT_ONCE, "symm_wait_signal");
}

int symm_wait_signal_on_stream(struct symm_mem *mem, int src, int channel, int64_t timeout_ms, void *stream)
{
	return synchronise(mem, SYMM_OP_WAIT_SIGNAL, src, channel, timeout_ms, ON_STREAM(stream),
			   "symm_wait_signal_on_stream");
}
