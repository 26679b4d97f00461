#include "handle.h"

#include "base.h"
#include "error.h"
#include "fork.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#define SLOT 64u /* bytes, and so many generations that low bits of a handle tell apart */
#define SLOTS (1u << 20)

/* state: generation << 40 | kind << 32 | closed << 31 | users */
#define USERS ((UINT64_C(1) << 31) - 1)
#define CLOSED (UINT64_C(1) << 31)
#define KIND(kind) ((uint64_t)(kind) << 32)
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
	uint32_t used;             /* slots that were ever in use: 1 .. used - 1 */
	uint32_t first, last;      /* free list; 0: empty */
} table = { .lock = PTHREAD_MUTEX_INITIALIZER, .used = 1 };

static const char *const kinds[] = { "", "symm_context", "symm_group", "symm_mem", "stream" };

static struct slot *slot_of(const void *handle, unsigned *generation)
{
	struct slot *slots = __atomic_load_n(&table.slots, __ATOMIC_ACQUIRE);
	uintptr_t offset = (uintptr_t)handle - (uintptr_t)slots;

	if (slots == NULL || offset >= (uintptr_t)SLOTS * SLOT)
		return NULL;
	*generation = offset % SLOT;
	return &slots[offset / SLOT];
}

static int table_make(void)
{
	void *slots = mmap(NULL, (size_t)SLOTS * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (slots == MAP_FAILED)
		return symm_error_sys(SYMM_ENOMEM, errno, "mmap of the table of handles");
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
	state = __atomic_fetch_add(&slot->state, 1, __ATOMIC_ACQUIRE);
	if ((state & KIND(0xff)) == KIND(kind) && (state / GENERATION) % SLOT == generation && (state & refuse) == 0)
		return slot->object;
	__atomic_fetch_sub(&slot->state, 1, __ATOMIC_RELEASE);
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

void symm_handle_put(const void *handle)
{
	unsigned generation;

	__atomic_fetch_sub(&slot_of(handle, &generation)->state, 1, __ATOMIC_RELEASE);
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

void symm_handle_reopen(const void *handle)
{
	unsigned generation;

	__atomic_fetch_and(&slot_of(handle, &generation)->state, ~CLOSED, __ATOMIC_ACQ_REL);
}

bool symm_handle_drain(const void *handle, unsigned own, int64_t deadline)
{
	unsigned generation;
	struct slot *slot = slot_of(handle, &generation);
	int64_t wait = 1000;

	while ((__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) & USERS) > own) {
		if (symm_now() >= deadline)
			return false;
		symm_sleep(wait, deadline);
		if (wait < SYMM_NS_PER_MS)
			wait *= 2;
	}
	return true;
}

void symm_handle_free(const void *handle)
{
	unsigned generation;
	struct slot *slot = slot_of(handle, &generation);
	uint64_t kind = __atomic_load_n(&slot->state, __ATOMIC_RELAXED) & KIND(0xff);
	uint32_t i = (uint32_t)(slot - table.slots);

	__atomic_fetch_and(&slot->state, ~CLOSED, __ATOMIC_RELAXED);
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
