#include "allocator.h"

#include "alloc.h"
#include "builtin.h"
#include "fork.h"

#include <stdlib.h>
#include <string.h>

static const struct symm_allocator builtin = { sizeof(builtin),
					       NULL,
					       symm_builtin_alloc,
					       symm_builtin_free,
					       symm_builtin_alloc_size,
					       symm_builtin_rendezvous,
					       symm_builtin_rendezvous_completed,
					       symm_builtin_has_multicast_support };

/* Guarded by the lock of memory: whether one may be replaced depends on what is allocated. */
static struct allocator *allocators;
int symm_allocator_registered;

/* ---- who is registered ---- */

/* The first n characters of type; with the lock held. */
static struct allocator **find(const char *type, size_t n)
{
	struct allocator **at = &allocators;

	while (*at != NULL && !(strncmp((*at)->type, type, n) == 0 && (*at)->type[n] == '\0'))
		at = &(*at)->next;
	return at;
}

struct allocator *symm_allocator_hold(const char *device)
{
	size_t n = strcspn(device, ":");
	struct allocator *allocator;

	if (n >= SYMM_DEVICE_TYPE)
		return NULL;
	symm_memory_read();
	allocator = *find(device, n);
	if (allocator != NULL)
		__atomic_fetch_add(&allocator->uses, 1, __ATOMIC_RELAXED);
	symm_memory_unlock();
	return allocator;
}

void symm_allocator_put(struct allocator *allocator)
{
	__atomic_fetch_sub(&allocator->uses, 1, __ATOMIC_RELEASE);
}

/* With the lock held for writing: nobody uses what the type has now. */
static int check_unused(const char *type, const struct allocator *present)
{
	size_t uses = present != NULL ? __atomic_load_n(&present->uses, __ATOMIC_ACQUIRE) : symm_alloc_count(type);

	if (uses == 0)
		return 0;
	return symm_error(SYMM_EBUSY, "%zu allocation%s of device type %s %s: free %s first", uses,
			  uses == 1 ? "" : "s", type, uses == 1 ? "lives" : "live", uses == 1 ? "it" : "them");
}

/* With the lock held for writing. */
static int forget(const char *type)
{
	struct allocator **at = find(type, strlen(type)), *present = *at;
	int rc;

	if (present == NULL && symm_device_type(type) == NULL)
		return symm_error(SYMM_ENOENT, "no allocator is registered for device type %s", type);
	if (present == NULL)
		return 0;
	rc = check_unused(type, present);
	if (rc != 0)
		return rc;
	*at = present->next;
	free(present);
	__atomic_fetch_sub(&symm_allocator_registered, 1, __ATOMIC_RELEASE);
	return 0;
}

/* With the lock held for writing. On success *spare, the memory for one more, is either used and NULL, or to be freed
 * as before. */
static int enter(const char *type, const struct symm_allocator *table, struct allocator **spare)
{
	struct allocator *present = *find(type, strlen(type));
	int rc = check_unused(type, present);

	if (rc != 0)
		return rc;
	if (present == NULL) {
		present = *spare;
		*spare = NULL;
		strcpy(present->type, type);
		present->next = allocators;
		allocators = present;
		__atomic_fetch_add(&symm_allocator_registered, 1, __ATOMIC_RELEASE);
	}
	present->table = *table;
	return 0;
}

static int check_type(const char *type)
{
	if (type == NULL)
		return symm_error(SYMM_EINVAL, "device_type is NULL");
	if (type[0] == '\0' || strlen(type) >= SYMM_DEVICE_TYPE ||
	    type[strspn(type, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] != '\0')
		return symm_error(SYMM_EINVAL, "device type \"%.64s\": it must be 1 to %d of A-Z a-z 0-9 . _ -", type,
				  SYMM_DEVICE_TYPE - 1);
	return 0;
}

static int check_size(const struct symm_allocator *table)
{
	if (table->size != sizeof(*table))
		return symm_error(SYMM_EINVAL, "allocator.size is %zu, not %zu: start from SYMM_ALLOCATOR_INIT",
				  table->size, sizeof(*table));
	return 0;
}

static int check_table(const struct symm_allocator *table)
{
	const struct {
		bool given;
		const char *name;
	} functions[] = {
		{ table->alloc != NULL, "alloc" },
		{ table->free != NULL, "free" },
		{ table->alloc_size != NULL, "alloc_size" },
		{ table->rendezvous != NULL, "rendezvous" },
		{ table->rendezvous_completed != NULL, "rendezvous_completed" },
		{ table->has_multicast_support != NULL, "has_multicast_support" },
	};

	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (!functions[i].given)
			return symm_error(SYMM_EINVAL, "allocator.%s is NULL: all six functions are needed",
					  functions[i].name);
	return 0;
}

static int put_in_place(const char *type, const struct symm_allocator *table)
{
	struct allocator *spare = calloc(1, sizeof(*spare));
	int rc;

	if (spare == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	symm_memory_write();
	rc = table != NULL ? enter(type, table, &spare) : forget(type);
	symm_memory_unlock();
	free(spare);
	return rc;
}

int symm_register_allocator(const char *device_type, const struct symm_allocator *allocator)
{
	int rc = symm_fork_check();

	if (rc == 0)
		rc = check_type(device_type);
	if (rc == 0 && allocator != NULL)
		rc = check_size(allocator);
	if (rc == 0 && allocator != NULL)
		rc = check_table(allocator);
	if (rc == 0)
		rc = put_in_place(device_type, allocator);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_register_allocator");
}

/* The one in use. */
static int copy_out(const char *type, struct symm_allocator *out)
{
	const char *known = symm_device_type(type);
	const struct allocator *registered;

	symm_memory_read();
	registered = *find(type, strlen(type));
	if (registered != NULL)
		*out = registered->table;
	symm_memory_unlock();
	if (registered != NULL)
		return 0;
	if (known == NULL)
		return symm_error(SYMM_ENOENT, "no allocator is registered for device type %s", type);
	*out = builtin;
	out->arg = (void *)(uintptr_t)known;
	return 0;
}

int symm_get_allocator(const char *device_type, struct symm_allocator *allocator)
{
	int rc = symm_fork_check();

	if (rc == 0)
		rc = check_type(device_type);
	if (rc == 0 && allocator == NULL)
		rc = symm_error(SYMM_EINVAL, "allocator is NULL");
	if (rc == 0)
		rc = check_size(allocator);
	if (rc == 0)
		rc = copy_out(device_type, allocator);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_get_allocator");
}

int symm_allocator_error(int code, const char *text)
{
	return symm_error(code, "%s", text != NULL ? text : symm_strerror(code));
}

/* ---- calls ---- */

static _Thread_local struct call *calls;

int symm_call_check(const struct allocator *by, const char *function)
{
	for (const struct call *outer = calls; outer != NULL; outer = outer->outer)
		if (outer->by == by)
			return symm_error(SYMM_EDEADLK,
					  "allocator %s: its %s comes back to its own %s: it may call what "
					  "symm_get_allocator gave, but not symm on what is its own",
					  by->type, outer->function, function);
	return 0;
}

int symm_call_begin(struct call *call, const struct allocator *by, const char *function)
{
	int rc = symm_call_check(by, function);

	if (rc != 0)
		return rc;
	*call = (struct call){ .by = by, .function = function, .errors = symm_error_count(), .outer = calls };
	calls = call;
	return 0;
}

int symm_call_end(struct call *call, int rc, int most)
{
	const char *type = call->by->type;

	calls = call->outer;
	if (rc >= 0 && rc <= most)
		return rc;
	if (!symm_error_is_code(rc))
		return symm_error(SYMM_EPROTO, "allocator %s: %s returned %d, which is no code of symm", type,
				  call->function, rc);
	if (symm_error_count() == call->errors)
		return symm_error(rc, "allocator %s: %s failed: %s", type, call->function, symm_strerror(rc));
	return symm_error_prefix(rc, "allocator %s", type);
}
