/* Virtual memory: physical memory is a memfd, its handle a number; addresses are reserved, mapped, made accessible.
 * What a memfd is stands in a page behind its memory, by which an importer knows that it is one of ours. */
#include "fake.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x65666163656b6166)
#define SOIL ((size_t)4 << 20)

/* What lies behind the memory. */
struct label {
	uint64_t magic, nonce, bytes;
	int32_t device;
	uint32_t types;
};

/* What an fd is in a fabric handle: another process of this machine can open it while its owner has it. */
struct fabric {
	uint64_t magic, nonce;
	int32_t pid, fd;
	uint8_t unused[40];
};
_Static_assert(sizeof(struct fabric) == 64, "a fabric handle has 64 bytes");

struct reservation {
	struct fake_object object;
	char *address;
	size_t bytes;
};

static size_t taken[FAKE_DEVICES];

#define ALIGNED(value) ((value) % FAKE_GRANULE == 0)

static char *pointer(unsigned long long address)
{
	return (char *)(uintptr_t)address;
}

bool fake_memory_take(int device, size_t bytes)
{
	if (bytes > fake_config.memory - taken[device])
		return false;
	taken[device] += bytes;
	return true;
}

void fake_memory_give(int device, size_t bytes)
{
	taken[device] -= bytes;
}

void fake_memory_soil(void *address, size_t bytes)
{
	size_t end = bytes < SOIL ? bytes : SOIL;

	memset(address, 0xa5, end);
	memset((char *)address + bytes - end, 0xa5, end);
}

/* ---- handles ---- */

static int fill_file(int fd, const struct label *label)
{
	size_t bytes = (size_t)label->bytes;
	void *memory;

	if (ftruncate(fd, (off_t)(bytes + FAKE_LABEL)) != 0)
		return -1;
	if (pwrite(fd, label, sizeof(*label), (off_t)bytes) != sizeof(*label))
		return -1;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -1;
	fake_memory_soil(memory, bytes);
	munmap(memory, bytes);
	return 0;
}

int fake_handle_file(size_t bytes, int device, unsigned int types, uint64_t *nonce)
{
	struct label label = { .magic = MAGIC, .bytes = bytes, .device = device, .types = types };
	int fd = memfd_create("fake-cuda", MFD_CLOEXEC);

	if (fd < 0)
		return -1;
	if (getrandom(&label.nonce, sizeof(label.nonce), 0) != sizeof(label.nonce) || fill_file(fd, &label) != 0) {
		close(fd);
		return -1;
	}
	*nonce = label.nonce;
	return fd;
}

struct fake_handle *fake_handle_add(int fd, size_t bytes, int device, unsigned int types, bool own)
{
	static unsigned long long last = 0x1000;
	struct fake_handle *handle = fake_new(sizeof(*handle));

	handle->id = ++last;
	handle->fd = fd;
	handle->bytes = bytes;
	handle->device = device;
	handle->types = types;
	handle->own = own;
	handle->users = 1;
	fake_object_add(&handle->object, FAKE_HANDLE);
	return handle;
}

struct fake_handle *fake_handle_find(unsigned long long id)
{
	for
		FAKE_EACH(FAKE_HANDLE, object)
	if (((struct fake_handle *)object)->id == id && ((struct fake_handle *)object)->users > 0)
		return (struct fake_handle *)object;
	return NULL;
}

void fake_handle_drop(struct fake_handle *handle)
{
	if (handle->users > 0 || handle->mappings > 0 || handle->binds > 0)
		return;
	if (handle->multicast != NULL)
		fake_multicast_close(handle);
	if (handle->own)
		fake_memory_give(handle->device, handle->bytes);
	fake_object_remove(&handle->object);
	close(handle->fd);
	free(handle);
}

static enum symm_cuda_result check_prop(const struct symm_cuda_prop *prop)
{
	bool fabric = (prop->requestedHandleTypes & SYMM_CUDA_MEM_HANDLE_TYPE_FABRIC) != 0;

	if (prop->type != SYMM_CUDA_MEM_ALLOCATION_TYPE_PINNED ||
	    prop->location.type != SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE)
		return SYMM_CUDA_INVALID_VALUE;
	if (fake_device_physical(prop->location.id) < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	if (fabric && !fake_config.fabric_works)
		return fake_config.fabric ? SYMM_CUDA_NOT_PERMITTED : SYMM_CUDA_NOT_SUPPORTED;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemGetAllocationGranularity(size_t *bytes, const struct symm_cuda_prop *prop,
						    enum symm_cuda_granularity option)
{
	FAKE_ENTER(FAKE_INIT);
	(void)option;
	if (check_prop(prop) == SYMM_CUDA_INVALID_VALUE || check_prop(prop) == SYMM_CUDA_INVALID_DEVICE)
		return check_prop(prop);
	*bytes = FAKE_GRANULE;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemCreate(unsigned long long *id, size_t bytes, const struct symm_cuda_prop *prop,
				  unsigned long long flags)
{
	int device = fake_device_physical(prop->location.id), fd;
	enum symm_cuda_result result;
	struct fake_handle *handle;
	uint64_t nonce;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	FAKE_ASSERT(bytes > 0 && ALIGNED(bytes), "%zu bytes are no multiple of the granularity", bytes);
	FAKE_ASSERT(flags == 0, "flags");
	fake_manners.rdma = prop->allocFlags.gpuDirectRDMACapable != 0;
	result = check_prop(prop);
	if (result != SYMM_CUDA_SUCCESS)
		return result;
	if (!fake_memory_take(device, bytes))
		return SYMM_CUDA_OUT_OF_MEMORY;
	fd = fake_handle_file(bytes, device, (unsigned int)prop->requestedHandleTypes, &nonce);
	if (fd < 0) {
		fake_memory_give(device, bytes);
		return SYMM_CUDA_OUT_OF_MEMORY;
	}
	handle = fake_handle_add(fd, bytes, device, (unsigned int)prop->requestedHandleTypes, true);
	handle->nonce = nonce;
	*id = handle->id;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemRelease(unsigned long long id)
{
	struct fake_handle *handle;

	FAKE_ENTER(FAKE_INIT | FAKE_UNSAFE);
	handle = fake_handle_find(id);
	FAKE_ASSERT(handle != NULL, "handle %#llx is none, or was released before", id);
	handle->users--;
	fake_handle_drop(handle);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemRetainAllocationHandle(unsigned long long *id, void *address)
{
	const struct fake_mapping *mapping;

	FAKE_ENTER(FAKE_INIT);
	mapping = fake_mapping_find(address);
	if (mapping == NULL)
		return SYMM_CUDA_INVALID_VALUE;
	mapping->handle->users++;
	*id = mapping->handle->id;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemGetAllocationPropertiesFromHandle(struct symm_cuda_prop *prop, unsigned long long id)
{
	const struct fake_handle *handle;

	FAKE_ENTER(FAKE_INIT);
	handle = fake_handle_find(id);
	if (handle == NULL)
		return SYMM_CUDA_INVALID_VALUE;
	memset(prop, 0, sizeof(*prop));
	prop->type = SYMM_CUDA_MEM_ALLOCATION_TYPE_PINNED;
	prop->requestedHandleTypes = (enum symm_cuda_handle_type)handle->types;
	prop->location.type = SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE;
	prop->location.id = fake_device_ordinal(handle->device);
	return SYMM_CUDA_SUCCESS;
}

/* ---- export and import ---- */

static enum symm_cuda_result export_fd(const struct fake_handle *handle, void *shared)
{
	/* Not close-on-exec: a caller that cares has to see to it. */
	int fd = fcntl(handle->fd, F_DUPFD, 3);

	if (fd < 0)
		return SYMM_CUDA_OPERATING_SYSTEM;
	*(int *)shared = fd;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemExportToShareableHandle(void *shared, unsigned long long id, enum symm_cuda_handle_type type,
						   unsigned long long flags)
{
	const struct fake_handle *handle;
	struct fabric fabric = { .magic = MAGIC, .pid = getpid() };

	FAKE_ENTER(FAKE_INIT | FAKE_UNSAFE);
	handle = fake_handle_find(id);
	if (handle == NULL || flags != 0 || (handle->types & type) == 0)
		return SYMM_CUDA_INVALID_VALUE;
	if (type == SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return export_fd(handle, shared);
	fabric.fd = handle->fd;
	fabric.nonce = handle->nonce;
	memcpy(shared, &fabric, sizeof(fabric));
	return SYMM_CUDA_SUCCESS;
}

/* A new fd of what `shared` stands for, or -1. */
static int open_shared(void *shared, enum symm_cuda_handle_type type, uint64_t *nonce)
{
	struct fabric fabric;
	char path[64];

	*nonce = 0;
	if (type == SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return fcntl((int)(intptr_t)shared, F_DUPFD_CLOEXEC, 3);
	memcpy(&fabric, shared, sizeof(fabric));
	if (fabric.magic != MAGIC)
		return -1;
	*nonce = fabric.nonce;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", fabric.pid, fabric.fd);
	return open(path, O_RDWR | O_CLOEXEC);
}

static bool read_label(int fd, struct label *label)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_size > FAKE_LABEL &&
	       pread(fd, label, sizeof(*label), st.st_size - FAKE_LABEL) == sizeof(*label) && label->magic == MAGIC &&
	       label->bytes == (uint64_t)st.st_size - FAKE_LABEL;
}

enum symm_cuda_result cuMemImportFromShareableHandle(unsigned long long *id, void *shared,
						     enum symm_cuda_handle_type type)
{
	struct fake_handle *handle;
	struct label label;
	uint64_t nonce;
	int fd;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	fd = open_shared(shared, type, &nonce);
	if (fd < 0)
		return SYMM_CUDA_INVALID_VALUE;
	if (!read_label(fd, &label) || (label.types & type) == 0 || (nonce != 0 && nonce != label.nonce)) {
		close(fd);
		return SYMM_CUDA_INVALID_VALUE;
	}
	handle = fake_handle_add(fd, (size_t)label.bytes, label.device, label.types, false);
	handle->nonce = label.nonce;
	if (label.device < 0)
		fake_multicast_open(handle);
	*id = handle->id;
	return SYMM_CUDA_SUCCESS;
}

/* ---- addresses ---- */

static struct reservation *find_reservation(const void *address)
{
	const char *at = address;

	for
		FAKE_EACH(FAKE_RESERVATION, object)
		{
			struct reservation *r = (struct reservation *)object;

			if (at >= r->address && at < r->address + r->bytes)
				return r;
		}
	return NULL;
}

struct fake_mapping *fake_mapping_find(const void *address)
{
	const char *at = address;

	for
		FAKE_EACH(FAKE_MAPPING, object)
		{
			struct fake_mapping *m = (struct fake_mapping *)object;

			if (at >= m->address && at < m->address + m->bytes)
				return m;
		}
	return NULL;
}

bool fake_memory_check(const void *address, size_t bytes, int device, const char *who)
{
	const char *at = address, *end = at + bytes;
	const struct fake_linear *linear = fake_linear_find(address);

	if (linear != NULL) {
		FAKE_ASSERT(end <= linear->address + linear->bytes, "%s: %p + %zu is beyond its allocation", who,
			    address, bytes);
		return true;
	}
	if (find_reservation(address) == NULL)
		return false;
	while (at < end) {
		const struct fake_mapping *m = fake_mapping_find(at);

		FAKE_ASSERT(m != NULL, "%s: nothing is mapped at %p", who, (const void *)at);
		FAKE_ASSERT(m->access >> device & 1, "%s: GPU %d has no access to %p", who, device, (const void *)at);
		at = m->address + m->bytes;
	}
	return true;
}

enum symm_cuda_result cuMemAddressReserve(unsigned long long *address, size_t bytes, size_t alignment,
					  unsigned long long at, unsigned long long flags)
{
	size_t align = alignment > FAKE_GRANULE ? alignment : FAKE_GRANULE, before;
	struct reservation *reservation;
	char *memory;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	FAKE_ASSERT(bytes > 0 && ALIGNED(bytes) && ALIGNED(at), "%zu bytes at %#llx are not granular", bytes, at);
	FAKE_ASSERT((align & (align - 1)) == 0 && flags == 0, "alignment %zu, flags %llu", alignment, flags);
	memory = mmap(NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return SYMM_CUDA_OUT_OF_MEMORY;
	before = align - (uintptr_t)memory % align;
	munmap(memory, before);
	if (align > before)
		munmap(memory + before + bytes, align - before);
	reservation = fake_new(sizeof(*reservation));
	reservation->address = memory + before;
	reservation->bytes = bytes;
	fake_object_add(&reservation->object, FAKE_RESERVATION);
	*address = (uintptr_t)reservation->address;
	return SYMM_CUDA_SUCCESS;
}

/* The first mapping that has a byte in common with the range, or NULL. */
static const struct fake_mapping *find_overlap(const char *address, size_t bytes)
{
	for
		FAKE_EACH(FAKE_MAPPING, object)
		{
			const struct fake_mapping *m = (const struct fake_mapping *)object;

			if (address < m->address + m->bytes && m->address < address + bytes)
				return m;
		}
	return NULL;
}

enum symm_cuda_result cuMemAddressFree(unsigned long long address, size_t bytes)
{
	struct reservation *reservation;

	FAKE_ENTER(FAKE_INIT | FAKE_UNSAFE);
	reservation = find_reservation(pointer(address));
	FAKE_ASSERT(reservation != NULL && reservation->address == pointer(address) && reservation->bytes == bytes,
		    "%#llx + %zu is not what was reserved", address, bytes);
	FAKE_ASSERT(find_overlap(reservation->address, bytes) == NULL, "%#llx: memory is still mapped", address);
	munmap(reservation->address, bytes);
	fake_object_remove(&reservation->object);
	free(reservation);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemMap(unsigned long long address, size_t bytes, size_t offset, unsigned long long id,
			       unsigned long long flags)
{
	const struct reservation *reservation;
	struct fake_mapping *mapping;
	struct fake_handle *handle;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	handle = fake_handle_find(id);
	reservation = find_reservation(pointer(address));
	FAKE_ASSERT(handle != NULL, "handle %#llx is none, or was released", id);
	FAKE_ASSERT(offset == 0 && flags == 0, "offset %zu, flags %llu", offset, flags);
	FAKE_ASSERT(bytes > 0 && ALIGNED(address) && ALIGNED(bytes) && bytes <= handle->bytes,
		    "%#llx + %zu is not granular, or more than the memory", address, bytes);
	FAKE_ASSERT(reservation != NULL && pointer(address) + bytes <= reservation->address + reservation->bytes,
		    "%#llx + %zu is not reserved", address, bytes);
	FAKE_ASSERT(find_overlap(pointer(address), bytes) == NULL, "%#llx: there is memory already", address);
	FAKE_ASSERT(fake_multicast_complete(handle), "a multicast object, before all devices have been added");
	if (mmap(pointer(address), bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, handle->fd, 0) == MAP_FAILED)
		return SYMM_CUDA_OUT_OF_MEMORY;
	mapping = fake_new(sizeof(*mapping));
	mapping->address = pointer(address);
	mapping->bytes = bytes;
	mapping->handle = handle;
	handle->mappings++;
	fake_object_add(&mapping->object, FAKE_MAPPING);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemUnmap(unsigned long long address, size_t bytes)
{
	struct fake_mapping *mapping;
	void *memory;

	FAKE_ENTER(FAKE_INIT | FAKE_UNSAFE);
	mapping = fake_mapping_find(pointer(address));
	FAKE_ASSERT(mapping != NULL && mapping->address == pointer(address) && mapping->bytes == bytes,
		    "%#llx + %zu is not what was mapped", address, bytes);
	fake_work_check_unused(mapping->address, bytes, "unmapped");
	memory = mmap(mapping->address, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		      0);
	FAKE_ASSERT(memory == mapping->address, "mmap failed");
	mapping->handle->mappings--;
	fake_handle_drop(mapping->handle);
	fake_object_remove(&mapping->object);
	free(mapping);
	return SYMM_CUDA_SUCCESS;
}

static enum symm_cuda_result check_access(const struct fake_mapping *mapping, const struct symm_cuda_access *access)
{
	int device = fake_device_physical(access->location.id);

	FAKE_ASSERT(access->location.type == SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE, "a location that is no device");
	if (device < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	/* As seen of a driver for CUDA 13.0: another device than the block's own, by a second rank of the process. */
	if (access->flags != SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_NONE && device != mapping->handle->device &&
	    (mapping->access & 1u << device) != 0)
		return SYMM_CUDA_ALREADY_MAPPED;
	if (mapping->handle->multicast != NULL)
		return fake_multicast_has(mapping->handle, device) ? SYMM_CUDA_SUCCESS : SYMM_CUDA_INVALID_DEVICE;
	return device == mapping->handle->device || fake_device_reaches(device, mapping->handle->device)
		       ? SYMM_CUDA_SUCCESS
		       : SYMM_CUDA_INVALID_DEVICE;
}

static void set_access(struct fake_mapping *mapping, const struct symm_cuda_access *access)
{
	unsigned int bit = 1u << fake_device_physical(access->location.id);
	int protection;

	FAKE_ASSERT(access->flags != SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_READ, "read-only access: not known here");
	mapping->access =
		access->flags == SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_NONE ? mapping->access & ~bit : mapping->access | bit;
	protection = mapping->access != 0 ? PROT_READ | PROT_WRITE : PROT_NONE;
	FAKE_ASSERT(mprotect(mapping->address, mapping->bytes, protection) == 0, "mprotect failed");
}

enum symm_cuda_result cuMemSetAccess(unsigned long long address, size_t bytes, const struct symm_cuda_access *access,
				     size_t count)
{
	const char *end = pointer(address) + bytes;
	enum symm_cuda_result result = SYMM_CUDA_SUCCESS;
	struct fake_mapping *mapping;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	for (const char *at = pointer(address); at < end; at += mapping->bytes) {
		mapping = fake_mapping_find(at);
		FAKE_ASSERT(mapping != NULL && mapping->address == at && at + mapping->bytes <= end,
			    "%#llx + %zu are not whole mappings", address, bytes);
		for (size_t i = 0; i < count && result == SYMM_CUDA_SUCCESS; i++)
			result = check_access(mapping, &access[i]);
	}
	if (result != SYMM_CUDA_SUCCESS)
		return result;
	for (const char *at = pointer(address); at < end; at += mapping->bytes) {
		mapping = fake_mapping_find(at);
		for (size_t i = 0; i < count; i++)
			set_access(mapping, &access[i]);
	}
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuMemGetInfo(size_t *left, size_t *total)
{
	FAKE_ENTER(FAKE_CONTEXT);
	*total = fake_config.memory;
	*left = fake_config.memory - taken[fake_context_current()->device];
	return SYMM_CUDA_SUCCESS;
}
