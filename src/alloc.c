#include "alloc.h"

#include "base.h"
#include "builtin.h"
#include "fork.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAD_BYTES 2048 /* by default */
#define PAD_ALIGN 256
#define MOST_BYTES ((size_t)1 << 47)

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static void *tree; /* of struct alloc, by address: two compare equal if they overlap */
static struct alloc *allocs;

void symm_memory_read(void)
{
	pthread_rwlock_rdlock(&lock);
}

void symm_memory_write(void)
{
	pthread_rwlock_wrlock(&lock);
}

void symm_memory_unlock(void)
{
	pthread_rwlock_unlock(&lock);
}

static int compare(const void *a, const void *b)
{
	const struct alloc *x = a, *y = b;

	if ((uintptr_t)x->ptr + x->bytes <= (uintptr_t)y->ptr)
		return -1;
	return (uintptr_t)x->ptr >= (uintptr_t)y->ptr + y->bytes;
}

struct alloc *symm_alloc_around(const void *ptr)
{
	const struct alloc key = { .ptr = (char *)(uintptr_t)ptr, .bytes = 1 };
	void *node = tfind(&key, &tree, compare);

	return node != NULL ? *(struct alloc **)node : NULL;
}

static bool is_users(const struct alloc *alloc)
{
	return alloc->active && !alloc->lent;
}

struct alloc *symm_alloc_overlapping(const void *ptr, size_t bytes)
{
	const struct alloc key = { .ptr = (char *)(uintptr_t)ptr, .bytes = bytes };
	void *node = tfind(&key, &tree, compare);
	struct alloc *alloc = node != NULL ? *(struct alloc **)node : NULL;

	return alloc != NULL && is_users(alloc) ? alloc : NULL;
}

size_t symm_alloc_count(const char *type)
{
	size_t n = 0;

	for (const struct alloc *alloc = allocs; alloc != NULL; alloc = alloc->next)
		n += is_users(alloc) && strcmp(alloc->block->device->ops->name, type) == 0;
	return n;
}

struct alloc *symm_alloc_find(const void *ptr, int *rc)
{
	struct alloc *alloc = symm_alloc_around(ptr);

	if (alloc != NULL && alloc->active && !alloc->closing)
		return alloc;
	if (alloc == NULL)
		*rc = symm_error(SYMM_ENOENT, "%p is not inside an allocation of symm_alloc", ptr);
	else if (alloc->closing)
		*rc = symm_error(SYMM_ESTALE, "the allocation around %p is being freed", ptr);
	else
		*rc = symm_error(SYMM_ENOENT, "the allocation around %p has been freed", ptr);
	return NULL;
}

struct view *symm_view_of(const struct alloc *alloc, const struct group *group)
{
	struct view *view = alloc->views;

	if (group == NULL)
		group = alloc->group;
	while (view != NULL && view->group != group)
		view = view->next;
	return view;
}

struct alloc *symm_alloc_first(void)
{
	return allocs;
}

struct alloc *symm_alloc_of_group(const struct group *group)
{
	struct alloc *alloc = allocs;

	while (alloc != NULL && alloc->group != group && symm_view_of(alloc, group) == NULL)
		alloc = alloc->next;
	return alloc;
}

size_t symm_alloc_tensors(const struct context *context, const struct group *group)
{
	size_t n = 0;

	for (const struct alloc *alloc = allocs; alloc != NULL; alloc = alloc->next) {
		bool whole = group == NULL || alloc->group == group;

		if (alloc->group->context != context)
			continue;
		n += whole && alloc->tensor;
		for (const struct view *view = alloc->views; view != NULL; view = view->next)
			n += whole || view->group == group ? (size_t)view->tensors : 0;
	}
	return n;
}

void symm_alloc_remove(struct alloc *alloc)
{
	struct alloc **at = &allocs;

	while (*at != alloc)
		at = &(*at)->next;
	*at = alloc->next;
	tdelete(alloc, &tree, compare);
}

void symm_alloc_destroy(struct alloc *alloc)
{
	symm_block_unref(alloc->block);
	free(alloc);
}

/* ---- symm_alloc ---- */

static struct alloc *find_persistent(const struct context *context, uint64_t id)
{
	struct alloc *alloc = allocs;

	while (alloc != NULL && !(alloc->persistent && alloc->id == id && alloc->group->context == context))
		alloc = alloc->next;
	return alloc;
}

static size_t pad_bytes(const struct symm_alloc_options *options)
{
	return options->signal_pad_bytes != 0 ? options->signal_pad_bytes : PAD_BYTES;
}

/* With the lock held for writing. The same id: the same address, or an error that tells what differs. */
static int reuse(struct alloc *alloc, const struct group *group, size_t bytes, size_t pad, void **ptr)
{
	unsigned long long id = alloc->id;

	if (alloc->active || alloc->closing)
		return symm_error(SYMM_EBUSY, "the allocation with alloc_id %llu is still active at %p: free it first",
				  id, (void *)alloc->ptr);
	if (alloc->bytes != bytes)
		return symm_error(SYMM_EMISMATCH, "alloc_id %llu stands for %zu bytes, and %zu are asked for", id,
				  alloc->bytes, bytes);
	if (alloc->pad_bytes != pad)
		return symm_error(SYMM_EMISMATCH,
				  "alloc_id %llu stands for a signal pad of %zu bytes, and one of %zu is asked for", id,
				  alloc->pad_bytes, pad);
	if (alloc->group != group)
		return symm_error(SYMM_EMISMATCH, "alloc_id %llu belongs to group %s, and group %s asks for it", id,
				  alloc->group->name, group->name);
	alloc->active = true;
	alloc->lent = false;
	symm_count(&group->context->stats.persistent_reuses, 1);
	*ptr = alloc->ptr;
	return 0;
}

static int make(struct group *group, size_t bytes, const struct symm_alloc_options *options, size_t tail,
		struct alloc **out)
{
	struct symm_device *device = group->context->device;
	struct alloc *alloc = calloc(1, sizeof(*alloc));
	size_t total;
	int rc;

	if (alloc == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	alloc->group = group;
	alloc->bytes = bytes;
	alloc->pad_offset = symm_round_up(bytes, PAD_ALIGN);
	alloc->pad_bytes = pad_bytes(options);
	alloc->active = true;
	alloc->persistent = options->persistent != 0;
	alloc->id = options->alloc_id;
	alloc->tail_offset = symm_round_up(alloc->pad_offset + alloc->pad_bytes, PAD_ALIGN);
	total = symm_round_up(alloc->tail_offset + tail, device->ops->granularity(device));
	rc = symm_block_create(device, total, group->foreign, &alloc->block);
	if (rc != 0) {
		free(alloc);
		return rc;
	}
	alloc->ptr = alloc->block->base;
	/* Who allocates goes on to a rendezvous. */
	symm_group_hurry(group, SYMM_LOOP_HURRY);
	*out = alloc;
	return 0;
}

static int enter(struct alloc *alloc)
{
	if (tsearch(alloc, &tree, compare) == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	alloc->next = allocs;
	allocs = alloc;
	return 0;
}

/* 1: the answer is there, from the cache. */
static int from_cache(struct group *group, size_t bytes, const struct symm_alloc_options *options, void **ptr, int *rc)
{
	struct alloc *cached = options->persistent ? find_persistent(group->context, options->alloc_id) : NULL;

	if (cached != NULL)
		*rc = reuse(cached, group, bytes, pad_bytes(options), ptr);
	return cached != NULL;
}

static int alloc_in(struct group *group, size_t bytes, const struct symm_alloc_options *options, void **ptr)
{
	struct alloc *alloc = NULL;
	int rc, answered;

	symm_memory_write();
	answered = from_cache(group, bytes, options, ptr, &rc);
	symm_memory_unlock();
	if (answered)
		return rc;
	rc = make(group, bytes, options, 0, &alloc);
	if (rc != 0)
		return rc;
	symm_memory_write();
	answered = from_cache(group, bytes, options, ptr, &rc);
	if (!answered)
		rc = enter(alloc);
	if (!answered && rc == 0)
		*ptr = alloc->ptr;
	symm_memory_unlock();
	if (answered || rc != 0)
		symm_alloc_destroy(alloc);
	return rc;
}

int symm_alloc_check(size_t bytes, const struct symm_alloc_options *options)
{
	if (options->size != sizeof(*options))
		return symm_error(SYMM_EINVAL, "options.size is %zu, not %zu: start from SYMM_ALLOC_OPTIONS_INIT",
				  options->size, sizeof(*options));
	if (bytes == 0)
		return symm_error(SYMM_EINVAL, "0 bytes were asked for");
	if (bytes > MOST_BYTES)
		return symm_error(SYMM_EINVAL, "%zu bytes are more than an address space", bytes);
	if (options->signal_pad_bytes % 8 != 0)
		return symm_error(SYMM_EINVAL, "options.signal_pad_bytes is %zu, not a multiple of 8",
				  options->signal_pad_bytes);
	if (options->signal_pad_bytes > MOST_BYTES - bytes)
		return symm_error(SYMM_EINVAL, "a signal pad of %zu bytes beside %zu is more than an address space",
				  options->signal_pad_bytes, bytes);
	return 0;
}

static int check(const struct group *group, size_t bytes, const struct symm_alloc_options *options)
{
	int rc = symm_alloc_check(bytes, options);

	if (rc != 0)
		return rc;
	if (options->device != NULL && strcmp(options->device, group->context->device_name) != 0)
		return symm_error(SYMM_EINVAL, "device %s: the context's device is %s", options->device,
				  group->context->device_name);
	return 0;
}

static int check_type(const struct context *context, const char *type)
{
	if (strcmp(type, context->device->ops->name) == 0)
		return 0;
	return symm_error(SYMM_EINVAL, "the allocator of %s: the context's device is %s", type, context->device_name);
}

static void lend(const void *ptr)
{
	struct alloc *alloc;

	symm_memory_write();
	alloc = symm_alloc_around(ptr);
	if (alloc != NULL)
		alloc->lent = true;
	symm_memory_unlock();
}

int symm_builtin_alloc(void *arg, struct symm_group *handle, size_t bytes, const struct symm_alloc_options *options,
		       void **ptr)
{
	static const struct symm_alloc_options defaults = SYMM_ALLOC_OPTIONS_INIT;
	struct group *group;
	int rc;

	if (ptr == NULL)
		return symm_error(SYMM_EINVAL, "ptr is NULL");
	if (options == NULL)
		options = &defaults;
	group = symm_group_get(handle, &rc);
	if (group == NULL)
		return rc;
	rc = check(group, bytes, options);
	if (rc == 0 && arg != NULL)
		rc = check_type(group->context, arg);
	if (rc == 0)
		rc = symm_group_check(group);
	if (rc == 0)
		rc = alloc_in(group, bytes, options, ptr);
	if (rc == 0 && arg != NULL)
		lend(*ptr);
	symm_group_put(group);
	return rc;
}

int symm_alloc_for_pool(struct group *group, size_t bytes, const struct symm_alloc_options *options, size_t tail,
			struct pool *pool, struct alloc **out)
{
	struct alloc *alloc;
	int rc = check(group, bytes, options);

	if (rc == 0)
		rc = symm_group_check(group);
	if (rc == 0)
		rc = make(group, bytes, options, tail, &alloc);
	if (rc != 0)
		return rc;
	alloc->pool = pool;
	symm_memory_write();
	rc = enter(alloc);
	symm_memory_unlock();
	if (rc != 0) {
		symm_alloc_destroy(alloc);
		return rc;
	}
	*out = alloc;
	return 0;
}

int symm_builtin_alloc_size(void *arg, const void *ptr, size_t *bytes)
{
	struct alloc *alloc;
	int rc = symm_fork_check();

	(void)arg;
	if (rc != 0)
		return rc;
	if (bytes == NULL)
		return symm_error(SYMM_EINVAL, "bytes is NULL");
	symm_memory_read();
	alloc = symm_alloc_find(ptr, &rc);
	if (alloc != NULL)
		*bytes = alloc->bytes;
	symm_memory_unlock();
	return rc;
}
