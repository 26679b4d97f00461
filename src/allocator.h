/* allocator.h: the allocators that users have registered, and calls of their functions. */
#ifndef SYMM_ALLOCATOR_INSIDE_H
#define SYMM_ALLOCATOR_INSIDE_H

#include "error.h"
#include "symm/allocator.h"

#define SYMM_DEVICE_TYPE 32 /* bytes of a device type's name, with its end */

struct allocator {
	char type[SYMM_DEVICE_TYPE];
	struct symm_allocator table; /* does not change while anybody uses it */
	size_t uses;                 /* its allocations, and calls by device that are under way; atomic */
	struct allocator *next;
};

/* How many are registered; without any the built-in ones are asked directly. Atomic. */
extern int symm_allocator_registered;
static inline bool symm_allocator_any(void)
{
	return __atomic_load_n(&symm_allocator_registered, __ATOMIC_ACQUIRE) > 0;
}

/* The one registered for the type of a device ("mine", "cuda:1"), with one use more; NULL: there is none. */
struct allocator *symm_allocator_hold(const char *device);
/* One use less. */
void symm_allocator_put(struct allocator *allocator);

/* A call of an allocator's function, on its caller's stack. */
struct call {
	const struct allocator *by;
	const char *function; /* of struct symm_allocator */
	unsigned errors;
	struct call *outer; /* this thread's calls that led to this one */
};
/* SYMM_EDEADLK: this thread comes from a function of the same allocator. */
int symm_call_check(const struct allocator *by, const char *function);
/* Checks; on failure there is no call to end. */
int symm_call_begin(struct call *call, const struct allocator *by, const char *function);
/* What the function has returned, 0 .. most for success, becomes what symm returns, with its detail. */
int symm_call_end(struct call *call, int rc, int most);

#endif
