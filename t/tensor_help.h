/* tensor_help.h: what the tests of tensors share: those of 64-bit words, and access to them on every device. */
#ifndef TENSOR_HELP_H
#define TENSOR_HELP_H

#include "rig.h"
#include "symm/tensor.h"

static const DLDataType word = { kDLUInt, 64, 1 };

static inline bool write_word(struct rig *rig, const DLManagedTensorVersioned *tensor, size_t number, uint64_t value)
{
	return device_write(device_of_context(rig->context), (uint64_t *)tensor->dl_tensor.data + number, &value,
			    sizeof(value));
}

/* UINT64_MAX if it cannot be read. */
static inline uint64_t read_word(struct rig *rig, const DLManagedTensorVersioned *tensor, size_t number)
{
	uint64_t value;

	return device_read(device_of_context(rig->context), &value, (uint64_t *)tensor->dl_tensor.data + number,
			   sizeof(value))
		       ? value
		       : UINT64_MAX;
}

/* A tensor of n 64-bit words. */
static inline int words(struct symm_group *group, int64_t n, DLManagedTensorVersioned **tensor)
{
	return symm_empty_strided(group, 1, &n, NULL, word, NULL, tensor);
}

static inline int words_of(struct symm_mem *mem, int rank, int64_t n, DLManagedTensorVersioned **tensor)
{
	return symm_get_buffer(mem, rank, 1, &n, word, 0, tensor);
}

#endif
