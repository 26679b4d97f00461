/* How tensors end, and what does not before them: in any order, on any thread, in exit() and in the child of a fork. */
#include "cases.h"
#include "release.h"
#include "tensor_help.h"

#include <pthread.h>

static struct tap_redis redis;
static int *rally;

/* ---- the use of an allocation ---- */

static int check_ownership(struct rig *rig)
{
	DLManagedTensorVersioned *tensor, *first;
	size_t bytes;
	void *ptr;

	GOOD(words(rig->group, 3, &first));
	GOOD(words(rig->group, 3, &tensor));
	ptr = tensor->dl_tensor.data;
	CHECK(ptr != first->dl_tensor.data);
	BAD(symm_free(ptr), SYMM_EINVAL, "is a tensor's: it goes with that tensor's deleter");
	GOOD(symm_alloc_size((char *)ptr + 23, &bytes));
	CHECK(write_word(rig, tensor, 2, 7) && read_word(rig, tensor, 2) == 7);
	symm_tensor_free(tensor);
	BAD(symm_alloc_size(ptr, &bytes), SYMM_ENOENT, "not inside an allocation");
	BAD(symm_free(ptr), SYMM_ENOENT, "is not the address of an allocation");
	symm_tensor_free(first);
	return 0;
}

/* A deleter that finds the memory in use waits, as symm_free does, and leaves it to whoever leaves the group. */
static int check_busy(struct rig *rig)
{
	DLManagedTensorVersioned *tensor;
	struct context *context;
	struct symm_mem *mem;
	struct view *view;
	size_t bytes;
	void *ptr;
	int rc;

	GOOD(words(rig->group, 3, &tensor));
	ptr = tensor->dl_tensor.data;
	GOOD(symm_tensor_rendezvous(&tensor->dl_tensor, NULL, 0, &mem));
	GOOD(symm_mem_release(mem));
	context = symm_handle_get(rig->context, SYMM_HANDLE_CONTEXT, &rc);
	view = symm_view_get(mem, &rc);
	CHECK(context != NULL && view != NULL);
	context->timeout_ms = 50;
	symm_tensor_free(tensor);
	context->timeout_ms = 20000;
	symm_handle_put(rig->context);
	BAD(symm_view_begin_tensor(view), SYMM_ESTALE, "is being freed");
	BAD(symm_alloc_size(ptr, &bytes), SYMM_ESTALE, "is being freed");
	symm_handle_put(mem);
	GOOD(symm_group_leave(rig->group));
	BAD(symm_alloc_size(ptr, &bytes), SYMM_ENOENT, "not inside an allocation");
	return 0;
}

static int uses(int rank, void *arg)
{
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	if (check_ownership(rig) != 0 || check_busy(rig) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- persistence ---- */

static int same_id(struct rig *rig, int64_t rows, int64_t columns, DLManagedTensorVersioned **tensor)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	const int64_t sizes[] = { rows, columns };

	options.persistent = 1;
	options.alloc_id = 7;
	return symm_empty_strided(rig->group, 2, sizes, NULL, word, &options, tensor);
}

static int plain_id(struct rig *rig, void **ptr)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;

	options.persistent = 1;
	options.alloc_id = 7;
	return symm_alloc(rig->group, 96, &options, ptr);
}

/* The view of a former life ends when another, of the same allocation, has begun: it does not end that. */
static int check_lives(struct rig *rig, struct symm_mem *mem, int rank, void *first)
{
	DLManagedTensorVersioned *tensor, *view;
	size_t bytes;
	void *ptr;

	GOOD(words_of(mem, 1 - rank, 12, &view));
	GOOD(plain_id(rig, &ptr));
	CHECK(ptr == first);
	BAD(same_id(rig, 4, 3, &tensor), SYMM_EBUSY, "alloc_id 7 is still active");
	symm_tensor_free(view);
	GOOD(symm_alloc_size(ptr, &bytes));
	GOOD(symm_free(ptr));
	GOOD(same_id(rig, 12, 1, &tensor));
	GOOD(symm_mem_release(mem));
	BAD(plain_id(rig, &ptr), SYMM_EBUSY, "alloc_id 7 is still active");
	BAD(symm_free(first), SYMM_EINVAL, "is a tensor's");
	CHECK(tensor->dl_tensor.data == first && read_word(rig, tensor, 5) == 99);
	symm_tensor_free(tensor);
	return 0;
}

static int persistence(int rank, void *arg)
{
	DLManagedTensorVersioned *tensor, *second = NULL;
	struct rig *rig = arg;
	struct symm_mem *mem, *again;
	void *first;

	GOOD(rig_join(rig, rank));
	GOOD(same_id(rig, 3, 4, &tensor));
	first = tensor->dl_tensor.data;
	BAD(same_id(rig, 3, 4, &second), SYMM_EBUSY, "alloc_id 7 is still active");
	GOOD(symm_tensor_rendezvous(&tensor->dl_tensor, NULL, 0, &mem));
	CHECK(write_word(rig, tensor, 5, 99));
	symm_tensor_free(tensor);
	BAD(symm_rendezvous_completed(first, NULL), SYMM_ENOENT, "has been freed");
	BAD(same_id(rig, 3, 5, &second), SYMM_EMISMATCH, "alloc_id 7 stands for 96 bytes, and 120 are asked for");
	GOOD(same_id(rig, 2, 6, &tensor));
	CHECK(tensor->dl_tensor.data == first && tensor->dl_tensor.strides[0] == 6);
	CHECK(symm_rendezvous_completed(first, NULL) == 1 && read_word(rig, tensor, 5) == 99);
	GOOD(symm_tensor_rendezvous(&tensor->dl_tensor, NULL, 1, &again));
	CHECK(again == mem);
	GOOD(symm_mem_release(again));
	symm_tensor_free(tensor);
	if (check_lives(rig, mem, rank, first) != 0)
		return 1;
	tap_rally(rally, 2);
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- while there are tensors ---- */

/* Nothing has ended: new memory, synchronisation and views are to be had. */
static int check_whole(struct rig *rig, struct symm_mem *mem, int rank)
{
	DLManagedTensorVersioned *tensor;

	GOOD(words(rig->group, 1, &tensor));
	symm_tensor_free(tensor);
	GOOD(words_of(mem, 1 - rank, 1, &tensor));
	symm_tensor_free(tensor);
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(symm_context_rank(rig->context) == rank && symm_group_world_size(rig->group) == 2);
	return 0;
}

/* Of the memory of the group there are these three; an alias makes one of them somebody else's too. */
static int check_count(struct rig *rig, const DLManagedTensorVersioned *const *three)
{
	DLManagedTensorVersioned *alias;

	CHECK(symm_tensor_count(rig->context, NULL, NULL, 0) == 3);
	CHECK(symm_tensor_count(NULL, rig->group, NULL, 0) == 3);
	CHECK(symm_tensor_count(NULL, rig->group, three, 2) == 1);
	CHECK(symm_tensor_count(NULL, rig->group, three, 3) == 0);
	GOOD(symm_tensor_alias(three[1], &alias));
	CHECK(symm_tensor_count(NULL, rig->group, three, 3) == 1);
	CHECK(symm_tensor_count(rig->context, NULL, three, 3) == 1);
	symm_tensor_free(alias);
	CHECK(symm_tensor_count(rig->context, NULL, three, 3) == 0);
	BAD(symm_tensor_count(NULL, NULL, NULL, 0), SYMM_EINVAL, "symm_tensor_count: ");
	BAD(symm_tensor_count(rig->context, NULL, (const DLManagedTensorVersioned *[]){ NULL }, 1), SYMM_EINVAL,
	    "is not a tensor");
	return 0;
}

static int check_leave(struct rig *rig, int rank)
{
	DLManagedTensorVersioned *block, *mine, *theirs;
	struct symm_mem *mem;

	GOOD(words(rig->group, 8, &block));
	GOOD(symm_tensor_rendezvous(&block->dl_tensor, NULL, 0, &mem));
	GOOD(words_of(mem, rank, 8, &mine));
	GOOD(words_of(mem, 1 - rank, 8, &theirs));
	BAD(symm_group_leave(rig->group), SYMM_EBUSY, "3 tensors of the memory of group world are alive");
	BAD(symm_close(rig->context), SYMM_EBUSY, "3 tensors of the memory of this context are alive");
	CHECK(check_whole(rig, mem, rank) == 0);
	CHECK(check_count(rig, (const DLManagedTensorVersioned *[]){ mine, block, theirs }) == 0);
	GOOD(symm_mem_release(mem));
	symm_tensor_free(block);
	symm_tensor_free(theirs);
	BAD(symm_group_leave(rig->group), SYMM_EBUSY, "1 tensor");
	GOOD(symm_mem_retain(mem));
	CHECK(check_whole(rig, mem, rank) == 0);
	symm_tensor_free(mine);
	return 0;
}

/* A view in another group holds that group, and the allocation's own. */
static int check_other(struct rig *rig, int rank)
{
	DLManagedTensorVersioned *block, *view;
	struct symm_group *other;
	struct symm_mem *mem;

	GOOD(symm_group_join(rig->context, "other", rank, 2, 0, &other));
	GOOD(words(rig->group, 8, &block));
	GOOD(symm_tensor_rendezvous(&block->dl_tensor, other, 0, &mem));
	GOOD(words_of(mem, 1 - rank, 8, &view));
	GOOD(symm_mem_release(mem));
	BAD(symm_group_leave(other), SYMM_EBUSY, "1 tensor of the memory of group other is alive");
	BAD(symm_group_leave(rig->group), SYMM_EBUSY, "2 tensors of the memory of group world are alive");
	symm_tensor_free(view);
	GOOD(symm_group_leave(other));
	CHECK(write_word(rig, block, 7, 1));
	BAD(symm_group_leave(rig->group), SYMM_EBUSY, "1 tensor of the memory of group world");
	BAD(symm_close(rig->context), SYMM_EBUSY, "1 tensor of the memory of this context");
	symm_tensor_free(block);
	return 0;
}

/* A group that has failed keeps its memory, and shows it. */
static int check_failed(struct rig *rig, int rank)
{
	DLManagedTensorVersioned *block, *view, *tensor;
	struct symm_mem *mem;

	GOOD(words(rig->group, 8, &block));
	GOOD(symm_tensor_rendezvous(&block->dl_tensor, NULL, 0, &mem));
	BAD(symm_wait_signal(mem, 1 - rank, 0, 10), SYMM_ETIMEDOUT, "");
	GOOD(words_of(mem, 1 - rank, 8, &view));
	CHECK(write_word(rig, view, 3, 33 + (uint64_t)rank));
	BAD(words(rig->group, 8, &tensor), SYMM_ETIMEDOUT, "");
	BAD(symm_group_leave(rig->group), SYMM_EBUSY, "2 tensors");
	GOOD(symm_mem_release(mem));
	symm_tensor_free(block);
	tap_rally(rally, 2);
	CHECK(read_word(rig, view, 3) == 33 + (uint64_t)rank);
	symm_tensor_free(view);
	return 0;
}

static int refusal(int rank, void *arg)
{
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	if (check_leave(rig, rank) != 0 || check_other(rig, rank) != 0 || check_failed(rig, rank) != 0)
		return 1;
	GOOD(symm_group_leave(rig->group));
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- threads ---- */

#define THREADS 4
#define VIEWS 5

struct race {
	struct rig rig;
	struct symm_group *other;
	struct symm_mem *mem, *borrowed;
	DLManagedTensorVersioned *tensor[VIEWS + 2];
	int next, begun;
	pthread_t thread[THREADS];
};

static void *delete_some(void *arg)
{
	struct race *r = arg;
	int i;

	while ((i = __atomic_fetch_add(&r->next, 1, __ATOMIC_RELAXED)) < VIEWS + 2) {
		DLManagedTensor *old;

		__atomic_fetch_add(&r->begun, 1, __ATOMIC_RELAXED);
		if (i % 2 == 0)
			symm_tensor_free(r->tensor[i]);
		else if (symm_tensor_unversioned(r->tensor[i], &old) == 0)
			old->deleter(old);
		sched_yield();
	}
	return NULL;
}

static int race_begin(struct race *r, const struct rig *rig)
{
	*r = (struct race){ .rig = *rig };
	GOOD(rig_join(&r->rig, 0));
	GOOD(symm_group_join(r->rig.context, "other", 0, 1, 0, &r->other));
	GOOD(words(r->rig.group, 8, &r->tensor[0]));
	GOOD(symm_tensor_rendezvous(&r->tensor[0]->dl_tensor, NULL, 0, &r->mem));
	GOOD(symm_tensor_rendezvous(&r->tensor[0]->dl_tensor, r->other, 0, &r->borrowed));
	for (int i = 1; i <= VIEWS; i++)
		GOOD(words_of(i % 2 == 0 ? r->mem : r->borrowed, 0, 8, &r->tensor[i]));
	GOOD(words(r->other, 8, &r->tensor[VIEWS + 1]));
	GOOD(symm_mem_release(r->mem));
	GOOD(symm_mem_release(r->borrowed));
	return 0;
}

/* Deleters on other threads, while this one closes the context: it is closed once the last has begun, not before. */
static int deleters(int rank, void *arg)
{
	const struct rig *rig = arg;

	(void)rank;
	for (int round = 0; round < rounds(50); round++) {
		struct race r;
		int rc;

		if (race_begin(&r, rig) != 0)
			return 1;
		for (int i = 0; i < THREADS; i++)
			CHECK(pthread_create(&r.thread[i], NULL, delete_some, &r) == 0);
		while ((rc = symm_close(r.rig.context)) == SYMM_EBUSY &&
		       strstr(symm_last_error(), " of the memory of ") != NULL)
			sched_yield();
		CHECK(rc == 0 && __atomic_load_n(&r.begun, __ATOMIC_RELAXED) == VIEWS + 2, "(%d: %s)", rc,
		      symm_last_error());
		for (int i = 0; i < THREADS; i++)
			pthread_join(r.thread[i], NULL);
		BAD(symm_close(r.rig.context), SYMM_ESTALE, "no more");
	}
	return 0;
}

struct maker {
	struct rig *rig;
	struct symm_mem *mem;
	int made, code;
	pthread_t thread;
};

/* Whoever has a tensor may write into it, whatever others leave meanwhile. */
static void *make_some(void *arg)
{
	struct maker *m = arg;
	DLManagedTensorVersioned *tensor;

	while ((m->code = m->made % 2 == 0 ? words_of(m->mem, 0, 8, &tensor) : words(m->rig->group, 8, &tensor)) == 0) {
		bool written = write_word(m->rig, tensor, 7, 1);

		symm_tensor_free(tensor);
		if (!written)
			break;
		m->made++;
		nap_ms(m->made % 8 == 0);
	}
	return NULL;
}

struct ender {
	struct rig *rig;
	bool context; /* closes it; else leaves the group */
	int code;
	pthread_t thread;
};

static void *end_it(void *arg)
{
	struct ender *e = arg;

	e->code = e->context ? symm_close(e->rig->context) : symm_group_leave(e->rig->group);
	return NULL;
}

static bool has_begun(const struct group *group, bool context)
{
	bool begun;

	symm_memory_read();
	begun = context ? group->context->closing : group->leaving;
	symm_memory_unlock();
	return begun;
}

/* Once the end has begun there are no new tensors, though a call of this thread still keeps it from coming. */
static int check_ending(struct rig *rig, bool context)
{
	struct ender ender = { .rig = rig, .context = context };
	DLManagedTensorVersioned *tensor;
	const struct group *group;
	struct use use;
	struct symm_mem *mem, *borrowed;
	struct symm_group *other;
	void *ptr;
	int rc;

	GOOD(rig_enter(rig));
	GOOD(symm_group_join(rig->context, "other", 0, 1, 0, &other));
	GOOD(rig_memory(rig, 64, &ptr, &mem));
	GOOD(symm_rendezvous(ptr, other, 0, &borrowed));
	group = symm_handle_get(rig->group, SYMM_HANDLE_GROUP, &rc);
	if (context) {
		symm_handle_get(rig->context, SYMM_HANDLE_CONTEXT, &rc);
		symm_handle_put(rig->group);
	}
	CHECK(pthread_create(&ender.thread, NULL, end_it, &ender) == 0);
	while (!has_begun(group, context))
		sched_yield();
	BAD(words_of(mem, 0, 8, &tensor), SYMM_ESTALE, "another thread is leaving group world");
	BAD(words_of(borrowed, 0, 8, &tensor), SYMM_ESTALE, "another thread is leaving group ");
	BAD(symm_use_begin(ptr, &use), SYMM_ESTALE, "another thread is leaving group world");
	symm_handle_put(context ? (void *)rig->context : rig->group);
	pthread_join(ender.thread, NULL);
	CHECK(ender.code == 0, "(%d)", ender.code);
	if (!context)
		GOOD(symm_group_leave(other));
	return 0;
}

static int makers(int rank, void *arg)
{
	struct rig *rig = arg;
	void *ptr;

	GOOD(rig_open(rig, rank));
	for (int round = 0; round < rounds(30); round++) {
		struct maker maker[2] = { { .rig = rig }, { .rig = rig, .made = 1 } };
		int rc;

		GOOD(rig_enter(rig));
		GOOD(rig_memory(rig, 64, &ptr, &maker[0].mem));
		maker[1].mem = maker[0].mem;
		for (int i = 0; i < 2; i++)
			CHECK(pthread_create(&maker[i].thread, NULL, make_some, &maker[i]) == 0);
		while ((rc = symm_group_leave(rig->group)) == SYMM_EBUSY)
			sched_yield();
		for (int i = 0; i < 2; i++)
			pthread_join(maker[i].thread, NULL);
		CHECK(rc == 0, "(%d)", rc);
		for (int i = 0; i < 2; i++)
			CHECK(maker[i].code == SYMM_ESTALE, "(%d after %d)", maker[i].code, maker[i].made);
	}
	return check_ending(rig, false) != 0 || check_ending(rig, true) != 0;
}

/* ---- fork and exit ---- */

/* The lock of memory was held by another thread when the child was made. */
static void in_child(struct rig *rig, DLManagedTensorVersioned *block, DLManagedTensorVersioned *view,
		     DLManagedTensorVersioned *other)
{
	DLManagedTensorVersioned *tensor;
	DLManagedTensor *old;
	bool refused =
		words(rig->group, 1, &tensor) == SYMM_EFORK && symm_tensor_unversioned(block, &old) == SYMM_EFORK;

	symm_tensor_free(view);
	symm_tensor_free(other);
	symm_tensor_free(block);
	_exit(refused ? 0 : 1);
}

static int forks(int rank, void *arg)
{
	DLManagedTensorVersioned *block, *view, *other;
	struct rig *rig = arg;
	struct symm_mem *mem;
	int pid;

	GOOD(rig_join(rig, rank));
	GOOD(words(rig->group, 8, &block));
	GOOD(words(rig->group, 8, &other));
	GOOD(symm_tensor_rendezvous(&block->dl_tensor, NULL, 0, &mem));
	GOOD(words_of(mem, 0, 8, &view));
	GOOD(symm_mem_release(mem));
	symm_memory_write();
	pid = fork();
	if (pid == 0)
		in_child(rig, block, view, other);
	symm_memory_unlock();
	CHECK(pid > 0 && tap_wait(pid, 10) == 0);
	BAD(symm_close(rig->context), SYMM_EBUSY, "3 tensors");
	CHECK(write_word(rig, block, 7, 5) && read_word(rig, view, 7) == 5 && write_word(rig, other, 7, 5));
	symm_tensor_free(block);
	symm_tensor_free(view);
	symm_tensor_free(other);
	GOOD(symm_close(rig->context));
	return 0;
}

static struct {
	struct rig rig;
	struct symm_mem *mem;
	DLManagedTensorVersioned *block, *early, *late;
	bool ended_early;
} leaver;

/* Registered before the library's own, so it runs after that. In exit() deleters do not wait for who uses the memory,
 * here a call. */
static void end_late(void)
{
	bool finalizing = symm_is_finalizing() == 1;
	double start = seconds_now(), took;
	int rc;

	if (symm_view_get(leaver.mem, &rc) == NULL)
		return;
	symm_tensor_free(leaver.late);
	symm_tensor_free(leaver.block);
	took = seconds_now() - start;
	symm_handle_put(leaver.mem);
	if (leaver.ended_early && finalizing && took < patience(2) && symm_close(leaver.rig.context) == 0)
		_exit(0);
	tap_diag("in exit(): %d, %d, %.1f s: %s", leaver.ended_early, finalizing, took, symm_last_error());
}

static void end_early(void)
{
	leaver.ended_early = symm_is_finalizing() == 0;
	symm_tensor_free(leaver.early);
}

static int exits(int rank, void *arg)
{
	leaver.rig = *(struct rig *)arg;
	CHECK(atexit(end_late) == 0);
	GOOD(rig_join(&leaver.rig, rank));
	CHECK(atexit(end_early) == 0);
	GOOD(words(leaver.rig.group, 8, &leaver.block));
	GOOD(words(leaver.rig.group, 8, &leaver.early));
	GOOD(symm_tensor_rendezvous(&leaver.block->dl_tensor, NULL, 0, &leaver.mem));
	GOOD(words_of(leaver.mem, 0, 8, &leaver.late));
	GOOD(symm_mem_release(leaver.mem));
	return 1; /* end_late makes it 0 */
}

int main(void)
{
	static const struct test_case tests[] = {
		{ "the use of an allocation", 1, uses },
		{ "persistence", 2, persistence },
		{ "leave and close refuse", 2, refusal },
		{ "deleters race with close", 1, deleters },
		{ "tensors are made while the group is left", 1, makers },
		{ "in the child of a fork", 1, forks },
		{ "in exit()", 1, exits },
	};

	if (!need_device(1))
		return 0;
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	TEST_CASES(&redis, rally, tests);
	tap_redis_stop(&redis);
	return tap_done();
}
