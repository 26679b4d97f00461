#include "piece.h"

#include "alloc.h"
#include "base.h"

#include <search.h>
#include <stdlib.h>

/* Guarded by the lock of memory. */
static void *tree; /* of struct piece, by address: two compare equal if they overlap */
static LIST_HEAD(, piece) pieces = LIST_HEAD_INITIALIZER(pieces); /* the newest first */

static int compare(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	if (x->ptr + x->bytes <= y->ptr)
		return -1;
	return x->ptr >= y->ptr + y->bytes;
}

static struct piece *overlapping(const void *ptr, size_t bytes)
{
	const struct piece key = { .ptr = (char *)(uintptr_t)ptr, .bytes = bytes };
	void *node = tfind(&key, &tree, compare);

	return node != NULL ? *(struct piece **)node : NULL;
}

struct piece *symm_piece_around(const void *ptr)
{
	return overlapping(ptr, 1);
}

static bool goes_with(const struct group *memory, const struct context *context, const struct group *group)
{
	return memory->context == context && (group == NULL || memory == group);
}

/* An allocator may have its memory of another group: what is behind the piece goes with that one. */
static bool is_shown(const struct piece *piece, const struct context *context, const struct group *group)
{
	const struct alloc *behind = symm_alloc_around(piece->ptr);

	return goes_with(piece->group, context, group) || (behind != NULL && goes_with(behind->group, context, group));
}

size_t symm_piece_tensors(const struct context *context, const struct group *group)
{
	const struct piece *piece;
	size_t n = 0;

	LIST_FOREACH(piece, &pieces, entry)
	n += piece->tensor && is_shown(piece, context, group);
	return n;
}

/* ---- to make one ---- */

static int overlap_error(const struct piece *piece, const void *other, size_t bytes)
{
	return symm_error(SYMM_EPROTO,
			  "allocator %s: alloc gave %zu bytes at %p, which overlap the allocation of %zu bytes at %p",
			  piece->by->type, piece->bytes, (void *)piece->ptr, bytes, other);
}

/* With the lock held for writing. *ending: the piece that is there is being freed. */
static int enter(struct piece *piece, bool *ending)
{
	const struct piece *other = overlapping(piece->ptr, piece->bytes);
	const struct alloc *alloc = symm_alloc_overlapping(piece->ptr, piece->bytes);

	*ending = other != NULL && other->ending;
	if (other != NULL)
		return overlap_error(piece, other->ptr, other->bytes);
	if (alloc != NULL)
		return overlap_error(piece, alloc->ptr, alloc->bytes);
	if (tsearch(piece, &tree, compare) == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	LIST_INSERT_HEAD(&pieces, piece, entry);
	return 0;
}

/* An allocator may give an address again before the thread that has freed what was there comes back to us. */
static int enter_after_ending(struct piece *piece)
{
	int64_t deadline;
	bool ending;
	int rc;

	symm_context_deadline(piece->group->context, 0, &deadline);
	for (;;) {
		symm_memory_write();
		rc = enter(piece, &ending);
		symm_memory_unlock();
		if (rc == 0 || !ending || symm_now() >= deadline)
			return rc;
		symm_sleep(SYMM_NS_PER_MS / 100, deadline);
	}
}

static int call_alloc(struct piece *piece, const struct symm_alloc_options *options)
{
	const struct symm_allocator *table = &piece->by->table;
	void *made = NULL;
	struct call call;
	int rc = symm_call_begin(&call, piece->by, "alloc");

	if (rc != 0)
		return rc;
	rc = symm_call_end(&call, table->alloc(table->arg, piece->group->handle, piece->bytes, options, &made), 0);
	if (rc == 0 && made == NULL)
		rc = symm_error(SYMM_EPROTO, "allocator %s: alloc succeeded without a pointer", piece->by->type);
	if (rc == 0 && (uintptr_t)made > UINTPTR_MAX - piece->bytes)
		rc = symm_error(SYMM_EPROTO, "allocator %s: alloc gave %p, behind which there are no %zu bytes",
				piece->by->type, made, piece->bytes);
	piece->ptr = made;
	return rc;
}

/* What cannot be kept; the error is told already. */
static void call_free(const struct piece *piece)
{
	const struct symm_allocator *table = &piece->by->table;
	struct symm_err why;
	struct call call;

	symm_err_take(&why, SYMM_ENOMEM);
	if (symm_call_begin(&call, piece->by, "free") == 0)
		symm_call_end(&call, table->free(table->arg, piece->ptr), 0);
	symm_err_return(&why);
}

int symm_piece_make(struct allocator *by, struct group *group, size_t bytes, const struct symm_alloc_options *options,
		    void **ptr)
{
	struct piece *piece = calloc(1, sizeof(*piece));
	int rc;

	if (piece == NULL) {
		rc = symm_error(SYMM_ENOMEM, "no memory");
		goto fail;
	}
	*piece = (struct piece){ .by = by, .group = group, .bytes = bytes };
	rc = call_alloc(piece, options);
	if (rc != 0)
		goto fail;
	rc = enter_after_ending(piece);
	if (rc == SYMM_ENOMEM)
		call_free(piece);
	if (rc != 0)
		goto fail;
	*ptr = piece->ptr;
	return 0;
fail:
	free(piece);
	symm_allocator_put(by);
	return rc;
}

/* ---- to use one ---- */

struct piece *symm_piece_hold(const void *ptr, int *rc)
{
	struct piece *piece;

	*rc = 0;
	symm_memory_read();
	piece = symm_piece_around(ptr);
	if (piece != NULL && piece->ending) {
		*rc = symm_error(SYMM_ESTALE, "the allocation around %p is being freed", ptr);
		piece = NULL;
	}
	if (piece != NULL)
		__atomic_fetch_add(&piece->calls, 1, __ATOMIC_RELAXED);
	symm_memory_unlock();
	return piece;
}

void symm_piece_put(struct piece *piece)
{
	__atomic_fetch_sub(&piece->calls, 1, __ATOMIC_RELEASE);
}

/* ---- to free one ---- */

static int await_calls(const struct piece *piece, int64_t deadline)
{
	while (__atomic_load_n(&piece->calls, __ATOMIC_ACQUIRE) > 0) {
		if (symm_now() >= deadline)
			return symm_error(SYMM_EBUSY, "another thread is in a call on the allocation at %p",
					  (void *)piece->ptr);
		symm_sleep(SYMM_NS_PER_MS, deadline);
	}
	return 0;
}

/* The piece is marked ending, by this thread. */
static int end(struct piece *piece, int64_t deadline)
{
	struct allocator *by = piece->by;
	struct call call;
	int rc = await_calls(piece, deadline);

	if (rc == 0)
		rc = symm_call_begin(&call, by, "free");
	if (rc == 0)
		rc = symm_call_end(&call, by->table.free(by->table.arg, piece->ptr), 0);
	symm_memory_write();
	piece->ending = false;
	if (rc == 0) {
		tdelete(piece, &tree, compare);
		LIST_REMOVE(piece, entry);
		symm_allocator_put(by);
	}
	symm_memory_unlock();
	if (rc == 0)
		free(piece);
	return rc;
}

/* Marks the piece as this thread's to end; SYMM_EBUSY while it is another's. */
static int take(struct piece *piece)
{
	int rc = symm_call_check(piece->by, "free");

	if (rc != 0)
		return rc;
	if (piece->ending)
		return symm_error(SYMM_EBUSY, "another thread is freeing the allocation at %p", (void *)piece->ptr);
	piece->ending = true;
	return 0;
}

static int take_at(const void *ptr, struct piece **out, int64_t *deadline)
{
	struct piece *piece;
	int rc = 0;

	symm_memory_write();
	piece = symm_piece_around(ptr);
	if (piece != NULL && piece->ptr != ptr)
		rc = symm_error(SYMM_ENOENT, "%p is not the address of an allocation of symm_alloc", ptr);
	else if (piece != NULL && piece->tensor)
		rc = symm_error(SYMM_EINVAL, "the allocation at %p is a tensor's: it goes with that tensor's deleter",
				ptr);
	else if (piece != NULL)
		rc = take(piece);
	if (piece != NULL && *deadline == 0)
		symm_context_deadline(piece->group->context, 0, deadline);
	symm_memory_unlock();
	*out = piece;
	return rc;
}

int symm_piece_free(void *ptr, bool *found)
{
	struct piece *piece;
	int64_t deadline = 0;
	int rc;

	*found = false;
	while ((rc = take_at(ptr, &piece, &deadline)) == SYMM_EBUSY && symm_now() < deadline)
		symm_sleep(SYMM_NS_PER_MS, deadline);
	*found = piece != NULL;
	return piece != NULL && rc == 0 ? end(piece, deadline) : rc;
}

int symm_piece_end_tensor(struct piece *piece)
{
	int64_t deadline;

	symm_memory_write();
	piece->tensor = false;
	piece->ending = true;
	symm_context_deadline(piece->group->context, 0, &deadline);
	symm_memory_unlock();
	return end(piece, deadline);
}

static int take_of(const struct group *group, struct piece **out)
{
	struct piece *piece;
	int rc = 0;

	symm_memory_write();
	LIST_FOREACH(piece, &pieces, entry)
	if (piece->group == group)
		break;
	if (piece != NULL)
		rc = take(piece);
	symm_memory_unlock();
	*out = piece;
	return rc;
}

int symm_piece_free_all(const struct group *group, int64_t deadline)
{
	struct piece *piece;
	int rc;

	for (;;) {
		while ((rc = take_of(group, &piece)) == SYMM_EBUSY && symm_now() < deadline)
			symm_sleep(SYMM_NS_PER_MS, deadline);
		if (rc != 0 || piece == NULL)
			return rc;
		rc = end(piece, deadline);
		if (rc != 0)
			return rc;
	}
}
