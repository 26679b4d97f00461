#include "handle.h"

#include "base.h"
#include "error.h"
#include "fork.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLOT 64u /* bytes, and so many generations that low bits of a handle tell apart */
#define SLOTS (1u << 20)

/* state: generation << 40 | retired << 39 | kind << 32 | closed << 31 | alone << 30 | users */
#define USERS ((UINT64_C(1) << 30) - 1)
#define ALONE (UINT64_C(1) << 30)
#define CLOSED (UINT64_C(1) << 31)
#define KIND(kind) ((uint64_t)(kind) << 32)
#define RETIRED KIND(0x80) /* of no kind that anybody asks for */
#define GENERATION (UINT64_C(1) << 40)

struct slot {
	uint64_t state;
	void *object;
	uint32_t next_free;
	char pad[SLOT - 20];
};
_Static_assert(sizeof(struct slot) == SLOT, "a handle's low bits are its generation");

/* Free slots are used again in the order in which they were given back, so that a stale handle stays stale for long. */
static struct {
	pthread_mutex_t lock;
	struct slot *slots;
	uint32_t used;        /* slots that were ever in use: 1 .. used - 1 */
	uint32_t first, last; /* free list; 0: empty */
} table = { .lock = PTHREAD_MUTEX_INITIALIZER, .used = 1 };

static const char *const kinds[] = { "", "symm_context", "symm_group", "symm_mem", "stream", "symm_pool" };

static struct slot *slot_of(const void *handle, unsigned *generation)
{
	struct slot *slots = __atomic_load_n(&table.slots, __ATOMIC_ACQUIRE);
	uintptr_t offset = (uintptr_t)handle - (uintptr_t)slots;

	if (slots == NULL || offset >= (uintptr_t)SLOTS * SLOT)
		return NULL;
	*generation = offset % SLOT;
	return &slots[offset / SLOT];
}

/* There under LeakSanitizer: what a handle stands for is not lost. */
void __lsan_register_root_region(const void *begin, size_t size) __attribute__((weak));

static int table_make(void)
{
	void *slots = mmap(NULL, (size_t)SLOTS * SLOT, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (slots == MAP_FAILED)
		return symm_error_sys(SYMM_ENOMEM, errno, "mmap of the table of handles");
	if (__lsan_register_root_region != NULL)
		__lsan_register_root_region(slots, (size_t)SLOTS * SLOT);
	__atomic_store_n(&table.slots, slots, __ATOMIC_RELEASE);
	return 0;
}

static uint32_t slot_take(void)
{
	uint32_t i = table.first;

	if (i != 0) {
		table.first = table.slots[i].next_free;
		if (table.first == 0)
			table.last = 0;
	} else if (table.used < SLOTS) {
		i = table.used++;
	}
	return i;
}

void *symm_handle_new(enum symm_handle_kind kind, void *object)
{
	uint32_t i = 0;
	uint64_t state;

	pthread_mutex_lock(&table.lock);
	if (table.slots != NULL || table_make() == 0)
		i = slot_take();
	pthread_mutex_unlock(&table.lock);
	if (i == 0) {
		symm_error(SYMM_ENOMEM, "no room for one more handle: there may be %u at a time", SLOTS - 1);
		return NULL;
	}
	table.slots[i].object = object;
	state = __atomic_add_fetch(&table.slots[i].state, KIND(kind), __ATOMIC_RELEASE);
	return (char *)&table.slots[i] + (state / GENERATION) % SLOT;
}

/* ---- who is inside ----
 *
 * A call writes the handle into its thread's own list and then looks whether it is closed; who closes a handle makes
 * all threads pass a barrier (membarrier) and then reads the lists. So a call costs plain stores: locked instructions
 * were a third of a small put (23 ns, now 15). A thread whose list is full counts itself in the slot's users instead.
 */
#define HELD 6

struct inside {
	const void *held[HELD]; /* atomic */
	int taken;              /* by a living thread; atomic */
	struct inside *next;
} __attribute__((aligned(64)));

static struct inside *all_inside; /* only grows */
/* Initial-exec: 8 bytes of the space that every process keeps for libraries loaded late, and no call to find it. */
static _Thread_local struct inside *mine __attribute__((tls_model("initial-exec")));
static pthread_key_t thread_end;
static bool slow_barrier; /* no membarrier: each call fences for itself */

static void give_back_list(void *list)
{
	mine = NULL; /* what ends this thread after us may call once more */
	__atomic_store_n(&((struct inside *)list)->taken, 0, __ATOMIC_RELEASE);
}

static void inside_init(void)
{
	slow_barrier = pthread_key_create(&thread_end, give_back_list) != 0 ||
		       syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0;
}

static struct inside *reuse_list(void)
{
	struct inside *list = __atomic_load_n(&all_inside, __ATOMIC_ACQUIRE);

	for (; list != NULL; list = list->next) {
		int nobody = 0;

		if (__atomic_compare_exchange_n(&list->taken, &nobody, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return list;
	}
	return NULL;
}

/* This thread's list, at its first call; NULL for want of memory. */
static struct inside *take_list(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct inside *list;

	pthread_once(&once, inside_init);
	list = reuse_list();
	if (list == NULL) {
		list = aligned_alloc(64, sizeof(*list));
		if (list == NULL)
			return NULL;
		*list = (struct inside){ .taken = 1, .next = __atomic_load_n(&all_inside, __ATOMIC_RELAXED) };
		while (!__atomic_compare_exchange_n(&all_inside, &list->next, list, 0, __ATOMIC_RELEASE,
						    __ATOMIC_RELAXED))
			;
	}
	pthread_setspecific(thread_end, list);
	mine = list;
	return list;
}

/* Says that this thread is about to be inside. */
static void go_in(struct slot *slot, const void *handle)
{
	struct inside *list = mine != NULL ? mine : take_list();

	for (int i = 0; list != NULL && i < HELD; i++) {
		if (__atomic_load_n(&list->held[i], __ATOMIC_RELAXED) != NULL)
			continue;
		__atomic_store_n(&list->held[i], handle, __ATOMIC_RELAXED);
		if (slow_barrier)
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
		else
			__atomic_signal_fence(__ATOMIC_SEQ_CST);
		return;
	}
	__atomic_fetch_add(&slot->state, 1, __ATOMIC_SEQ_CST);
}

static void go_out(struct slot *slot, const void *handle)
{
	struct inside *list = mine;

	for (int i = HELD - 1; list != NULL && i >= 0; i--) {
		if (__atomic_load_n(&list->held[i], __ATOMIC_RELAXED) != handle)
			continue;
		__atomic_store_n(&list->held[i], NULL, __ATOMIC_RELEASE);
		return;
	}
	__atomic_fetch_sub(&slot->state, 1, __ATOMIC_RELEASE);
}

static unsigned count_inside(const struct slot *slot, const void *handle)
{
	unsigned n = (unsigned)(__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) & USERS);

	for (struct inside *list = __atomic_load_n(&all_inside, __ATOMIC_ACQUIRE); list != NULL; list = list->next)
		for (int i = 0; i < HELD; i++)
			n += __atomic_load_n(&list->held[i], __ATOMIC_ACQUIRE) == handle;
	return n;
}

/* After this every call sees that the handle is closed, or is seen inside. */
static void barrier_for_all(void)
{
	if (slow_barrier)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	else
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

/* ---- handles ---- */

static void *get(const void *handle, enum symm_handle_kind kind, uint64_t refuse, int *rc)
{
	unsigned generation;
	struct slot *slot = slot_of(handle, &generation);
	uint64_t state;

	*rc = symm_fork_check();
	if (*rc != 0)
		return NULL;
	if (slot == NULL) {
		*rc = symm_error(SYMM_EINVAL, "%p is not a %s", handle, kinds[kind]);
		return NULL;
	}
	go_in(slot, handle);
	state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
	if ((state & KIND(0xff)) == KIND(kind) && (state / GENERATION) % SLOT == generation && (state & refuse) == 0)
		return slot->object;
	go_out(slot, handle);
	*rc = symm_error(SYMM_ESTALE, "this %s is no more, or never was one", kinds[kind]);
	return NULL;
}

void *symm_handle_get(const void *handle, enum symm_handle_kind kind, int *rc)
{
	return get(handle, kind, CLOSED, rc);
}

void *symm_handle_get_closed(const void *handle, enum symm_handle_kind kind, int *rc)
{
	return get(handle, kind, 0, rc);
}

void *symm_handle_get_alone(const void *handle, enum symm_handle_kind kind, int *rc)
{
	void *object = get(handle, kind, 0, rc);
	unsigned generation;
	struct slot *slot;

	if (object == NULL)
		return NULL;
	slot = slot_of(handle, &generation);
	if ((__atomic_fetch_or(&slot->state, ALONE, __ATOMIC_ACQ_REL) & ALONE) == 0)
		return object;
	go_out(slot, handle);
	*rc = symm_error(SYMM_EBUSY, "another thread is ending this %s", kinds[kind]);
	return NULL;
}

void symm_handle_put_alone(const void *handle)
{
	unsigned generation;

	__atomic_fetch_and(&slot_of(handle, &generation)->state, ~ALONE, __ATOMIC_ACQ_REL);
	symm_handle_put(handle);
}

void symm_handle_put(const void *handle)
{
	unsigned generation;

	go_out(slot_of(handle, &generation), handle);
}

bool symm_handle_is(const void *handle)
{
	unsigned generation;

	return slot_of(handle, &generation) != NULL;
}

void symm_handle_close(const void *handle)
{
	unsigned generation;

	__atomic_fetch_or(&slot_of(handle, &generation)->state, CLOSED, __ATOMIC_ACQ_REL);
}

bool symm_handle_drain(const void *handle, unsigned own, int64_t deadline)
{
	unsigned generation;
	struct slot *slot = slot_of(handle, &generation);
	int64_t wait = 1000;

	barrier_for_all();
	while (count_inside(slot, handle) > own) {
		if (symm_now() >= deadline)
			return false;
		symm_sleep(wait, deadline);
		if (wait < SYMM_NS_PER_MS)
			wait *= 2;
	}
	return true;
}

void symm_handle_retire(const void *handle, unsigned own)
{
	unsigned generation;

	__atomic_fetch_or(&slot_of(handle, &generation)->state, RETIRED, __ATOMIC_ACQ_REL);
	symm_handle_drain(handle, own, INT64_MAX);
}

void symm_handle_free(const void *handle)
{
	unsigned generation;
	struct slot *slot = slot_of(handle, &generation);
	uint64_t kind = __atomic_load_n(&slot->state, __ATOMIC_RELAXED) & KIND(0xff);
	uint32_t i = (uint32_t)(slot - table.slots);

	__atomic_fetch_and(&slot->state, ~(CLOSED | ALONE), __ATOMIC_RELAXED);
	__atomic_fetch_add(&slot->state, GENERATION - kind, __ATOMIC_RELEASE);
	pthread_mutex_lock(&table.lock);
	slot->next_free = 0;
	if (table.last != 0)
		table.slots[table.last].next_free = i;
	else
		table.first = i;
	table.last = i;
	pthread_mutex_unlock(&table.lock);
}
