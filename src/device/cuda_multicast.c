/* The CUDA device's multicast objects. */
#include "device/cuda.h"

#include "error.h"

bool symm_cuda_multicast_supported(struct symm_device *base)
{
	const struct cuda_device *device = cuda_device(base);
	const struct symm_cuda_api *api = device->api;
	int supported = 0;

	if (api->cuMulticastCreate == NULL || api->cuMulticastAddDevice == NULL || api->cuMulticastBindMem == NULL ||
	    api->cuMulticastUnbind == NULL || api->cuMulticastGetGranularity == NULL)
		return false;
	api->cuDeviceGetAttribute(&supported, SYMM_CUDA_ATTRIBUTE_MULTICAST_SUPPORTED, device->ordinal);
	return supported != 0;
}

static int create(const struct cuda_device *device, const struct symm_cuda_multicast_prop *prop, symm_phys *object)
{
	enum symm_cuda_result result;
	unsigned long long handle;
	size_t granularity;

	result = device->api->cuMulticastGetGranularity(&granularity, prop, SYMM_CUDA_MULTICAST_GRANULARITY_MINIMUM);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot ask for the granularity of multicast");
	if (prop->size % granularity != 0)
		return symm_error(SYMM_ENOTSUP, "a block of %zu bytes is not a number of multicast's pages of %zu",
				  prop->size, granularity);
	result = device->api->cuMulticastCreate(&handle, prop);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot make a multicast object of %zu bytes for %u devices", prop->size,
				       prop->numDevices);
	*object = handle;
	return 0;
}

int symm_cuda_multicast_create(struct symm_device *base, size_t bytes, uint32_t devices, symm_phys *object)
{
	const struct cuda_device *device = cuda_device(base);
	const struct symm_cuda_multicast_prop prop = { .numDevices = devices,
						       .size = bytes,
						       .handleTypes = SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR };
	struct cuda_scope scope;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	rc = create(device, &prop, object);
	symm_cuda_leave(device, &scope);
	return rc;
}

int symm_cuda_multicast_add(struct symm_device *base, symm_phys object)
{
	const struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	struct cuda_scope scope;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	result = device->api->cuMulticastAddDevice(object, device->ordinal);
	if (result != SYMM_CUDA_SUCCESS)
		rc = symm_cuda_error(result, "cannot add cuda:%d to a multicast object", device->ordinal);
	symm_cuda_leave(device, &scope);
	return rc;
}

int symm_cuda_multicast_bind(struct symm_device *base, symm_phys object, symm_phys block, size_t bytes)
{
	const struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	struct cuda_scope scope;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	result = device->api->cuMulticastBindMem(object, 0, block, 0, bytes, 0);
	if (result != SYMM_CUDA_SUCCESS)
		rc = symm_cuda_error(result, "cannot bind a block of %zu bytes on cuda:%d to a multicast object", bytes,
				     device->ordinal);
	symm_cuda_leave(device, &scope);
	return rc;
}

void symm_cuda_multicast_unbind(struct symm_device *base, symm_phys object, size_t bytes)
{
	const struct cuda_device *device = cuda_device(base);
	struct cuda_scope scope;

	if (symm_cuda_enter_to_end(device, &scope, "a block stays bound to a multicast object") != SYMM_CUDA_SUCCESS)
		return;
	symm_cuda_warn(device->api->cuMulticastUnbind(object, device->ordinal, 0, bytes), "cuMulticastUnbind");
	symm_cuda_leave(device, &scope);
}
