/* cuda_api.h: what we use of the CUDA driver, in declarations of our own, so that no CUDA header is needed to build and
 * no CUDA library to link. The driver is libcuda.so.1, or SYMM_LIBCUDA, opened when it is first asked for.
 *
 * An enum symm_cuda_x stands for the driver's enumeration of that meaning and holds the values that we use, each under
 * the name of the driver's with the prefix changed. t/cuda_api.c compares all this with cuda.h.
 */
#ifndef SYMM_DEVICE_CUDA_API_H
#define SYMM_DEVICE_CUDA_API_H

#include <stdbool.h>
#include <stddef.h>

struct CUctx_st;
struct CUmod_st;
struct CUfunc_st;
struct CUstream_st;
struct CUevent_st;
struct CUgraph_st;
struct CUgraphExec_st;

#define SYMM_CUDA_STREAM_LEGACY ((struct CUstream_st *)0x1)
#define SYMM_CUDA_STREAM_PER_THREAD ((struct CUstream_st *)0x2)

enum symm_cuda_result {
	SYMM_CUDA_SUCCESS = 0,
	SYMM_CUDA_INVALID_VALUE = 1,
	SYMM_CUDA_OUT_OF_MEMORY = 2,
	SYMM_CUDA_NOT_INITIALIZED = 3,
	SYMM_CUDA_DEINITIALIZED = 4,
	SYMM_CUDA_STUB_LIBRARY = 34,
	SYMM_CUDA_CALL_REQUIRES_NEWER_DRIVER = 36,
	SYMM_CUDA_DEVICE_UNAVAILABLE = 46,
	SYMM_CUDA_NO_DEVICE = 100,
	SYMM_CUDA_INVALID_DEVICE = 101,
	SYMM_CUDA_INVALID_IMAGE = 200,
	SYMM_CUDA_INVALID_CONTEXT = 201,
	SYMM_CUDA_MAP_FAILED = 205,
	SYMM_CUDA_UNMAP_FAILED = 206,
	SYMM_CUDA_ALREADY_MAPPED = 208,
	SYMM_CUDA_NO_BINARY_FOR_GPU = 209,
	SYMM_CUDA_NOT_MAPPED = 211,
	SYMM_CUDA_ECC_UNCORRECTABLE = 214,
	SYMM_CUDA_PEER_ACCESS_UNSUPPORTED = 217,
	SYMM_CUDA_NVLINK_UNCORRECTABLE = 220,
	SYMM_CUDA_UNSUPPORTED_PTX_VERSION = 222,
	SYMM_CUDA_JIT_COMPILATION_DISABLED = 223,
	SYMM_CUDA_OPERATING_SYSTEM = 304,
	SYMM_CUDA_INVALID_HANDLE = 400,
	SYMM_CUDA_ILLEGAL_STATE = 401,
	SYMM_CUDA_NOT_FOUND = 500,
	SYMM_CUDA_NOT_READY = 600,
	SYMM_CUDA_ILLEGAL_ADDRESS = 700,
	SYMM_CUDA_CONTEXT_IS_DESTROYED = 709,
	SYMM_CUDA_LAUNCH_FAILED = 719,
	SYMM_CUDA_NOT_PERMITTED = 800,
	SYMM_CUDA_NOT_SUPPORTED = 801,
	SYMM_CUDA_SYSTEM_NOT_READY = 802,
	SYMM_CUDA_SYSTEM_DRIVER_MISMATCH = 803,
	SYMM_CUDA_COMPAT_NOT_SUPPORTED_ON_DEVICE = 804,
	SYMM_CUDA_STREAM_CAPTURE_UNSUPPORTED = 900,
	SYMM_CUDA_STREAM_CAPTURE_INVALIDATED = 901,
	SYMM_CUDA_STREAM_CAPTURE_MERGE = 902,
	SYMM_CUDA_STREAM_CAPTURE_UNMATCHED = 903,
	SYMM_CUDA_STREAM_CAPTURE_UNJOINED = 904,
	SYMM_CUDA_STREAM_CAPTURE_ISOLATION = 905,
	SYMM_CUDA_STREAM_CAPTURE_IMPLICIT = 906,
	SYMM_CUDA_STREAM_CAPTURE_WRONG_THREAD = 908,
	SYMM_CUDA_TIMEOUT = 909,
	SYMM_CUDA_UNKNOWN = 999
};

/* CU_DEVICE_ATTRIBUTE_... */
enum symm_cuda_attribute {
	SYMM_CUDA_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
	SYMM_CUDA_ATTRIBUTE_INTEGRATED = 18,
	SYMM_CUDA_ATTRIBUTE_COMPUTE_MODE = 20,
	SYMM_CUDA_ATTRIBUTE_ECC_ENABLED = 32,
	SYMM_CUDA_ATTRIBUTE_UNIFIED_ADDRESSING = 41,
	SYMM_CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
	SYMM_CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
	SYMM_CUDA_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED = 86,
	SYMM_CUDA_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 102,
	SYMM_CUDA_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED = 103,
	SYMM_CUDA_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED = 110,
	SYMM_CUDA_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED = 128,
	SYMM_CUDA_ATTRIBUTE_MULTICAST_SUPPORTED = 132
};

/* CU_COMPUTEMODE_... */
enum {
	SYMM_CUDA_COMPUTEMODE_DEFAULT = 0,
	SYMM_CUDA_COMPUTEMODE_PROHIBITED = 2,
	SYMM_CUDA_COMPUTEMODE_EXCLUSIVE_PROCESS = 3
};

/* CU_DEVICE_P2P_ATTRIBUTE_... */
enum symm_cuda_p2p_attribute {
	SYMM_CUDA_P2P_ATTRIBUTE_PERFORMANCE_RANK = 1,
	SYMM_CUDA_P2P_ATTRIBUTE_ACCESS_SUPPORTED = 2,
	SYMM_CUDA_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED = 3
};

/* CU_POINTER_ATTRIBUTE_... */
enum symm_cuda_pointer_attribute {
	SYMM_CUDA_POINTER_ATTRIBUTE_CONTEXT = 1,
	SYMM_CUDA_POINTER_ATTRIBUTE_MEMORY_TYPE = 2,
	SYMM_CUDA_POINTER_ATTRIBUTE_DEVICE_POINTER = 3,
	SYMM_CUDA_POINTER_ATTRIBUTE_HOST_POINTER = 4,
	SYMM_CUDA_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9
};

/* CU_MEMORYTYPE_... */
enum { SYMM_CUDA_MEMORYTYPE_HOST = 1, SYMM_CUDA_MEMORYTYPE_DEVICE = 2 };

/* CU_FUNC_ATTRIBUTE_... */
enum symm_cuda_func_attribute {
	SYMM_CUDA_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0,
	SYMM_CUDA_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3,
	SYMM_CUDA_FUNC_ATTRIBUTE_NUM_REGS = 4,
	SYMM_CUDA_FUNC_ATTRIBUTE_PTX_VERSION = 5,
	SYMM_CUDA_FUNC_ATTRIBUTE_BINARY_VERSION = 6
};

/* CU_MEM_... */
enum symm_cuda_allocation_type { SYMM_CUDA_MEM_ALLOCATION_TYPE_PINNED = 1 };
enum symm_cuda_location_type { SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE = 1 };
enum symm_cuda_granularity {
	SYMM_CUDA_MEM_ALLOC_GRANULARITY_MINIMUM = 0,
	SYMM_CUDA_MEM_ALLOC_GRANULARITY_RECOMMENDED = 1
};
enum symm_cuda_multicast_granularity {
	SYMM_CUDA_MULTICAST_GRANULARITY_MINIMUM = 0,
	SYMM_CUDA_MULTICAST_GRANULARITY_RECOMMENDED = 1
};
enum symm_cuda_access_flags {
	SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_NONE = 0,
	SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_READ = 1,
	SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_READWRITE = 3
};
/* bits */
enum symm_cuda_handle_type {
	SYMM_CUDA_MEM_HANDLE_TYPE_NONE = 0,
	SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR = 1,
	SYMM_CUDA_MEM_HANDLE_TYPE_FABRIC = 8
};

/* CU_STREAM_... and CU_EVENT_... */
enum { SYMM_CUDA_STREAM_NON_BLOCKING = 1, SYMM_CUDA_EVENT_DISABLE_TIMING = 2 };
enum symm_cuda_capture_mode {
	SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL = 0,
	SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1,
	SYMM_CUDA_STREAM_CAPTURE_MODE_RELAXED = 2
};
enum symm_cuda_capture_status {
	SYMM_CUDA_STREAM_CAPTURE_STATUS_NONE = 0,
	SYMM_CUDA_STREAM_CAPTURE_STATUS_ACTIVE = 1,
	SYMM_CUDA_STREAM_CAPTURE_STATUS_INVALIDATED = 2
};

enum symm_cuda_launch_attribute_id { SYMM_CUDA_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION = 6 };

/* CU_MEMHOSTALLOC_... and CU_GET_PROC_ADDRESS_...: bits */
enum { SYMM_CUDA_MEMHOSTALLOC_PORTABLE = 1, SYMM_CUDA_MEMHOSTALLOC_DEVICEMAP = 2 };
enum { SYMM_CUDA_GET_PROC_ADDRESS_LEGACY_STREAM = 1 };

struct symm_cuda_uuid {
	char bytes[16];
};

struct symm_cuda_location {
	enum symm_cuda_location_type type;
	int id;
};

struct symm_cuda_prop {
	enum symm_cuda_allocation_type type;
	enum symm_cuda_handle_type requestedHandleTypes;
	struct symm_cuda_location location;
	void *win32HandleMetaData;
	struct {
		unsigned char compressionType;
		unsigned char gpuDirectRDMACapable;
		unsigned short usage;
		unsigned char reserved[4];
	} allocFlags;
};

struct symm_cuda_access {
	struct symm_cuda_location location;
	enum symm_cuda_access_flags flags;
};

/* CUlaunchAttribute, of which one is used, whose value is an int. */
struct symm_cuda_launch_attribute {
	enum symm_cuda_launch_attribute_id id;
	char unused[8 - sizeof(enum symm_cuda_launch_attribute_id)];
	union {
		char bytes[64];
		int programmaticStreamSerializationAllowed;
	} value;
};

/* CUlaunchConfig */
struct symm_cuda_launch {
	unsigned int grid[3], block[3];
	unsigned int shared_bytes;
	struct CUstream_st *stream;
	struct symm_cuda_launch_attribute *attrs;
	unsigned int numAttrs;
};

struct symm_cuda_multicast_prop {
	unsigned int numDevices;
	size_t size;
	unsigned long long handleTypes;
	unsigned long long flags;
};

/* The driver's functions: X(name, the version of CUDA in which this signature came, whether the library needs it,
 * parameters). A device is an int; device pointers and allocation handles are unsigned long long. */
/* clang-format off */
#define SYMM_CUDA_FUNCTIONS(X)                                                                                         \
	X(cuInit, 2000, true, (unsigned int flags))                                                                    \
	X(cuDriverGetVersion, 2020, true, (int *version))                                                              \
	X(cuGetErrorName, 6000, true, (enum symm_cuda_result result, const char **name))                               \
	X(cuGetErrorString, 6000, true, (enum symm_cuda_result result, const char **text))                             \
	/* devices */                                                                                                  \
	X(cuDeviceGet, 2000, true, (int *device, int ordinal))                                                         \
	X(cuDeviceGetCount, 2000, true, (int *count))                                                                  \
	X(cuDeviceGetName, 2000, true, (char *name, int bytes, int device))                                            \
	X(cuDeviceGetUuid, 11040, true, (struct symm_cuda_uuid *uuid, int device))                                     \
	X(cuDeviceTotalMem, 3020, true, (size_t *bytes, int device))                                                   \
	X(cuDeviceGetPCIBusId, 4010, true, (char *id, int bytes, int device))                                          \
	X(cuDeviceGetAttribute, 2000, true, (int *value, enum symm_cuda_attribute attribute, int device))              \
	X(cuDeviceCanAccessPeer, 4000, true, (int *can, int device, int peer))                                         \
	X(cuDeviceGetP2PAttribute, 8000, true, (int *value, enum symm_cuda_p2p_attribute attribute, int from, int to)) \
	/* contexts */                                                                                                 \
	X(cuDevicePrimaryCtxRetain, 7000, true, (struct CUctx_st **context, int device))                               \
	X(cuDevicePrimaryCtxRelease, 11000, true, (int device))                                                        \
	X(cuDevicePrimaryCtxGetState, 7000, true, (int device, unsigned int *flags, int *active))                      \
	X(cuCtxGetCurrent, 4000, true, (struct CUctx_st **context))                                                    \
	X(cuCtxSetCurrent, 4000, true, (struct CUctx_st *context))                                                     \
	X(cuCtxPushCurrent, 4000, true, (struct CUctx_st *context))                                                    \
	X(cuCtxPopCurrent, 4000, true, (struct CUctx_st **context))                                                    \
	X(cuCtxGetDevice, 2000, true, (int *device))                                                                   \
	X(cuCtxSynchronize, 2000, true, (void))                                                                        \
	X(cuThreadExchangeStreamCaptureMode, 10010, true, (enum symm_cuda_capture_mode *mode))                         \
	/* modules */                                                                                                  \
	X(cuModuleLoadData, 2000, true, (struct CUmod_st **module, const void *image))                                 \
	X(cuModuleUnload, 2000, true, (struct CUmod_st *module))                                                       \
	X(cuModuleGetFunction, 2000, true, (struct CUfunc_st **function, struct CUmod_st *module, const char *name))   \
	X(cuFuncGetAttribute, 2020, true,                                                                              \
	  (int *value, enum symm_cuda_func_attribute attribute, struct CUfunc_st *function))                           \
	X(cuFuncLoad, 12040, false, (struct CUfunc_st *function))                                                      \
	X(cuLaunchKernel, 4000, true,                                                                                  \
	  (struct CUfunc_st *function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,                  \
	   unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes,                \
	   struct CUstream_st *stream, void **params, void **extra))                                                   \
	X(cuLaunchKernelEx, 11060, false,                                                                              \
	  (const struct symm_cuda_launch *launch, struct CUfunc_st *function, void **params, void **extra))            \
	/* streams and events */                                                                                       \
	X(cuStreamCreate, 2000, true, (struct CUstream_st **stream, unsigned int flags))                               \
	X(cuStreamDestroy, 4000, true, (struct CUstream_st *stream))                                                   \
	X(cuStreamQuery, 2000, true, (struct CUstream_st *stream))                                                     \
	X(cuStreamSynchronize, 2000, true, (struct CUstream_st *stream))                                               \
	X(cuStreamGetCtx, 9020, true, (struct CUstream_st *stream, struct CUctx_st **context))                         \
	X(cuStreamWaitEvent, 3020, true, (struct CUstream_st *stream, struct CUevent_st *event, unsigned int flags))   \
	X(cuStreamIsCapturing, 10000, true, (struct CUstream_st *stream, enum symm_cuda_capture_status *status))       \
	X(cuEventCreate, 2000, true, (struct CUevent_st **event, unsigned int flags))                                  \
	X(cuEventDestroy, 4000, true, (struct CUevent_st *event))                                                      \
	X(cuEventRecord, 2000, true, (struct CUevent_st *event, struct CUstream_st *stream))                           \
	X(cuEventQuery, 2000, true, (struct CUevent_st *event))                                                        \
	X(cuEventSynchronize, 2000, true, (struct CUevent_st *event))                                                  \
	X(cuEventElapsedTime, 2000, false, (float *ms, struct CUevent_st *from, struct CUevent_st *to))                \
	/* graphs */                                                                                                   \
	X(cuStreamBeginCapture, 10010, false, (struct CUstream_st *stream, enum symm_cuda_capture_mode mode))          \
	X(cuStreamEndCapture, 10000, false, (struct CUstream_st *stream, struct CUgraph_st **graph))                   \
	X(cuGraphInstantiateWithFlags, 11040, false,                                                                   \
	  (struct CUgraphExec_st **exec, struct CUgraph_st *graph, unsigned long long flags))                          \
	X(cuGraphLaunch, 10000, false, (struct CUgraphExec_st *exec, struct CUstream_st *stream))                      \
	X(cuGraphExecDestroy, 10000, false, (struct CUgraphExec_st *exec))                                             \
	X(cuGraphDestroy, 10000, false, (struct CUgraph_st *graph))                                                    \
	/* virtual memory */                                                                                           \
	X(cuMemGetInfo, 3020, true, (size_t *free, size_t *total))                                                     \
	X(cuMemGetAllocationGranularity, 10020, true,                                                                  \
	  (size_t *bytes, const struct symm_cuda_prop *prop, enum symm_cuda_granularity option))                       \
	X(cuMemCreate, 10020, true,                                                                                    \
	  (unsigned long long *handle, size_t bytes, const struct symm_cuda_prop *prop, unsigned long long flags))     \
	X(cuMemRelease, 10020, true, (unsigned long long handle))                                                      \
	X(cuMemExportToShareableHandle, 10020, true,                                                                   \
	  (void *shared, unsigned long long handle, enum symm_cuda_handle_type type, unsigned long long flags))        \
	X(cuMemImportFromShareableHandle, 10020, true,                                                                 \
	  (unsigned long long *handle, void *shared, enum symm_cuda_handle_type type))                                 \
	X(cuMemAddressReserve, 10020, true,                                                                            \
	  (unsigned long long *address, size_t bytes, size_t alignment, unsigned long long at,                         \
	   unsigned long long flags))                                                                                  \
	X(cuMemAddressFree, 10020, true, (unsigned long long address, size_t bytes))                                   \
	X(cuMemMap, 10020, true,                                                                                       \
	  (unsigned long long address, size_t bytes, size_t offset, unsigned long long handle,                         \
	   unsigned long long flags))                                                                                  \
	X(cuMemUnmap, 10020, true, (unsigned long long address, size_t bytes))                                         \
	X(cuMemSetAccess, 10020, true,                                                                                 \
	  (unsigned long long address, size_t bytes, const struct symm_cuda_access *access, size_t count))             \
	X(cuMemGetAllocationPropertiesFromHandle, 10020, true,                                                         \
	  (struct symm_cuda_prop *prop, unsigned long long handle))                                                    \
	X(cuMemRetainAllocationHandle, 11000, true, (unsigned long long *handle, void *address))                       \
	/* multicast */                                                                                                \
	X(cuMulticastCreate, 12010, false, (unsigned long long *handle, const struct symm_cuda_multicast_prop *prop))  \
	X(cuMulticastAddDevice, 12010, false, (unsigned long long handle, int device))                                 \
	X(cuMulticastBindMem, 12010, false,                                                                            \
	  (unsigned long long handle, size_t offset, unsigned long long memory, size_t memory_offset, size_t bytes,    \
	   unsigned long long flags))                                                                                  \
	X(cuMulticastBindAddr, 12010, false,                                                                           \
	  (unsigned long long handle, size_t offset, unsigned long long address, size_t bytes,                         \
	   unsigned long long flags))                                                                                  \
	X(cuMulticastUnbind, 12010, false, (unsigned long long handle, int device, size_t offset, size_t bytes))       \
	X(cuMulticastGetGranularity, 12010, false,                                                                     \
	  (size_t *bytes, const struct symm_cuda_multicast_prop *prop, enum symm_cuda_multicast_granularity option))   \
	/* other memory, copies */                                                                                     \
	X(cuMemAlloc, 3020, false, (unsigned long long *address, size_t bytes))                                        \
	X(cuMemFree, 3020, false, (unsigned long long address))                                                        \
	X(cuMemHostAlloc, 2020, true, (void **address, size_t bytes, unsigned int flags))                              \
	X(cuMemFreeHost, 2000, true, (void *address))                                                                  \
	X(cuMemHostGetDevicePointer, 3020, true, (unsigned long long *address, void *host, unsigned int flags))        \
	X(cuPointerGetAttribute, 4000, true,                                                                           \
	  (void *value, enum symm_cuda_pointer_attribute attribute, unsigned long long address))                       \
	X(cuMemcpy, 4000, false, (unsigned long long to, unsigned long long from, size_t bytes))                       \
	X(cuMemcpyHtoD, 3020, false, (unsigned long long to, const void *from, size_t bytes))                          \
	X(cuMemcpyDtoH, 3020, false, (void *to, unsigned long long from, size_t bytes))                                \
	X(cuMemcpyAsync, 4000, true,                                                                                   \
	  (unsigned long long to, unsigned long long from, size_t bytes, struct CUstream_st *stream))                  \
	X(cuMemcpyHtoDAsync, 3020, true,                                                                               \
	  (unsigned long long to, const void *from, size_t bytes, struct CUstream_st *stream))                         \
	X(cuMemcpyDtoHAsync, 3020, true,                                                                               \
	  (void *to, unsigned long long from, size_t bytes, struct CUstream_st *stream))                               \
	X(cuMemsetD8Async, 3020, true,                                                                                 \
	  (unsigned long long to, unsigned char value, size_t count, struct CUstream_st *stream))                      \
	X(cuMemsetD32Async, 3020, true,                                                                                \
	  (unsigned long long to, unsigned int value, size_t count, struct CUstream_st *stream))
/* clang-format on */

/* The driver, loaded. A function that the library does not need may be NULL. */
struct symm_cuda_api {
	const char *path; /* as it was given to dlopen */
	int version;      /* of the driver: 13000 for CUDA 13.0 */
#define SYMM_CUDA_POINTER(name, since, needed, parameters) enum symm_cuda_result(*name) parameters;
	SYMM_CUDA_FUNCTIONS(SYMM_CUDA_POINTER)
#undef SYMM_CUDA_POINTER
};

/* Loads the driver and initialises it, the first time; it stays for the life of the process. SYMM_EDEVICE: there is
 * none that can be used; the detail tells why, and what to do. Leaves no context current. */
int symm_cuda_load(const struct symm_cuda_api **api);
/* As nvidia-smi prints it: "GPU-5fd4f087-...". */
void symm_cuda_uuid_format(const struct symm_cuda_uuid *uuid, char text[48]);
/* An error of the driver as a SYMM code, the detail written: "what...: CUDA_ERROR_NAME (its meaning)" and a remedy. */
int symm_cuda_error(enum symm_cuda_result result, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
