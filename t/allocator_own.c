/* Allocators for a device type of their own: with memory of their own, when things end, when they come back to the
 * library, and among threads. */
#include "allocator_help.h"
#include "cases.h"
#include "symm/tensor.h"

#include <pthread.h>

static struct tap_redis redis;

/* ---- memory of its own ---- */

#define SLOTS 8

/* Its memory is malloc's; what stands behind a rendezvous is a block of the context's device. */
struct own {
	struct symm_allocator device;
	pthread_mutex_t lock;
	struct {
		char *ptr;
		void *shadow;
		size_t bytes;
	} slot[SLOTS];
	int frees, refusals;
	int free_code;             /* of the group's status while a piece was freed */
	struct symm_group *group;  /* whose */
	int (*in_free)(void *ptr); /* called there */
	int (*in_alloc)(struct symm_group *group);
};

static int own_slot(const struct own *own, const void *ptr)
{
	int i = 0;

	while (i < SLOTS && own->slot[i].ptr != ptr)
		i++;
	return i;
}

static int own_alloc(void *arg, struct symm_group *group, size_t bytes, const struct symm_alloc_options *options,
		     void **ptr)
{
	struct own *own = arg;
	int i = own_slot(own, NULL), rc;
	struct symm_alloc_options shadow = *options;

	if (own->in_alloc != NULL)
		return own->in_alloc(group);
	if (i == SLOTS)
		return symm_allocator_error(SYMM_ENOMEM, "all slots are in use");
	shadow.device = device_text();
	rc = own->device.alloc(own->device.arg, group, bytes, &shadow, &own->slot[i].shadow);
	if (rc != 0)
		return rc;
	own->slot[i].ptr = calloc(1, bytes);
	own->slot[i].bytes = bytes;
	*ptr = own->slot[i].ptr;
	return 0;
}

static int own_free(void *arg, void *ptr)
{
	struct own *own = arg;
	int i = own_slot(own, ptr), rc;

	if (own->in_free != NULL)
		return own->in_free(ptr);
	if (own->refusals > 0) {
		own->refusals--;
		return symm_allocator_error(SYMM_EBUSY, "not now");
	}
	own->free_code = symm_group_status(own->group);
	rc = own->device.free(own->device.arg, own->slot[i].shadow);
	if (rc != 0)
		return rc;
	free(own->slot[i].ptr);
	own->slot[i].ptr = NULL;
	own->frees++;
	return 0;
}

static int own_size(void *arg, const void *ptr, size_t *bytes)
{
	const struct own *own = arg;

	*bytes = own->slot[own_slot(own, ptr)].bytes;
	return 0;
}

static int own_meet(void *arg, void *ptr, struct symm_group *group, int64_t timeout_ms, struct symm_mem **mem)
{
	const struct own *own = arg;

	return own->device.rendezvous(own->device.arg, own->slot[own_slot(own, ptr)].shadow, group, timeout_ms, mem);
}

static int own_met(void *arg, const void *ptr, struct symm_group *group)
{
	const struct own *own = arg;

	return own->device.rendezvous_completed(own->device.arg, own->slot[own_slot(own, ptr)].shadow, group);
}

static int own_cast(void *arg, const char *device)
{
	(void)arg;
	return strcmp(device, "mine") == 0;
}

static int own_register(struct own *own)
{
	const struct symm_allocator table = { sizeof(table), own,      own_alloc, own_free,
					      own_size,      own_meet, own_met,   own_cast };

	*own = (struct own){ .device = SYMM_ALLOCATOR_INIT };
	GOOD(symm_get_allocator(device_type(), &own->device));
	GOOD(symm_register_allocator("mine", &table));
	return 0;
}

static int own_memory_is_used(struct rig *rig, int rank, char *mine, struct symm_mem *mem)
{
	struct symm_mem *found;
	size_t bytes = 0;

	CHECK(symm_rendezvous_completed(mine + 9, NULL) == 1 && symm_rendezvous_completed(mine, rig->group) == 1);
	GOOD(symm_mem_find(mine + BYTES - 1, rig->group, &found));
	CHECK(found == mem && symm_mem_buffer(mem, rank) != mine);
	GOOD(symm_mem_release(found));
	GOOD(symm_alloc_size(mine + 1, &bytes));
	CHECK(bytes == BYTES);
	GOOD(symm_put(mem, 1 - rank, 0, mine, BYTES));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_get(mem, rank, 0, mine, BYTES));
	CHECK(mine[0] == 1 - rank && mine[BYTES - 1] == 1 - rank);
	return 0;
}

static int own_type(int rank, void *arg)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	struct rig *rig = arg;
	struct own own;
	DLManagedTensorVersioned *tensor;
	struct symm_mem *mem;
	void *mine, *direct;

	GOOD(rig_join(rig, rank));
	if (own_register(&own) != 0)
		return 1;
	options.device = "mine";
	GOOD(symm_alloc(rig->group, BYTES, &options, &mine));
	GOOD(symm_alloc(rig->group, BYTES, NULL, &direct));
	CHECK(own_slot(&own, direct) == SLOTS && own_slot(&own, mine) == 0);
	CHECK(symm_has_multicast_support("mine") == 1 && symm_has_multicast_support("mine:0") == 0);
	CHECK(symm_rendezvous_completed(mine, NULL) == 0);
	GOOD(symm_rendezvous((char *)mine + 1, NULL, 0, &mem));
	memset(mine, rank, BYTES);
	if (own_memory_is_used(rig, rank, mine, mem) != 0)
		return 1;
	BAD(symm_empty_strided(rig->group, 0, NULL, NULL, (DLDataType){ kDLInt, 8, 1 }, &options, &tensor),
	    SYMM_ENOTSUP, "allocator mine: the memory at ");
	CHECK(own.frees == 1);
	BAD(symm_register_allocator("mine", NULL), SYMM_EBUSY, "1 allocation of device type mine lives");
	/* One of another type does not live by this allocator. */
	GOOD(symm_free(mine));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_register_allocator("mine", NULL));
	BAD(symm_alloc(rig->group, BYTES, &options, &mine), SYMM_EINVAL, "device mine: the context's device is ");
	GOOD(symm_mem_release(mem));
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- ends ---- */

/* What is not freed is freed for the user when its group is left or its context is closed, or, if the allocator does
 * not want to, later. */
static int left_alive(int rank, void *arg)
{
	struct rig *rig = arg, second = *rig;
	struct own own;
	struct symm_group *other;
	struct symm_mem *mem;
	void *mine[4];
	size_t bytes;

	GOOD(rig_join(rig, rank));
	second.job = "second";
	GOOD(rig_join(&second, rank));
	GOOD(symm_group_join(rig->context, "other", 0, 1, 0, &other));
	if (own_register(&own) != 0)
		return 1;
	own.group = other;
	GOOD(alloc_mine(rig->group, BYTES, &mine[0]));
	GOOD(alloc_mine(rig->group, 1, &mine[1]));
	GOOD(alloc_mine(other, 1, &mine[2]));
	GOOD(alloc_mine(second.group, 1, &mine[3]));
	GOOD(symm_rendezvous(mine[0], other, 0, &mem));
	GOOD(symm_group_leave(other));
	CHECK(own.frees == 1 && own.free_code == SYMM_ESTALE);
	BAD(symm_alloc_size(mine[2], &bytes), SYMM_ENOENT, "not inside");
	BAD(symm_mem_retain(mem), SYMM_ESTALE, "");
	GOOD(symm_alloc_size(mine[0], &bytes));
	own.refusals = 1;
	BAD(symm_close(rig->context), SYMM_EBUSY, "symm_close: allocator mine: not now");
	BAD(symm_register_allocator("mine", NULL), SYMM_EBUSY, "3 allocations of device type mine live");
	GOOD(symm_close(rig->context));
	CHECK(own.frees == 3);
	BAD(symm_free(mine[1]), SYMM_ENOENT, "is not the address of an allocation");
	GOOD(symm_alloc_size(mine[3], &bytes));
	GOOD(symm_close(second.context));
	CHECK(own.frees == 4);
	GOOD(symm_register_allocator("mine", NULL));
	return 0;
}

/* ---- memory of another group ---- */

struct lender {
	struct symm_allocator device;
	struct symm_group *group; /* whose the memory is */
};

static int lender_alloc(void *arg, struct symm_group *group, size_t bytes, const struct symm_alloc_options *options,
			void **ptr)
{
	const struct lender *lender = arg;

	(void)group;
	(void)options;
	return lender->device.alloc(lender->device.arg, lender->group, bytes, NULL, ptr);
}

static int lender_free(void *arg, void *ptr)
{
	const struct lender *lender = arg;

	return lender->device.free(lender->device.arg, ptr);
}

static int lender_size(void *arg, const void *ptr, size_t *bytes)
{
	const struct lender *lender = arg;

	return lender->device.alloc_size(lender->device.arg, ptr, bytes);
}

static int lender_meet(void *arg, void *ptr, struct symm_group *group, int64_t timeout_ms, struct symm_mem **mem)
{
	const struct lender *lender = arg;

	return lender->device.rendezvous(lender->device.arg, ptr, group, timeout_ms, mem);
}

static int lender_met(void *arg, const void *ptr, struct symm_group *group)
{
	const struct lender *lender = arg;

	return lender->device.rendezvous_completed(lender->device.arg, ptr, group);
}

static int lender_register(struct lender *lender, struct symm_group *group)
{
	const struct symm_allocator table = { sizeof(table), lender,      lender_alloc, lender_free,
					      lender_size,   lender_meet, lender_met,   own_cast };

	*lender = (struct lender){ .device = SYMM_ALLOCATOR_INIT, .group = group };
	GOOD(symm_get_allocator(device_type(), &lender->device));
	GOOD(symm_register_allocator("mine", &table));
	return 0;
}

static int tensor_of_mine(struct symm_group *group, DLManagedTensorVersioned **tensor)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	const int64_t size = BYTES;

	options.device = "mine";
	return symm_empty_strided(group, 1, &size, NULL, (DLDataType){ kDLUInt, 8, 1 }, &options, tensor);
}

/* A tensor keeps the memory that it shows, also where that is of another group, or context, than its own. */
static int lent_tensors(int rank, void *arg)
{
	struct rig *rig = arg, second = *rig;
	struct lender lender;
	struct symm_group *other;
	DLManagedTensorVersioned *tensor;

	GOOD(rig_join(rig, rank));
	second.job = "second";
	GOOD(rig_join(&second, rank));
	GOOD(symm_group_join(rig->context, "other", 0, 1, 0, &other));
	if (lender_register(&lender, other) != 0)
		return 1;
	GOOD(tensor_of_mine(rig->group, &tensor));
	BAD(symm_group_leave(other), SYMM_EBUSY, "1 tensor of the memory of group other is alive");
	BAD(symm_group_leave(rig->group), SYMM_EBUSY, "1 tensor of the memory of group world is alive");
	symm_tensor_free(tensor);
	GOOD(tensor_of_mine(second.group, &tensor));
	BAD(symm_close(rig->context), SYMM_EBUSY, "1 tensor of the memory of this context is alive");
	BAD(symm_close(second.context), SYMM_EBUSY, "1 tensor of the memory of this context is alive");
	CHECK(device_holds(device_of_context(rig->context), tensor->dl_tensor.data, BYTES, 0));
	symm_tensor_free(tensor);
	GOOD(symm_group_leave(other));
	GOOD(symm_close(rig->context));
	GOOD(symm_close(second.context));
	return 0;
}

static struct {
	struct rig rig;
	struct lender lender;
	DLManagedTensorVersioned *tensor;
} leaver;

/* Registered before the library's own, so it runs after that. */
static void end_late(void)
{
	bool finalizing = symm_is_finalizing() == 1;

	if (leaver.tensor == NULL)
		return;
	symm_tensor_free(leaver.tensor);
	if (finalizing && symm_close(leaver.rig.context) == 0)
		_exit(0);
	tap_diag("in exit(): %d: %s", finalizing, symm_last_error());
}

/* What a deleter leaves alone in exit() is nobody's tensor any more. */
static int exits(int rank, void *arg)
{
	leaver.rig = *(struct rig *)arg;
	CHECK(atexit(end_late) == 0);
	GOOD(rig_join(&leaver.rig, rank));
	if (lender_register(&leaver.lender, leaver.rig.group) != 0)
		return 1;
	GOOD(tensor_of_mine(leaver.rig.group, &leaver.tensor));
	return 1; /* end_late makes it 0 */
}

/* ---- functions that come back ---- */

static int alloc_again(struct symm_group *group)
{
	void *ptr;

	return alloc_mine(group, 1, &ptr);
}

static int alloc_of_device(struct symm_group *group)
{
	void *ptr;

	GOOD(symm_alloc(group, 1, NULL, &ptr));
	GOOD(symm_free(ptr));
	return SYMM_ENOMEM;
}

static int register_again(struct symm_group *group)
{
	(void)group;
	return symm_register_allocator("mine", NULL);
}

static void *mine_to_free;

static int free_mine(struct symm_group *group)
{
	(void)group;
	return symm_free(mine_to_free);
}

static int ask_multicast(struct symm_group *group)
{
	(void)group;
	return symm_has_multicast_support("mine");
}

/* By way of the library an allocator does not reach itself, but others. */
static int coming_back(int rank, void *arg)
{
	struct rig *rig = arg;
	struct own own;
	void *mine, *two;
	double since = seconds_now();

	GOOD(rig_join(rig, rank));
	if (own_register(&own) != 0)
		return 1;
	GOOD(alloc_mine(rig->group, 1, &mine));
	mine_to_free = mine;
	own.in_alloc = alloc_of_device;
	BAD(alloc_mine(rig->group, 1, &two), SYMM_ENOMEM, "allocator mine: alloc failed");
	own.in_alloc = alloc_again;
	BAD(alloc_mine(rig->group, 1, &two), SYMM_EDEADLK, "allocator mine: its alloc comes back to its own alloc");
	own.in_alloc = free_mine;
	BAD(alloc_mine(rig->group, 1, &two), SYMM_EDEADLK, "its alloc comes back to its own free");
	own.in_alloc = ask_multicast;
	BAD(alloc_mine(rig->group, 1, &two), SYMM_EDEADLK, "its alloc comes back to its own has_multicast_support");
	own.in_alloc = register_again;
	BAD(alloc_mine(rig->group, 1, &two), SYMM_EBUSY, "2 allocations of device type mine live");
	own.in_free = symm_free;
	BAD(symm_free(mine), SYMM_EDEADLK, "its free comes back to its own free");
	own.in_free = NULL;
	own.in_alloc = NULL;
	GOOD(symm_close(rig->context));
	CHECK(own.frees == 1 && seconds_now() - since < patience(5) + opening());
	return 0;
}

/* ---- threads ---- */

/* Its memory is malloc's and begins with the allocator's own address; rendezvous it cannot. */
struct plain {
	int allocs, frees, strangers; /* atomic */
	int gate;                     /* atomic; 1: the next rendezvous_completed waits, 2: it does */
	void *only;                   /* the one piece that there is, given again and again */
	int used;                     /* atomic */
};

static int plain_alloc(void *arg, struct symm_group *group, size_t bytes, const struct symm_alloc_options *options,
		       void **ptr)
{
	struct plain *plain = arg;
	void *made = plain->only;
	int unused = 0;

	(void)group, (void)options;
	if (made == NULL)
		made = malloc(bytes);
	else if (!__atomic_compare_exchange_n(&plain->used, &unused, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return SYMM_ENOMEM;
	memcpy(made, &arg, sizeof(arg));
	__atomic_fetch_add(&plain->allocs, 1, __ATOMIC_RELAXED);
	*ptr = made;
	return 0;
}

static int plain_free(void *arg, void *ptr)
{
	struct plain *plain = arg;

	__atomic_fetch_add(&plain->strangers, memcmp(ptr, &arg, sizeof(arg)) != 0, __ATOMIC_RELAXED);
	__atomic_fetch_add(&plain->frees, 1, __ATOMIC_RELAXED);
	if (plain->only == NULL) {
		free(ptr);
		return 0;
	}
	__atomic_store_n(&plain->used, 0, __ATOMIC_RELEASE);
	nap_ms(30);
	return 0;
}

static int plain_size(void *arg, const void *ptr, size_t *bytes)
{
	(void)arg, (void)ptr;
	*bytes = BYTES;
	return 0;
}

static int plain_meet(void *arg, void *ptr, struct symm_group *group, int64_t timeout_ms, struct symm_mem **mem)
{
	(void)arg, (void)ptr, (void)group, (void)timeout_ms, (void)mem;
	return SYMM_ENOTSUP;
}

static int plain_met(void *arg, const void *ptr, struct symm_group *group)
{
	struct plain *plain = arg;
	int closed = 1;

	(void)ptr, (void)group;
	if (__atomic_compare_exchange_n(&plain->gate, &closed, 2, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		while (__atomic_load_n(&plain->gate, __ATOMIC_ACQUIRE) == 2)
			nap_ms(1);
	return 0;
}

static int plain_cast(void *arg, const char *device)
{
	(void)arg, (void)device;
	return 0;
}

static int plain_register(struct plain *plain)
{
	const struct symm_allocator table = { sizeof(table), plain,      plain_alloc, plain_free,
					      plain_size,    plain_meet, plain_met,   plain_cast };

	return symm_register_allocator("mine", &table);
}

struct worker {
	pthread_t thread;
	struct symm_group *group;
	void *ptr;
	int code, done;
};

static int start(struct worker *worker, void *(*run)(void *arg))
{
	CHECK(pthread_create(&worker->thread, NULL, run, worker) == 0);
	return 0;
}

static void *ask_whether_met(void *arg)
{
	struct worker *worker = arg;

	worker->code = symm_rendezvous_completed(worker->ptr, NULL);
	return NULL;
}

static void *free_it(void *arg)
{
	struct worker *worker = arg;

	worker->code = symm_free(worker->ptr);
	__atomic_store_n(&worker->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* free waits for the calls on its pointer, to the context's deadline; meanwhile no other begins. */
static int free_waits(int rank, void *arg)
{
	struct plain plain = { .gate = 0 };
	struct worker caller, freer;
	struct rig *rig = arg;
	size_t bytes;
	void *ptr;

	rig->timeout_ms = 1000;
	GOOD(rig_join(rig, rank));
	GOOD(plain_register(&plain));
	GOOD(alloc_mine(rig->group, BYTES, &ptr));
	caller = freer = (struct worker){ .group = rig->group, .ptr = ptr, .code = 1 };
	plain.gate = 1;
	if (start(&caller, ask_whether_met) != 0)
		return 1;
	while (__atomic_load_n(&plain.gate, __ATOMIC_ACQUIRE) != 2)
		nap_ms(1);
	BAD(symm_free(ptr), SYMM_EBUSY, "another thread is in a call on the allocation at ");
	GOOD(symm_alloc_size(ptr, &bytes));
	if (start(&freer, free_it) != 0)
		return 1;
	while (symm_alloc_size(ptr, &bytes) == 0)
		nap_ms(1);
	BAD(symm_rendezvous_completed(ptr, NULL), SYMM_ESTALE, "is being freed");
	CHECK(plain.frees == 0 && !__atomic_load_n(&freer.done, __ATOMIC_ACQUIRE));
	__atomic_store_n(&plain.gate, 0, __ATOMIC_RELEASE);
	pthread_join(caller.thread, NULL);
	pthread_join(freer.thread, NULL);
	CHECK(caller.code == 0 && freer.code == 0 && plain.frees == 1);
	BAD(symm_free(ptr), SYMM_ENOENT, "is not the address of an allocation");
	GOOD(symm_close(rig->context));
	return 0;
}

/* An address is given again before the call that freed it has returned. */
static int given_again(int rank, void *arg)
{
	struct plain plain = { .only = malloc(BYTES) };
	struct worker freer;
	struct rig *rig = arg;
	void *ptr, *again = NULL;
	int rc;

	GOOD(rig_join(rig, rank));
	GOOD(plain_register(&plain));
	GOOD(alloc_mine(rig->group, BYTES, &ptr));
	freer = (struct worker){ .ptr = ptr, .code = 1 };
	if (start(&freer, free_it) != 0)
		return 1;
	while ((rc = alloc_mine(rig->group, BYTES, &again)) == SYMM_ENOMEM)
		nap_ms(1);
	pthread_join(freer.thread, NULL);
	CHECK(rc == 0 && again == ptr && freer.code == 0, "(%d: %s)", rc, symm_last_error());
	GOOD(symm_close(rig->context));
	CHECK(plain.allocs == 2 && plain.frees == 2);
	free(plain.only);
	return 0;
}

#define WORKERS 3

static int work_once(const struct worker *worker)
{
	size_t bytes = 0;
	void *ptr;
	int rc = alloc_mine(worker->group, BYTES, &ptr);

	if (rc == SYMM_EINVAL && strstr(symm_last_error(), "the context's device is ") != NULL)
		return 0; /* nobody was registered */
	GOOD(rc);
	GOOD(symm_alloc_size((char *)ptr + 1, &bytes));
	CHECK(bytes == BYTES && symm_rendezvous_completed(ptr, NULL) == 0);
	GOOD(symm_free(ptr));
	return 0;
}

/* In bursts: between them an allocator may go. */
static void *work(void *arg)
{
	struct worker *worker = arg;

	worker->code = 0;
	for (int i = 1; worker->code == 0 && !__atomic_load_n(&worker->done, __ATOMIC_ACQUIRE); i++) {
		worker->code = work_once(worker);
		if (i % 64 == 0)
			nap_ms(1);
	}
	return NULL;
}

static int change(struct plain plain[2], int turn, int *changes)
{
	struct symm_allocator got = SYMM_ALLOCATOR_INIT;
	int rc = turn % 3 < 2 ? plain_register(&plain[turn % 3]) : symm_register_allocator("mine", NULL);

	CHECK(rc == 0 || rc == SYMM_EBUSY || rc == SYMM_ENOENT, "(%d)", rc);
	*changes += rc == 0;
	rc = symm_get_allocator("mine", &got);
	CHECK(rc == SYMM_ENOENT || (rc == 0 && (got.arg == &plain[0] || got.arg == &plain[1])));
	return 0;
}

static bool enough(const struct plain plain[2], int changes)
{
	return changes >= 200 && __atomic_load_n(&plain[0].allocs, __ATOMIC_RELAXED) >= 1000 &&
	       __atomic_load_n(&plain[1].allocs, __ATOMIC_RELAXED) >= 1000;
}

/* Whoever made a piece frees it, however often allocators change. */
static int changing(int rank, void *arg)
{
	struct plain plain[2] = { { .gate = 0 }, { .gate = 0 } };
	struct worker worker[WORKERS];
	struct rig *rig = arg;
	int changes = 0;

	GOOD(rig_join(rig, rank));
	for (int i = 0; i < WORKERS; i++) {
		worker[i] = (struct worker){ .group = rig->group, .code = -1 };
		if (start(&worker[i], work) != 0)
			return 1;
	}
	for (int turn = 0; !enough(plain, changes); turn++)
		if (change(plain, turn, &changes) != 0)
			return 1;
	for (int i = 0; i < WORKERS; i++) {
		__atomic_store_n(&worker[i].done, 1, __ATOMIC_RELEASE);
		pthread_join(worker[i].thread, NULL);
		CHECK(worker[i].code == 0);
	}
	for (int i = 0; i < 2; i++)
		CHECK(plain[i].allocs == plain[i].frees && plain[i].strangers == 0,
		      "(%d made, %d freed, %d of them another's)", plain[i].allocs, plain[i].frees, plain[i].strangers);
	GOOD(symm_close(rig->context));
	return 0;
}

int main(void)
{
	static const struct test_case tests[] = {
		{ "a device type of its own", 2, own_type },
		{ "what is left alive is freed", 1, left_alive },
		{ "tensors of another group's memory", 1, lent_tensors },
		{ "tensors in exit()", 1, exits },
		{ "an allocator that comes back to itself", 1, coming_back },
		{ "free waits for calls", 1, free_waits },
		{ "an address is given again at once", 1, given_again },
		{ "allocators change while others allocate", 1, changing },
	};

	if (!need_device(1))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	TEST_CASES(&redis, NULL, tests);
	tap_redis_stop(&redis);
	return tap_done();
}
