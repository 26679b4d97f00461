/* Who waits for the last to come to a rendezvous maps the others' memory meanwhile, and undoes that if the verdict is
 * not "go". Rank 1 is the last: it has offered its memory and is held up where it would say that it has come. Or it has
 * come with the others, who are in a hurry, and the store is what they wait for. The places are calls of the library's
 * inner functions: this test is linked with -Wl,--wrap for each. */
#include "ask.h"
#include "exchange.h"
#include "keyspace.h"
#include "rig.h"

#include <signal.h>

#define RANKS 3
#define LAST 1

static struct tap_redis redis;

static struct {
	int rally, stopped;
	int offered;      /* how many have */
	int maps[RANKS];  /* how often each has mapped, or tried to */
	int early[RANKS]; /* of these, before the store could know that rank 1 has come */
	int said;         /* it can */
} * shared;

struct lateness {
	const char *name;
	size_t bytes;  /* of rank 1 */
	bool answered; /* else the store stands still when they come, until they have done what they can */
	bool dies;
	int fails; /* so often rank 0 cannot map */
	bool slow; /* rank 0 maps for longer than it has time, and all come meanwhile */
	int timeout_ms;
	int code; /* of all others */
	int maps; /* how often each of them maps, or tries to; rank 0 once more if that failed */
	const char *text;
};

static int me;
static bool second;                /* the rendezvous that the test is about: the first brings the arena */
static const struct lateness *now; /* what happens in it */

static int get(int *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void add(int *word)
{
	__atomic_fetch_add(word, 1, __ATOMIC_ACQ_REL);
}

/* The time that rank 0 has, if it maps slowly: others wait for 20 s. */
static int short_ms(void)
{
	return patience(400) < 2000 ? (int)patience(400) : 2000;
}

/* ---- what the linker calls in the place of the functions ---- */

uint32_t __real_symm_cores(void);
uint32_t __wrap_symm_cores(void);

uint32_t __wrap_symm_cores(void)
{
	return now->answered ? __real_symm_cores() : 64;
}

void __real_symm_loop_hurry(struct symm_loop *loop, int64_t ns);
void __wrap_symm_loop_hurry(struct symm_loop *loop, int64_t ns);

/* Who hurries does so for as long as it takes here. */
void __wrap_symm_loop_hurry(struct symm_loop *loop, int64_t ns)
{
	__real_symm_loop_hurry(loop, ns > 0 && !now->answered ? 60 * SYMM_NS_PER_MS * 1000 : ns);
}

int __real_symm_keyspace_publish(struct symm_keyspace *ks, const struct symm_member *member, int world, uint64_t seq,
				 const char *digest, const struct symm_offer *offer, const struct symm_err *failure,
				 int64_t ttl_ms, int64_t deadline, const struct symm_meanwhile *meanwhile,
				 struct symm_verdict *verdict);
int __wrap_symm_keyspace_publish(struct symm_keyspace *ks, const struct symm_member *member, int world, uint64_t seq,
				 const char *digest, const struct symm_offer *offer, const struct symm_err *failure,
				 int64_t ttl_ms, int64_t deadline, const struct symm_meanwhile *meanwhile,
				 struct symm_verdict *verdict);

/* Until the others have done what they can, or will not. */
static void await_others(const struct lateness *lateness)
{
	bool too_late = lateness->code == SYMM_ETIMEDOUT;
	double end = seconds_now() + (too_late ? 1 : patience(lateness->maps > 0 ? 2 : 0.1));

	while (seconds_now() < end && (too_late || get(&shared->maps[0]) == 0 || get(&shared->maps[2]) == 0))
		nap_ms(1);
}

static void hold_up(void)
{
	await_others(now);
	if (now->dies)
		raise(SIGKILL);
	add(&shared->said);
}

int __wrap_symm_keyspace_publish(struct symm_keyspace *ks, const struct symm_member *member, int world, uint64_t seq,
				 const char *digest, const struct symm_offer *offer, const struct symm_err *failure,
				 int64_t ttl_ms, int64_t deadline, const struct symm_meanwhile *meanwhile,
				 struct symm_verdict *verdict)
{
	if (second && now->answered && me == LAST)
		hold_up();
	if (second && !now->answered) {
		if (me == LAST)
			kill(redis.pid, SIGSTOP);
		tap_rally(&shared->stopped, RANKS);
		while (me == LAST && !get(&shared->said))
			nap_ms(1);
		if (me == LAST)
			nap_ms(50);
	}
	return __real_symm_keyspace_publish(ks, member, world, seq, digest, offer, failure, ttl_ms, deadline, meanwhile,
					    verdict);
}

int __real_symm_span_map(struct span *span, struct block *own, int rank, int world_size,
			 const struct incoming *incoming);
int __wrap_symm_span_map(struct span *span, struct block *own, int rank, int world_size,
			 const struct incoming *incoming);

int __wrap_symm_span_map(struct span *span, struct block *own, int rank, int world_size,
			 const struct incoming *incoming)
{
	if (second) {
		add(&shared->maps[me]);
		if (!get(&shared->said))
			add(&shared->early[me]);
		if (now->slow && me == 0)
			nap_ms(2 * short_ms());
		if (me == 0 && get(&shared->maps[0]) <= now->fails)
			return symm_error(SYMM_ENOMEM, "no memory, says the test");
	}
	return __real_symm_span_map(span, own, rank, world_size, incoming);
}

int __real_symm_exchange_begin(struct exchange *exchange);
int __wrap_symm_exchange_begin(struct exchange *exchange);

/* Nobody asks before all have offered. */
int __wrap_symm_exchange_begin(struct exchange *exchange)
{
	static bool asked;

	if (second && !asked) {
		asked = true;
		tap_rally(&shared->offered, RANKS);
	}
	return __real_symm_exchange_begin(exchange);
}

/* ---- the ranks ---- */

/* Of memory of symm's on the host device. */
static int count_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	int n = 0;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		n += strstr(line, "memfd:symm") != NULL;
	if (file != NULL)
		fclose(file);
	return n;
}

static int meet(struct rig *rig, void *ptr)
{
	int maps = count_maps();
	struct symm_mem *mem;

	if (now->code != 0) {
		BAD(symm_rendezvous(ptr, NULL, me == LAST ? 0 : now->timeout_ms, &mem), now->code, now->text);
		CHECK((maps > 0 || !on_host()) && count_maps() == maps, "%d maps, and %d before", count_maps(), maps);
		return 0;
	}
	GOOD(symm_rendezvous(ptr, NULL, now->slow && me == 0 ? short_ms() : 0, &mem));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_mem_release(mem));
	return symm_group_status(rig->group);
}

static int come(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	struct symm_mem *first;
	void *ptr;

	now = arg;
	me = rank;
	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, 4096, &ptr, &first));
	GOOD(symm_alloc(rig.group, rank == LAST ? now->bytes : 4096, NULL, &ptr));
	tap_rally(&shared->rally, RANKS);
	second = true;
	if (meet(&rig, ptr) != 0)
		return 1;
	second = false;
	GOOD(symm_free(ptr));
	return symm_close(rig.context);
}

static void test_late(const struct lateness *lateness)
{
	int pid[RANKS];

	memset(shared, 0, sizeof(*shared));
	ask(&redis, "FLUSHALL");
	tap_ranks_start(RANKS, come, (void *)(uintptr_t)lateness, pid);
	if (!lateness->answered) {
		await_others(lateness);
		add(&shared->said);
		kill(redis.pid, SIGCONT);
	}
	for (int rank = 0; rank < RANKS; rank++)
		is_int(tap_wait(pid[rank], 30), rank == LAST && lateness->dies ? SIGKILL : 0, "%s: rank %d",
		       lateness->name, rank);
	for (int rank = 0; rank < RANKS; rank += 2) {
		is_int(shared->maps[rank], lateness->maps + (rank == 0 && lateness->fails > 0),
		       "%s: rank %d maps as often as it has to", lateness->name, rank);
		is_int(shared->early[rank], lateness->maps, "%s: rank %d does so before all have come", lateness->name,
		       rank);
	}
	if (!lateness->dies)
		has_str(ask(&redis, "DBSIZE"), ":0", "%s: nothing is left in Redis", lateness->name);
}

int main(void)
{
	static const struct lateness cases[] = {
		{ "all is well", 4096, true, false, 0, false, 0, 0, 1, "" },
		{ "rank 0 cannot map", 4096, true, false, 2, false, 0, SYMM_ENOMEM, 1, "no memory, says the test" },
		{ "rank 0 cannot map at first", 4096, true, false, 1, false, 0, 0, 1, "" },
		{ "another size", 8192, true, false, 0, false, 0, SYMM_EMISMATCH, 0, "size=8192" },
		{ "it dies", 4096, true, true, 0, false, 0, SYMM_EPEER, 1, "rank 1" },
		{ "it comes too late", 4096, true, false, 0, false, 300, SYMM_ETIMEDOUT, 1, "rank 1" },
		{ "the store is late", 4096, false, false, 0, false, 0, 0, 1, "" },
		{ "the store is late, rank 0 cannot map", 4096, false, false, 2, false, 0, SYMM_ENOMEM, 1,
		  "no memory, says the test" },
		{ "the store is late, rank 0 maps slowly", 4096, false, false, 0, true, 0, 0, 1, "" },
	};

	if (!need_device(RANKS))
		return 0;
	shared = tap_shared(sizeof(*shared));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		test_late(&cases[i]);
	tap_redis_stop(&redis);
	return tap_done();
}
