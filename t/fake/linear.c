/* Memory with one address for its life: cuMemAlloc, and pinned memory of the host. */
#include "fake.h"

#include <stdlib.h>
#include <sys/mman.h>

struct fake_linear *fake_linear_find(const void *address)
{
	static const enum fake_kind kinds[] = { FAKE_ALLOCATION, FAKE_HOST };
	const char *at = address;

	for (int i = 0; i < 2; i++) {
		for
			FAKE_EACH(kinds[i], object)
			{
				struct fake_linear *linear = (struct fake_linear *)object;

				if (at >= linear->address && at < linear->address + linear->bytes)
					return linear;
			}
	}
	return NULL;
}

/* Pages of its own, gone when it is freed: who uses it after that faults. */
static struct fake_linear *make_linear(enum fake_kind kind, size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct fake_linear *linear;

	if (memory == MAP_FAILED)
		return NULL;
	linear = fake_new(sizeof(*linear));
	linear->address = memory;
	linear->bytes = bytes;
	fake_memory_soil(memory, bytes);
	fake_object_add(&linear->object, kind);
	return linear;
}

static void free_linear(struct fake_linear *linear, const void *address, enum fake_kind kind)
{
	FAKE_ASSERT(linear != NULL && linear->address == address && linear->object.kind == kind,
		    "%p is not what was allocated, or was freed before", address);
	fake_work_check_unused(linear->address, linear->bytes, "freed");
	fake_object_remove(&linear->object);
	munmap(linear->address, linear->bytes);
	free(linear);
}

enum symm_cuda_result cuMemAlloc(unsigned long long *address, size_t bytes)
{
	struct fake_linear *linear;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	if (bytes == 0)
		return SYMM_CUDA_INVALID_VALUE;
	if (!fake_memory_take(fake_context_current()->device, bytes))
		return SYMM_CUDA_OUT_OF_MEMORY;
	linear = make_linear(FAKE_ALLOCATION, bytes);
	if (linear == NULL) {
		fake_memory_give(fake_context_current()->device, bytes);
		return SYMM_CUDA_OUT_OF_MEMORY;
	}
	*address = (uintptr_t)linear->address;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemFree(unsigned long long address)
{
	struct fake_linear *linear;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	linear = fake_linear_find((void *)(uintptr_t)address);
	if (linear != NULL)
		fake_memory_give(linear->object.owner->device, linear->bytes);
	free_linear(linear, (void *)(uintptr_t)address, FAKE_ALLOCATION);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemHostAlloc(void **address, size_t bytes, unsigned int flags)
{
	struct fake_linear *linear;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	if (bytes == 0 || flags > 7)
		return SYMM_CUDA_INVALID_VALUE;
	linear = make_linear(FAKE_HOST, bytes);
	if (linear == NULL)
		return SYMM_CUDA_OUT_OF_MEMORY;
	*address = linear->address;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemFreeHost(void *address)
{
	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	free_linear(fake_linear_find(address), address, FAKE_HOST);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemHostGetDevicePointer(unsigned long long *address, void *host, unsigned int flags)
{
	const struct fake_linear *linear;

	FAKE_ENTER(FAKE_CONTEXT);
	linear = fake_linear_find(host);
	if (linear == NULL || linear->object.kind != FAKE_HOST || flags != 0)
		return SYMM_CUDA_INVALID_VALUE;
	*address = (uintptr_t)host;
	return SYMM_CUDA_SUCCESS;
}

/* Whose memory is at an address. */
struct place {
	bool host;
	int device;
	struct CUctx_st *context; /* NULL: of none, as of mapped memory */
};

static bool find_place(const void *address, struct place *place)
{
	const struct fake_linear *linear = fake_linear_find(address);
	const struct fake_mapping *mapping = fake_mapping_find(address);

	if (linear == NULL && mapping == NULL)
		return false;
	place->host = linear != NULL && linear->object.kind == FAKE_HOST;
	place->context = linear != NULL ? linear->object.owner : NULL;
	place->device = linear != NULL ? linear->object.owner->device : mapping->handle->device;
	return true;
}

enum symm_cuda_result cuPointerGetAttribute(void *value, enum symm_cuda_pointer_attribute attribute,
					    unsigned long long address)
{
	struct place place;

	FAKE_ENTER(FAKE_CONTEXT);
	if (!find_place((void *)(uintptr_t)address, &place))
		return SYMM_CUDA_INVALID_VALUE;
	switch ((int)attribute) {
	case SYMM_CUDA_POINTER_ATTRIBUTE_CONTEXT:
		*(struct CUctx_st **)value = place.context;
		return SYMM_CUDA_SUCCESS;
	case SYMM_CUDA_POINTER_ATTRIBUTE_MEMORY_TYPE:
		*(unsigned int *)value = place.host ? SYMM_CUDA_MEMORYTYPE_HOST : SYMM_CUDA_MEMORYTYPE_DEVICE;
		return SYMM_CUDA_SUCCESS;
	case SYMM_CUDA_POINTER_ATTRIBUTE_HOST_POINTER:
		if (!place.host)
			return SYMM_CUDA_INVALID_VALUE;
		*(void **)value = (void *)(uintptr_t)address;
		return SYMM_CUDA_SUCCESS;
	case SYMM_CUDA_POINTER_ATTRIBUTE_DEVICE_POINTER:
		*(unsigned long long *)value = address;
		return SYMM_CUDA_SUCCESS;
	case SYMM_CUDA_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		*(int *)value = fake_device_ordinal(place.device);
		return SYMM_CUDA_SUCCESS;
	default:
		return SYMM_CUDA_INVALID_VALUE;
	}
}
