/* The CUDA device: which one, its context, its kernels. */
#include "device/cuda.h"

#include "base.h"
#include "error.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OLDEST_CAPABILITY 8
#define EARLY_DRIVER 12030 /* the first that can capture it */
#define EARLY_PTX 90       /* symm/kernel/wait_cuda.h: symm_stream_enter */

static const char *const kernels[] = {
	[SYMM_OP_BARRIER] = "symm_kernel_barrier",
	[SYMM_OP_PUT_SIGNAL] = "symm_kernel_put_signal",
	[SYMM_OP_WAIT_SIGNAL] = "symm_kernel_wait_signal",
	[SYMM_OP_COPY] = "symm_kernel_count",
	[SYMM_OP_FILL] = "symm_kernel_count",
	[SYMM_OP_WRITE_VALUE] = "symm_kernel_write_value",
	[SYMM_OP_PUT_WITH_SIGNAL] = "symm_kernel_put_with_signal",
};

static pthread_mutex_t devices_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cuda_device *devices;

/* ---- the context ---- */

bool symm_cuda_is_gone(enum symm_cuda_result result)
{
	return result == SYMM_CUDA_DEINITIALIZED || result == SYMM_CUDA_CONTEXT_IS_DESTROYED;
}

void symm_cuda_warn(enum symm_cuda_result result, const char *what)
{
	const char *name = "unknown error";
	const struct symm_cuda_api *api;

	if (result == SYMM_CUDA_SUCCESS || symm_cuda_is_gone(result))
		return;
	if (symm_cuda_load(&api) == 0)
		api->cuGetErrorName(result, &name);
	symm_log(SYMM_LOG_WARN, "%s: %s %d", what, name, (int)result);
}

static enum symm_cuda_result push(const struct cuda_device *device, bool *pushed)
{
	struct CUctx_st *current = NULL;
	enum symm_cuda_result result = device->api->cuCtxGetCurrent(&current);

	*pushed = result == SYMM_CUDA_SUCCESS && current != device->context;
	return *pushed ? device->api->cuCtxPushCurrent(device->context) : result;
}

int symm_cuda_push(const struct cuda_device *device, bool *pushed)
{
	enum symm_cuda_result result = push(device, pushed);

	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot use the context of cuda:%d", device->ordinal);
	return 0;
}

void symm_cuda_pop(const struct cuda_device *device, bool pushed)
{
	struct CUctx_st *ours;

	if (pushed)
		symm_cuda_warn(device->api->cuCtxPopCurrent(&ours), "cuCtxPopCurrent");
}

static enum symm_cuda_result enter(const struct cuda_device *device, struct cuda_scope *scope)
{
	enum symm_cuda_result result = push(device, &scope->pushed);

	if (result != SYMM_CUDA_SUCCESS)
		return result;
	scope->mode = SYMM_CUDA_STREAM_CAPTURE_MODE_RELAXED;
	result = device->api->cuThreadExchangeStreamCaptureMode(&scope->mode);
	if (result != SYMM_CUDA_SUCCESS)
		symm_cuda_pop(device, scope->pushed);
	return result;
}

int symm_cuda_enter(const struct cuda_device *device, struct cuda_scope *scope)
{
	enum symm_cuda_result result = enter(device, scope);

	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot use the context of cuda:%d", device->ordinal);
	return 0;
}

enum symm_cuda_result symm_cuda_enter_to_end(const struct cuda_device *device, struct cuda_scope *scope,
					     const char *what)
{
	enum symm_cuda_result result = enter(device, scope);

	if (result != SYMM_CUDA_SUCCESS && !symm_cuda_is_gone(result))
		result = enter(device, scope);
	symm_cuda_warn(result, what);
	return result;
}

void symm_cuda_leave(const struct cuda_device *device, const struct cuda_scope *scope)
{
	enum symm_cuda_capture_mode mode = scope->mode;

	symm_cuda_warn(device->api->cuThreadExchangeStreamCaptureMode(&mode), "cuThreadExchangeStreamCaptureMode");
	symm_cuda_pop(device, scope->pushed);
}

/* ---- which device ---- */

/* What "cuda" alone means. A rank that sees one device has it, whatever its local rank: its launcher chose. */
static int choose(const struct symm_cuda_api *api, const struct symm_device_wish *wish, int count, int *ordinal)
{
	struct CUctx_st *current = NULL;
	int local = wish->local_rank < 0 ? 0 : wish->local_rank;

	if (api->cuCtxGetCurrent(&current) == SYMM_CUDA_SUCCESS && current != NULL &&
	    api->cuCtxGetDevice(ordinal) == SYMM_CUDA_SUCCESS)
		return 0;
	if (local >= count && count > 1 && !wish->share)
		return symm_error(
			SYMM_EDEVICE,
			"local rank %d has no GPU of its own, %d are visible: start fewer ranks, or let ranks "
			"share a GPU with options.share_device or SYMM_SHARE_DEVICE=1",
			local, count);
	*ordinal = local % count;
	return 0;
}

static int find_ordinal(const struct symm_cuda_api *api, const struct symm_device_wish *wish, int index, int *ordinal)
{
	enum symm_cuda_result result;
	int count = 0;

	result = api->cuDeviceGetCount(&count);
	if (result == SYMM_CUDA_SUCCESS && count == 0)
		result = SYMM_CUDA_NO_DEVICE;
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot find a CUDA device");
	if (index < 0)
		return choose(api, wish, count, ordinal);
	if (index >= count)
		return symm_error(SYMM_EDEVICE, "there is no device \"cuda:%d\": %d GPUs are visible, from cuda:0 on",
				  index, count);
	*ordinal = index;
	return 0;
}

/* ---- opening ---- */

static int attribute(const struct cuda_device *device, enum symm_cuda_attribute which)
{
	int value = 0;

	device->api->cuDeviceGetAttribute(&value, which, device->ordinal);
	return value;
}

static int check_capability(const struct cuda_device *device)
{
	int major = attribute(device, SYMM_CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);

	if (major < OLDEST_CAPABILITY)
		return symm_error(SYMM_EDEVICE, "cuda:%d has compute capability %d.%d: symm needs %d.0 or later",
				  device->ordinal, major,
				  attribute(device, SYMM_CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR), OLDEST_CAPABILITY);
	if (!attribute(device, SYMM_CUDA_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) ||
	    !attribute(device, SYMM_CUDA_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED))
		return symm_error(SYMM_EDEVICE,
				  "cuda:%d cannot share memory between processes: it has no virtual "
				  "memory management, or cannot export it as a file descriptor",
				  device->ordinal);
	return 0;
}

static int module_error(const struct cuda_device *device, enum symm_cuda_result result)
{
	if (memcmp(symm_cuda_fatbin, "NOKERNEL", 8) == 0)
		return symm_error(SYMM_EDEVICE, "this build of symm has no CUDA kernels: build it where nvcc is");
	if (result == SYMM_CUDA_UNSUPPORTED_PTX_VERSION || result == SYMM_CUDA_NO_BINARY_FOR_GPU ||
	    result == SYMM_CUDA_INVALID_IMAGE)
		return symm_cuda_error(result,
				       "the driver, for CUDA %d.%d, has no use for the kernels of this build (kernels "
				       "by nvcc 13 need a driver of 580 or later)",
				       device->api->version / 1000, device->api->version % 1000 / 10);
	return symm_cuda_error(result, "cannot load the kernels on cuda:%d", device->ordinal);
}

/* The kernels that were loaded wait for their turn themselves: those for older devices do not. */
static bool launches_early(const struct cuda_device *device)
{
	const char *wish = getenv("SYMM_EARLY_LAUNCH");
	int ptx = 0;

	return (wish == NULL || strcmp(wish, "0") != 0) && device->api->version >= EARLY_DRIVER &&
	       device->api->cuLaunchKernelEx != NULL &&
	       device->api->cuFuncGetAttribute(&ptx, SYMM_CUDA_FUNC_ATTRIBUTE_PTX_VERSION,
					       device->kernel[SYMM_OP_BARRIER]) == SYMM_CUDA_SUCCESS &&
	       ptx >= EARLY_PTX;
}

/* To the last byte, now: what is loaded at its first launch waits for running kernels, and they might wait for it. */
static int load_kernels(struct cuda_device *device)
{
	const struct symm_cuda_api *api = device->api;
	enum symm_cuda_result result = api->cuModuleLoadData(&device->module, symm_cuda_fatbin);

	if (result != SYMM_CUDA_SUCCESS)
		return module_error(device, result);
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		result = api->cuModuleGetFunction(&device->kernel[i], device->module, kernels[i]);
		if (result == SYMM_CUDA_SUCCESS && api->cuFuncLoad != NULL)
			result = api->cuFuncLoad(device->kernel[i]);
		if (result != SYMM_CUDA_SUCCESS)
			return symm_cuda_error(result, "cannot load kernel %s on cuda:%d", kernels[i], device->ordinal);
	}
	device->early = launches_early(device);
	return 0;
}

/* Undoes start as far as it came: what is the host's, too, when there is no context any more. */
static void stop(struct cuda_device *device)
{
	struct cuda_scope scope;
	enum symm_cuda_result entered = symm_cuda_enter_to_end(device, &scope, "no context to close the device in");

	symm_cuda_errands_end(device);
	symm_cuda_small_end(device);
	if (device->module != NULL)
		symm_cuda_warn(device->api->cuModuleUnload(device->module), "cuModuleUnload");
	if (entered == SYMM_CUDA_SUCCESS)
		symm_cuda_leave(device, &scope);
	symm_cuda_warn(device->api->cuDevicePrimaryCtxRelease(device->ordinal), "cuDevicePrimaryCtxRelease");
}

static int start_in_context(struct cuda_device *device)
{
	struct cuda_scope scope;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	if ((rc = symm_cuda_memory_start(device)) == 0 && (rc = load_kernels(device)) == 0)
		rc = symm_cuda_errands_start(device);
	symm_cuda_leave(device, &scope);
	return rc;
}

static int start(struct cuda_device *device)
{
	struct symm_cuda_uuid uuid;
	enum symm_cuda_result result;
	int rc = check_capability(device);

	if (rc != 0)
		return rc;
	result = device->api->cuDeviceGetUuid(&uuid, device->ordinal);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot ask for the UUID of cuda:%d", device->ordinal);
	symm_cuda_uuid_format(&uuid, device->id.uuid);
	result = device->api->cuDevicePrimaryCtxRetain(&device->context, device->ordinal);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot open cuda:%d", device->ordinal);
	rc = start_in_context(device);
	if (rc != 0)
		stop(device);
	return rc;
}

static void log_device(const struct cuda_device *device)
{
	char name[96] = "";

	device->api->cuDeviceGetName(name, sizeof(name), device->ordinal);
	symm_log(SYMM_LOG_DEBUG, "cuda: opened cuda:%d, %s, %s, granularity %zu, handles fd%s%s%s", device->ordinal,
		 name, device->id.uuid, device->granularity, device->fabric ? " and fabric" : "",
		 device->prop.allocFlags.gpuDirectRDMACapable ? ", for GPUDirect RDMA" : "",
		 device->early ? ", early launch" : "");
}

static int make(const struct symm_cuda_api *api, int ordinal, struct cuda_device **out)
{
	struct cuda_device *device = calloc(1, sizeof(*device));
	int rc;

	if (device == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	device->base.ops = &symm_device_cuda;
	device->base.index = ordinal;
	device->api = api;
	device->ordinal = ordinal;
	strcpy(device->id.kind, "cuda");
	pthread_mutex_init(&device->errands.lock, NULL);
	pthread_mutex_init(&device->local.lock, NULL);
	pthread_mutex_init(&device->common.lock, NULL);
	rc = start(device);
	if (rc != 0) {
		free(device);
		return rc;
	}
	strcpy(device->id.fabric, device->fabric ? "fabric" : "-");
	log_device(device);
	device->next = devices;
	devices = device;
	*out = device;
	return 0;
}

static int cuda_open(const struct symm_device_wish *wish, int index, struct symm_device **out)
{
	const struct symm_cuda_api *api;
	struct cuda_device *device;
	int ordinal, rc;

	if ((rc = symm_cuda_load(&api)) != 0 || (rc = find_ordinal(api, wish, index, &ordinal)) != 0)
		return rc;
	pthread_mutex_lock(&devices_lock);
	for (device = devices; device != NULL && device->ordinal != ordinal;)
		device = device->next;
	if (device == NULL)
		rc = make(api, ordinal, &device);
	if (rc == 0) {
		device->base.users++;
		*out = &device->base;
	}
	pthread_mutex_unlock(&devices_lock);
	return rc;
}

static void cuda_close(struct symm_device *base)
{
	struct cuda_device *device = cuda_device(base), **at = &devices;

	pthread_mutex_lock(&devices_lock);
	if (--base->users == 0) {
		while (*at != device)
			at = &(*at)->next;
		*at = device->next;
		stop(device);
		free(device);
	}
	pthread_mutex_unlock(&devices_lock);
}

/* ---- identity and peers ---- */

static void cuda_identify(struct symm_device *device, struct symm_device_id *id)
{
	*id = cuda_device(device)->id;
}

/* The visible device of that UUID, or -1: CUDA_VISIBLE_DEVICES may hide a peer's. */
static int find_uuid(const struct symm_cuda_api *api, const char *wanted)
{
	struct symm_cuda_uuid uuid;
	char text[48];
	int count = 0;

	api->cuDeviceGetCount(&count);
	for (int ordinal = 0; ordinal < count; ordinal++) {
		if (api->cuDeviceGetUuid(&uuid, ordinal) != SYMM_CUDA_SUCCESS)
			continue;
		symm_cuda_uuid_format(&uuid, text);
		if (strcmp(text, wanted) == 0)
			return ordinal;
	}
	return -1;
}

/* A device that cannot be seen from here is for the driver to judge, when its memory is mapped. */
static int cuda_reach(struct symm_device *base, const struct symm_device_id *peer)
{
	struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	int ordinal, there = 0, back = 0;

	if (strcmp(peer->kind, "cuda") != 0)
		return symm_error(SYMM_EUNREACH, "%s cannot map the memory of a %s device", device->id.uuid,
				  peer->kind);
	ordinal = find_uuid(device->api, peer->uuid);
	if (ordinal < 0 || ordinal == device->ordinal)
		return 0;
	result = device->api->cuDeviceCanAccessPeer(&there, device->ordinal, ordinal);
	if (result == SYMM_CUDA_SUCCESS)
		result = device->api->cuDeviceCanAccessPeer(&back, ordinal, device->ordinal);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot ask for the path from %s to %s", device->id.uuid, peer->uuid);
	if (!there || !back)
		return symm_error(SYMM_EUNREACH,
				  "no peer path %s %s and %s (no NVLink, and PCIe peer access is not possible: "
				  "nvidia-smi topo -p2p r)",
				  there || back ? "both ways between" : "between", device->id.uuid, peer->uuid);
	return 0;
}

/* ---- the table ---- */

static size_t cuda_granularity(struct symm_device *device)
{
	return cuda_device(device)->granularity;
}

/* Waiters on a GPU do not nap. */
static void cuda_wake(struct symm_device *device, char *slot, uint32_t world_size)
{
	(void)device;
	(void)slot;
	(void)world_size;
}

const struct symm_device_ops symm_device_cuda = {
	.name = "cuda",
	.dlpack = kDLCUDA,
	.watched = true,
	.open = cuda_open,
	.close = cuda_close,
	.identify = cuda_identify,
	.reach = cuda_reach,
	.granularity = cuda_granularity,
	.create = symm_cuda_create,
	.export = symm_cuda_export,
	.import = symm_cuda_import,
	.export_fabric = symm_cuda_export_fabric,
	.import_fabric = symm_cuda_import_fabric,
	.release = symm_cuda_release,
	.reserve = symm_cuda_reserve,
	.unreserve = symm_cuda_unreserve,
	.map = symm_cuda_map,
	.unmap = symm_cuda_unmap,
	.grant = symm_cuda_grant,
	.multicast_supported = symm_cuda_multicast_supported,
	.multicast_create = symm_cuda_multicast_create,
	.multicast_add = symm_cuda_multicast_add,
	.multicast_bind = symm_cuda_multicast_bind,
	.multicast_unbind = symm_cuda_multicast_unbind,
	.clear = symm_cuda_clear,
	.local_alloc = symm_cuda_local_alloc,
	.local_free = symm_cuda_local_free,
	.common_alloc = symm_cuda_common_alloc,
	.common_free = symm_cuda_common_free,
	.write = symm_cuda_write,
	.read = symm_cuda_read,
	.wake = cuda_wake,
	.stream_create = symm_cuda_stream_create,
	.stream_destroy = symm_cuda_stream_destroy,
	.stream_wait = symm_cuda_stream_wait,
	.launch = symm_cuda_launch,
	.run = symm_cuda_run,
};
