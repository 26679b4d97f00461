/* copy.c: what moves data between blocks: ranges checked, then run now or enqueued on a stream. */
#include "sync.h"

#include "log.h"
#include "trace.h"

#include <inttypes.h>

/* One end of a move: a place in a rank's block, or an address of the caller's. */
struct end {
	bool local;
	int rank;
	size_t offset;
	const void *address;
};
#define BLOCK(rank, offset) ((struct end){ false, rank, offset, NULL })
#define LOCAL(address) ((struct end){ true, 0, 0, address })

static int find(const struct view *view, const struct end *end, size_t bytes, void **at)
{
	size_t size = view->alloc->bytes;

	if (end->local && end->address == NULL && bytes > 0)
		return symm_error(SYMM_EINVAL, "the local address is NULL");
	if (!end->local && (end->rank < 0 || end->rank >= view->group->world_size))
		return symm_error(SYMM_EINVAL, "rank %d is not in the group of %d", end->rank, view->group->world_size);
	if (!end->local && (end->offset > size || bytes > size - end->offset))
		return symm_error(SYMM_EINVAL, "%zu bytes from offset %zu do not lie within the block of %zu bytes",
				  bytes, end->offset, size);
	*at = end->local ? (void *)(uintptr_t)end->address : (char *)view->buffer[end->rank] + end->offset;
	return 0;
}

static int check_apart(const struct end *dst, const struct end *src, size_t bytes)
{
	size_t distance = dst->offset > src->offset ? dst->offset - src->offset : src->offset - dst->offset;

	if (dst->local || src->local || dst->rank != src->rank || distance >= bytes)
		return 0;
	return symm_error(SYMM_EINVAL, "%zu bytes from offset %zu and from offset %zu of rank %d's block overlap",
			  bytes, src->offset, dst->offset, dst->rank);
}

/* What a call asks for. */
struct request {
	const char *call;
	int kind;
	struct where where;
	struct end dst, src; /* src: of copies */
	size_t bytes;
	uint64_t value; /* of fills and values */
	int channel;    /* of a signal */
	int64_t timeout_ms;
};

/* What can be told without the memory. */
static int check(const struct request *r)
{
	size_t unit = r->kind == SYMM_OP_FILL ? sizeof(uint32_t) : r->kind == SYMM_OP_WRITE_VALUE ? r->bytes : 1;

	if (r->kind == SYMM_OP_WRITE_VALUE && r->bytes != 4 && r->bytes != 8)
		return symm_error(SYMM_EINVAL, "a value of %d bytes: 4 or 8", (int)r->bytes);
	if (r->kind == SYMM_OP_WRITE_VALUE && r->bytes == 4 && r->value > UINT32_MAX)
		return symm_error(SYMM_EINVAL, "value %" PRIu64 " does not fit into 4 bytes", r->value);
	if (r->dst.offset % unit != 0)
		return symm_error(SYMM_EINVAL, "offset %zu is not a multiple of %zu", r->dst.offset, unit);
	return 0;
}

static int find_ends(const struct view *view, const struct request *r, struct symm_sync_op *op)
{
	void *src = NULL;
	int rc = find(view, &r->dst, r->bytes, &op->dst);

	if (rc == 0 && (r->kind == SYMM_OP_COPY || r->kind == SYMM_OP_PUT_WITH_SIGNAL)) {
		rc = find(view, &r->src, r->bytes, &src);
		if (rc == 0)
			rc = check_apart(&r->dst, &r->src, r->bytes);
	}
	op->src = src;
	return rc;
}

/* An op is filled in as far as its kind needs: to clear it takes as long as to copy a word. */
static int run(struct view *view, const struct request *r)
{
	struct symm_sync_op op;
	int rc = 0;

	op.kind = r->kind;
	op.bytes = r->bytes;
	op.value = r->value;
	op.channel = SYMM_DOING_NO_CHANNEL;
	op.peer = 0;
	op.timeout_ns = 0;
	if (r->kind == SYMM_OP_PUT_WITH_SIGNAL)
		rc = symm_sync_prepare(view, r->dst.rank, r->channel, r->timeout_ms, &op);
	if (rc == 0)
		rc = find_ends(view, r, &op);
	if (rc == 0)
		rc = symm_group_check(view->group);
	if (rc != 0)
		return rc;
	if (op.bytes == 0 && r->kind != SYMM_OP_PUT_WITH_SIGNAL)
		return 0;
	if (op.bytes == 0)
		op.kind = SYMM_OP_PUT_SIGNAL;
	return symm_sync_run(view, &op, r->where);
}

static int move(struct symm_mem *handle, const struct request *r)
{
	SYMM_TRACE(r->call);
	struct view *view;
	int rc;

	if (symm_log_here() && !r->where.on_stream)
		return symm_log_refuse(r->call);
	view = symm_view_get(handle, &rc);
	if (view != NULL) {
		rc = check(r);
		if (rc == 0)
			rc = run(view, r);
		symm_count_end(&view->group->context->stats, rc);
		symm_view_put(view);
	}
	return rc == 0 ? 0 : symm_error_prefix(rc, "%s", r->call);
}

/* ---- copies ---- */

static int copy(struct symm_mem *mem, struct end dst, struct end src, size_t bytes, struct where where,
		const char *call)
{
	return move(mem, &(struct request){ call, SYMM_OP_COPY, where, dst, src, bytes, 0, 0, 0 });
}

int symm_put(struct symm_mem *mem, int dst, size_t offset, const void *src, size_t bytes)
{
	return copy(mem, BLOCK(dst, offset), LOCAL(src), bytes, AT_ONCE, "symm_put");
}

int symm_put_on_stream(struct symm_mem *mem, int dst, size_t offset, const void *src, size_t bytes, void *stream)
{
	return copy(mem, BLOCK(dst, offset), LOCAL(src), bytes, ON_STREAM(stream), "symm_put_on_stream");
}

int symm_get(struct symm_mem *mem, int src, size_t offset, void *dst, size_t bytes)
{
	return copy(mem, LOCAL(dst), BLOCK(src, offset), bytes, AT_ONCE, "symm_get");
}

int symm_get_on_stream(struct symm_mem *mem, int src, size_t offset, void *dst, size_t bytes, void *stream)
{
	return copy(mem, LOCAL(dst), BLOCK(src, offset), bytes, ON_STREAM(stream), "symm_get_on_stream");
}

int symm_copy(struct symm_mem *mem, int dst, size_t dst_offset, int src, size_t src_offset, size_t bytes)
{
	return copy(mem, BLOCK(dst, dst_offset), BLOCK(src, src_offset), bytes, AT_ONCE, "symm_copy");
}

int symm_copy_on_stream(struct symm_mem *mem, int dst, size_t dst_offset, int src, size_t src_offset, size_t bytes,
			void *stream)
{
	return copy(mem, BLOCK(dst, dst_offset), BLOCK(src, src_offset), bytes, ON_STREAM(stream),
		    "symm_copy_on_stream");
}

static int put_with_signal(struct symm_mem *mem, struct end dst, struct end src, size_t bytes, int channel,
			   int64_t timeout_ms, struct where where, const char *call)
{
	return move(mem,
		    &(struct request){ call, SYMM_OP_PUT_WITH_SIGNAL, where, dst, src, bytes, 0, channel, timeout_ms });
}

int symm_put_with_signal(struct symm_mem *mem, int dst, size_t offset, const void *src, size_t bytes, int channel,
			 int64_t timeout_ms)
{
	return put_with_signal(mem, BLOCK(dst, offset), LOCAL(src), bytes, channel, timeout_ms, AT_ONCE,
			       "symm_put_with_signal");
}

int symm_put_with_signal_on_stream(struct symm_mem *mem, int dst, size_t offset, const void *src, size_t bytes,
				   int channel, int64_t timeout_ms, void *stream)
{
	return put_with_signal(mem, BLOCK(dst, offset), LOCAL(src), bytes, channel, timeout_ms, ON_STREAM(stream),
			       "symm_put_with_signal_on_stream");
}

/* ---- fills and values ---- */

/* More words than there are bytes are beyond any block. */
static int memset32(struct symm_mem *mem, struct end dst, uint32_t value, size_t count, struct where where,
		    const char *call)
{
	size_t bytes = count <= SIZE_MAX / sizeof(value) ? count * sizeof(value) : SIZE_MAX;

	return move(mem, &(struct request){ call, SYMM_OP_FILL, where, dst, LOCAL(NULL), bytes, value, 0, 0 });
}

int symm_memset32(struct symm_mem *mem, int dst, size_t offset, uint32_t value, size_t count)
{
	return memset32(mem, BLOCK(dst, offset), value, count, AT_ONCE, "symm_memset32");
}

int symm_memset32_on_stream(struct symm_mem *mem, int dst, size_t offset, uint32_t value, size_t count, void *stream)
{
	return memset32(mem, BLOCK(dst, offset), value, count, ON_STREAM(stream), "symm_memset32_on_stream");
}

static int write_value(struct symm_mem *mem, struct end dst, uint64_t value, int bytes, struct where where,
		       const char *call)
{
	return move(mem, &(struct request){ call, SYMM_OP_WRITE_VALUE, where, dst, LOCAL(NULL), (size_t)bytes, value, 0,
					    0 });
}

int symm_write_value(struct symm_mem *mem, int dst, size_t offset, uint64_t value, int bytes)
{
	return write_value(mem, BLOCK(dst, offset), value, bytes, AT_ONCE, "symm_write_value");
}

int symm_write_value_on_stream(struct symm_mem *mem, int dst, size_t offset, uint64_t value, int bytes, void *stream)
{
	return write_value(mem, BLOCK(dst, offset), value, bytes, ON_STREAM(stream), "symm_write_value_on_stream");
}
