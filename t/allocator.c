/* Registered allocators: what can be registered, one that wraps the device's own, counts calls and fails on demand, and
 * what the library makes of functions that do not keep to the rules. */
#include "allocator_help.h"
#include "cases.h"
#include "symm/tensor.h"

#include <sys/wait.h>

enum function { ALLOC, FREE, SIZE, MEET, MET, CAST, FUNCTIONS };

static const char *const names[FUNCTIONS] = {
	"alloc", "free", "alloc_size", "rendezvous", "rendezvous_completed", "has_multicast_support"
};

static struct tap_redis redis;

/* ---- a wrapper ---- */

/* What a function that is to fail does: it fails in a call of symm's, or returns code, having left text. */
struct failure {
	bool in_symm;
	int code;
	const char *text;
	int expected;
	bool named; /* the detail tells the function, and then */
	const char *part;
};

struct wrapper {
	struct symm_allocator inner;
	int calls[FUNCTIONS]; /* atomic */
	enum function failing;
	const struct failure *failure; /* NULL: none */
	void *wrong_ptr;               /* what alloc gives, if made is given as well */
	void *hidden;                  /* what it has got instead */
	struct symm_mem *wrong_mem;
	char device[32]; /* that was last asked for */
	bool renames;    /* its own device type is not what the inner one knows */
};

static bool fails(struct wrapper *wrapper, enum function function, int *rc)
{
	const struct failure *failure = wrapper->failure;

	__atomic_fetch_add(&wrapper->calls[function], 1, __ATOMIC_RELAXED);
	if (failure == NULL || wrapper->failing != function)
		return false;
	if (failure->in_symm)
		*rc = symm_group_rank(NULL);
	else if (failure->text != NULL)
		*rc = symm_allocator_error(failure->code, failure->text);
	else
		*rc = failure->code;
	return true;
}

static int wrapper_alloc(void *arg, struct symm_group *group, size_t bytes, const struct symm_alloc_options *options,
			 void **ptr)
{
	struct symm_alloc_options inner = *options;
	struct wrapper *wrapper = arg;
	int rc;

	snprintf(wrapper->device, sizeof(wrapper->device), "%s", options->device);
	if (fails(wrapper, ALLOC, &rc))
		return rc;
	if (wrapper->renames)
		inner.device = device_text();
	rc = wrapper->inner.alloc(wrapper->inner.arg, group, bytes, &inner, ptr);
	if (rc == 0 && wrapper->wrong_ptr != NULL) {
		wrapper->hidden = *ptr;
		*ptr = wrapper->wrong_ptr;
	}
	return rc;
}

static int wrapper_free(void *arg, void *ptr)
{
	struct wrapper *wrapper = arg;
	int rc;

	return fails(wrapper, FREE, &rc) ? rc : wrapper->inner.free(wrapper->inner.arg, ptr);
}

static int wrapper_size(void *arg, const void *ptr, size_t *bytes)
{
	struct wrapper *wrapper = arg;
	int rc;

	return fails(wrapper, SIZE, &rc) ? rc : wrapper->inner.alloc_size(wrapper->inner.arg, ptr, bytes);
}

static int wrapper_meet(void *arg, void *ptr, struct symm_group *group, int64_t timeout_ms, struct symm_mem **mem)
{
	struct wrapper *wrapper = arg;
	int rc;

	if (fails(wrapper, MEET, &rc))
		return rc;
	rc = wrapper->inner.rendezvous(wrapper->inner.arg, ptr, group, timeout_ms, mem);
	if (rc == 0 && wrapper->wrong_mem != NULL) {
		symm_mem_release(*mem);
		*mem = wrapper->wrong_mem;
	}
	return rc;
}

static int wrapper_met(void *arg, const void *ptr, struct symm_group *group)
{
	struct wrapper *wrapper = arg;
	int rc;

	return fails(wrapper, MET, &rc) ? rc : wrapper->inner.rendezvous_completed(wrapper->inner.arg, ptr, group);
}

static int wrapper_cast(void *arg, const char *device)
{
	struct wrapper *wrapper = arg;
	int rc;

	snprintf(wrapper->device, sizeof(wrapper->device), "%s", device);
	return fails(wrapper, CAST, &rc) ? rc : wrapper->inner.has_multicast_support(wrapper->inner.arg, device);
}

static struct symm_allocator wrapper_table(struct wrapper *wrapper)
{
	return (struct symm_allocator){ sizeof(struct symm_allocator),
					wrapper,
					wrapper_alloc,
					wrapper_free,
					wrapper_size,
					wrapper_meet,
					wrapper_met,
					wrapper_cast };
}

/* Wraps the device's own allocator, in its place or for device type "mine". */
static int wrapper_register(struct wrapper *wrapper, const char *type)
{
	struct symm_allocator table = wrapper_table(wrapper);

	*wrapper = (struct wrapper){ .inner = SYMM_ALLOCATOR_INIT, .renames = strcmp(type, device_type()) != 0 };
	GOOD(symm_get_allocator(device_type(), &wrapper->inner));
	GOOD(symm_register_allocator(type, &table));
	return 0;
}

static int calls(const struct wrapper *wrapper, enum function function)
{
	return __atomic_load_n(&wrapper->calls[function], __ATOMIC_RELAXED);
}

/* ---- registration ---- */

static int missing_functions(void)
{
	struct wrapper wrapper;
	struct symm_allocator tables[FUNCTIONS];
	char part[64];

	for (int i = 0; i < FUNCTIONS; i++)
		tables[i] = wrapper_table(&wrapper);
	tables[ALLOC].alloc = NULL;
	tables[FREE].free = NULL;
	tables[SIZE].alloc_size = NULL;
	tables[MEET].rendezvous = NULL;
	tables[MET].rendezvous_completed = NULL;
	tables[CAST].has_multicast_support = NULL;
	for (int i = 0; i < FUNCTIONS; i++) {
		snprintf(part, sizeof(part), "allocator.%s is NULL", names[i]);
		BAD(symm_register_allocator("mine", &tables[i]), SYMM_EINVAL, part);
	}
	return 0;
}

static int wrong_arguments(void)
{
	static const char *const wrong[] = {
		"", "mine:0", "a b", "a/b", "\xc3\xa4", "%s%n", "this-is-a-name-of-32-characters-"
	};
	struct symm_allocator got = SYMM_ALLOCATOR_INIT, unsized = { 0 };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		BAD(symm_register_allocator(wrong[i], NULL), SYMM_EINVAL, "it must be 1 to 31 of A-Z");
		BAD(symm_get_allocator(wrong[i], &got), SYMM_EINVAL, "it must be 1 to 31 of A-Z");
	}
	BAD(symm_register_allocator(NULL, NULL), SYMM_EINVAL, "symm_register_allocator: device_type is NULL");
	BAD(symm_get_allocator(NULL, &got), SYMM_EINVAL, "symm_get_allocator: device_type is NULL");
	BAD(symm_get_allocator("host", NULL), SYMM_EINVAL, "allocator is NULL");
	BAD(symm_get_allocator("host", &unsized), SYMM_EINVAL, "allocator.size is 0, not ");
	BAD(symm_register_allocator("host", &unsized), SYMM_EINVAL, "start from SYMM_ALLOCATOR_INIT");
	BAD(symm_get_allocator("mine", &got), SYMM_ENOENT, "no allocator is registered for device type mine");
	BAD(symm_register_allocator("mine", NULL), SYMM_ENOENT, "no allocator is registered for device type mine");
	CHECK(got.alloc == NULL && got.arg == NULL);
	return missing_functions();
}

/* Types come and go, and the one that is registered is what one gets. */
static int registration(int rank, void *arg)
{
	struct symm_allocator got = SYMM_ALLOCATOR_INIT, table, again;
	struct wrapper one = { .failing = ALLOC }, two = { .failing = ALLOC };
	struct rig *rig = arg;

	if (wrong_arguments() != 0)
		return 1;
	GOOD(symm_register_allocator("host", NULL));
	GOOD(symm_get_allocator("host", &got));
	GOOD(symm_get_allocator("cuda", &got));
	CHECK(got.size == sizeof(got) && got.alloc != NULL && strcmp(got.arg, "cuda") == 0);
	again = table = wrapper_table(&one);
	GOOD(symm_register_allocator("this-is-a-name-of_31.CHARACTERS", &table));
	GOOD(symm_register_allocator("mine", &table));
	memset(&table, 0, sizeof(table));
	GOOD(symm_get_allocator("mine", &got));
	CHECK(memcmp(&got, &again, sizeof(got)) == 0);
	table = wrapper_table(&two);
	GOOD(symm_register_allocator("mine", &table));
	GOOD(symm_get_allocator("mine", &got));
	CHECK(got.arg == &two);
	BAD(symm_get_allocator("min", &got), SYMM_ENOENT, "device type min");
	GOOD(symm_register_allocator("mine", NULL));
	BAD(symm_get_allocator("mine", &got), SYMM_ENOENT, "device type mine");
	GOOD(rig_open(rig, rank));
	GOOD(symm_register_allocator("mine", &table));
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- a wrapper of the device's own ---- */

static int exchange(struct rig *rig, int rank, struct symm_mem *mem)
{
	CHECK(block_fill(mem, 1 - rank, 0x30 + rank, BYTES));
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(block_holds(mem, rank, 0x30 + 1 - rank, BYTES) && pad_is_zero(mem, rank));
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(symm_mem_buffer_size(mem) == BYTES && symm_mem_world_size(mem) == rig->world);
	return 0;
}

/* Every call comes by, once, with the first address, wherever ptr points. */
static int use_wrapper(struct rig *rig, struct wrapper *wrapper, char *ptr, int rank)
{
	struct symm_mem *mem, *again, *found;
	size_t bytes = 0;

	BAD(symm_mem_find(ptr, NULL, &found), SYMM_ENOENT, "no rendezvous of the allocation at ");
	CHECK(symm_rendezvous_completed(ptr + 1, NULL) == 0 && calls(wrapper, MET) == 2);
	GOOD(symm_rendezvous(ptr + BYTES - 1, NULL, 0, &mem));
	CHECK(calls(wrapper, MEET) == 1);
	CHECK(symm_rendezvous_completed(ptr, rig->group) == 1);
	GOOD(symm_rendezvous(ptr, rig->group, 0, &again));
	GOOD(symm_mem_find(ptr + 7, rig->group, &found));
	CHECK(again == mem && found == mem && symm_mem_buffer(mem, rank) == ptr);
	CHECK(calls(wrapper, MEET) == 3 && calls(wrapper, MET) == 4);
	GOOD(symm_alloc_size(ptr + BYTES - 1, &bytes));
	CHECK(bytes == BYTES && calls(wrapper, SIZE) == 1);
	BAD(symm_alloc_size(ptr + BYTES, &bytes), SYMM_ENOENT, "not inside");
	BAD(symm_free(ptr + 1), SYMM_ENOENT, "is not the address of an allocation");
	CHECK(calls(wrapper, SIZE) == 1 && calls(wrapper, FREE) == 0);
	if (exchange(rig, rank, mem) != 0)
		return 1;
	GOOD(symm_mem_release(again));
	GOOD(symm_mem_release(found));
	GOOD(symm_free(ptr));
	CHECK(calls(wrapper, FREE) == 1);
	BAD(symm_free(ptr), SYMM_ENOENT, "has been freed");
	BAD(symm_mem_find(ptr, NULL, &found), SYMM_ENOENT, "has been freed");
	/* The reference keeps the memory. */
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_mem_release(mem));
	return 0;
}

static int wrapper_persists(struct rig *rig, struct wrapper *wrapper)
{
	struct symm_alloc_options id = SYMM_ALLOC_OPTIONS_INIT;
	struct symm_mem *mem;
	void *first, *again;

	id.persistent = 1;
	id.alloc_id = 9;
	GOOD(symm_alloc(rig->group, BYTES, &id, &first));
	BAD(symm_alloc(rig->group, BYTES, &id, &again), SYMM_EBUSY, "alloc_id 9 is still active");
	GOOD(symm_rendezvous(first, NULL, 0, &mem));
	GOOD(symm_free(first));
	GOOD(symm_alloc(rig->group, BYTES, &id, &again));
	CHECK(again == first && symm_rendezvous_completed(again, NULL) == 1);
	GOOD(symm_free(again));
	GOOD(symm_mem_release(mem));
	CHECK(calls(wrapper, FREE) == 3);
	return 0;
}

/* While an allocation lives its allocator stays, the built-in one too. */
static int stays(struct rig *rig, struct wrapper *wrapper)
{
	struct symm_allocator table = wrapper_table(wrapper);
	void *one, *two;
	char part[64];

	GOOD(symm_alloc(rig->group, 1, NULL, &one));
	GOOD(symm_alloc(rig->group, 1, NULL, &two));
	snprintf(part, sizeof(part), "2 allocations of device type %s live: free them first", device_type());
	BAD(symm_register_allocator(device_type(), NULL), SYMM_EBUSY, part);
	BAD(symm_register_allocator(device_type(), &table), SYMM_EBUSY, part);
	GOOD(symm_free(two));
	BAD(symm_register_allocator(device_type(), NULL), SYMM_EBUSY, "1 allocation of device type ");
	GOOD(symm_free(one));
	GOOD(symm_register_allocator(device_type(), NULL));
	GOOD(symm_alloc(rig->group, 1, NULL, &one));
	snprintf(part, sizeof(part), "1 allocation of device type %s lives: free it first", device_type());
	BAD(symm_register_allocator(device_type(), &table), SYMM_EBUSY, part);
	GOOD(symm_register_allocator(device_type(), NULL));
	GOOD(symm_register_allocator("other", &table));
	GOOD(symm_free(one));
	CHECK(calls(wrapper, ALLOC) == 6 && calls(wrapper, FREE) == 5);
	GOOD(symm_register_allocator(device_type(), &table));
	return 0;
}

/* What the wrapper had under an id is now the user's own. */
static int own_again(struct rig *rig, struct wrapper *wrapper)
{
	struct symm_allocator table = wrapper_table(wrapper), other = SYMM_ALLOCATOR_INIT;
	struct symm_alloc_options id = SYMM_ALLOC_OPTIONS_INIT;
	void *ptr;

	id.persistent = 1;
	id.alloc_id = 9;
	GOOD(symm_register_allocator(device_type(), NULL));
	GOOD(symm_alloc(rig->group, BYTES, &id, &ptr));
	BAD(symm_register_allocator(device_type(), &table), SYMM_EBUSY, "1 allocation of device type ");
	GOOD(symm_free(ptr));
	GOOD(symm_register_allocator(device_type(), &table));
	CHECK(calls(wrapper, ALLOC) == 6);
	GOOD(symm_get_allocator(on_host() ? "cuda" : "host", &other));
	BAD(other.alloc(other.arg, rig->group, 1, NULL, &ptr), SYMM_EINVAL, ": the context's device is ");
	return 0;
}

static int wrapping(int rank, void *arg)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	struct rig *rig = arg;
	struct wrapper wrapper;
	void *ptr, *untouched = rig;

	GOOD(rig_join(rig, rank));
	if (wrapper_register(&wrapper, device_type()) != 0)
		return 1;
	GOOD(symm_alloc(rig->group, BYTES, NULL, &ptr));
	CHECK(calls(&wrapper, ALLOC) == 1 && device_holds(device_of_context(rig->context), ptr, BYTES, 0));
	if (use_wrapper(rig, &wrapper, ptr, rank) != 0 || wrapper_persists(rig, &wrapper) != 0 ||
	    stays(rig, &wrapper) != 0 || own_again(rig, &wrapper) != 0)
		return 1;
	ptr = untouched;
	BAD(symm_alloc(rig->group, 0, NULL, &ptr), SYMM_EINVAL, "0 bytes");
	options.size = 1;
	BAD(symm_alloc(rig->group, 1, &options, &ptr), SYMM_EINVAL, "options.size is 1");
	BAD(symm_alloc(NULL, 1, NULL, &ptr), SYMM_EINVAL, "not a symm_group");
	BAD(symm_alloc(rig->group, 1, NULL, NULL), SYMM_EINVAL, "ptr is NULL");
	options = (struct symm_alloc_options)SYMM_ALLOC_OPTIONS_INIT;
	options.device = "nothing:1";
	BAD(symm_alloc(rig->group, 1, &options, &ptr), SYMM_EINVAL, "device nothing:1: the context's device is ");
	CHECK(ptr == untouched && calls(&wrapper, ALLOC) == 6);
	GOOD(symm_close(rig->context));
	return 0;
}

/* A tensor's memory is the allocator's, and goes back to it. */
static int tensors(int rank, void *arg)
{
	static const int64_t sizes[] = { 10, 100 };
	static const DLDataType bytes = { kDLUInt, 8, 1 };
	struct rig *rig = arg;
	struct wrapper wrapper;
	struct symm_mem *mem;
	DLManagedTensorVersioned *tensor, *view;
	size_t told;

	GOOD(rig_join(rig, rank));
	if (wrapper_register(&wrapper, device_type()) != 0)
		return 1;
	GOOD(symm_empty_strided(rig->group, 2, sizes, NULL, bytes, NULL, &tensor));
	CHECK(calls(&wrapper, ALLOC) == 1 && tensor->dl_tensor.device.device_type == (on_host() ? kDLCPU : kDLCUDA));
	BAD(symm_free(tensor->dl_tensor.data), SYMM_EINVAL, "is a tensor's: it goes with that tensor's deleter");
	BAD(symm_group_leave(rig->group), SYMM_EBUSY, "1 tensor of the memory of group world is alive");
	BAD(symm_close(rig->context), SYMM_EBUSY, "1 tensor of the memory of this context is alive");
	GOOD(symm_tensor_rendezvous(&tensor->dl_tensor, NULL, 0, &mem));
	GOOD(symm_get_buffer(mem, rank, 1, sizes, bytes, 0, &view));
	GOOD(symm_mem_release(mem));
	CHECK(calls(&wrapper, MEET) == 1 && calls(&wrapper, FREE) == 0);
	symm_tensor_free(tensor);
	CHECK(calls(&wrapper, FREE) == 1);
	BAD(symm_alloc_size(view->dl_tensor.data, &told), SYMM_ENOENT, "has been freed");
	GOOD(symm_register_allocator(device_type(), NULL));
	symm_tensor_free(view);
	GOOD(symm_close(rig->context));
	return 0;
}

/* An allocator stands on another by what symm_get_allocator gave: that is no call of the library's. */
static int stacking(int rank, void *arg)
{
	struct rig *rig = arg;
	struct wrapper below, above;
	struct symm_mem *mem;
	void *mine, *plain;

	GOOD(rig_join(rig, rank));
	if (wrapper_register(&below, device_type()) != 0 || wrapper_register(&above, "mine") != 0)
		return 1;
	CHECK(above.inner.arg == &below);
	GOOD(alloc_mine(rig->group, BYTES, &mine));
	GOOD(symm_alloc(rig->group, BYTES, NULL, &plain));
	CHECK(calls(&below, ALLOC) == 2 && calls(&above, ALLOC) == 1);
	GOOD(symm_rendezvous(mine, NULL, 0, &mem));
	CHECK(calls(&below, MEET) == 1 && calls(&above, MEET) == 1 && symm_mem_buffer(mem, rank) == mine);
	BAD(symm_register_allocator(device_type(), NULL), SYMM_EBUSY, "1 allocation of device type ");
	GOOD(symm_free(plain));
	CHECK(calls(&below, FREE) == 1 && calls(&above, FREE) == 0);
	GOOD(symm_close(rig->context));
	CHECK(calls(&below, FREE) == 2 && calls(&above, FREE) == 1);
	return 0;
}

/* ---- failures ---- */

static const struct failure failures[] = {
	{ false, SYMM_ENOMEM, NULL, SYMM_ENOMEM, true, " failed: SYMM_ENOMEM: no memory" },
	{ false, SYMM_EUNREACH, NULL, SYMM_EUNREACH, true, " failed: SYMM_EUNREACH: " },
	{ false, SYMM_EDEVICE, "the moon is 100% full", SYMM_EDEVICE, false, "the moon is 100% full" },
	{ true, 0, NULL, SYMM_EINVAL, false, "is not a symm_group" },
	{ false, 7, NULL, SYMM_EPROTO, true, " returned 7, which is no code of symm" },
	{ false, -1000, NULL, SYMM_EPROTO, true, " returned -1000, which is no code of symm" },
};

/* One call that goes to the function; its outputs must stay as they are. */
static int call(enum function function, struct rig *rig, void *ptr, bool *untouched)
{
	static struct symm_mem *const none = (struct symm_mem *)(void *)names;
	struct symm_mem *mem = none;
	void *made = rig;
	size_t bytes = 77;
	int rc = 0;

	switch (function) {
	case ALLOC:
		rc = symm_alloc(rig->group, BYTES, NULL, &made);
		break;
	case FREE:
		rc = symm_free(ptr);
		break;
	case SIZE:
		rc = symm_alloc_size(ptr, &bytes);
		break;
	case MEET:
		rc = symm_rendezvous(ptr, NULL, 0, &mem);
		break;
	case MET:
		rc = symm_rendezvous_completed(ptr, NULL);
		break;
	default:
		rc = symm_has_multicast_support(device_text());
	}
	*untouched = mem == none && made == rig && bytes == 77;
	return rc;
}

static int fail_once(struct rig *rig, struct wrapper *wrapper, void *ptr, const struct failure *failure)
{
	static const char *const callers[FUNCTIONS] = { "symm_alloc",
							"symm_free",
							"symm_alloc_size",
							"symm_rendezvous",
							"symm_rendezvous_completed",
							"symm_has_multicast_support" };
	enum function function = wrapper->failing;
	int before = calls(wrapper, function);
	char detail[128];
	bool untouched;

	snprintf(detail, sizeof(detail), "%s: allocator %s: %s", callers[function], device_type(),
		 failure->named ? names[function] : "");
	wrapper->failure = failure;
	/* Twice: a code without a detail does not pass off an earlier one's. */
	for (int i = 0; i < 2; i++) {
		BAD(call(function, rig, ptr, &untouched), failure->expected, failure->part);
		CHECK(strncmp(symm_last_error(), detail, strlen(detail)) == 0, "(%s)", symm_last_error());
		CHECK(untouched);
		symm_free((char *)ptr + 1);
	}
	CHECK(calls(wrapper, function) == before + 2);
	wrapper->failure = NULL;
	return 0;
}

/* A child of fork gets to no function. */
static int in_a_child(const struct wrapper *wrapper, struct rig *rig, void *ptr)
{
	struct symm_allocator table = wrapper->inner;
	int status = 0, pid = fork();
	bool refused, untouched;

	if (pid == 0) {
		refused = symm_register_allocator("mine", NULL) == SYMM_EFORK &&
			  symm_get_allocator("host", &table) == SYMM_EFORK;
		for (int function = 0; function < FUNCTIONS; function++) {
			int before = calls(wrapper, function);

			refused = refused && call(function, rig, ptr, &untouched) == SYMM_EFORK &&
				  calls(wrapper, function) == before;
		}
		_exit(refused ? 0 : 1);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "(%d)", status);
	return 0;
}

static int each_failure(int rank, void *arg)
{
	struct rig *rig = arg;
	struct wrapper wrapper;
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(rig, rank));
	if (wrapper_register(&wrapper, device_type()) != 0)
		return 1;
	GOOD(symm_alloc(rig->group, BYTES, NULL, &ptr));
	if (in_a_child(&wrapper, rig, ptr) != 0)
		return 1;
	for (int function = 0; function < FUNCTIONS; function++) {
		wrapper.failing = function;
		for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
			if (fail_once(rig, &wrapper, ptr, &failures[i]) != 0)
				return 1;
	}
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	CHECK(symm_has_multicast_support(device_text()) == 0 && strcmp(wrapper.device, device_text()) == 0);
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	GOOD(symm_register_allocator(device_type(), NULL));
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- answers that cannot be ---- */

static int alloc_gives(struct rig *rig, struct wrapper *wrapper, void *wrong, const char *part)
{
	void *ptr = rig;

	wrapper->wrong_ptr = wrong;
	BAD(alloc_mine(rig->group, BYTES, &ptr), SYMM_EPROTO, part);
	CHECK(ptr == rig && strstr(symm_last_error(), "symm_alloc: allocator mine: alloc ") == symm_last_error(),
	      "(%s)", symm_last_error());
	wrapper->wrong_ptr = NULL;
	GOOD(wrapper->inner.free(wrapper->inner.arg, wrapper->hidden));
	return 0;
}

/* Nothing of what alloc gave wrongly is freed or kept. */
static int wrong_pointers(struct rig *rig, struct wrapper *wrapper, char *mine, char *direct)
{
	static const struct failure nothing = { false, 0, NULL, 0, false, "" };
	void *ptr = rig;

	wrapper->failing = ALLOC;
	wrapper->failure = &nothing;
	BAD(alloc_mine(rig->group, BYTES, &ptr), SYMM_EPROTO, "allocator mine: alloc succeeded without a pointer");
	wrapper->failure = NULL;
	CHECK(ptr == rig);
	if (alloc_gives(rig, wrapper, mine, "which overlap the allocation of 5000 bytes at ") != 0 ||
	    alloc_gives(rig, wrapper, mine + BYTES - 1, "gave 5000 bytes at ") != 0 ||
	    alloc_gives(rig, wrapper, mine - BYTES + 1, "which overlap the allocation of 5000 bytes") != 0 ||
	    alloc_gives(rig, wrapper, direct, "which overlap the allocation of 64 bytes at ") != 0 ||
	    alloc_gives(rig, wrapper, (void *)(UINTPTR_MAX - BYTES + 1), "behind which there are no 5000 bytes") != 0)
		return 1;
	CHECK(calls(wrapper, FREE) == 0);
	return 0;
}

static int wrong_mem(struct rig *rig, struct wrapper *wrapper, void *mine, struct symm_mem *other)
{
	struct symm_mem *wrong[] = { (struct symm_mem *)(void *)rig, (struct symm_mem *)(void *)rig->group, other },
			*mem;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		wrapper->wrong_mem = wrong[i];
		mem = NULL;
		BAD(symm_rendezvous(mine, NULL, 0, &mem), SYMM_EPROTO, "which is no symm_mem of group world");
		BAD(symm_mem_find(mine, NULL, &mem), SYMM_EPROTO, "symm_mem_find: allocator mine: rendezvous gave 0x");
		CHECK(mem == NULL);
	}
	wrapper->wrong_mem = NULL;
	return 0;
}

/* A function that says "done" and has done nothing. */
static int wrong_success(struct rig *rig, struct wrapper *wrapper, void *mine)
{
	static const struct failure nothing = { false, 0, NULL, 0, false, "" }, two = { false, 2, NULL, 0, false, "" },
				    one = { false, 1, NULL, 0, false, "" };
	struct symm_mem *mem = NULL;
	size_t bytes = 3;

	wrapper->failure = &nothing;
	wrapper->failing = SIZE;
	BAD(symm_alloc_size(mine, &bytes), SYMM_EPROTO, "alloc_size told 0 bytes of the 5000 asked for at ");
	wrapper->failing = MEET;
	BAD(symm_rendezvous(mine, rig->group, 0, &mem), SYMM_EPROTO, "which is no symm_mem of group world");
	wrapper->failure = &two;
	wrapper->failing = MET;
	BAD(symm_rendezvous_completed(mine, NULL), SYMM_EPROTO, "rendezvous_completed returned 2");
	BAD(symm_mem_find(mine, NULL, &mem), SYMM_EPROTO, "rendezvous_completed returned 2");
	wrapper->failing = CAST;
	BAD(symm_has_multicast_support("mine:2"), SYMM_EPROTO, "has_multicast_support returned 2");
	wrapper->failure = &one;
	CHECK(symm_has_multicast_support("mine:2") == 1 && strcmp(wrapper->device, "mine:2") == 0);
	wrapper->failing = FREE;
	BAD(symm_free(mine), SYMM_EPROTO, "free returned 1, which is no code");
	wrapper->failing = ALLOC;
	BAD(alloc_mine(rig->group, 1, &(void *){ NULL }), SYMM_EPROTO, "alloc returned 1, which is no code");
	wrapper->failure = NULL;
	CHECK(mem == NULL && bytes == 3);
	BAD(symm_alloc_size(mine, NULL), SYMM_EINVAL, "bytes is NULL");
	BAD(symm_rendezvous(mine, NULL, 0, NULL), SYMM_EINVAL, "mem is NULL");
	BAD(symm_mem_find(mine, NULL, NULL), SYMM_EINVAL, "mem is NULL");
	BAD(symm_rendezvous(mine, (struct symm_group *)(void *)rig, 0, &mem), SYMM_EINVAL, "is not a symm_group");
	BAD(symm_rendezvous_completed(mine, (struct symm_group *)(void *)rig), SYMM_EINVAL, "is not a symm_group");
	BAD(symm_mem_find(mine, (struct symm_group *)(void *)rig, &mem), SYMM_EINVAL, "is not a symm_group");
	return 0;
}

static int wrong_answers(int rank, void *arg)
{
	struct rig *rig = arg;
	struct wrapper wrapper;
	struct symm_group *other;
	struct symm_mem *mem, *elsewhere;
	void *mine, *direct;

	GOOD(rig_join(rig, rank));
	GOOD(symm_group_join(rig->context, "other", 0, 1, 0, &other));
	if (wrapper_register(&wrapper, "mine") != 0)
		return 1;
	GOOD(symm_alloc(rig->group, 64, NULL, &direct));
	CHECK(calls(&wrapper, ALLOC) == 0);
	GOOD(alloc_mine(rig->group, BYTES, &mine));
	CHECK(calls(&wrapper, ALLOC) == 1 && strcmp(wrapper.device, "mine:1") == 0);
	if (wrong_pointers(rig, &wrapper, mine, direct) != 0)
		return 1;
	GOOD(symm_rendezvous(mine, NULL, 0, &mem));
	GOOD(symm_rendezvous(mine, other, 0, &elsewhere));
	CHECK(mem != elsewhere);
	if (wrong_mem(rig, &wrapper, mine, elsewhere) != 0 || wrong_success(rig, &wrapper, mine) != 0)
		return 1;
	GOOD(symm_mem_release(mem));
	GOOD(symm_mem_release(elsewhere));
	GOOD(symm_free(mine));
	GOOD(symm_close(rig->context));
	return 0;
}

int main(void)
{
	static const struct test_case tests[] = {
		{ "what can be registered", 1, registration },
		{ "a wrapper gets every call", 2, wrapping },
		{ "tensors", 1, tensors },
		{ "an allocator on another", 1, stacking },
		{ "each function fails", 1, each_failure },
		{ "answers that cannot be", 1, wrong_answers },
	};

	if (!need_device(1))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	TEST_CASES(&redis, NULL, tests);
	tap_redis_stop(&redis);
	return tap_done();
}
