/* DLPack tensors: their layout, shapes and views, what is refused, and what is written through them. */
#include "cases.h"
#include "tensor_help.h"

/* DLPack's layout on 64-bit machines. */
_Static_assert(sizeof(DLDevice) == 8 && sizeof(DLDataType) == 4 && sizeof(DLTensor) == 48 && sizeof(DLPackVersion) == 8,
	       "sizes");
_Static_assert(offsetof(DLTensor, device) == 8 && offsetof(DLTensor, ndim) == 16 && offsetof(DLTensor, dtype) == 20 &&
		       offsetof(DLTensor, shape) == 24 && offsetof(DLTensor, byte_offset) == 40,
	       "DLTensor");
_Static_assert(offsetof(DLManagedTensorVersioned, manager_ctx) == 8 &&
		       offsetof(DLManagedTensorVersioned, deleter) == 16 &&
		       offsetof(DLManagedTensorVersioned, flags) == 24 &&
		       offsetof(DLManagedTensorVersioned, dl_tensor) == 32,
	       "DLManagedTensorVersioned");
_Static_assert(offsetof(DLManagedTensor, manager_ctx) == 48 && offsetof(DLManagedTensor, deleter) == 56,
	       "DLManagedTensor");

static const DLDataType byte = { kDLUInt, 8, 1 };

static struct tap_redis redis;

/* ---- shapes ---- */

#define ONES_8 1, 1, 1, 1, 1, 1, 1, 1

static const struct shape {
	DLDataType dtype;
	int ndim;
	int64_t sizes[SYMM_TENSOR_NDIM_MAX];
	bool strided;
	int64_t strides[SYMM_TENSOR_NDIM_MAX];
	size_t bytes;
} shapes[] = {
	{ { kDLFloat, 32, 1 }, 0, { 0 }, false, { 0 }, 4 },
	{ { kDLUInt, 8, 1 }, 1, { 1 }, false, { 1 }, 1 },
	{ { kDLFloat, 32, 1 }, 2, { 3, 4 }, false, { 4, 1 }, 48 },
	{ { kDLUInt, 64, 1 }, 3, { 2, 3, 4 }, false, { 12, 4, 1 }, 192 },
	{ { kDLFloat, 32, 1 }, 2, { 3, 4 }, true, { 8, 1 }, 80 },
	{ { kDLFloat, 64, 1 }, 2, { 3, 4 }, true, { 1, 3 }, 96 },
	{ { kDLFloat, 64, 1 }, 3, { 2, 2, 2 }, true, { 4, 16, 1 }, 22 * 8 },
	/* Each dimension begins just where those before it end. */
	{ { kDLUInt, 8, 1 }, 3, { 2, 3, 4 }, true, { 4, 8, 1 }, 24 },
	{ { kDLUInt, 8, 1 }, 3, { 3, 2, 4 }, true, { 7, 21, 2 }, 42 },
	{ { kDLFloat, 32, 1 }, 2, { 1, 5 }, true, { 0, 1 }, 20 },
	{ { kDLFloat, 32, 1 }, 2, { 5, 1 }, true, { 1, INT64_MAX }, 20 },
	{ { kDLFloat, 32, 1 }, 0, { 0 }, true, { 0 }, 4 },
	{ { kDLFloat, 32, 4 }, 1, { 4 }, true, { 2 }, 7 * 16 },
	{ { kDLInt, 24, 1 }, 1, { 3 }, false, { 1 }, 9 },
	{ { kDLBool, 8, 1 }, 1, { 9 }, false, { 1 }, 9 },
	{ { kDLBfloat, 16, 1 }, 1, { 9 }, false, { 1 }, 18 },
	{ { kDLComplex, 128, 1 }, 1, { 3 }, false, { 1 }, 48 },
	{ { kDLFloat8_e5m2, 8, 1 }, 1, { 5 }, false, { 1 }, 5 },
	{ { kDLUInt, 8, 1 },
	  64,
	  { ONES_8, ONES_8, ONES_8, ONES_8, ONES_8, ONES_8, ONES_8, ONES_8 },
	  false,
	  { ONES_8, ONES_8, ONES_8, ONES_8, ONES_8, ONES_8, ONES_8, ONES_8 },
	  1 },
};

static int check_fields(struct rig *rig, const DLManagedTensorVersioned *tensor, const struct shape *shape)
{
	const DLTensor *t = &tensor->dl_tensor;
	size_t bytes;

	CHECK(tensor->version.major == 1 && tensor->flags == 0);
	CHECK(t->device.device_type == (on_host() ? kDLCPU : kDLCUDA));
	CHECK(t->device.device_id == (on_host() ? 0 : device_of_context(rig->context)->index));
	CHECK(t->ndim == shape->ndim && memcmp(&t->dtype, &shape->dtype, sizeof(t->dtype)) == 0);
	CHECK(memcmp(t->shape, shape->sizes, (size_t)t->ndim * sizeof(*t->shape)) == 0);
	CHECK(memcmp(t->strides, shape->strides, (size_t)t->ndim * sizeof(*t->strides)) == 0);
	CHECK(t->byte_offset == 0);
	GOOD(symm_alloc_size(t->data, &bytes));
	CHECK(bytes == shape->bytes, "(%zu bytes, not %zu)", bytes, shape->bytes);
	CHECK(device_holds(device_of_context(rig->context), t->data, bytes, 0));
	return 0;
}

static int check_shapes(struct rig *rig)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct shape shape = shapes[i];
		DLManagedTensorVersioned *tensor;

		GOOD(symm_empty_strided(rig->group, shape.ndim, shape.sizes, shape.strided ? shape.strides : NULL,
					shape.dtype, NULL, &tensor));
		memset(shape.sizes, 0xff, sizeof(shape.sizes)); /* the caller's arrays are the caller's */
		memset(shape.strides, 0xff, sizeof(shape.strides));
		CHECK(check_fields(rig, tensor, &shapes[i]) == 0, "(shape %zu)", i);
		symm_tensor_free(tensor);
	}
	return 0;
}

#define NONE ", which is no number of bytes"
#define OF_BYTE " of dtype {1, 8, 1}" NONE

static const struct refusal {
	DLDataType dtype;
	int ndim;
	int64_t sizes[5];
	bool strided;
	int64_t strides[3];
	int code;
	const char *requested, *text;
} refusals[] = {
	/* clang-format off */
	{ { kDLUInt, 8, 1 }, -1, { 1 }, false, { 0 }, SYMM_EINVAL,
	  "-1 dimensions" OF_BYTE, "ndim is -1: a tensor has 0 to 64 dimensions" },
	{ { kDLUInt, 8, 1 }, 65, { 1 }, false, { 0 }, SYMM_EINVAL, "65 dimensions" OF_BYTE, "ndim is 65" },
	{ { kDLUInt, 8, 1 }, INT32_MIN, { 1 }, false, { 0 }, SYMM_EINVAL,
	  "-2147483648 dimensions" OF_BYTE, "ndim is -2147483648" },
	{ { kDLUInt, 8, 1 }, 3, { 1, 1, -1 }, false, { 0 }, SYMM_EINVAL,
	  "sizes [1, 1, -1]" OF_BYTE, "sizes[2] is -1: it may not be negative" },
	{ { kDLUInt, 8, 1 }, 2, { INT64_MIN, 1 }, false, { 0 }, SYMM_EINVAL,
	  "sizes [-9223372036854775808, 1]" OF_BYTE, "sizes[0] is -9223372036854775808" },
	{ { kDLUInt, 8, 1 }, 2, { 2, 2 }, true, { -2, 1 }, SYMM_EINVAL,
	  "sizes [2, 2], strides [-2, 1]" OF_BYTE, "strides[0] is -2: it may not be negative" },
	{ { kDLUInt, 8, 1 }, 2, { 2, 0 }, false, { 0 }, SYMM_EINVAL, "0 bytes", "no elements has nothing to allocate" },
	{ { kDLUInt, 8, 1 }, 2, { 0, 2 }, true, { 0, 0 }, SYMM_EINVAL,
	  "0 bytes", "no elements has nothing to allocate" },
	{ { kDLUInt, 8, 1 }, 2, { INT64_MAX, 2 }, false, { 0 }, SYMM_EINVAL,
	  "sizes [9223372036854775807, 2]" OF_BYTE, "more elements than 63 bits" },
	{ { kDLUInt, 8, 1 }, 3, { INT64_MAX, INT64_MAX, 0 }, false, { 0 }, SYMM_EINVAL,
	  "sizes [9223372036854775807, 9223372036854775807, 0]" OF_BYTE, "more elements than 63 bits" },
	{ { kDLFloat, 64, 1 }, 1, { INT64_MAX }, false, { 0 }, SYMM_EINVAL,
	  "sizes [9223372036854775807] of dtype {2, 64, 1}" NONE, "more bytes than 64 bits" },
	{ { kDLUInt, 8, 1 }, 2, { 3, 2 }, true, { INT64_MAX, 1 }, SYMM_EINVAL,
	  "sizes [3, 2], strides [9223372036854775807, 1]" OF_BYTE, "more bytes than 64 bits" },
	{ { kDLUInt, 8, 1 }, 2, { 2, 2 }, true, { INT64_MAX, INT64_MAX }, SYMM_EINVAL,
	  "sizes [2, 2], strides [9223372036854775807, 9223372036854775807]" OF_BYTE, "more bytes than 64 bits" },
	{ { kDLUInt, 8, 1 }, 1, { 2 }, true, { INT64_MAX }, SYMM_EINVAL,
	  "sizes [2], strides [9223372036854775807]" OF_BYTE, "more bytes than 64 bits" },
	{ { kDLUInt, 8, 1 }, 1, { INT64_MAX }, false, { 0 }, SYMM_EINVAL,
	  "9223372036854775807 bytes", "9223372036854775807 bytes are more than an address space" },
	{ { kDLFloat, 64, 1 }, 2, { 2, 1 }, true, { INT64_C(1) << 44, 1 }, SYMM_EINVAL,
	  "140737488355336 bytes", "140737488355336 bytes are more than" },
	{ { kDLUInt, 8, 1 }, 1, { 2 }, true, { 0 }, SYMM_EINVAL, "1 bytes", "strides[0] is 0, and" },
	{ { kDLUInt, 8, 1 }, 2, { 2, 2 }, true, { 1, 1 }, SYMM_EINVAL,
	  "3 bytes", "two elements could have one address" },
	{ { kDLUInt, 8, 1 }, 2, { 2, 3 }, true, { 2, 1 }, SYMM_EINVAL,
	  "5 bytes", "strides[0] is 2, and the dimensions of smaller strides span 3 elements: two" },
	{ { kDLUInt, 8, 1 }, 3, { 3, 2, 2 }, true, { 1, 6, 2 }, SYMM_EINVAL, "11 bytes", "strides[2] is 2, and" },
	{ { kDLUInt, 8, 1 }, 3, { 2, 2, 2 }, true, { 1, 2, 3 }, SYMM_EINVAL,
	  "7 bytes", "strides[2] is 3, and the dimensions of smaller strides span 4 elements: two" },
	{ { kDLFloat, 32, 1 }, 3, { 2, 3, 4 }, true, { 4, 7, 1 }, SYMM_EINVAL,
	  "88 bytes", "strides[1] is 7, and the dimensions of smaller strides span 8 elements: two" },
	{ { kDLFloat4_e2m1fn + 1, 8, 1 }, 1, { 1 }, false, { 0 }, SYMM_EINVAL,
	  "sizes [1] of dtype {18, 8, 1}" NONE, "dtype.code is 18" },
	{ { kDLInt, 0, 1 }, 1, { 1 }, false, { 0 }, SYMM_EINVAL,
	  "sizes [1] of dtype {0, 0, 1}" NONE, "dtype.bits is 0 and dtype.lanes is 1" },
	{ { kDLBool, 32, 1 }, 1, { 1 }, false, { 0 }, SYMM_EINVAL,
	  "sizes [1] of dtype {6, 32, 1}" NONE, "kDLBool of 32 bits: it has 8" },
	{ { kDLInt, 8, 0 }, 1, { 1 }, false, { 0 }, SYMM_EINVAL,
	  "sizes [1] of dtype {0, 8, 0}" NONE, "dtype.bits is 8 and dtype.lanes is 0" },
	{ { kDLFloat4_e2m1fn, 4, 1 }, 1, { 2 }, false, { 0 }, SYMM_ENOTSUP,
	  "sizes [2] of dtype {17, 4, 1}" NONE, "dtype.bits is 4: elements that share" },
	{ { kDLFloat4_e2m1fn, 4, 2 }, 1, { 2 }, false, { 0 }, SYMM_ENOTSUP,
	  "sizes [2] of dtype {17, 4, 2}" NONE, "dtype.bits is 4" },
	{ { kDLUInt, 1, 1 }, 1, { 8 }, false, { 0 }, SYMM_ENOTSUP,
	  "sizes [8] of dtype {1, 1, 1}" NONE, "use 8 bits and pack" },
	{ { kDLInt, 12, 1 }, 1, { 2 }, false, { 0 }, SYMM_ENOTSUP,
	  "sizes [2] of dtype {0, 12, 1}" NONE, "dtype.bits is 12" },
	{ { kDLUInt, 8, 1 }, 5, { 1, 2, 3, 4, -5 }, false, { 0 }, SYMM_EINVAL,
	  "sizes [1, 2, 3, 4, ...]" OF_BYTE, "sizes[4] is -5" },
	/* clang-format on */
};

/* The thread's error begins with the call, and what there was of bytes. */
static bool tells(const char *call, const char *requested, const char *allocated)
{
	char begin[SYMM_ERROR_TEXT];
	int n = snprintf(begin, sizeof(begin), "%s: requested: %s%s: ", call, requested, allocated);

	return strncmp(symm_last_error(), begin, (size_t)n) == 0;
}

static int check_refusals(struct rig *rig)
{
	DLManagedTensorVersioned untouched, *tensor = &untouched;
	const int64_t one = 1;

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *r = &refusals[i];

		BAD(symm_empty_strided(rig->group, r->ndim, r->sizes, r->strided ? r->strides : NULL, r->dtype, NULL,
				       &tensor),
		    r->code, r->text);
		CHECK(tensor == &untouched && tells("symm_empty_strided", r->requested, ""), "(%s)", symm_last_error());
	}
	BAD(symm_empty_strided(rig->group, 1, NULL, NULL, byte, NULL, &tensor), SYMM_EINVAL,
	    "requested: 1 dimensions" OF_BYTE ": sizes is NULL, and ndim");
	BAD(symm_empty_strided(rig->group, 1, &one, NULL, byte, NULL, NULL), SYMM_EINVAL, "tensor is NULL");
	BAD(symm_empty_strided(NULL, 1, &one, NULL, byte, NULL, &tensor), SYMM_EINVAL, "is not a symm_group");
	BAD(symm_empty_strided(rig->group, 1, &one, NULL, byte,
			       &(struct symm_alloc_options){ sizeof(struct symm_alloc_options), "other:1", 0, 0, 0 },
			       &tensor),
	    SYMM_EINVAL, "device other:1");
	CHECK(tensor == &untouched);
	return 0;
}

/* ---- the form before DLPack 1.0, and the end ---- */

static void foreign_deleter(DLManagedTensorVersioned *self)
{
	++*(int *)self->manager_ctx;
}

static int check_unversioned(struct rig *rig)
{
	int deleted = 0;
	DLManagedTensorVersioned *tensor, foreign = { .manager_ctx = &deleted, .deleter = foreign_deleter };
	DLManagedTensor *old = NULL;
	size_t bytes;
	void *data;

	GOOD(words(rig->group, 5, &tensor));
	BAD(symm_tensor_unversioned(tensor, NULL), SYMM_EINVAL, "old is NULL");
	BAD(symm_tensor_unversioned(NULL, &old), SYMM_EINVAL, "is not a tensor of symm_empty_strided");
	BAD(symm_tensor_unversioned(&foreign, &old), SYMM_EINVAL, "is not a tensor of symm_empty_strided");
	CHECK(old == NULL);
	data = tensor->dl_tensor.data;
	GOOD(symm_tensor_unversioned(tensor, &old));
	CHECK(old->dl_tensor.data == data && old->dl_tensor.shape[0] == 5 && old->dl_tensor.strides[0] == 1);
	GOOD(symm_alloc_size(data, &bytes));
	old->deleter(old);
	BAD(symm_alloc_size(data, &bytes), SYMM_ENOENT, "not inside an allocation");
	symm_tensor_free(NULL);
	symm_tensor_free(&foreign);
	CHECK(deleted == 1);
	foreign.deleter = NULL;
	symm_tensor_free(&foreign);
	CHECK(deleted == 1);
	return 0;
}

static int alone(int rank, void *arg)
{
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	if (check_shapes(rig) != 0 || check_refusals(rig) != 0 || check_unversioned(rig) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- views ---- */

#define BLOCK 1000 /* bytes */

static const struct part {
	DLDataType dtype;
	int ndim;
	int64_t sizes[2], offset;
	const char *requested, *text; /* NULL: good */
} parts[] = {
	/* clang-format off */
	{ { kDLUInt, 8, 1 }, 1, { BLOCK }, 0, NULL, NULL },
	{ { kDLUInt, 8, 1 }, 1, { 1 }, BLOCK - 1, NULL, NULL },
	{ { kDLFloat, 64, 1 }, 2, { 5, 25 }, 0, NULL, NULL },
	{ { kDLFloat, 64, 1 }, 2, { 4, 31 }, 1, NULL, NULL },
	{ { kDLFloat, 64, 1 }, 0, { 0 }, 124, NULL, NULL },
	{ { kDLFloat, 32, 4 }, 1, { 61 }, 1, NULL, NULL },
	{ { kDLUInt, 8, 1 }, 1, { 0 }, BLOCK, NULL, NULL },
	{ { kDLFloat, 64, 1 }, 2, { 1000, 0 }, 3, NULL, NULL },
	{ { kDLUInt, 8, 1 }, 1, { BLOCK + 1 }, 0,
	  "1001 bytes", "at storage_offset 0, elements of 1 bytes, that reaches beyond the end" },
	{ { kDLUInt, 8, 1 }, 1, { 1 }, BLOCK, "1 bytes", "at storage_offset 1000," },
	{ { kDLUInt, 8, 1 }, 1, { 0 }, BLOCK + 1, "0 bytes", "at storage_offset 1001," },
	{ { kDLFloat, 64, 1 }, 1, { 125 }, 1, "1000 bytes", "at storage_offset 1, elements of 8 bytes, that" },
	{ { kDLFloat, 64, 1 }, 1, { 126 }, 0, "1008 bytes", "at storage_offset 0," },
	{ { kDLFloat, 64, 1 }, 0, { 0 }, 125, "8 bytes", "at storage_offset 125," },
	{ { kDLUInt, 8, 1 }, 1, { 1 }, -1, "1 bytes", "storage_offset is -1: it may not be negative" },
	{ { kDLUInt, 8, 1 }, 1, { 1 }, INT64_MAX, "1 bytes", "at storage_offset 9223372036854775807," },
	{ { kDLFloat, 64, 1 }, 1, { 1 }, INT64_MAX, "8 bytes", "at storage_offset 9223372036854775807," },
	{ { kDLFloat, 64, 1 }, 1, { 1 }, INT64_C(1) << 61, "8 bytes", "at storage_offset 2305843009213693952," },
	{ { kDLFloat, 64, 1 }, 1, { 1 }, (INT64_C(1) << 61) - 1, "8 bytes", "at storage_offset 2305843009213693951," },
	{ { kDLUInt, 8, 1 }, 1, { INT64_MAX }, 2, "9223372036854775807 bytes", "at storage_offset 2," },
	{ { kDLFloat, 64, 1 }, 1, { INT64_MAX }, 0,
	  "sizes [9223372036854775807] of dtype {2, 64, 1}" NONE, "the sizes and strides reach over more bytes" },
	{ { kDLUInt, 8, 1 }, 2, { INT64_MAX, 3 }, 0,
	  "sizes [9223372036854775807, 3]" OF_BYTE, "more elements than 63 bits" },
	{ { kDLUInt, 8, 1 }, 2, { 1, -5 }, 0, "sizes [1, -5]" OF_BYTE, "sizes[1] is -5" },
	{ { kDLUInt, 8, 1 }, -1, { 1 }, 0, "-1 dimensions" OF_BYTE, "ndim is -1" },
	{ { kDLInt, 8, 0 }, 1, { 1 }, 0, "sizes [1] of dtype {0, 8, 0}" NONE, "dtype.lanes is 0" },
	{ { 99, 8, 1 }, 1, { 1 }, 0, "sizes [1] of dtype {99, 8, 1}" NONE, "dtype.code is 99" },
	/* clang-format on */
};

static int check_view(struct symm_mem *mem, const struct part *p, const DLManagedTensorVersioned *tensor, int rank)
{
	const DLTensor *t = &tensor->dl_tensor;
	size_t element = (size_t)p->dtype.bits / 8 * p->dtype.lanes;
	bool empty = false;

	for (int i = 0; i < p->ndim; i++)
		empty |= p->sizes[i] == 0;
	CHECK(t->data == (empty ? NULL : (char *)symm_mem_buffer(mem, rank) + (size_t)p->offset * element));
	CHECK((uintptr_t)t->data % element == 0);
	CHECK(t->ndim == p->ndim && memcmp(t->shape, p->sizes, (size_t)p->ndim * sizeof(*t->shape)) == 0);
	for (int i = t->ndim - 1, step = 1; i >= 0; step *= t->shape[i] > 0 ? (int)t->shape[i] : 1, i--)
		CHECK(t->strides[i] == step);
	CHECK(t->byte_offset == 0 && tensor->flags == 0 && tensor->version.major == 1);
	return 0;
}

static int check_bounds(struct symm_mem *mem, int peer)
{
	DLManagedTensorVersioned untouched, *tensor = &untouched;
	const int64_t one = 1;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const struct part *p = &parts[i];

		if (p->text == NULL) {
			GOOD(symm_get_buffer(mem, peer, p->ndim, p->sizes, p->dtype, p->offset, &tensor));
			CHECK(check_view(mem, p, tensor, peer) == 0, "(part %zu)", i);
			symm_tensor_free(tensor);
			tensor = &untouched;
		} else {
			BAD(symm_get_buffer(mem, peer, p->ndim, p->sizes, p->dtype, p->offset, &tensor), SYMM_EINVAL,
			    p->text);
			CHECK(tensor == &untouched && tells("symm_get_buffer", p->requested, "; allocated: 1000 bytes"),
			      "(%s)", symm_last_error());
		}
	}
	BAD(symm_get_buffer(mem, -1, 1, &one, byte, 0, &tensor), SYMM_EINVAL, "rank -1 is not in the group of 2");
	BAD(symm_get_buffer(mem, 2, 1, &one, word, 0, &tensor), SYMM_EINVAL,
	    "requested: 8 bytes; allocated: 1000 bytes: rank 2 is not in the group of 2");
	BAD(symm_get_buffer(mem, 0, 1, NULL, byte, 0, &tensor), SYMM_EINVAL,
	    "requested: 1 dimensions" OF_BYTE "; allocated: 1000 bytes: sizes is NULL");
	BAD(symm_get_buffer(mem, 0, 1, &one, byte, 0, NULL), SYMM_EINVAL, "tensor is NULL");
	BAD(symm_get_buffer(NULL, 0, 1, &one, byte, 0, &tensor), SYMM_EINVAL, "is not a symm_mem");
	BAD(symm_get_buffer(mem, 0, 1, &one, (DLDataType){ kDLInt, 4, 1 }, 0, &tensor), SYMM_ENOTSUP,
	    "requested: sizes [1] of dtype {0, 4, 1}" NONE "; allocated: 1000 bytes: dtype.bits is 4");
	return 0;
}

static int check_pad(struct rig *rig, struct symm_mem *mem, int rank)
{
	const int64_t size = (int64_t)symm_mem_signal_pad_size(mem), all = size / 8, one = 1;
	DLManagedTensorVersioned *theirs, *mine;

	GOOD(symm_get_signal_pad(mem, rank, 1, &all, word, 0, &mine));
	CHECK(mine->dl_tensor.data == symm_mem_signal_pad(mem, rank));
	GOOD(symm_get_signal_pad(mem, 1 - rank, 1, &one, word, all - 1, &theirs));
	CHECK(write_word(rig, theirs, 0, 40 + (uint64_t)rank));
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(read_word(rig, mine, (size_t)all - 1) == 41 - (uint64_t)rank);
	CHECK(write_word(rig, mine, (size_t)all - 1, 0));
	symm_tensor_free(theirs);
	BAD(symm_get_signal_pad(mem, rank, 1, &all, word, 1, &theirs), SYMM_EINVAL,
	    "requested: 2048 bytes; allocated: 2048 bytes: at storage_offset 1, elements of 8 bytes, that");
	BAD(symm_get_signal_pad(mem, rank, 1, &one, byte, size, &theirs), SYMM_EINVAL,
	    "symm_get_signal_pad: requested: 1 bytes; allocated: 2048 bytes: at storage_offset 2048");
	symm_tensor_free(mine);
	GOOD(symm_barrier(mem, 0, 0));
	return 0;
}

/* Both write into each other's block through views. */
static int check_exchange(struct rig *rig, struct symm_mem *mem, int rank)
{
	const int64_t all = BLOCK / 8, some = 10;
	DLManagedTensorVersioned *mine, *theirs;

	GOOD(words_of(mem, rank, all, &mine));
	GOOD(symm_get_buffer(mem, 1 - rank, 1, &some, word, 100, &theirs));
	for (size_t i = 0; i < (size_t)some; i++)
		CHECK(write_word(rig, theirs, i, 1000 * ((uint64_t)rank + 1) + i));
	GOOD(symm_barrier(mem, 0, 0));
	for (size_t i = 0; i < (size_t)all; i++)
		CHECK(read_word(rig, mine, i) == (i < 100 || i >= 110 ? 0 : 1000 * (2 - (uint64_t)rank) + i - 100));
	GOOD(symm_barrier(mem, 0, 0));
	symm_tensor_free(mine);
	symm_tensor_free(theirs);
	return 0;
}

/* Rendezvous and look-up by a tensor, ours or a slice that somebody else has made of it. */
static int check_rendezvous(struct rig *rig, int rank, DLManagedTensorVersioned **tensor, struct symm_mem **mem)
{
	DLTensor slice = { .byte_offset = BLOCK - 1 }, outside;
	const int64_t size = BLOCK;
	struct symm_mem *found;

	GOOD(symm_empty_strided(rig->group, 1, &size, NULL, byte, NULL, tensor));
	slice.data = (*tensor)->dl_tensor.data;
	BAD(symm_tensor_mem(&slice, NULL, &found), SYMM_ENOENT, "no rendezvous of the allocation");
	BAD(symm_tensor_rendezvous(rank == 0 ? NULL : &slice, rig->group, 0, &found), SYMM_ENOENT,
	    "is not inside an allocation");
	CHECK(strstr(symm_last_error(), "rank 0") != NULL, "(%s)", symm_last_error());
	GOOD(symm_tensor_rendezvous(&slice, rank == 0 ? NULL : rig->group, 0, mem));
	GOOD(symm_tensor_rendezvous(&(*tensor)->dl_tensor, NULL, 0, &found));
	CHECK(found == *mem);
	GOOD(symm_mem_release(found));
	GOOD(symm_tensor_mem(&slice, NULL, &found));
	CHECK(found == *mem);
	GOOD(symm_mem_release(found));
	outside = slice;
	outside.byte_offset++;
	BAD(symm_tensor_mem(&outside, NULL, &found), SYMM_ENOENT, "is not inside an allocation");
	BAD(symm_tensor_mem(NULL, NULL, &found), SYMM_ENOENT, "is not inside an allocation");
	BAD(symm_tensor_rendezvous(&outside, NULL, 0, &found), SYMM_ENOENT, "is not inside an allocation");
	BAD(symm_tensor_mem(&slice, NULL, NULL), SYMM_EINVAL, "mem is NULL");
	BAD(symm_tensor_rendezvous(&slice, NULL, 0, NULL), SYMM_EINVAL, "mem is NULL");
	return 0;
}

/* The allocation is freed, the symm_mem released, and more than that: a view works on, and its end is theirs. */
static int check_keeping(struct rig *rig, struct symm_mem *mem, int rank, DLManagedTensorVersioned *tensor)
{
	DLManagedTensorVersioned *mine, *theirs;
	void *ptr = tensor->dl_tensor.data;
	size_t bytes;

	GOOD(words_of(mem, rank, BLOCK / 8, &mine));
	GOOD(words_of(mem, 1 - rank, BLOCK / 8, &theirs));
	symm_tensor_free(tensor);
	GOOD(symm_mem_release(mem));
	BAD(symm_mem_release(mem), SYMM_EINVAL, "no reference to release");
	BAD(symm_alloc_size(ptr, &bytes), SYMM_ENOENT, "has been freed");
	CHECK(write_word(rig, theirs, 0, 70 + (uint64_t)rank));
	GOOD(symm_barrier(mem, 2, 0));
	CHECK(read_word(rig, mine, 0) == 71 - (uint64_t)rank);
	symm_tensor_free(theirs);
	GOOD(symm_barrier(mem, 2, 0));
	symm_tensor_free(mine);
	BAD(symm_alloc_size(ptr, &bytes), SYMM_ENOENT, "not inside an allocation");
	BAD(words_of(mem, rank, 1, &mine), SYMM_ESTALE, "this symm_mem is no more");
	return 0;
}

static int views(int rank, void *arg)
{
	struct rig *rig = arg;
	DLManagedTensorVersioned *tensor;
	struct symm_mem *mem;

	GOOD(rig_join(rig, rank));
	if (check_rendezvous(rig, rank, &tensor, &mem) != 0 || check_bounds(mem, 1 - rank) != 0 ||
	    check_pad(rig, mem, rank) != 0 || check_exchange(rig, mem, rank) != 0 ||
	    check_keeping(rig, mem, rank, tensor) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

int main(void)
{
	static const struct test_case tests[] = {
		{ "shapes and refusals", 1, alone },
		{ "views", 2, views },
	};

	if (!need_device(1))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	TEST_CASES(&redis, NULL, tests);
	tap_redis_stop(&redis);
	return tap_done();
}
