/* tensor.c: allocations, and views of them, as DLPack tensors. What a tensor keeps alive, and how it ends, is in
 * release.c. */
#include "symm/tensor.h"

#include "base.h"
#include "fork.h"
#include "handle.h"
#include "release.h"
#include "trace.h"
#include "view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tensor {
	DLManagedTensorVersioned managed;
	DLManagedTensor old; /* once it was asked for: the form in which the user has it */
	struct use use;
	struct view *view;     /* the tensor keeps it; NULL: it is the use of its memory, or: */
	struct tensor *origin; /* it is an alias of this */
	int users;             /* itself until it is freed, and its aliases; atomic */
	int64_t dims[];        /* sizes, then strides */
};

static void tensor_free(struct tensor *tensor)
{
	bool is_ours = symm_fork_check() == 0;

	if (__atomic_sub_fetch(&tensor->users, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (tensor->origin != NULL)
		tensor_free(tensor->origin);
	else if (is_ours && tensor->view != NULL)
		symm_view_end_tensor(tensor->view);
	else if (is_ours)
		symm_use_end(&tensor->use);
	free(tensor);
}

static void delete_tensor(DLManagedTensorVersioned *managed)
{
	SYMM_TRACE("symm_tensor_free");
	tensor_free(managed->manager_ctx);
}

static void delete_old(DLManagedTensor *old)
{
	SYMM_TRACE("symm_tensor_free");
	tensor_free(old->manager_ctx);
}

/* ---- shapes ---- */

/* As the user asks for it. */
struct shape {
	int ndim;
	const int64_t *sizes, *strides; /* strides NULL: row-major */
	DLDataType dtype;
};

static int check_dtype(DLDataType dtype)
{
	if (dtype.code > kDLFloat4_e2m1fn)
		return symm_error(SYMM_EINVAL, "dtype.code is %d, which DLPack %d.%d does not have", dtype.code,
				  DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION);
	if (dtype.bits == 0 || dtype.lanes == 0)
		return symm_error(SYMM_EINVAL, "dtype.bits is %d and dtype.lanes is %d: neither may be 0", dtype.bits,
				  dtype.lanes);
	if (dtype.code == kDLBool && dtype.bits != 8)
		return symm_error(SYMM_EINVAL, "dtype is kDLBool of %d bits: it has 8", dtype.bits);
	if (dtype.bits % 8 != 0)
		return symm_error(SYMM_ENOTSUP,
				  "dtype.bits is %d: elements that share bytes have no addresses; use 8 bits and pack",
				  dtype.bits);
	return 0;
}

static int check_dims(const char *name, int ndim, const int64_t *dims)
{
	for (int i = 0; i < ndim; i++)
		if (dims[i] < 0)
			return symm_error(SYMM_EINVAL, "%s[%d] is %lld: it may not be negative", name, i,
					  (long long)dims[i]);
	return 0;
}

static int check_shape(const struct shape *shape)
{
	int rc = check_dtype(shape->dtype);

	if (rc != 0)
		return rc;
	if (shape->ndim < 0 || shape->ndim > SYMM_TENSOR_NDIM_MAX)
		return symm_error(SYMM_EINVAL, "ndim is %d: a tensor has 0 to %d dimensions", shape->ndim,
				  SYMM_TENSOR_NDIM_MAX);
	if (shape->ndim > 0 && shape->sizes == NULL)
		return symm_error(SYMM_EINVAL, "sizes is NULL, and ndim is %d", shape->ndim);
	rc = check_dims("sizes", shape->ndim, shape->sizes);
	return rc == 0 && shape->strides != NULL ? check_dims("strides", shape->ndim, shape->strides) : rc;
}

/* A size of 0 counts as 1, as elsewhere. */
static int row_major(int ndim, const int64_t *sizes, int64_t *strides)
{
	int64_t stride = 1;

	for (int i = ndim - 1; i >= 0; i--) {
		strides[i] = stride;
		if (sizes[i] > 0 && __builtin_mul_overflow(stride, sizes[i], &stride))
			return symm_error(SYMM_EINVAL, "the sizes give more elements than 63 bits count");
	}
	return 0;
}

/* A tensor that has no memory yet. */
static int tensor_new(const struct shape *shape, struct tensor **out)
{
	struct tensor *tensor;
	size_t n = (size_t)shape->ndim;
	int rc = check_shape(shape);

	if (rc != 0)
		return rc;
	tensor = calloc(1, sizeof(*tensor) + 2 * n * sizeof(*tensor->dims));
	if (tensor == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	for (size_t i = 0; i < n; i++)
		tensor->dims[i] = shape->sizes[i];
	for (size_t i = 0; i < n && shape->strides != NULL; i++)
		tensor->dims[n + i] = shape->strides[i];
	if (shape->strides == NULL)
		rc = row_major(shape->ndim, tensor->dims, tensor->dims + n);
	if (rc != 0) {
		free(tensor);
		return rc;
	}
	tensor->managed = (DLManagedTensorVersioned){
		.version = { DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION },
		.manager_ctx = tensor,
		.deleter = delete_tensor,
		.dl_tensor = { .ndim = shape->ndim,
			       .dtype = shape->dtype,
			       .shape = tensor->dims,
			       .strides = tensor->dims + n },
	};
	tensor->users = 1;
	*out = tensor;
	return 0;
}

static size_t element_bytes(DLDataType dtype)
{
	return (size_t)dtype.bits / 8 * dtype.lanes;
}

/* From the first element's first byte to behind the last element's last; 0 without elements. */
static int storage_bytes(const DLTensor *t, size_t *bytes)
{
	int64_t elements = 1, reach;
	size_t n = 0;

	for (int i = 0; i < t->ndim; i++) {
		if (t->shape[i] == 0) {
			*bytes = 0;
			return 0;
		}
	}
	for (int i = 0; i < t->ndim; i++)
		if (__builtin_mul_overflow(t->shape[i] - 1, t->strides[i], &reach) ||
		    __builtin_add_overflow(elements, reach, &elements))
			goto too_many;
	if (__builtin_mul_overflow((size_t)elements, element_bytes(t->dtype), &n))
		goto too_many;
	*bytes = n;
	return 0;
too_many:
	return symm_error(SYMM_EINVAL, "the sizes and strides reach over more bytes than 64 bits count");
}

/* Two elements of a tensor have one address, or it takes more than this to rule that out: each dimension, in the order
 * of strides, must step over all that those before it span. */
static int check_overlap(const DLTensor *t)
{
	int order[SYMM_TENSOR_NDIM_MAX], n = 0;
	int64_t span = 1;

	for (int i = 0; i < t->ndim; i++) {
		int at = n;

		if (t->shape[i] == 1)
			continue;
		for (; at > 0 && t->strides[order[at - 1]] > t->strides[i]; at--)
			order[at] = order[at - 1];
		order[at] = i;
		n++;
	}
	for (int i = 0; i < n; i++) {
		int dim = order[i];

		if (t->strides[dim] < span)
			return symm_error(SYMM_EINVAL,
					  "strides[%d] is %lld, and the dimensions of smaller strides span %lld "
					  "elements: two elements could have one address",
					  dim, (long long)t->strides[dim], (long long)span);
		span += (t->shape[dim] - 1) * t->strides[dim];
	}
	return 0;
}

/* ---- what was asked for, in errors ---- */

#define DIMS_SHOWN 4
#define SHAPE_TEXT 320 /* two lists, of numbers of 20 digits */

static int shape_bytes(const struct shape *shape, size_t *bytes)
{
	struct tensor *tensor;
	int rc = tensor_new(shape, &tensor);

	if (rc != 0)
		return rc;
	rc = storage_bytes(&tensor->managed.dl_tensor, bytes);
	free(tensor);
	return rc;
}

static void add_dims(char text[SHAPE_TEXT], const char *name, int ndim, const int64_t *dims)
{
	size_t used = strlen(text);

	used += (size_t)snprintf(text + used, SHAPE_TEXT - used, "%s [", name);
	for (int i = 0; i < ndim && i < DIMS_SHOWN; i++)
		used += (size_t)snprintf(text + used, SHAPE_TEXT - used, "%s%lld", i > 0 ? ", " : "",
					 (long long)dims[i]);
	snprintf(text + used, SHAPE_TEXT - used, "%s]", ndim > DIMS_SHOWN ? ", ..." : "");
}

static void show_shape(const struct shape *shape, char text[SHAPE_TEXT])
{
	const DLDataType dtype = shape->dtype;
	int ndim = shape->ndim;
	size_t used;

	snprintf(text, SHAPE_TEXT, "%d dimensions", ndim);
	if (ndim >= 0 && ndim <= SYMM_TENSOR_NDIM_MAX && shape->sizes != NULL) {
		text[0] = '\0';
		add_dims(text, "sizes", ndim, shape->sizes);
		if (shape->strides != NULL)
			add_dims(text, ", strides", ndim, shape->strides);
	}
	used = strlen(text);
	snprintf(text + used, SHAPE_TEXT - used, " of dtype {%d, %d, %d}, which is no number of bytes", dtype.code,
		 dtype.bits, dtype.lanes);
}

/* Puts that before the detail of an error. allocated: "", or what there is instead. Returns rc. */
static int refuse(int rc, const struct shape *shape, const char *allocated)
{
	char text[SHAPE_TEXT];
	struct symm_err why;
	size_t bytes;

	symm_err_take(&why, rc);
	if (shape_bytes(shape, &bytes) == 0)
		snprintf(text, sizeof(text), "%zu bytes", bytes);
	else
		show_shape(shape, text);
	symm_err_return(&why);
	return symm_error_prefix(rc, "requested: %s%s", text, allocated);
}

/* ---- new memory ---- */

static void place(DLTensor *t, const struct symm_device *device, void *data)
{
	t->data = data;
	t->device = (DLDevice){ device->ops->dlpack, device->index };
}

static int check_new(const DLTensor *t, size_t *bytes)
{
	int rc = storage_bytes(t, bytes);

	if (rc != 0)
		return rc;
	if (*bytes == 0)
		return symm_error(SYMM_EINVAL, "a size is 0: a tensor of no elements has nothing to allocate");
	return check_overlap(t);
}

/* The group is held, so that it is not left meanwhile. */
static int allocate(struct tensor *tensor, struct symm_group *group, const struct symm_alloc_options *options)
{
	DLTensor *t = &tensor->managed.dl_tensor;
	size_t bytes;
	void *ptr;
	int rc = check_new(t, &bytes);

	if (rc == 0)
		rc = symm_alloc(group, bytes, options, &ptr);
	if (rc != 0)
		return rc;
	rc = symm_use_begin(ptr, &tensor->use);
	if (rc != 0) {
		struct symm_err why;

		symm_err_take(&why, rc);
		symm_free(ptr);
		return symm_err_return(&why);
	}
	place(t, tensor->use.device, ptr);
	return 0;
}

int symm_empty_strided(struct symm_group *handle, int ndim, const int64_t *sizes, const int64_t *strides,
		       DLDataType dtype, const struct symm_alloc_options *options, DLManagedTensorVersioned **out)
{
	SYMM_TRACE("symm_empty_strided");
	const struct shape shape = { ndim, sizes, strides, dtype };
	struct tensor *tensor;
	struct group *group;
	int rc;

	if (out == NULL)
		return symm_error(SYMM_EINVAL, "symm_empty_strided: tensor is NULL");
	group = symm_group_get(handle, &rc);
	if (group == NULL)
		return symm_error_prefix(rc, "symm_empty_strided");
	rc = tensor_new(&shape, &tensor);
	if (rc == 0) {
		rc = allocate(tensor, handle, options);
		if (rc == 0)
			*out = &tensor->managed;
		else
			free(tensor);
	}
	if (rc != 0)
		refuse(rc, &shape, "");
	symm_group_put(group);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_empty_strided");
}

/* ---- views ---- */

struct part {
	int rank;
	int64_t offset; /* in elements */
	bool pad;
};

static size_t part_bytes(const struct view *view, const struct part *part)
{
	return part->pad ? view->alloc->pad_bytes : view->alloc->bytes;
}

/* *data: where it begins; NULL without elements. */
static int find_part(const struct view *view, const DLTensor *t, const struct part *part, void **data)
{
	size_t element = element_bytes(t->dtype), bytes, begin, end;
	void *const *of;
	int rc;

	if (part->rank < 0 || part->rank >= view->group->world_size)
		return symm_error(SYMM_EINVAL, "rank %d is not in the group of %d", part->rank,
				  view->group->world_size);
	if (part->offset < 0)
		return symm_error(SYMM_EINVAL, "storage_offset is %lld: it may not be negative",
				  (long long)part->offset);
	rc = storage_bytes(t, &bytes);
	if (rc != 0)
		return rc;
	if (__builtin_mul_overflow((size_t)part->offset, element, &begin) ||
	    __builtin_add_overflow(begin, bytes, &end) || end > part_bytes(view, part))
		return symm_error(SYMM_EINVAL,
				  "at storage_offset %lld, elements of %zu bytes, that reaches beyond the end",
				  (long long)part->offset, element);
	of = part->pad ? view->pad : view->buffer;
	*data = bytes > 0 ? (char *)of[part->rank] + begin : NULL;
	return 0;
}

/* With a call on the view's handle inside. */
static int look_at(struct tensor *tensor, struct view *view, const struct part *part)
{
	void *data;
	int rc = find_part(view, &tensor->managed.dl_tensor, part, &data);

	if (rc == 0)
		rc = symm_view_begin_tensor(view);
	if (rc != 0)
		return rc;
	tensor->view = view;
	place(&tensor->managed.dl_tensor, view->alloc->block->device, data);
	return 0;
}

static int get(struct symm_mem *handle, const struct part *part, const struct shape *shape,
	       DLManagedTensorVersioned **out)
{
	char allocated[64];
	struct tensor *tensor;
	struct view *view;
	int rc;

	if (out == NULL)
		return symm_error(SYMM_EINVAL, "tensor is NULL");
	view = symm_view_get(handle, &rc);
	if (view == NULL)
		return rc;
	rc = tensor_new(shape, &tensor);
	if (rc == 0) {
		rc = look_at(tensor, view, part);
		if (rc == 0)
			*out = &tensor->managed;
		else
			free(tensor);
	}
	if (rc != 0) {
		snprintf(allocated, sizeof(allocated), "; allocated: %zu bytes", part_bytes(view, part));
		refuse(rc, shape, allocated);
	}
	symm_view_put(view);
	return rc;
}

int symm_get_buffer(struct symm_mem *mem, int rank, int ndim, const int64_t *sizes, DLDataType dtype,
		    int64_t storage_offset, DLManagedTensorVersioned **tensor)
{
	const struct part part = { rank, storage_offset, false };
	const struct shape shape = { ndim, sizes, NULL, dtype };
	int rc = get(mem, &part, &shape, tensor);

	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_get_buffer");
}

int symm_get_signal_pad(struct symm_mem *mem, int rank, int ndim, const int64_t *sizes, DLDataType dtype,
			int64_t storage_offset, DLManagedTensorVersioned **tensor)
{
	const struct part part = { rank, storage_offset, true };
	const struct shape shape = { ndim, sizes, NULL, dtype };
	int rc = get(mem, &part, &shape, tensor);

	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_get_signal_pad");
}

/* ---- from a tensor ---- */

/* Where the first element is. NULL goes on to symm_rendezvous too, so that the other ranks are told. */
static void *address_of(const DLTensor *tensor)
{
	return tensor != NULL ? (void *)((uintptr_t)tensor->data + tensor->byte_offset) : NULL;
}

int symm_tensor_rendezvous(const DLTensor *tensor, struct symm_group *group, int64_t timeout_ms, struct symm_mem **mem)
{
	SYMM_TRACE("symm_tensor_rendezvous");
	int rc = symm_rendezvous(address_of(tensor), group, timeout_ms, mem);

	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_tensor_rendezvous");
}

int symm_tensor_mem(const DLTensor *tensor, struct symm_group *group, struct symm_mem **mem)
{
	int rc = symm_mem_find(address_of(tensor), group, mem);

	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_tensor_mem");
}

/* ---- other forms, and the end ---- */

static int check_ours(const DLManagedTensorVersioned *managed)
{
	if (managed == NULL || managed->deleter != delete_tensor)
		return symm_error(SYMM_EINVAL,
				  "%p is not a tensor of symm_empty_strided, symm_get_buffer, symm_get_signal_pad or "
				  "symm_tensor_alias",
				  (const void *)managed);
	return 0;
}

int symm_tensor_alias(const DLManagedTensorVersioned *managed, DLManagedTensorVersioned **out)
{
	struct tensor *tensor, *alias;
	const DLTensor *t;
	int rc = symm_fork_check();

	if (rc != 0)
		return rc;
	if (out == NULL)
		return symm_error(SYMM_EINVAL, "symm_tensor_alias: alias is NULL");
	rc = check_ours(managed);
	if (rc == 0) {
		t = &managed->dl_tensor;
		rc = tensor_new(&(struct shape){ t->ndim, t->shape, t->strides, t->dtype }, &alias);
	}
	if (rc != 0)
		return symm_error_prefix(rc, "symm_tensor_alias");
	tensor = managed->manager_ctx;
	__atomic_fetch_add(&tensor->users, 1, __ATOMIC_RELAXED);
	alias->origin = tensor;
	alias->managed.dl_tensor.data = t->data;
	alias->managed.dl_tensor.device = t->device;
	*out = &alias->managed;
	return 0;
}

int symm_tensor_unversioned(DLManagedTensorVersioned *managed, DLManagedTensor **old)
{
	struct tensor *tensor;
	int rc = symm_fork_check();

	if (rc != 0)
		return rc;
	if (old == NULL)
		return symm_error(SYMM_EINVAL, "symm_tensor_unversioned: old is NULL");
	rc = check_ours(managed);
	if (rc != 0)
		return symm_error_prefix(rc, "symm_tensor_unversioned");
	tensor = managed->manager_ctx;
	tensor->old = (DLManagedTensor){ managed->dl_tensor, tensor, delete_old };
	*old = &tensor->old;
	return 0;
}

/* How many of them end when their owner frees them. */
static int count_sole(const DLManagedTensorVersioned *const *managed, size_t n, size_t *sole)
{
	*sole = 0;
	for (size_t i = 0; i < n; i++) {
		const struct tensor *tensor;
		int rc = check_ours(managed[i]);

		if (rc != 0)
			return rc;
		tensor = managed[i]->manager_ctx;
		*sole += tensor->origin == NULL && __atomic_load_n(&tensor->users, __ATOMIC_ACQUIRE) == 1;
	}
	return 0;
}

static int count_but(const struct context *context, const struct group *group,
		     const DLManagedTensorVersioned *const *but, size_t n)
{
	size_t alive, sole;
	int rc = count_sole(but, n, &sole);

	if (rc != 0)
		return rc;
	alive = symm_tensors_alive(context, group);
	return alive > sole ? (int)(alive - sole) : 0;
}

int symm_tensor_count(struct symm_context *context, struct symm_group *group,
		      const DLManagedTensorVersioned *const *but, size_t n)
{
	const enum symm_handle_kind kind = group != NULL ? SYMM_HANDLE_GROUP : SYMM_HANDLE_CONTEXT;
	const void *handle = group != NULL ? (const void *)group : context;
	int rc;
	void *held = symm_handle_get(handle, kind, &rc);

	if (held != NULL) {
		const struct group *of = group != NULL ? held : NULL;

		rc = count_but(of != NULL ? of->context : held, of, but, n);
		symm_handle_put(handle);
	}
	return rc >= 0 ? rc : symm_error_prefix(rc, "symm_tensor_count");
}

void symm_tensor_free(DLManagedTensorVersioned *tensor)
{
	if (tensor != NULL && tensor->deleter != NULL)
		tensor->deleter(tensor);
}
