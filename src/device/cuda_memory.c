/* The CUDA device's blocks: virtual memory management. symm_phys is the driver's allocation handle. */
#include "device/cuda.h"

#include "base.h"
#include "error.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FIRST_FD 3 /* a block must not become the stdout of a process that closed its own */
#define FD SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
#define FABRIC SYMM_CUDA_MEM_HANDLE_TYPE_FABRIC

/* ---- what the device can do ---- */

/* By trial: the attribute is set where no fabric works, too. */
static bool fabric_works(const struct cuda_device *device)
{
	const struct symm_cuda_api *api = device->api;
	struct symm_cuda_prop prop = device->prop;
	unsigned long long made, taken;
	uint8_t shared[SYMM_FABRIC_BYTES];
	bool works = false;
	int attribute = 0;

	api->cuDeviceGetAttribute(&attribute, SYMM_CUDA_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED, device->ordinal);
	prop.requestedHandleTypes = FD | FABRIC;
	if (!attribute || api->cuMemCreate(&made, device->granularity, &prop, 0) != SYMM_CUDA_SUCCESS)
		return false;
	if (api->cuMemExportToShareableHandle(shared, made, FABRIC, 0) == SYMM_CUDA_SUCCESS &&
	    api->cuMemImportFromShareableHandle(&taken, shared, FABRIC) == SYMM_CUDA_SUCCESS) {
		works = true;
		symm_cuda_warn(api->cuMemRelease(taken), "cuMemRelease");
	}
	symm_cuda_warn(api->cuMemRelease(made), "cuMemRelease");
	return works;
}

int symm_cuda_memory_start(struct cuda_device *device)
{
	const struct symm_cuda_api *api = device->api;
	struct symm_cuda_prop *prop = &device->prop;
	enum symm_cuda_result result;
	int rdma = 0;

	api->cuDeviceGetAttribute(&rdma, SYMM_CUDA_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, device->ordinal);
	prop->type = SYMM_CUDA_MEM_ALLOCATION_TYPE_PINNED;
	prop->location.type = SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE;
	prop->location.id = device->ordinal;
	prop->requestedHandleTypes = FD;
	prop->allocFlags.gpuDirectRDMACapable = rdma != 0;
	result =
		api->cuMemGetAllocationGranularity(&device->granularity, prop, SYMM_CUDA_MEM_ALLOC_GRANULARITY_MINIMUM);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot ask for the granularity of memory on cuda:%d", device->ordinal);
	device->fabric = fabric_works(device);
	if (device->fabric)
		prop->requestedHandleTypes = FD | FABRIC;
	return 0;
}

/* ---- blocks ---- */

/* The trial was of one granule: a driver that refuses this block its fabric handle still makes it without. */
static enum symm_cuda_result create(const struct cuda_device *device, size_t bytes, unsigned long long *handle)
{
	struct symm_cuda_prop prop = device->prop;
	enum symm_cuda_result result = device->api->cuMemCreate(handle, bytes, &prop, 0);

	if (!device->fabric || (result != SYMM_CUDA_NOT_PERMITTED && result != SYMM_CUDA_NOT_SUPPORTED))
		return result;
	prop.requestedHandleTypes = FD;
	return device->api->cuMemCreate(handle, bytes, &prop, 0);
}

int symm_cuda_create(struct symm_device *base, size_t bytes, symm_phys *phys)
{
	struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	unsigned long long handle;
	struct cuda_scope scope;
	int rc;

	if (bytes == 0 || bytes % device->granularity != 0)
		return symm_error(SYMM_EINVAL, "a block of %zu bytes is not a number of pages of %zu bytes", bytes,
				  device->granularity);
	if ((rc = symm_cuda_enter(device, &scope)) != 0)
		return rc;
	result = create(device, bytes, &handle);
	if (result == SYMM_CUDA_SUCCESS)
		*phys = handle;
	else
		rc = symm_cuda_error(result, "no memory for a block of %zu bytes on cuda:%d", bytes, device->ordinal);
	symm_cuda_leave(device, &scope);
	return rc;
}

void symm_cuda_release(struct symm_device *base, symm_phys phys)
{
	struct cuda_device *device = cuda_device(base);
	struct cuda_scope scope;

	if (symm_cuda_enter_to_end(device, &scope, "a block is leaked") != SYMM_CUDA_SUCCESS)
		return;
	symm_cuda_warn(device->api->cuMemRelease(phys), "cuMemRelease");
	symm_cuda_leave(device, &scope);
}

/* The driver's fds are neither close-on-exec nor kept away from stdin, stdout and stderr. */
static int fd_settle(int given, int *fd)
{
	int got = given;

	if (given < FIRST_FD)
		got = fcntl(given, F_DUPFD_CLOEXEC, FIRST_FD);
	else if (fcntl(given, F_SETFD, FD_CLOEXEC) != 0)
		got = -1;
	if (got < 0) {
		int rc = symm_error_sys(SYMM_ESYS, errno,
					"cannot duplicate the fd of a block (raise it with ulimit -n)");

		close(given);
		return rc;
	}
	if (got != given)
		close(given);
	*fd = got;
	return 0;
}

int symm_cuda_export(struct symm_device *base, symm_phys phys, int *fd)
{
	struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	struct cuda_scope scope;
	int given = -1, rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	result = device->api->cuMemExportToShareableHandle(&given, phys, FD, 0);
	if (result == SYMM_CUDA_SUCCESS)
		rc = fd_settle(given, fd);
	else
		rc = symm_cuda_error(result, "cannot export a block as a file descriptor");
	symm_cuda_leave(device, &scope);
	return rc;
}

int symm_cuda_export_fabric(struct symm_device *base, symm_phys phys, uint8_t handle[SYMM_FABRIC_BYTES])
{
	struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	uint8_t shared[SYMM_FABRIC_BYTES];
	struct cuda_scope scope;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	result = device->api->cuMemExportToShareableHandle(shared, phys, FABRIC, 0);
	if (result == SYMM_CUDA_SUCCESS)
		memcpy(handle, shared, sizeof(shared));
	else
		rc = symm_cuda_error(result, "cannot export a block as a fabric handle");
	symm_cuda_leave(device, &scope);
	return rc;
}

/* Which errors of an import say that what came is at fault. */
static int import_error(const struct cuda_device *device, enum symm_cuda_result result, const char *kind)
{
	int rc = symm_cuda_error(result, "cannot import a peer's block by its %s", kind);

	switch (result) {
	case SYMM_CUDA_INVALID_DEVICE:
		return symm_error_prefix(SYMM_EUNREACH, "%s cannot use the memory of the peer's GPU", device->id.uuid);
	case SYMM_CUDA_INVALID_VALUE:
	case SYMM_CUDA_INVALID_HANDLE:
	case SYMM_CUDA_OPERATING_SYSTEM:
	case SYMM_CUDA_NOT_SUPPORTED:
	case SYMM_CUDA_UNKNOWN:
		return SYMM_EPROTO;
	default:
		return rc;
	}
}

static int import(struct cuda_device *device, void *shared, enum symm_cuda_handle_type type, const char *kind,
		  symm_phys *phys)
{
	enum symm_cuda_result result;
	unsigned long long handle;
	struct cuda_scope scope;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	result = device->api->cuMemImportFromShareableHandle(&handle, shared, type);
	if (result == SYMM_CUDA_SUCCESS)
		*phys = handle;
	else
		rc = import_error(device, result, kind);
	symm_cuda_leave(device, &scope);
	return rc;
}

/* The driver tells no size of an imported block; one that is too small cannot be mapped. */
int symm_cuda_import(struct symm_device *base, int fd, size_t bytes, symm_phys *phys)
{
	(void)bytes;
	if (fcntl(fd, F_GETFD) < 0)
		return symm_error_sys(SYMM_EPROTO, errno, "a peer's block is not an open file");
	return import(cuda_device(base), (void *)(uintptr_t)fd, FD, "file descriptor", phys);
}

int symm_cuda_import_fabric(struct symm_device *base, const uint8_t handle[SYMM_FABRIC_BYTES], size_t bytes,
			    symm_phys *phys)
{
	uint8_t shared[SYMM_FABRIC_BYTES];

	(void)bytes;
	memcpy(shared, handle, sizeof(shared));
	return import(cuda_device(base), shared, FABRIC,
		      "fabric handle (are both hosts in one NVLink domain, with one IMEX channel?)", phys);
}

/* ---- addresses ---- */

int symm_cuda_reserve(struct symm_device *base, size_t bytes, void **address)
{
	struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	unsigned long long got;
	struct cuda_scope scope;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	result = device->api->cuMemAddressReserve(&got, bytes, 0, 0, 0);
	if (result == SYMM_CUDA_SUCCESS)
		*address = (void *)(uintptr_t)got;
	else
		rc = symm_cuda_error(result, "cannot reserve %zu bytes of address space", bytes);
	symm_cuda_leave(device, &scope);
	return rc;
}

void symm_cuda_unreserve(struct symm_device *base, void *address, size_t bytes)
{
	struct cuda_device *device = cuda_device(base);
	struct cuda_scope scope;

	if (symm_cuda_enter_to_end(device, &scope, "reserved addresses are leaked") != SYMM_CUDA_SUCCESS)
		return;
	symm_cuda_warn(device->api->cuMemAddressFree(cuda_address(address), bytes), "cuMemAddressFree");
	symm_cuda_leave(device, &scope);
}

static int set_access(const struct cuda_device *device, void *address, size_t bytes)
{
	const struct symm_cuda_access access = { .location = device->prop.location,
						 .flags = SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_READWRITE };
	enum symm_cuda_result result = device->api->cuMemSetAccess(cuda_address(address), bytes, &access, 1);

	if (result == SYMM_CUDA_SUCCESS)
		return 0;
	if (result == SYMM_CUDA_INVALID_DEVICE)
		return symm_error(SYMM_EUNREACH, "no peer path from %s to the GPU that has the memory",
				  device->id.uuid);
	return symm_cuda_error(result, "cannot get access to %zu bytes for cuda:%d", bytes, device->ordinal);
}

/* The slow call of a rendezvous, so there is one for each run of neighbours. */
static int access_runs(const struct cuda_device *device, const struct symm_mapping *mappings, size_t n)
{
	size_t from = 0;
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		char *end = (char *)mappings[i].address + mappings[i].bytes;

		if (i + 1 < n && mappings[i + 1].address == end)
			continue;
		rc = set_access(device, mappings[from].address, (size_t)(end - (char *)mappings[from].address));
		from = i + 1;
	}
	return rc;
}

static void unmap(const struct cuda_device *device, void *address, size_t bytes)
{
	symm_cuda_warn(device->api->cuMemUnmap(cuda_address(address), bytes), "cuMemUnmap");
}

static int map(const struct cuda_device *device, const struct symm_mapping *mappings, size_t n)
{
	int64_t start = symm_now(), mapped;
	enum symm_cuda_result result;
	size_t done;
	int rc = 0;

	for (done = 0; done < n; done++) {
		const struct symm_mapping *at = &mappings[done];

		result = device->api->cuMemMap(cuda_address(at->address), at->bytes, 0, at->phys, 0);
		if (result != SYMM_CUDA_SUCCESS) {
			rc = symm_cuda_error(result, "cannot map a block of %zu bytes on cuda:%d", at->bytes,
					     device->ordinal);
			goto fail;
		}
	}
	mapped = symm_now();
	rc = access_runs(device, mappings, n);
	if (rc != 0)
		goto fail;
	symm_log(SYMM_LOG_DEBUG, "cuda: %zu blocks mapped in %.3f ms, access in %.3f ms", n,
		 (double)(mapped - start) / 1e6, (double)(symm_now() - mapped) / 1e6);
	return 0;
fail:
	while (done-- > 0)
		unmap(device, mappings[done].address, mappings[done].bytes);
	return rc;
}

int symm_cuda_map(struct symm_device *base, const struct symm_mapping *mappings, size_t n)
{
	struct cuda_device *device = cuda_device(base);
	struct cuda_scope scope;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	rc = map(device, mappings, n);
	symm_cuda_leave(device, &scope);
	return rc;
}

/* To unmap is no barrier: what still runs would hit an illegal address, and with that the context is lost. */
void symm_cuda_unmap(struct symm_device *base, void *address, size_t bytes)
{
	struct cuda_device *device = cuda_device(base);
	struct cuda_scope scope;

	if (symm_cuda_enter_to_end(device, &scope, "a block stays mapped") != SYMM_CUDA_SUCCESS)
		return;
	symm_cuda_errands_settle(device);
	unmap(device, address, bytes);
	symm_cuda_leave(device, &scope);
}

int symm_cuda_grant(struct symm_device *base, void *address, size_t bytes)
{
	struct cuda_device *device = cuda_device(base);
	struct cuda_scope scope;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	rc = set_access(device, address, bytes);
	symm_cuda_leave(device, &scope);
	return rc;
}
