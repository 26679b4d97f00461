/* symm as tensors: symmetric memory that PyTorch, NumPy, JAX or CuPy take over without a copy, through DLPack.
 *
 * Sizes, strides and offsets are in elements of dtype. Elements of less than a byte are refused. A tensor is writable,
 * lies on the context's device (host: kDLCPU 0; "cuda:1": kDLCUDA 1), and owns its arrays of sizes and strides, which
 * are both there. It is freed by its deleter, which whoever took it over calls: on any thread, at any time, in exit()
 * and in the child of a fork too, where it frees nothing that is the parent's. Until then its memory stays:
 * symm_group_leave and symm_close give SYMM_EBUSY while there are tensors, and leave all as it is.
 */
#ifndef SYMM_TENSOR_H
#define SYMM_TENSOR_H

#include "dlpack.h"
#include "symm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The most dimensions of a tensor. */
#define SYMM_TENSOR_NDIM_MAX 64

/* Allocates symmetric memory as a tensor: symm_alloc of (1 + the sum of (size - 1) * stride) elements. strides NULL:
 * row-major. Local. options may be NULL. "Active" ends with the deleter. The caller owns *tensor: symm_tensor_free. */
SYMM_API int symm_empty_strided(struct symm_group *group, int ndim, const int64_t *sizes, const int64_t *strides,
				DLDataType dtype, const struct symm_alloc_options *options,
				DLManagedTensorVersioned **tensor);
/* A rank's block, or its signal pad, from storage_offset on as a row-major tensor: a view, which keeps the memory
 * alive. The caller owns *tensor. */
SYMM_API int symm_get_buffer(struct symm_mem *mem, int rank, int ndim, const int64_t *sizes, DLDataType dtype,
			     int64_t storage_offset, DLManagedTensorVersioned **tensor);
SYMM_API int symm_get_signal_pad(struct symm_mem *mem, int rank, int ndim, const int64_t *sizes, DLDataType dtype,
				 int64_t storage_offset, DLManagedTensorVersioned **tensor);
/* symm_rendezvous of the allocation in which the tensor's first element lies, whoever made the tensor. Collective the
 * first time. The caller owns a reference to *mem. */
SYMM_API int symm_tensor_rendezvous(const DLTensor *tensor, struct symm_group *group, int64_t timeout_ms,
				    struct symm_mem **mem);
/* symm_mem_find likewise. Local. The caller owns a reference to *mem. */
SYMM_API int symm_tensor_mem(const DLTensor *tensor, struct symm_group *group, struct symm_mem **mem);
/* The same tensor, one of the three calls above, in the form before DLPack 1.0: takes it over. The caller owns *old,
 * and frees it by its deleter. */
SYMM_API int symm_tensor_unversioned(DLManagedTensorVersioned *tensor, DLManagedTensor **old);
/* One more tensor of the same shape and memory, of one of the three calls above, to hand to one more taker: the memory
 * goes with the last. The caller owns *alias. */
SYMM_API int symm_tensor_alias(const DLManagedTensorVersioned *tensor, DLManagedTensorVersioned **alias);
/* How many tensors there are of the memory of a group, or (group NULL) of a context's groups, besides those n that the
 * caller is about to free, where nobody else has an alias of them: if it is 0, symm_group_leave or symm_close is not
 * refused for their sake afterwards. but: of symm_empty_strided, symm_get_buffer and symm_get_signal_pad, and of that
 * memory. Or a negative code. */
SYMM_API int symm_tensor_count(struct symm_context *context, struct symm_group *group,
			       const DLManagedTensorVersioned *const *but, size_t n);
/* Calls the deleter. NULL is fine. */
SYMM_API void symm_tensor_free(DLManagedTensorVersioned *tensor);
/* The destructor for a capsule of Python's, a PyObject, called "dltensor" or "dltensor_versioned", that holds a tensor:
 * frees that if nobody has taken it over. */
SYMM_API void symm_tensor_capsule_end(void *capsule);

#ifdef __cplusplus
}
#endif
#endif
