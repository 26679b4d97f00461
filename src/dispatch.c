/* dispatch.c: the calls on memory, each given to the allocator whose business it is: the one registered for the device
 * type, or the one that made the pointer; the built-in one where there is no other. */
#include "builtin.h"
#include "fork.h"
#include "log.h"
#include "piece.h"
#include "trace.h"
#include "view.h"

#include <stdlib.h>

/* ---- by device ---- */

static int alloc_by_device(struct symm_group *handle, size_t bytes, const struct symm_alloc_options *options,
			   void **ptr)
{
	struct symm_alloc_options full = SYMM_ALLOC_OPTIONS_INIT;
	struct allocator *by;
	struct group *group;
	int rc;

	group = symm_group_get(handle, &rc);
	if (group == NULL)
		return rc;
	rc = symm_alloc_check(bytes, options != NULL ? options : &full);
	if (rc == 0)
		rc = symm_group_check(group);
	if (rc != 0)
		goto out;
	if (options != NULL)
		full = *options;
	if (full.device == NULL)
		full.device = group->context->device_name;
	by = symm_allocator_hold(full.device);
	if (by != NULL)
		rc = symm_piece_make(by, group, bytes, &full, ptr);
	else
		rc = symm_builtin_alloc(NULL, handle, bytes, options, ptr);
out:
	symm_group_put(group);
	return rc;
}

int symm_alloc(struct symm_group *group, size_t bytes, const struct symm_alloc_options *options, void **ptr)
{
	SYMM_TRACE("symm_alloc");
	int rc;

	if (symm_allocator_any() && ptr != NULL)
		rc = alloc_by_device(group, bytes, options, ptr);
	else
		rc = symm_builtin_alloc(NULL, group, bytes, options, ptr);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_alloc");
}

static int multicast_by_device(const char *device)
{
	struct allocator *by;
	struct call call;
	int rc = symm_fork_check();

	if (rc != 0)
		return rc;
	by = symm_allocator_hold(device);
	if (by == NULL)
		return symm_builtin_has_multicast_support(NULL, device);
	rc = symm_call_begin(&call, by, "has_multicast_support");
	if (rc == 0)
		rc = symm_call_end(&call, by->table.has_multicast_support(by->table.arg, device), 1);
	symm_allocator_put(by);
	return rc;
}

int symm_has_multicast_support(const char *device)
{
	int rc;

	if (device == NULL)
		device = getenv("SYMM_DEVICE");
	if (device == NULL || *device == '\0')
		device = "host";
	rc = multicast_by_device(device);
	return rc >= 0 ? rc : symm_error_prefix(rc, "symm_has_multicast_support");
}

/* ---- by pointer ---- */

int symm_free(void *ptr)
{
	SYMM_TRACE("symm_free");
	bool found = false;
	int rc = symm_fork_check();

	if (rc != 0)
		return symm_error_prefix(rc, "symm_free");
	if (ptr == NULL)
		return 0;
	if (symm_log_here())
		return symm_log_refuse("symm_free");
	if (symm_allocator_any())
		rc = symm_piece_free(ptr, &found);
	if (!found)
		rc = symm_builtin_free(NULL, ptr);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_free");
}

/* The piece around ptr, held, if a registered allocator has made it; else NULL and, if there is no error, *rc 0. */
static struct piece *piece_at(const void *ptr, int *rc)
{
	*rc = 0;
	if (!symm_allocator_any())
		return NULL;
	*rc = symm_fork_check();
	return *rc == 0 ? symm_piece_hold(ptr, rc) : NULL;
}

static int piece_size(const struct piece *piece, size_t *bytes)
{
	const struct symm_allocator *table = &piece->by->table;
	size_t told = 0;
	struct call call;
	int rc;

	if (bytes == NULL)
		return symm_error(SYMM_EINVAL, "bytes is NULL");
	rc = symm_call_begin(&call, piece->by, "alloc_size");
	if (rc != 0)
		return rc;
	rc = symm_call_end(&call, table->alloc_size(table->arg, piece->ptr, &told), 0);
	if (rc == 0 && told != piece->bytes)
		rc = symm_error(SYMM_EPROTO, "allocator %s: alloc_size told %zu bytes of the %zu asked for at %p",
				piece->by->type, told, piece->bytes, (void *)piece->ptr);
	if (rc == 0)
		*bytes = told;
	return rc;
}

int symm_alloc_size(const void *ptr, size_t *bytes)
{
	int rc;
	struct piece *piece = piece_at(ptr, &rc);

	if (piece != NULL) {
		rc = piece_size(piece, bytes);
		symm_piece_put(piece);
	} else if (rc == 0) {
		rc = symm_builtin_alloc_size(NULL, ptr, bytes);
	}
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_alloc_size");
}

/* The group of a call on the piece, held. */
static struct group *group_of(const struct piece *piece, struct symm_group *handle, int *rc)
{
	return symm_group_get(handle != NULL ? handle : piece->group->handle, rc);
}

static int check_mem(const struct piece *piece, const struct group *group, const struct symm_mem *mem)
{
	int rc;
	struct view *view = symm_view_get(mem, &rc);
	bool fits = view != NULL && view->group == group;

	if (view != NULL)
		symm_view_put(view);
	if (fits)
		return 0;
	return symm_error(SYMM_EPROTO, "allocator %s: rendezvous gave %p, which is no symm_mem of group %s",
			  piece->by->type, (const void *)mem, group->name);
}

static int rendezvous_in(const struct piece *piece, struct group *group, int64_t timeout_ms, struct symm_mem **mem)
{
	const struct symm_allocator *table = &piece->by->table;
	struct symm_mem *met = NULL;
	struct call call;
	int rc = symm_call_begin(&call, piece->by, "rendezvous");

	if (rc != 0)
		return rc;
	rc = table->rendezvous(table->arg, piece->ptr, group->handle, timeout_ms, &met);
	rc = symm_call_end(&call, rc, 0);
	if (rc == 0)
		rc = check_mem(piece, group, met);
	if (rc == 0)
		*mem = met;
	return rc;
}

static int piece_rendezvous(const struct piece *piece, struct symm_group *handle, int64_t timeout_ms,
			    struct symm_mem **mem)
{
	struct group *group;
	int rc;

	if (mem == NULL)
		return symm_error(SYMM_EINVAL, "mem is NULL");
	group = group_of(piece, handle, &rc);
	if (group == NULL)
		return rc;
	rc = rendezvous_in(piece, group, timeout_ms, mem);
	symm_group_put(group);
	return rc;
}

int symm_rendezvous(void *ptr, struct symm_group *group, int64_t timeout_ms, struct symm_mem **mem)
{
	SYMM_TRACE("symm_rendezvous");
	struct piece *piece;
	int rc;

	if (symm_log_here())
		return symm_log_refuse("symm_rendezvous");
	piece = piece_at(ptr, &rc);
	if (piece != NULL) {
		rc = piece_rendezvous(piece, group, timeout_ms, mem);
		symm_piece_put(piece);
	} else if (rc == 0) {
		rc = symm_builtin_rendezvous(NULL, ptr, group, timeout_ms, mem);
	}
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_rendezvous");
}

static int is_completed(const struct piece *piece, const struct group *group)
{
	const struct symm_allocator *table = &piece->by->table;
	struct call call;
	int rc = symm_call_begin(&call, piece->by, "rendezvous_completed");

	if (rc != 0)
		return rc;
	return symm_call_end(&call, table->rendezvous_completed(table->arg, piece->ptr, group->handle), 1);
}

static int piece_completed(const struct piece *piece, struct symm_group *handle)
{
	int rc;
	struct group *group = group_of(piece, handle, &rc);

	if (group == NULL)
		return rc;
	rc = is_completed(piece, group);
	symm_group_put(group);
	return rc;
}

int symm_rendezvous_completed(const void *ptr, struct symm_group *group)
{
	int rc;
	struct piece *piece = piece_at(ptr, &rc);

	if (piece != NULL) {
		rc = piece_completed(piece, group);
		symm_piece_put(piece);
	} else if (rc == 0) {
		rc = symm_builtin_rendezvous_completed(NULL, ptr, group);
	}
	return rc >= 0 ? rc : symm_error_prefix(rc, "symm_rendezvous_completed");
}

static int piece_find(const struct piece *piece, struct symm_group *handle, struct symm_mem **mem)
{
	struct group *group;
	int rc;

	if (mem == NULL)
		return symm_error(SYMM_EINVAL, "mem is NULL");
	group = group_of(piece, handle, &rc);
	if (group == NULL)
		return rc;
	rc = is_completed(piece, group);
	if (rc == 1)
		rc = rendezvous_in(piece, group, 0, mem);
	else if (rc == 0)
		rc = symm_error(SYMM_ENOENT, "no rendezvous of the allocation at %p with group %s has been done",
				(void *)piece->ptr, group->name);
	symm_group_put(group);
	return rc;
}

int symm_mem_find(const void *ptr, struct symm_group *group, struct symm_mem **mem)
{
	int rc;
	struct piece *piece = piece_at(ptr, &rc);

	if (piece != NULL) {
		rc = piece_find(piece, group, mem);
		symm_piece_put(piece);
	} else if (rc == 0) {
		rc = symm_builtin_find(ptr, group, mem);
	}
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_mem_find");
}
