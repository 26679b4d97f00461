/* allocator_help.h: what the tests of registered allocators share. */
#ifndef ALLOCATOR_HELP_H
#define ALLOCATOR_HELP_H

#include "any_device.h"
#include "symm/allocator.h"

#define BYTES 5000

/* Of the device that is tested: "host" or "cuda". */
static inline const char *device_type(void)
{
	return on_host() ? "host" : "cuda";
}

/* From the allocator of device type "mine". */
static inline int alloc_mine(struct symm_group *group, size_t bytes, void *ptr)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;

	options.device = "mine:1";
	return symm_alloc(group, bytes, &options, ptr);
}

#endif
