/* symm/kernel/sync.h: the layout, every way in which a call fails, and the scenarios with ranks as processes. */
#include "kernels/entry.h"
#include "sync_cases.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define MAX_WORLD 33

/* Three ranks of one process. What a test leaves waiting runs in a thread. */
struct trio {
	struct arena arena;
	char *memory;
	size_t bytes;
	struct symm_sync *s[3];
};

static void trio_open(struct trio *trio)
{
	trio->bytes = symm_sync_padded(arena_bytes(3));
	trio->memory = aligned_alloc(64, trio->bytes);
	memset(trio->memory, 0, trio->bytes);
	trio->arena = arena_in(trio->memory, 3, 0);
	for (uint32_t rank = 0; rank < 3; rank++)
		trio->s[rank] = sync_new(&trio->arena, rank);
}

static void trio_close(struct trio *trio)
{
	for (int rank = 0; rank < 3; rank++)
		sync_free(trio->s[rank]);
	free(trio->memory);
}

struct caller {
	struct symm_sync *s;
	uint32_t op, peer, channel;
	int code;
	pthread_t thread;
};

static int call(struct symm_sync *s, uint32_t op, uint32_t peer, uint32_t channel, uint64_t timeout)
{
	if (op == SYMM_SYNC_BARRIER)
		return barrier(s, channel, timeout);
	return (op == SYMM_SYNC_PUT_SIGNAL ? put_signal : wait_signal)(s, peer, channel, timeout);
}

static void *caller_run(void *arg)
{
	struct caller *caller = arg;

	caller->code = call(caller->s, caller->op, caller->peer, caller->channel, PATIENCE);
	return NULL;
}

static void nap(int ms)
{
	usleep((useconds_t)ms * 1000);
}

/* Starts a call that cannot end yet, and returns when it sleeps. */
static void caller_start(struct caller *caller)
{
	const struct symm_sync_group *group = caller->s->group;
	struct symm_sync_layout layout = symm_sync_layout_of(group->world_size);
	uint32_t *bell = symm_sync_bell(caller->s->own, &layout, caller->channel);

	if (pthread_create(&caller->thread, NULL, caller_run, caller) != 0)
		tap_bail("no thread");
	for (int ms = 0; (symm_flag_load(bell) & 1) == 0; ms++) {
		if (ms == 10000)
			tap_bail("op %u did not go to sleep", caller->op);
		nap(1);
	}
}

static int caller_end(struct caller *caller)
{
	pthread_join(caller->thread, NULL);
	return caller->code;
}

/* ---- layout ---- */

_Static_assert(offsetof(struct symm_sync_group, rank) == offsetof(struct symm_sync_facts, rank) &&
		       offsetof(struct symm_sync_group, poison) == offsetof(struct symm_sync_facts, poison) &&
		       offsetof(struct symm_sync_group, mirror) == sizeof(struct symm_sync_facts),
	       "the facts are the first words of the group");

/* Counts the writes of one byte range of a map of who owns which byte; false if any is taken or outside. */
static bool claim(unsigned char *map, size_t size, size_t at, size_t bytes)
{
	if (at > size || bytes > size - at)
		return false;
	for (size_t i = at; i < at + bytes; i++)
		if (map[i]++ != 0)
			return false;
	return true;
}

static void test_layout(uint32_t world)
{
	struct symm_sync_layout l = symm_sync_layout_of(world);
	unsigned char *map = calloc(1, l.bytes);
	bool apart = l.row % 64 == 0 && l.bell % 64 == 0 && l.bytes % 64 == 0;

	for (uint32_t channel = 0; channel < SYMM_SYNC_CHANNELS; channel++) {
		for (uint32_t peer = 0; peer < world; peer++) {
			apart &= claim(map, l.bytes, l.barrier + channel * l.row + 8 * peer, 8);
			apart &= claim(map, l.bytes, l.signal + channel * l.row + 8 * peer, 8);
			apart &= claim(map, l.bytes, l.credit + channel * l.row + 8 * peer, 8);
		}
		apart &= claim(map, l.bytes, l.bell + channel * 64, 4);
	}
	for (uint32_t peer = 0; peer < world; peer++) {
		char *word = (char *)symm_sync_state_word((char *)map, world, peer);

		apart &= claim(map, l.bytes, (size_t)(word - (char *)map), 8);
	}
	ok(apart, "layout for %u ranks: every word inside, alone and aligned (%zu bytes)", world, l.bytes);
	free(map);
}

/* ---- failure ---- */

static void test_alone(void)
{
	char memory[16384] __attribute__((aligned(64))) = "";
	struct arena arena = arena_in(memory, 1, 0);
	struct symm_sync *s = sync_new(&arena, 0);

	is_int(barrier(s, 31, 0), 0, "a barrier of one rank waits for nobody");
	is_int(put_signal(s, 0, 31, 0), 0, "a rank signals itself");
	is_int(wait_signal(s, 0, 31, 0), 0, "and hears it");
	sync_free(s);
}

static void is_record(const struct symm_sync *s, uint32_t op, uint32_t channel, uint32_t peer, uint32_t missing,
		      int code)
{
	const struct symm_sync_record *r = &s->group->mirror->record;

	ok(symm_flag_load(&s->group->mirror->written) == 1 && r->op == op && r->channel == channel && r->peer == peer &&
		   r->missing == missing && r->code == code,
	   "the record: op %u, channel %u, peer %u, missing %u, code %d", r->op, r->channel, r->peer, r->missing,
	   r->code);
}

/* What a rank has told rank `to` of itself. */
static uint32_t told(const struct symm_sync *to, uint32_t rank)
{
	const struct symm_sync_group *group = to->group;

	return symm_sync_state_of(symm_word_load(symm_sync_state_word(to->own, group->world_size, rank)),
				  group->generation);
}

/* A rank tells all, itself too, as the host does. */
static void tell(struct symm_sync *s, uint32_t state)
{
	const struct symm_sync_group *group = s->group;

	for (uint32_t peer = 0; peer < group->world_size; peer++) {
		char *slot = symm_sync_peer_at(s, peer)->slot;

		symm_word_publish(symm_sync_state_word(slot, group->world_size, group->rank),
				  symm_sync_word_of(group->generation, state));
		symm_sync_wake_slot(slot, group->world_size);
	}
}

/* After a failure no call stores anything for others or ends anything. */
static void test_poison_first(struct trio *trio, int rank, int code)
{
	char *before = malloc(trio->bytes);
	struct symm_sync *s = trio->s[rank];
	uint64_t done = s->barrier[4].done;

	memcpy(before, trio->memory, trio->bytes);
	for (uint32_t op = 0; op < 3; op++)
		is_int(call(s, op, 1, 4, 0), code, "op %u on a failed group", op);
	ok(memcmp(before, trio->memory, trio->bytes) == 0, "stored nothing");
	ok(s->barrier[4].done == done, "counted no barrier");
	free(before);
}

static void test_timeout(uint32_t op, uint32_t missing)
{
	struct trio trio;
	uint64_t start;

	trio_open(&trio);
	if (op == SYMM_SYNC_PUT_SIGNAL)
		is_int(put_signal(trio.s[0], 1, 31, 0), 0, "the first put waits for no credit");
	start = symm_wait_clock();
	is_int(call(trio.s[0], op, 1, 31, 20 * MS), SYMM_SYNC_TIMEDOUT, "op %u times out", op);
	ok(symm_wait_clock() - start >= 20 * MS, "not before its time");
	is_record(trio.s[0], op, 31, 1, missing, SYMM_SYNC_TIMEDOUT);
	is_int(told(trio.s[2], 0), SYMM_STATE_FAILED, "the others are told");
	test_poison_first(&trio, 0, SYMM_SYNC_TIMEDOUT);
	is_int(wait_signal(trio.s[2], 1, 3, PATIENCE), SYMM_SYNC_GONE, "a wait elsewhere in the group ends");
	is_record(trio.s[2], SYMM_SYNC_WAIT_SIGNAL, 3, 0, 1, SYMM_SYNC_GONE);
	trio_close(&trio);
}

/* As the host does. */
static void set_gone(struct symm_sync *s, uint32_t rank, uint32_t how)
{
	symm_flag_publish(symm_sync_gone_at(s->group->mirror, rank), how);
	symm_flag_bump(&s->group->mirror->news);
}

static void test_gone(uint32_t op, uint32_t how)
{
	struct caller other;
	struct trio trio;
	char *before;

	trio_open(&trio);
	other = (struct caller){ trio.s[0], SYMM_SYNC_WAIT_SIGNAL, 2, 9, 1, 0 };
	before = malloc(symm_sync_layout_of(3).bytes);
	is_int(put_signal(trio.s[1], 0, 9, 0), 0, "rank 1 signals");
	memcpy(before, symm_sync_peer_at(trio.s[0], 1)->slot, symm_sync_layout_of(3).bytes);
	set_gone(trio.s[0], 1, how);
	caller_start(&other);
	is_int(put_signal(trio.s[2], 0, 9, 0), 0, "rank 2 signals");
	is_int(caller_end(&other), 0, "rank 1 is gone: rank 2 is still waited for and heard");
	is_int(put_signal(trio.s[0], 2, 9, PATIENCE), 0, "and signalled");
	if (op == SYMM_SYNC_WAIT_SIGNAL)
		is_int(wait_signal(trio.s[0], 1, 9, PATIENCE), 0, "what rank 1 signalled before counts");
	is_int(call(trio.s[0], op, 1, 9, PATIENCE), SYMM_SYNC_GONE, "op %u with rank 1 fails", op);
	is_record(trio.s[0], op, 9, 1, op == SYMM_SYNC_BARRIER ? 2 : op == SYMM_SYNC_WAIT_SIGNAL, SYMM_SYNC_GONE);
	if (op == SYMM_SYNC_PUT_SIGNAL)
		ok(memcmp(before, symm_sync_peer_at(trio.s[0], 1)->slot, symm_sync_layout_of(3).state) == 0,
		   "a put to it stored no signal");
	free(before);
	trio_close(&trio);
}

/* A rank that leaves after its last barrier harms nobody. */
static void test_leave_after_barrier(void)
{
	struct trio trio;
	uint64_t *state_of_1;

	trio_open(&trio);
	state_of_1 = symm_sync_state_word(trio.s[0]->own, 3, 1);
	for (int closed = 0; closed <= 1; closed++) {
		struct caller last[] = { { trio.s[1], SYMM_SYNC_BARRIER, 0, 2, 1, 0 },
					 { trio.s[2], SYMM_SYNC_BARRIER, 0, 2, 1, 0 } };

		caller_start(&last[0]);
		caller_start(&last[1]);
		*state_of_1 = closed ? symm_sync_word_of(7, SYMM_STATE_CLOSED) : 0;
		set_gone(trio.s[0], 2, closed ? SYMM_GONE_NOT : SYMM_GONE_LEFT);
		is_int(barrier(trio.s[0], 2, 0), 0, "all had entered: a barrier after they went succeeds");
		is_int(caller_end(&last[0]) | caller_end(&last[1]), 0, "and theirs");
	}
	trio_close(&trio);
}

static void test_closed(void)
{
	struct symm_sync_place at;
	uint32_t blame = 0;
	struct trio trio;

	trio_open(&trio);
	at = place_of(trio.s[0]);
	is_int(put_signal(trio.s[1], 0, 0, 0), 0, "rank 1 signals, then closes");
	tell(trio.s[1], SYMM_STATE_CLOSED);
	is_int(wait_signal(trio.s[0], 1, 0, PATIENCE), 0, "what came before counts");
	for (int left = 0; left <= 1; left++) {
		set_gone(trio.s[0], 1, left ? SYMM_GONE_LEFT : SYMM_GONE_NOT);
		is_int(symm_sync_barrier(&at, SYMM_WAIT_LANES, 1, PATIENCE, &blame), SYMM_SYNC_CLOSED,
		       "a barrier with a closed rank");
		is_int((int)blame, 1, "says which");
		is_int(put_signal(trio.s[0], 1, 0, PATIENCE), SYMM_SYNC_CLOSED, "a put to it");
		is_int(wait_signal(trio.s[0], 1, 0, PATIENCE), SYMM_SYNC_CLOSED, "a wait for it");
		is_int(put_signal(trio.s[0], 2, 0, PATIENCE), 0, "a put to another rank");
		is_int(wait_signal(trio.s[2], 0, 0, PATIENCE), 0, "arrives");
	}
	is_int((int)trio.s[0]->group->poison, 0, "the group has not failed");
	trio_close(&trio);
}

/* A wait of op that sleeps ends at once when its rank closes, and when the host fails the group. */
static void test_ended_by_host(uint32_t op)
{
	struct caller closes, fails;
	struct trio trio;

	trio_open(&trio);
	put_signal(trio.s[0], 1, 6, 0);
	put_signal(trio.s[2], 1, 6, 0);
	closes = (struct caller){ trio.s[0], op, 1, 6, 1, 0 };
	fails = (struct caller){ trio.s[2], op, 1, 6, 1, 0 };
	caller_start(&closes);
	caller_start(&fails);
	tell(trio.s[0], SYMM_STATE_CLOSED);
	is_int(caller_end(&closes), SYMM_SYNC_CLOSED, "op %u of the rank that closes ends", op);
	symm_flag_publish(&trio.s[2]->group->mirror->abort, 10);
	symm_flag_bump(&trio.s[2]->group->mirror->news);
	symm_sync_wake_slot(trio.s[2]->own, 3);
	is_int(caller_end(&fails), -10, "the host fails the group: op %u ends with its code", op);
	is_int(trio.s[2]->group->mirror->written, 0, "and writes no record");
	is_int(told(trio.s[1], 2), SYMM_STATE_OPEN, "and tells nobody: the host does");
	test_poison_first(&trio, 2, -10);
	trio_close(&trio);
}

static void *put_and_fail(void *arg)
{
	struct trio *trio = arg;

	put_signal(trio->s[1], 0, 0, 0);
	tell(trio->s[1], SYMM_STATE_FAILED);
	return NULL;
}

/* Whoever looks for the word, then for failures, may miss both the word and that it came first: not once in many
 * times. */
static void test_satisfied_wins(void)
{
	struct trio trio;
	pthread_t thread;
	int lost = 0;

	for (int i = 0; i < 3000; i++) {
		trio_open(&trio);
		if (pthread_create(&thread, NULL, put_and_fail, &trio) != 0)
			tap_bail("no thread");
		lost += wait_signal(trio.s[0], 1, 0, PATIENCE) != 0;
		pthread_join(thread, NULL);
		trio_close(&trio);
	}
	is_int(lost, 0, "a signal that came before a failure counts");
}

/* Happens as the wait asks for the time in its first round: it has looked for the signal, and not yet for failures. */
static struct trio *meanwhile;
static int times_asked;

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	if (meanwhile != NULL && ++times_asked == 2) {
		put_signal(meanwhile->s[1], 0, 4, PATIENCE);
		symm_flag_publish(&meanwhile->s[0]->group->mirror->abort, 10);
		symm_flag_bump(&meanwhile->s[0]->group->mirror->news);
	}
	return __real_clock_gettime(clock, now);
}

/* The same for sure, once. */
static void test_satisfied_meanwhile(void)
{
	struct trio trio;

	trio_open(&trio);
	meanwhile = &trio;
	is_int(wait_signal(trio.s[0], 1, 4, PATIENCE), 0, "a signal that came meanwhile counts");
	meanwhile = NULL;
	is_int(times_asked, 2, "it did come meanwhile");
	is_int(wait_signal(trio.s[0], 1, 4, PATIENCE), -10, "and the failure is seen by the next wait");
	trio_close(&trio);
}

static void test_misuse(void)
{
	struct trio trio;
	struct caller first;

	trio_open(&trio);
	first = (struct caller){ trio.s[0], SYMM_SYNC_BARRIER, 0, 8, 1, 0 };
	caller_start(&first);
	is_int(barrier(trio.s[0], 8, PATIENCE), SYMM_SYNC_MISUSE, "a second barrier on the channel");
	is_int(caller_end(&first), SYMM_SYNC_MISUSE, "fails the first as well");
	is_record(trio.s[0], SYMM_SYNC_BARRIER, 8, 0, 0, SYMM_SYNC_MISUSE);
	is_int(barrier(trio.s[1], 7, PATIENCE), SYMM_SYNC_GONE, "and the group on other ranks");
	trio_close(&trio);
}

static void test_generation(void)
{
	struct trio trio;

	trio_open(&trio);
	is_int(put_signal(trio.s[1], 0, 0, 0), 0, "a signal of generation 7");
	tell(trio.s[2], SYMM_STATE_FAILED);
	trio.s[0]->group->generation = 8;
	is_int(told(trio.s[0], 2), SYMM_STATE_OPEN, "generation 8 does not believe its states");
	is_int(wait_signal(trio.s[0], 1, 0, MS), SYMM_SYNC_TIMEDOUT, "nor its signals");
	trio_close(&trio);
}

/* Who sleeps is woken by the word that it waits for, not by the end of its nap. */
static void test_wake(void)
{
	struct trio trio;
	struct symm_sync_layout layout = symm_sync_layout_of(3);
	struct caller waiter;

	trio_open(&trio);
	waiter = (struct caller){ trio.s[0], SYMM_SYNC_WAIT_SIGNAL, 1, 3, 1, 0 };
	caller_start(&waiter);
	is_int(put_signal(trio.s[1], 0, 3, 0), 0, "a put to a sleeper");
	is_int(symm_flag_load(symm_sync_bell(trio.s[0]->own, &layout, 3)) & 1, 0, "rings its bell");
	is_int(caller_end(&waiter), 0, "and wakes it");
	trio_close(&trio);
}

static void test_put_blocks(void)
{
	struct trio trio;
	struct caller second;

	trio_open(&trio);
	is_int(put_signal(trio.s[0], 1, 3, 0), 0, "a put");
	second = (struct caller){ trio.s[0], SYMM_SYNC_PUT_SIGNAL, 1, 3, 1, 0 };
	caller_start(&second);
	nap(30);
	is_int(second.code, 1, "a second put blocks while the first is unconsumed");
	is_int(put_signal(trio.s[0], 2, 3, 0), 0, "another rank is another matter");
	is_int(put_signal(trio.s[0], 1, 4, 0), 0, "so is another channel");
	is_int(wait_signal(trio.s[1], 0, 3, 0), 0, "the first is consumed");
	is_int(caller_end(&second), 0, "the second goes");
	is_int(wait_signal(trio.s[1], 0, 3, 0), 0, "and arrives");
	trio_close(&trio);
}

/* ---- entries ---- */

static struct symm_sync_args args_of(struct symm_sync *s, uint32_t peer, struct symm_sync_result *result)
{
	return (struct symm_sync_args){ .sync = s,
					.group = s->group,
					.own = s->own,
					.world_size = s->group->world_size,
					.timeout_ns = MS,
					.channel = 2,
					.peer = peer,
					.counted = 1,
					.result = result };
}

static void is_entry(void (*entry)(const struct symm_sync_args *args), const struct symm_sync_args *args, int code,
		     const char *name)
{
	uint64_t ended = args->sync->ended;

	memset(args->result, 0xff, sizeof(*args->result));
	entry(args);
	ok(args->result->done == 1 && args->result->code == code && args->sync->ended == ended + 1,
	   "%s: done %u, code %d, counted", name, args->result->done, args->result->code);
}

/* What kernels do, by a CPU. */
static void test_entries(void)
{
	struct symm_sync_result result;
	struct symm_sync_args put, wait, quiet;
	struct trio trio;

	trio_open(&trio);
	put = args_of(trio.s[0], 1, &result);
	wait = args_of(trio.s[1], 0, &result);
	quiet = args_of(trio.s[0], 1, NULL);
	quiet.counted = 0;
	is_entry(symm_entry_put_signal, &put, 0, "put_signal");
	is_entry(symm_entry_wait_signal, &wait, 0, "wait_signal");
	is_entry(symm_entry_count, &put, 0, "count");
	tell(trio.s[2], SYMM_STATE_CLOSED);
	is_entry(symm_entry_barrier, &put, SYMM_SYNC_CLOSED, "barrier");
	is_int((int)result.peer, 2, "who has freed the allocation");
	is_entry(symm_entry_wait_signal, &wait, SYMM_SYNC_TIMEDOUT, "wait_signal");
	is_entry(symm_entry_put_signal, &put, SYMM_SYNC_GONE, "put_signal");
	symm_entry_barrier(&quiet);
	is_int((int)trio.s[0]->ended, 4, "captured work is not counted");
	trio_close(&trio);
}

/* ---- processes ---- */

struct stage {
	const struct scenario *scenario;
	struct arena arena;
};

static int play(int rank, void *arg)
{
	const struct stage *stage = arg;
	struct symm_sync *s = sync_new(&stage->arena, (uint32_t)rank);
	int result = stage->scenario->run(&stage->arena, s);

	sync_free(s);
	return result;
}

static void run(const struct scenario *scenario)
{
	char *memory = tap_shared(arena_bytes(scenario->world));
	struct stage stage = { scenario, arena_in(memory, scenario->world, scenario->rounds) };
	char name[64];

	snprintf(name, sizeof(name), "%s of %u", scenario->name, scenario->world);
	tap_ranks(name, (int)scenario->world, play, &stage, 120);
}

static const struct scenario scenarios[] = {
	{ "barriers", case_barriers, 2, 1000 },
	{ "barriers", case_barriers, 3, 300 },
	{ "barriers", case_barriers, 4, 200 },
	{ "barriers", case_barriers, 8, 100 },
	{ "barriers", case_barriers, MAX_WORLD, 10 },
	{ "ring", case_ring, 2, 1000 },
	{ "ring", case_ring, 3, 300 },
	{ "ring", case_ring, 4, 200 },
	{ "ring", case_ring, 8, 100 },
	{ "ring", case_ring, MAX_WORLD, 20 },
	{ "ping-pong", case_ping_pong, 2, 100000 },
	{ "payloads", case_payloads, 2, 500 },
	{ "published values", case_published, 2, 500 },
	{ "crowd", case_crowd, 2, 2000 },
};

/* A peer is killed while another sleeps in a barrier with it; whoever sees the death says so. */
struct murder {
	struct arena arena;
	struct symm_sync *survivor; /* in shared memory, with all that hangs off it */
};

static int murder_play(int rank, void *arg)
{
	struct murder *murder = arg;

	if (rank == 1)
		for (;;)
			pause();
	CHECK(barrier(murder->survivor, 0, PATIENCE) == SYMM_SYNC_GONE);
	CHECK(murder->survivor->group->mirror->record.peer == 1);
	return 0;
}

static void test_murder(void)
{
	struct murder murder = { .arena = arena_in(tap_shared(arena_bytes(2)), 2, 0) };
	struct symm_sync *s = tap_shared(symm_sync_bytes(2));
	struct symm_sync_mirror *mirror = tap_shared(symm_sync_mirror_bytes(2));
	int pid[2];

	sync_init(&murder.arena, 0, s, tap_shared(sizeof(*s->group)), mirror);
	murder.survivor = s;
	tap_ranks_start(2, murder_play, &murder, pid);
	nap(50);
	kill(pid[1], SIGKILL);
	tap_wait(pid[1], 10);
	set_gone(s, 1, SYMM_GONE_DIED);
	symm_sync_wake_slot(s->own, 2);
	is_int(tap_wait(pid[0], 10), 0, "a rank in a barrier learns that its peer was killed");
}

int main(void)
{
	static const uint32_t worlds[] = { 1, 2, 3, 8, MAX_WORLD, 1024 };

	for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++)
		test_layout(worlds[i]);
	test_alone();
	test_timeout(SYMM_SYNC_BARRIER, 2);
	test_timeout(SYMM_SYNC_PUT_SIGNAL, 1);
	test_timeout(SYMM_SYNC_WAIT_SIGNAL, 1);
	for (uint32_t op = 0; op < 3; op++) {
		test_gone(op, op == 0 ? SYMM_GONE_LEFT : SYMM_GONE_DIED);
		test_ended_by_host(op);
	}
	test_leave_after_barrier();
	test_closed();
	test_satisfied_wins();
	test_satisfied_meanwhile();
	test_misuse();
	test_generation();
	test_wake();
	test_put_blocks();
	test_entries();
	test_murder();
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		run(&scenarios[i]);
	return tap_done();
}
