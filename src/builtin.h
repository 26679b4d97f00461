/* builtin.h: the built-in allocator: memory of the context's device. What is behind symm_alloc and its like where no
 * other allocator is registered, and what symm_get_allocator gives; so they have the form of the slots of struct
 * symm_allocator (symm/allocator.h). arg: the device type for which the table was given out, a string; NULL in calls of
 * the library's own. */
#ifndef SYMM_BUILTIN_H
#define SYMM_BUILTIN_H

#include "symm/symm.h"

int symm_builtin_alloc(void *arg, struct symm_group *group, size_t bytes, const struct symm_alloc_options *options,
		       void **ptr);
int symm_builtin_free(void *arg, void *ptr);
int symm_builtin_alloc_size(void *arg, const void *ptr, size_t *bytes);
int symm_builtin_rendezvous(void *arg, void *ptr, struct symm_group *group, int64_t timeout_ms, struct symm_mem **mem);
int symm_builtin_rendezvous_completed(void *arg, const void *ptr, struct symm_group *group);
int symm_builtin_has_multicast_support(void *arg, const char *device);
/* No slot: symm_mem_find. */
int symm_builtin_find(const void *ptr, struct symm_group *group, struct symm_mem **mem);

#endif
