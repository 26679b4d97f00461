/* Multicast objects: memory of their own stands for the memory bound to them. What their owners have to agree on, who
 * has been added, stands in the memfd, for all processes. Only the order of calls is looked at. */
#include "fake.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

/* In the page behind the memory, after the label. */
struct fake_multicast {
	uint32_t wanted; /* devices */
	uint32_t added;  /* a bit each */
};

struct bind {
	struct bind *next;
	struct fake_handle *multicast, *memory;
	int device;
	size_t offset, bytes;
};

static struct bind *binds;

#define SHARED_OFFSET 512

static bool is_complete(const struct fake_multicast *shared)
{
	uint32_t added = __atomic_load_n(&shared->added, __ATOMIC_ACQUIRE);

	return (uint32_t)__builtin_popcount(added) == shared->wanted;
}

bool fake_multicast_complete(const struct fake_handle *handle)
{
	return handle->multicast == NULL || is_complete(handle->multicast);
}

bool fake_multicast_has(const struct fake_handle *handle, int device)
{
	return (__atomic_load_n(&handle->multicast->added, __ATOMIC_ACQUIRE) >> device & 1) != 0;
}

void fake_multicast_open(struct fake_handle *handle)
{
	char *page = mmap(NULL, FAKE_LABEL, PROT_READ | PROT_WRITE, MAP_SHARED, handle->fd, (off_t)handle->bytes);

	FAKE_ASSERT(page != MAP_FAILED, "mmap failed");
	handle->multicast = (struct fake_multicast *)(void *)(page + SHARED_OFFSET);
}

static void unbind(struct bind **link)
{
	struct bind *bind = *link;

	*link = bind->next;
	bind->memory->binds--;
	fake_handle_drop(bind->memory);
	free(bind);
}

/* The real one unbinds by itself what is still bound, at an end that nobody can tell: callers are to have done it. */
void fake_multicast_close(struct fake_handle *handle)
{
	for (struct bind **link = &binds; *link != NULL;) {
		FAKE_ASSERT((*link)->multicast != handle || fake_config.leaks, "GPU %d has memory bound there still",
			    (*link)->device);
		if ((*link)->multicast == handle)
			unbind(link);
		else
			link = &(*link)->next;
	}
	munmap((char *)handle->multicast - SHARED_OFFSET, FAKE_LABEL);
}

static enum symm_cuda_result check_prop(const struct symm_cuda_multicast_prop *prop)
{
	if (!fake_config.multicast)
		return SYMM_CUDA_NOT_SUPPORTED;
	if ((prop->handleTypes & SYMM_CUDA_MEM_HANDLE_TYPE_FABRIC) != 0 && !fake_config.fabric_works)
		return SYMM_CUDA_NOT_PERMITTED;
	return prop->numDevices == 0 || prop->numDevices > FAKE_DEVICES || prop->flags != 0 ? SYMM_CUDA_INVALID_VALUE
											    : SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMulticastGetGranularity(size_t *bytes, const struct symm_cuda_multicast_prop *prop,
						enum symm_cuda_multicast_granularity option)
{
	enum symm_cuda_result result = check_prop(prop);

	FAKE_ENTER(FAKE_INIT);
	(void)option;
	if (result == SYMM_CUDA_SUCCESS)
		*bytes = FAKE_GRANULE;
	return result;
}

enum symm_cuda_result cuMulticastCreate(unsigned long long *id, const struct symm_cuda_multicast_prop *prop)
{
	struct fake_handle *handle;
	enum symm_cuda_result result = check_prop(prop);
	uint64_t nonce;
	int fd;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	if (result != SYMM_CUDA_SUCCESS)
		return result;
	FAKE_ASSERT(prop->size > 0 && prop->size % FAKE_GRANULE == 0, "%zu bytes are not granular", prop->size);
	fd = fake_handle_file(prop->size, -1, (unsigned int)prop->handleTypes, &nonce);
	if (fd < 0)
		return SYMM_CUDA_OUT_OF_MEMORY;
	handle = fake_handle_add(fd, prop->size, -1, (unsigned int)prop->handleTypes, false);
	handle->nonce = nonce;
	fake_multicast_open(handle);
	handle->multicast->wanted = prop->numDevices;
	*id = handle->id;
	return SYMM_CUDA_SUCCESS;
}

static struct fake_handle *find_multicast(unsigned long long id)
{
	struct fake_handle *handle = fake_handle_find(id);

	FAKE_ASSERT(handle != NULL && handle->multicast != NULL, "handle %#llx is no multicast object", id);
	return handle;
}

enum symm_cuda_result cuMulticastAddDevice(unsigned long long id, int device)
{
	uint32_t bit = 1u << fake_device_physical(device), before;
	const struct fake_handle *handle;

	FAKE_ENTER(FAKE_INIT | FAKE_UNSAFE);
	handle = find_multicast(id);
	if (fake_device_physical(device) < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	if (is_complete(handle->multicast))
		return SYMM_CUDA_INVALID_VALUE;
	before = __atomic_fetch_or(&handle->multicast->added, bit, __ATOMIC_ACQ_REL);
	return before & bit ? SYMM_CUDA_INVALID_VALUE : SYMM_CUDA_SUCCESS;
}

/* As the real one does, it waits for the other processes, for ever. */
static void await_devices(struct fake_handle *handle)
{
	static const struct timespec pause = { 0, 200000 };

	handle->users++;
	while (!is_complete(handle->multicast)) {
		pthread_mutex_unlock(&fake_lock);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&fake_lock);
	}
	handle->users--;
}

static enum symm_cuda_result bind_memory(struct fake_handle *multicast, size_t offset, struct fake_handle *memory,
					 size_t bytes)
{
	struct bind *bind;

	FAKE_ASSERT(bytes > 0 && bytes % FAKE_GRANULE == 0 && offset % FAKE_GRANULE == 0 &&
			    offset + bytes <= multicast->bytes && bytes <= memory->bytes,
		    "%zu bytes at %zu: not granular or too many", bytes, offset);
	FAKE_ASSERT(memory->multicast == NULL, "a multicast object bound to another");
	await_devices(multicast);
	if (!fake_multicast_has(multicast, memory->device))
		return SYMM_CUDA_INVALID_DEVICE;
	for (bind = binds; bind != NULL; bind = bind->next)
		FAKE_ASSERT(bind->multicast != multicast || bind->device != memory->device ||
				    offset >= bind->offset + bind->bytes || bind->offset >= offset + bytes,
			    "GPU %d has memory bound there", memory->device);
	bind = fake_new(sizeof(*bind));
	bind->multicast = multicast;
	bind->memory = memory;
	bind->device = memory->device;
	bind->offset = offset;
	bind->bytes = bytes;
	bind->next = binds;
	binds = bind;
	memory->binds++;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMulticastBindMem(unsigned long long id, size_t offset, unsigned long long memory_id,
					 size_t memory_offset, size_t bytes, unsigned long long flags)
{
	struct fake_handle *memory;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	memory = fake_handle_find(memory_id);
	FAKE_ASSERT(memory != NULL, "handle %#llx is none, or was released", memory_id);
	FAKE_ASSERT(memory_offset == 0 && flags == 0, "offset %zu, flags %llu", memory_offset, flags);
	return bind_memory(find_multicast(id), offset, memory, bytes);
}

enum symm_cuda_result cuMulticastBindAddr(unsigned long long id, size_t offset, unsigned long long address,
					  size_t bytes, unsigned long long flags)
{
	const struct fake_mapping *mapping;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	mapping = fake_mapping_find((void *)(uintptr_t)address);
	FAKE_ASSERT(mapping != NULL && (uintptr_t)mapping->address == address && flags == 0,
		    "nothing is mapped at %#llx", address);
	return bind_memory(find_multicast(id), offset, mapping->handle, bytes);
}

enum symm_cuda_result cuMulticastUnbind(unsigned long long id, int device, size_t offset, size_t bytes)
{
	const struct fake_handle *handle;
	struct bind **link = &binds;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	handle = find_multicast(id);
	while (*link != NULL && ((*link)->multicast != handle || (*link)->device != fake_device_physical(device) ||
				 (*link)->offset != offset || (*link)->bytes != bytes))
		link = &(*link)->next;
	FAKE_ASSERT(*link != NULL, "%zu bytes at %zu of GPU %d were not bound", bytes, offset, device);
	unbind(link);
	return SYMM_CUDA_SUCCESS;
}
