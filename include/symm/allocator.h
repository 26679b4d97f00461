/* allocator.h: allocators of your own, for a device type of your own or in the place of a built-in one.
 *
 * A device type is the first part of a device's name: "cuda" of "cuda:1". The library registers "host" and "cuda". Once
 * an allocator is registered for a type, symm_alloc of a device of that type and symm_has_multicast_support go to it,
 * and so does every later call on a pointer that it returned: symm_free, symm_alloc_size, symm_rendezvous,
 * symm_rendezvous_completed and symm_mem_find. symm_register_allocator(3) has an example.
 */
#ifndef SYMM_ALLOCATOR_H
#define SYMM_ALLOCATOR_H

#include "symm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What every function has to keep to:
 *
 * - It is called on the thread of the caller of symm, with no lock of the library's held, so several calls at a time.
 *   Only `free` is ever alone with its ptr: no other call with that ptr is under way, and none follows its success.
 * - It returns SYMM_OK or a negative SYMM_E... code, writes its outputs on success only, and leaves a sentence about an
 *   error: that of a call of symm that failed, or one of its own by symm_allocator_error. The library puts the device
 *   type before it, and makes up a sentence where there is none. Any other code is taken for SYMM_EPROTO.
 * - It may call any function of symm, and what symm_get_allocator gave before it was registered; but not, by way of
 *   symm's functions, this allocator: that gives SYMM_EDEADLK. Nor may it leave the group or close the context.
 * - ptr is always what its own `alloc` gave, also where the caller's pointed into the middle. group is never NULL and
 *   is not left meanwhile.
 */
struct symm_allocator {
	size_t size; /* sizeof(struct symm_allocator), for later versions */
	void *arg; /* the first argument of each function, yours: kept as it is until another allocator is registered */

	/* bytes of zero-filled memory (1 or more; what was cached under an alloc_id keeps what it held) that no
	 * allocation alive overlaps. options is never NULL, nor is options->device. The memory is the allocator's own;
	 * the library keeps the address. */
	int (*alloc)(void *arg, struct symm_group *group, size_t bytes, const struct symm_alloc_options *options,
		     void **ptr);
	/* Ends the use of it: called for symm_free, and for what is left when its group is left or its context is
	 * closed, while calls on the group already give SYMM_ESTALE. If it fails, the pointer stays and `free` may be
	 * called again. */
	int (*free)(void *arg, void *ptr);
	/* The bytes that were asked for. */
	int (*alloc_size)(void *arg, const void *ptr, size_t *bytes);
	/* Collective the first time, a look-up afterwards, as symm_rendezvous is; timeout_ms as the caller gave it.
	 * *mem is of that group, and a reference for the caller: what the function of an allocator that
	 * symm_get_allocator gave has returned for memory of that one's, or symm_rendezvous. */
	int (*rendezvous)(void *arg, void *ptr, struct symm_group *group, int64_t timeout_ms, struct symm_mem **mem);
	/* 1 if the rendezvous is done, 0 if not, or a negative code. */
	int (*rendezvous_completed)(void *arg, const void *ptr, struct symm_group *group);
	/* 1 if a rendezvous on that device ("cuda:1", never NULL) would try multicast, 0 if not, or a negative code. */
	int (*has_multicast_support)(void *arg, const char *device);
};
#define SYMM_ALLOCATOR_INIT                                                                                            \
	{                                                                                                              \
		sizeof(struct symm_allocator), NULL, NULL, NULL, NULL, NULL, NULL, NULL                                \
	}

/* Registers a copy of the allocator for a device type, [A-Za-z0-9._-]{1,31}, in the place of the one before; NULL: back
 * to the built-in one, or, for a type of your own, to none. All six functions are needed. SYMM_EBUSY while allocations
 * of the one before are not freed. */
SYMM_API int symm_register_allocator(const char *device_type, const struct symm_allocator *allocator);
/* Copies out the allocator of a device type. allocator->size is to be set: SYMM_ALLOCATOR_INIT. What the functions of
 * the built-in ones return is as of symm_alloc and its like. */
SYMM_API int symm_get_allocator(const char *device_type, struct symm_allocator *allocator);
/* For an allocator's functions: leaves text (NULL: what the code means) for symm_last_error() and returns code, so that
 * a failure is `return symm_allocator_error(SYMM_ENOMEM, "...");`. The text is copied. */
SYMM_API int symm_allocator_error(int code, const char *text);

#ifdef __cplusplus
}
#endif
#endif
