/* DLPack's structs, versions 1.0 and later: how libraries hand tensors to each other.
 *
 * They are DLPack's own, field by field, so that a program may use this header or one called dlpack.h alike. One that
 * needs more of a dlpack.h than stands here includes that before this; after this it has nothing left to declare. To a
 * dlpack.h before 1.0 the versioned form is added.
 */
#ifndef SYMM_DLPACK_H
#define SYMM_DLPACK_H

#include <stdint.h>

#ifndef DLPACK_DLPACK_H_
#define DLPACK_DLPACK_H_

#ifdef __cplusplus
typedef enum : int32_t {
#else
typedef enum {
#endif
	kDLCPU = 1,
	kDLCUDA = 2,
	kDLCUDAHost = 3,
	kDLOpenCL = 4,
	kDLVulkan = 7,
	kDLMetal = 8,
	kDLVPI = 9,
	kDLROCM = 10,
	kDLROCMHost = 11,
	kDLExtDev = 12,
	kDLCUDAManaged = 13,
	kDLOneAPI = 14,
	kDLWebGPU = 15,
	kDLHexagon = 16,
	kDLMAIA = 17,
	kDLTrn = 18
} DLDeviceType;

typedef struct {
	DLDeviceType device_type;
	int32_t device_id; /* 0 for the host */
} DLDevice;

typedef enum {
	kDLInt = 0,
	kDLUInt = 1,
	kDLFloat = 2,
	kDLOpaqueHandle = 3,
	kDLBfloat = 4,
	kDLComplex = 5,
	kDLBool = 6,
	kDLFloat8_e3m4 = 7,
	kDLFloat8_e4m3 = 8,
	kDLFloat8_e4m3b11fnuz = 9,
	kDLFloat8_e4m3fn = 10,
	kDLFloat8_e4m3fnuz = 11,
	kDLFloat8_e5m2 = 12,
	kDLFloat8_e5m2fnuz = 13,
	kDLFloat8_e8m0fnu = 14,
	kDLFloat6_e2m3fn = 15,
	kDLFloat6_e3m2fn = 16,
	kDLFloat4_e2m1fn = 17
} DLDataTypeCode;

/* A float is { kDLFloat, 32, 1 }. */
typedef struct {
	uint8_t code;   /* of DLDataTypeCode */
	uint8_t bits;   /* of one lane */
	uint16_t lanes; /* 1, or more for vectors */
} DLDataType;

typedef struct {
	void *data; /* an address of the device; NULL if there are no elements */
	DLDevice device;
	int32_t ndim;
	DLDataType dtype;
	int64_t *shape;       /* [ndim] */
	int64_t *strides;     /* [ndim], in elements; NULL, before 1.2: row-major */
	uint64_t byte_offset; /* from data to the first element */
} DLTensor;

typedef struct DLManagedTensor {
	DLTensor dl_tensor;
	void *manager_ctx;
	void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

#endif

#ifndef DLPACK_MAJOR_VERSION
#if defined(DLPACK_VERSION) && DLPACK_VERSION < 60
#error "symm/dlpack.h: the dlpack.h that was included is older than version 0.6"
#endif

#define DLPACK_MAJOR_VERSION 1
#define DLPACK_MINOR_VERSION 1

typedef struct {
	uint32_t major; /* another one: another layout behind flags */
	uint32_t minor;
} DLPackVersion;

#define DLPACK_FLAG_BITMASK_READ_ONLY (1UL << 0)
#define DLPACK_FLAG_BITMASK_IS_COPIED (1UL << 1)
#define DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED (1UL << 2)

typedef struct DLManagedTensorVersioned {
	DLPackVersion version;
	void *manager_ctx;
	void (*deleter)(struct DLManagedTensorVersioned *self);
	uint64_t flags; /* DLPACK_FLAG_BITMASK_... */
	DLTensor dl_tensor;
} DLManagedTensorVersioned;

#endif

#endif
