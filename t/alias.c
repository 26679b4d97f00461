/* Aliases of tensors: the memory goes with the last of them, in whatever order, form and thread they go. */
#include "symm/tensor.h"

#include "ask.h"
#include "rig.h"

#include <pthread.h>
#include <sys/wait.h>

#define ALIASES 5

static const DLDataType byte = { kDLUInt, 8, 1 };
static struct tap_redis redis;

/* A tensor of 2 x 3 bytes that has gaps, and aliases of each other. */
static int make(struct rig *rig, DLManagedTensorVersioned *tensors[ALIASES])
{
	static const int64_t sizes[] = { 2, 3 }, strides[] = { 1, 4 };

	GOOD(symm_empty_strided(rig->group, 2, sizes, strides, byte, NULL, &tensors[0]));
	for (int i = 1; i < ALIASES; i++)
		GOOD(symm_tensor_alias(tensors[i / 2], &tensors[i]));
	return 0;
}

static bool has_fields_of(const DLTensor *a, const DLTensor *b)
{
	return a->data == b->data && a->device.device_type == b->device.device_type &&
	       a->device.device_id == b->device.device_id && a->ndim == b->ndim && a->dtype.code == b->dtype.code &&
	       a->dtype.bits == b->dtype.bits && a->dtype.lanes == b->dtype.lanes && a->shape != b->shape &&
	       a->byte_offset == b->byte_offset && memcmp(a->shape, b->shape, (size_t)a->ndim * 8) == 0 &&
	       memcmp(a->strides, b->strides, (size_t)a->ndim * 8) == 0;
}

static int check_orders(struct rig *rig)
{
	static const int orders[][ALIASES] = { { 0, 1, 2, 3, 4 }, { 4, 3, 2, 1, 0 }, { 2, 4, 0, 3, 1 } };
	DLManagedTensorVersioned *tensors[ALIASES];

	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		size_t bytes;
		void *data;

		CHECK(make(rig, tensors) == 0);
		data = tensors[0]->dl_tensor.data;
		for (int k = 0; k < ALIASES; k++) {
			const DLManagedTensorVersioned *last = tensors[orders[i][ALIASES - 1]];

			CHECK(has_fields_of(&tensors[orders[i][k]]->dl_tensor, &last->dl_tensor) || k == ALIASES - 1);
			GOOD(symm_alloc_size(data, &bytes));
			BAD(symm_group_leave(rig->group), SYMM_EBUSY, "tensor");
			symm_tensor_free(tensors[orders[i][k]]);
		}
		BAD(symm_alloc_size(data, &bytes), SYMM_ENOENT, "");
	}
	return 0;
}

static int check_view(struct rig *rig)
{
	static const int64_t size = 64;
	DLManagedTensorVersioned *view, *alias;
	struct symm_mem *mem;
	DLManagedTensor *old;
	size_t bytes;
	void *ptr;

	GOOD(rig_memory(rig, 64, &ptr, &mem));
	GOOD(symm_get_buffer(mem, 0, 1, &size, byte, 0, &view));
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	GOOD(symm_tensor_alias(view, &alias));
	symm_tensor_free(view);
	GOOD(symm_tensor_unversioned(alias, &old));
	CHECK(old->dl_tensor.data == ptr && old->dl_tensor.shape[0] == 64);
	BAD(symm_group_leave(rig->group), SYMM_EBUSY, "tensor");
	old->deleter(old);
	BAD(symm_alloc_size(ptr, &bytes), SYMM_ENOENT, "");
	return 0;
}

static void *end(void *tensor)
{
	symm_tensor_free(tensor);
	return NULL;
}

static int check_threads(struct rig *rig)
{
	DLManagedTensorVersioned *tensors[ALIASES];
	pthread_t threads[ALIASES];
	size_t bytes;
	void *data;

	for (int round = 0; round < 20; round++) {
		CHECK(make(rig, tensors) == 0);
		data = tensors[0]->dl_tensor.data;
		for (int i = 0; i < ALIASES; i++)
			CHECK(pthread_create(&threads[i], NULL, end, tensors[i]) == 0);
		for (int i = 0; i < ALIASES; i++)
			pthread_join(threads[i], NULL);
		BAD(symm_alloc_size(data, &bytes), SYMM_ENOENT, "");
	}
	return 0;
}

static int check_fork(struct rig *rig)
{
	DLManagedTensorVersioned *tensors[ALIASES];
	size_t bytes;
	int status;
	pid_t pid;

	CHECK(make(rig, tensors) == 0);
	pid = fork();
	if (pid == 0) {
		DLManagedTensorVersioned *one = NULL;
		int rc = symm_tensor_alias(tensors[0], &one);

		for (int i = 0; i < ALIASES; i++)
			symm_tensor_free(tensors[i]);
		_exit(rc == SYMM_EFORK && one == NULL ? 0 : 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	GOOD(symm_alloc_size(tensors[0]->dl_tensor.data, &bytes));
	for (int i = 0; i < ALIASES; i++)
		symm_tensor_free(tensors[i]);
	return 0;
}

static int check_refusals(struct rig *rig)
{
	DLManagedTensorVersioned foreign = { 0 }, *tensors[ALIASES], *alias = &foreign;

	CHECK(make(rig, tensors) == 0);
	BAD(symm_tensor_alias(NULL, &alias), SYMM_EINVAL, "symm_tensor_alias: ");
	BAD(symm_tensor_alias(&foreign, &alias), SYMM_EINVAL, "is not a tensor of symm_empty_strided");
	BAD(symm_tensor_alias(tensors[0], NULL), SYMM_EINVAL, "alias is NULL");
	CHECK(alias == &foreign);
	for (int i = 0; i < ALIASES; i++)
		symm_tensor_free(tensors[i]);
	return 0;
}

static int run(int rank, void *arg)
{
	static int (*const checks[])(struct rig *) = {
		check_refusals, check_orders, check_view, check_threads, check_fork,
	};
	struct rig rig = *(struct rig *)arg;

	GOOD(rig_join(&rig, rank));
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
		CHECK(checks[i](&rig) == 0, "(check %zu)", i);
	symm_tensor_capsule_end(&rig); /* without a Python in the process nobody has made a capsule */
	GOOD(symm_close(rig.context));
	return 0;
}

int main(void)
{
	struct rig rig = { .world = 1 };

	if (!need_device(1))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	rig.url = redis.url;
	tap_ranks("aliases of tensors", 1, run, &rig, 30);
	has_str(ask(&redis, "DBSIZE"), ":0", "nothing is left in Redis");
	tap_redis_stop(&redis);
	return tap_done();
}
