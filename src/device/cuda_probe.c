#include "cuda_probe.h"

#include "cuda_api.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FABRIC_BYTES 64

int symm_cuda_probe_count(int *count)
{
	const struct symm_cuda_api *cuda;
	enum symm_cuda_result result;
	int n, rc = symm_cuda_load(&cuda);

	if (rc != 0)
		return rc;
	result = cuda->cuDeviceGetCount(&n);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuDeviceGetCount");
	*count = n;
	return 0;
}

/* 0 for what the driver does not know. */
static int attribute(const struct symm_cuda_api *cuda, int device, enum symm_cuda_attribute what)
{
	int value;

	return cuda->cuDeviceGetAttribute(&value, what, device) == SYMM_CUDA_SUCCESS ? value : 0;
}

static int identify(const struct symm_cuda_api *cuda, int device, struct symm_cuda_probe *probe)
{
	struct symm_cuda_uuid uuid;
	enum symm_cuda_result result;

	if ((result = cuda->cuDeviceGetName(probe->name, sizeof(probe->name), device)) != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuDeviceGetName of device %d", probe->index);
	if ((result = cuda->cuDeviceGetUuid(&uuid, device)) != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuDeviceGetUuid of device %d", probe->index);
	if ((result = cuda->cuDeviceGetPCIBusId(probe->bus, sizeof(probe->bus), device)) != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuDeviceGetPCIBusId of device %d", probe->index);
	if ((result = cuda->cuDeviceTotalMem(&probe->memory, device)) != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuDeviceTotalMem of device %d", probe->index);
	symm_cuda_uuid_format(&uuid, probe->uuid);
	return 0;
}

static void ask_attributes(const struct symm_cuda_api *cuda, int device, struct symm_cuda_probe *probe)
{
	probe->major = attribute(cuda, device, SYMM_CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
	probe->minor = attribute(cuda, device, SYMM_CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
	probe->multiprocessors = attribute(cuda, device, SYMM_CUDA_ATTRIBUTE_MULTIPROCESSOR_COUNT);
	probe->compute_mode = attribute(cuda, device, SYMM_CUDA_ATTRIBUTE_COMPUTE_MODE);
	probe->vmm = attribute(cuda, device, SYMM_CUDA_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) != 0;
	probe->rdma = attribute(cuda, device, SYMM_CUDA_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED) != 0;
	probe->ecc = attribute(cuda, device, SYMM_CUDA_ATTRIBUTE_ECC_ENABLED) != 0;
	probe->multicast = attribute(cuda, device, SYMM_CUDA_ATTRIBUTE_MULTICAST_SUPPORTED) != 0;
	probe->posix.claimed =
		attribute(cuda, device, SYMM_CUDA_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED) != 0;
	probe->fabric.claimed = attribute(cuda, device, SYMM_CUDA_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED) != 0;
}

/* ---- trials, with a context of the device current ---- */

static int import(const struct symm_cuda_api *cuda, void *shared, enum symm_cuda_handle_type type)
{
	unsigned long long handle;
	enum symm_cuda_result result = cuda->cuMemImportFromShareableHandle(&handle, shared, type);

	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuMemImportFromShareableHandle");
	cuda->cuMemRelease(handle);
	return 0;
}

/* An fd goes to the driver as the pointer's value, a fabric handle by address. */
static int export_and_import(const struct symm_cuda_api *cuda, unsigned long long handle,
			     enum symm_cuda_handle_type type)
{
	bool posix = type == SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	unsigned char fabric[FABRIC_BYTES] = { 0 };
	enum symm_cuda_result result;
	int fd = -1, rc;

	result = cuda->cuMemExportToShareableHandle(posix ? (void *)&fd : fabric, handle, type, 0);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuMemExportToShareableHandle");
	rc = import(cuda, posix ? (void *)(intptr_t)fd : fabric, type);
	if (posix)
		close(fd);
	return rc;
}

static int try_handle(const struct symm_cuda_api *cuda, int device, bool rdma, enum symm_cuda_handle_type type,
		      size_t *granularity)
{
	struct symm_cuda_prop prop = {
		.type = SYMM_CUDA_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes = type,
		.location = { SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE, device },
		.allocFlags = { .gpuDirectRDMACapable = rdma },
	};
	unsigned long long handle;
	enum symm_cuda_result result;
	size_t bytes;
	int rc;

	result = cuda->cuMemGetAllocationGranularity(&bytes, &prop, SYMM_CUDA_MEM_ALLOC_GRANULARITY_MINIMUM);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuMemGetAllocationGranularity");
	result = cuda->cuMemCreate(&handle, bytes, &prop, 0);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuMemCreate");
	rc = export_and_import(cuda, handle, type);
	cuda->cuMemRelease(handle);
	if (rc == 0 && bytes > *granularity)
		*granularity = bytes;
	return rc;
}

static void try_kind(const struct symm_cuda_api *cuda, int device, struct symm_cuda_probe *probe,
		     enum symm_cuda_handle_type type, struct symm_cuda_trial *trial)
{
	trial->works = try_handle(cuda, device, probe->rdma, type, &probe->granularity) == 0;
	if (!trial->works)
		snprintf(trial->why, sizeof(trial->why), "%s", symm_last_error());
}

static int try_in_context(const struct symm_cuda_api *cuda, int device, struct symm_cuda_probe *probe)
{
	struct CUctx_st *context;
	enum symm_cuda_result result = cuda->cuDevicePrimaryCtxRetain(&context, device);
	size_t total;
	int rc = 0;

	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuDevicePrimaryCtxRetain");
	result = cuda->cuCtxPushCurrent(context);
	if (result != SYMM_CUDA_SUCCESS) {
		rc = symm_cuda_error(result, "cuCtxPushCurrent");
		goto release;
	}
	result = cuda->cuMemGetInfo(&probe->memory_free, &total);
	if (result != SYMM_CUDA_SUCCESS)
		rc = symm_cuda_error(result, "cuMemGetInfo");
	try_kind(cuda, device, probe, SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, &probe->posix);
	try_kind(cuda, device, probe, SYMM_CUDA_MEM_HANDLE_TYPE_FABRIC, &probe->fabric);
	cuda->cuCtxPopCurrent(&context);
release:
	cuda->cuDevicePrimaryCtxRelease(device);
	return rc;
}

int symm_cuda_probe_device(int index, bool trials, struct symm_cuda_probe *out)
{
	struct symm_cuda_probe probe = { .index = index };
	const struct symm_cuda_api *cuda;
	enum symm_cuda_result result;
	int device, rc = symm_cuda_load(&cuda);

	if (rc != 0)
		return rc;
	result = cuda->cuDeviceGet(&device, index);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuDeviceGet of device %d", index);
	rc = identify(cuda, device, &probe);
	if (rc != 0)
		return rc;
	ask_attributes(cuda, device, &probe);
	if (trials && try_in_context(cuda, device, &probe) != 0)
		snprintf(probe.context_error, sizeof(probe.context_error), "%s", symm_last_error());
	*out = probe;
	return 0;
}

/* ---- pairs, and what the environment says ---- */

int symm_cuda_probe_peer(int from, int to, struct symm_cuda_peer *peer)
{
	const struct symm_cuda_api *cuda;
	enum symm_cuda_result result;
	int a, b, can = 0, atomics = 0, rank = 0, rc = symm_cuda_load(&cuda);

	if (rc != 0)
		return rc;
	if ((result = cuda->cuDeviceGet(&a, from)) != SYMM_CUDA_SUCCESS ||
	    (result = cuda->cuDeviceGet(&b, to)) != SYMM_CUDA_SUCCESS ||
	    (result = cuda->cuDeviceCanAccessPeer(&can, a, b)) != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "the path from device %d to %d", from, to);
	/* Not known to the driver: none. */
	cuda->cuDeviceGetP2PAttribute(&atomics, SYMM_CUDA_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, a, b);
	cuda->cuDeviceGetP2PAttribute(&rank, SYMM_CUDA_P2P_ATTRIBUTE_PERFORMANCE_RANK, a, b);
	*peer = (struct symm_cuda_peer){ can != 0, can != 0 && atomics != 0, rank };
	return 0;
}
