/* Our declarations of the CUDA driver's functions and constants against cuda.h: a wrong one does not compile. */
#include "device/cuda_api.h"
#include "tap/tap.h"

#if __has_include(<cudaTypedefs.h>)
#include <cudaTypedefs.h>

#define SAME(ours, theirs) _Static_assert((long long)(ours) == (long long)(theirs), #ours)
#define RESULT(name) SAME(SYMM_CUDA_##name, CUDA_ERROR_##name)
#define DEVICE(name) SAME(SYMM_CUDA_ATTRIBUTE_##name, CU_DEVICE_ATTRIBUTE_##name)
#define POINTER(name) SAME(SYMM_CUDA_POINTER_ATTRIBUTE_##name, CU_POINTER_ATTRIBUTE_##name)
#define CU(name) SAME(SYMM_CUDA_##name, CU_##name)

SAME(SYMM_CUDA_SUCCESS, CUDA_SUCCESS);
RESULT(INVALID_VALUE);
RESULT(OUT_OF_MEMORY);
RESULT(NOT_INITIALIZED);
RESULT(DEINITIALIZED);
RESULT(STUB_LIBRARY);
RESULT(CALL_REQUIRES_NEWER_DRIVER);
RESULT(DEVICE_UNAVAILABLE);
RESULT(NO_DEVICE);
RESULT(INVALID_DEVICE);
RESULT(INVALID_IMAGE);
RESULT(INVALID_CONTEXT);
RESULT(MAP_FAILED);
RESULT(UNMAP_FAILED);
RESULT(ALREADY_MAPPED);
RESULT(NO_BINARY_FOR_GPU);
RESULT(NOT_MAPPED);
RESULT(ECC_UNCORRECTABLE);
RESULT(PEER_ACCESS_UNSUPPORTED);
RESULT(NVLINK_UNCORRECTABLE);
RESULT(UNSUPPORTED_PTX_VERSION);
RESULT(JIT_COMPILATION_DISABLED);
RESULT(OPERATING_SYSTEM);
RESULT(INVALID_HANDLE);
RESULT(ILLEGAL_STATE);
RESULT(NOT_FOUND);
RESULT(NOT_READY);
RESULT(ILLEGAL_ADDRESS);
RESULT(CONTEXT_IS_DESTROYED);
RESULT(LAUNCH_FAILED);
RESULT(NOT_PERMITTED);
RESULT(NOT_SUPPORTED);
RESULT(SYSTEM_NOT_READY);
RESULT(SYSTEM_DRIVER_MISMATCH);
RESULT(COMPAT_NOT_SUPPORTED_ON_DEVICE);
RESULT(STREAM_CAPTURE_UNSUPPORTED);
RESULT(STREAM_CAPTURE_INVALIDATED);
RESULT(STREAM_CAPTURE_MERGE);
RESULT(STREAM_CAPTURE_UNMATCHED);
RESULT(STREAM_CAPTURE_UNJOINED);
RESULT(STREAM_CAPTURE_ISOLATION);
RESULT(STREAM_CAPTURE_IMPLICIT);
RESULT(STREAM_CAPTURE_WRONG_THREAD);
RESULT(TIMEOUT);
RESULT(UNKNOWN);
DEVICE(MULTIPROCESSOR_COUNT);
DEVICE(INTEGRATED);
DEVICE(COMPUTE_MODE);
DEVICE(ECC_ENABLED);
DEVICE(UNIFIED_ADDRESSING);
DEVICE(COMPUTE_CAPABILITY_MAJOR);
DEVICE(COMPUTE_CAPABILITY_MINOR);
DEVICE(HOST_NATIVE_ATOMIC_SUPPORTED);
DEVICE(VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
DEVICE(HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
DEVICE(GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED);
#if CUDA_VERSION >= 12030
DEVICE(HANDLE_TYPE_FABRIC_SUPPORTED);
CU(MEM_HANDLE_TYPE_FABRIC);
#endif
DEVICE(MULTICAST_SUPPORTED);
SAME(SYMM_CUDA_P2P_ATTRIBUTE_PERFORMANCE_RANK, CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK);
SAME(SYMM_CUDA_P2P_ATTRIBUTE_ACCESS_SUPPORTED, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED);
SAME(SYMM_CUDA_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED);
POINTER(CONTEXT);
POINTER(MEMORY_TYPE);
POINTER(DEVICE_POINTER);
POINTER(HOST_POINTER);
POINTER(DEVICE_ORDINAL);
CU(COMPUTEMODE_DEFAULT);
CU(COMPUTEMODE_PROHIBITED);
CU(COMPUTEMODE_EXCLUSIVE_PROCESS);
CU(MEMORYTYPE_HOST);
CU(MEMORYTYPE_DEVICE);
CU(FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
CU(FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
CU(FUNC_ATTRIBUTE_NUM_REGS);
CU(FUNC_ATTRIBUTE_PTX_VERSION);
CU(FUNC_ATTRIBUTE_BINARY_VERSION);
CU(MEM_ALLOCATION_TYPE_PINNED);
CU(MEM_LOCATION_TYPE_DEVICE);
CU(MEM_ALLOC_GRANULARITY_MINIMUM);
CU(MEM_ALLOC_GRANULARITY_RECOMMENDED);
CU(MULTICAST_GRANULARITY_MINIMUM);
CU(MULTICAST_GRANULARITY_RECOMMENDED);
CU(MEM_ACCESS_FLAGS_PROT_NONE);
CU(MEM_ACCESS_FLAGS_PROT_READ);
CU(MEM_ACCESS_FLAGS_PROT_READWRITE);
CU(MEM_HANDLE_TYPE_NONE);
CU(MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
CU(STREAM_NON_BLOCKING);
CU(EVENT_DISABLE_TIMING);
CU(STREAM_CAPTURE_MODE_GLOBAL);
CU(STREAM_CAPTURE_MODE_THREAD_LOCAL);
CU(STREAM_CAPTURE_MODE_RELAXED);
CU(STREAM_CAPTURE_STATUS_NONE);
CU(STREAM_CAPTURE_STATUS_ACTIVE);
CU(STREAM_CAPTURE_STATUS_INVALIDATED);
CU(LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
CU(MEMHOSTALLOC_PORTABLE);
CU(MEMHOSTALLOC_DEVICEMAP);
CU(GET_PROC_ADDRESS_LEGACY_STREAM);

#define SIZE(ours, theirs) SAME(sizeof(struct ours), sizeof(theirs))
#define FIELD(ours, theirs, field) SAME(offsetof(struct ours, field), offsetof(theirs, field))
SIZE(symm_cuda_uuid, CUuuid);
SIZE(symm_cuda_location, CUmemLocation);
FIELD(symm_cuda_location, CUmemLocation, id);
SIZE(symm_cuda_prop, CUmemAllocationProp);
FIELD(symm_cuda_prop, CUmemAllocationProp, requestedHandleTypes);
FIELD(symm_cuda_prop, CUmemAllocationProp, location);
FIELD(symm_cuda_prop, CUmemAllocationProp, win32HandleMetaData);
FIELD(symm_cuda_prop, CUmemAllocationProp, allocFlags.compressionType);
FIELD(symm_cuda_prop, CUmemAllocationProp, allocFlags.gpuDirectRDMACapable);
FIELD(symm_cuda_prop, CUmemAllocationProp, allocFlags.usage);
SIZE(symm_cuda_access, CUmemAccessDesc);
FIELD(symm_cuda_access, CUmemAccessDesc, flags);
SIZE(symm_cuda_launch_attribute, CUlaunchAttribute);
FIELD(symm_cuda_launch_attribute, CUlaunchAttribute, value);
SIZE(symm_cuda_launch, CUlaunchConfig);
SAME(offsetof(struct symm_cuda_launch, grid), offsetof(CUlaunchConfig, gridDimX));
SAME(offsetof(struct symm_cuda_launch, block), offsetof(CUlaunchConfig, blockDimX));
SAME(offsetof(struct symm_cuda_launch, shared_bytes), offsetof(CUlaunchConfig, sharedMemBytes));
SAME(offsetof(struct symm_cuda_launch, stream), offsetof(CUlaunchConfig, hStream));
FIELD(symm_cuda_launch, CUlaunchConfig, attrs);
FIELD(symm_cuda_launch, CUlaunchConfig, numAttrs);
SIZE(symm_cuda_multicast_prop, CUmulticastObjectProp);
FIELD(symm_cuda_multicast_prop, CUmulticastObjectProp, size);
FIELD(symm_cuda_multicast_prop, CUmulticastObjectProp, handleTypes);
FIELD(symm_cuda_multicast_prop, CUmulticastObjectProp, flags);

/* From here on our names mean the driver's types, so that the list gives the driver's own signatures. */
#define symm_cuda_result cudaError_enum
#define symm_cuda_uuid CUuuid_st
#define symm_cuda_attribute CUdevice_attribute_enum
#define symm_cuda_p2p_attribute CUdevice_P2PAttribute_enum
#define symm_cuda_pointer_attribute CUpointer_attribute_enum
#define symm_cuda_func_attribute CUfunction_attribute_enum
#define symm_cuda_capture_mode CUstreamCaptureMode_enum
#define symm_cuda_capture_status CUstreamCaptureStatus_enum
#define symm_cuda_granularity CUmemAllocationGranularity_flags_enum
#define symm_cuda_multicast_granularity CUmulticastGranularity_flags_enum
#define symm_cuda_handle_type CUmemAllocationHandleType_enum
#define symm_cuda_prop CUmemAllocationProp_st
#define symm_cuda_access CUmemAccessDesc_st
#define symm_cuda_multicast_prop CUmulticastObjectProp_st
#define symm_cuda_launch CUlaunchConfig_st
#define CHECK_SIGNATURE(name, since, needed, parameters)                                                               \
	_Static_assert(__builtin_types_compatible_p(PFN_##name##_v##since, enum symm_cuda_result(*) parameters),       \
		       #name " is not version " #since);
SYMM_CUDA_FUNCTIONS(CHECK_SIGNATURE)

int main(void)
{
	ok(1, "the declarations are those of cuda.h, CUDA %d", CUDA_VERSION);
	return tap_done();
}
#else
int main(void)
{
	tap_skip_all("no cuda.h");
}
#endif
