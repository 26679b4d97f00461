/* kernels/sync.h: the layout, every way in which a call fails, and the scenarios with ranks as processes. */
#include "sync_cases.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
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
		return symm_sync_barrier(s, channel, timeout);
	return (op == SYMM_SYNC_PUT_SIGNAL ? symm_sync_put_signal : symm_sync_wait_signal)(s, peer, channel, timeout);
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
	struct symm_sync_layout layout = symm_sync_layout(group->world_size);
	uint32_t *bell = symm_sync_bell(caller->s, &layout, group->rank, caller->channel);

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
	struct symm_sync_layout l = symm_sync_layout(world);
	struct symm_sync_group group = { .world_size = world };
	size_t local = symm_sync_local_bytes(world);
	unsigned char *map = calloc(1, l.bytes), *local_map = calloc(1, local);
	struct symm_sync s = { &group, NULL, (char *)local_map };
	bool apart = l.row % 64 == 0 && l.bell % 64 == 0 && l.bytes % 64 == 0;

	for (uint32_t channel = 0; channel < SYMM_SYNC_CHANNELS; channel++) {
		for (uint32_t peer = 0; peer < world; peer++) {
			uint64_t *counters = symm_sync_signal_counters(&s, channel, peer);

			apart &= claim(map, l.bytes, l.barrier + channel * l.row + 8 * peer, 8);
			apart &= claim(map, l.bytes, l.signal + channel * l.row + 8 * peer, 8);
			apart &= claim(map, l.bytes, l.credit + channel * l.row + 8 * peer, 8);
			apart &= claim(local_map, local, (size_t)((char *)counters - s.local), 16);
		}
		apart &= claim(map, l.bytes, l.bell + channel * 64, 4);
		apart &= claim(local_map, local, (size_t)((char *)symm_sync_barrier_counters(&s, channel) - s.local),
			       16);
	}
	for (uint32_t peer = 0; peer < world; peer++)
		apart &= claim(map, l.bytes, l.state + 8 * peer, 8);
	ok(apart, "layout for %u ranks: every word inside, alone and aligned (%zu bytes)", world, l.bytes);
	free(map);
	free(local_map);
}

/* ---- failure ---- */

static void test_alone(void)
{
	char memory[16384] __attribute__((aligned(64))) = "";
	struct arena arena = arena_in(memory, 1, 0);
	struct symm_sync *s = sync_new(&arena, 0);

	is_int(symm_sync_barrier(s, 31, 0), 0, "a barrier of one rank waits for nobody");
	is_int(symm_sync_put_signal(s, 0, 31, 0), 0, "a rank signals itself");
	is_int(symm_sync_wait_signal(s, 0, 31, 0), 0, "and hears it");
	sync_free(s);
}

static void is_record(const struct symm_sync *s, uint32_t op, uint32_t channel, uint32_t peer, uint32_t missing,
		      int code)
{
	const struct symm_sync_record *r = &s->group->record;

	ok(symm_flag_load(&r->written) == 1 && r->op == op && r->channel == channel && r->peer == peer &&
		   r->missing == missing && r->code == code,
	   "the record: op %u, channel %u, peer %u, missing %u, code %d", r->op, r->channel, r->peer, r->missing,
	   r->code);
}

/* After a failure no call stores anything or takes a ticket. */
static void test_poison_first(struct trio *trio, int code)
{
	size_t local = symm_sync_local_bytes(3);
	char *before = malloc(trio->bytes), *local_before = malloc(local);

	memcpy(before, trio->memory, trio->bytes);
	memcpy(local_before, trio->s[0]->local, local);
	for (uint32_t op = 0; op < 3; op++)
		is_int(call(trio->s[0], op, 1, 4, 0), code, "op %u on a failed group", op);
	ok(memcmp(before, trio->memory, trio->bytes) == 0, "stored nothing");
	ok(memcmp(local_before, trio->s[0]->local, local) == 0, "took no ticket");
	free(before);
	free(local_before);
}

static void test_timeout(uint32_t op, uint32_t missing)
{
	struct trio trio;
	uint64_t start;

	trio_open(&trio);
	if (op == SYMM_SYNC_PUT_SIGNAL)
		is_int(symm_sync_put_signal(trio.s[0], 1, 31, 0), 0, "the first put waits for no credit");
	start = symm_wait_clock();
	is_int(call(trio.s[0], op, 1, 31, 20 * MS), SYMM_SYNC_TIMEDOUT, "op %u times out", op);
	ok(symm_wait_clock() - start >= 20 * MS, "not before its time");
	is_record(trio.s[0], op, 31, 1, missing, SYMM_SYNC_TIMEDOUT);
	is_int(symm_sync_state(trio.s[2], 0), SYMM_STATE_FAILED, "the others are told");
	test_poison_first(&trio, SYMM_SYNC_TIMEDOUT);
	is_int(symm_sync_wait_signal(trio.s[2], 1, 3, PATIENCE), SYMM_SYNC_GONE, "a wait elsewhere in the group ends");
	is_record(trio.s[2], SYMM_SYNC_WAIT_SIGNAL, 3, 0, 1, SYMM_SYNC_GONE);
	trio_close(&trio);
}

static void test_gone(uint32_t op, uint32_t how)
{
	struct caller other;
	struct trio trio;
	char *before;

	trio_open(&trio);
	other = (struct caller){ trio.s[0], SYMM_SYNC_WAIT_SIGNAL, 2, 9, 1, 0 };
	before = malloc(symm_sync_layout(3).bytes);
	is_int(symm_sync_put_signal(trio.s[1], 0, 9, 0), 0, "rank 1 signals");
	memcpy(before, trio.s[0]->slot[1], symm_sync_layout(3).bytes);
	trio.s[0]->group->gone[1] = how;
	caller_start(&other);
	is_int(symm_sync_put_signal(trio.s[2], 0, 9, 0), 0, "rank 2 signals");
	is_int(caller_end(&other), 0, "rank 1 is gone: rank 2 is still waited for and heard");
	is_int(symm_sync_put_signal(trio.s[0], 2, 9, PATIENCE), 0, "and signalled");
	if (op == SYMM_SYNC_WAIT_SIGNAL)
		is_int(symm_sync_wait_signal(trio.s[0], 1, 9, PATIENCE), 0, "what rank 1 signalled before counts");
	is_int(call(trio.s[0], op, 1, 9, PATIENCE), SYMM_SYNC_GONE, "op %u with rank 1 fails", op);
	is_record(trio.s[0], op, 9, 1, op == SYMM_SYNC_BARRIER ? 2 : op == SYMM_SYNC_WAIT_SIGNAL, SYMM_SYNC_GONE);
	if (op == SYMM_SYNC_PUT_SIGNAL)
		ok(memcmp(before, trio.s[0]->slot[1], symm_sync_layout(3).state) == 0, "a put to it stored no signal");
	free(before);
	trio_close(&trio);
}

/* A rank that leaves after its last barrier harms nobody. */
static void test_leave_after_barrier(void)
{
	struct trio trio;
	uint64_t *state_of_1;

	trio_open(&trio);
	state_of_1 = symm_sync_at(trio.s[0], 0, symm_sync_layout(3).state, 1);
	for (int closed = 0; closed <= 1; closed++) {
		struct caller last[] = { { trio.s[1], SYMM_SYNC_BARRIER, 0, 2, 1, 0 },
					 { trio.s[2], SYMM_SYNC_BARRIER, 0, 2, 1, 0 } };

		caller_start(&last[0]);
		caller_start(&last[1]);
		*state_of_1 = closed ? symm_sync_word(trio.s[0]->group, SYMM_STATE_CLOSED) : 0;
		trio.s[0]->group->gone[2] = closed ? SYMM_GONE_NOT : SYMM_GONE_LEFT;
		is_int(symm_sync_barrier(trio.s[0], 2, 0), 0, "all had entered: a barrier after they went succeeds");
		is_int(caller_end(&last[0]) | caller_end(&last[1]), 0, "and theirs");
	}
	trio_close(&trio);
}

static void test_closed(void)
{
	struct trio trio;

	trio_open(&trio);
	is_int(symm_sync_put_signal(trio.s[1], 0, 0, 0), 0, "rank 1 signals, then closes");
	symm_sync_tell(trio.s[1], SYMM_STATE_CLOSED);
	is_int(symm_sync_wait_signal(trio.s[0], 1, 0, PATIENCE), 0, "what came before counts");
	for (int left = 0; left <= 1; left++) {
		trio.s[0]->group->gone[1] = left ? SYMM_GONE_LEFT : SYMM_GONE_NOT;
		is_int(symm_sync_barrier(trio.s[0], 1, PATIENCE), SYMM_SYNC_CLOSED, "a barrier with a closed rank");
		is_int(symm_sync_put_signal(trio.s[0], 1, 0, PATIENCE), SYMM_SYNC_CLOSED, "a put to it");
		is_int(symm_sync_wait_signal(trio.s[0], 1, 0, PATIENCE), SYMM_SYNC_CLOSED, "a wait for it");
		is_int(symm_sync_put_signal(trio.s[0], 2, 0, PATIENCE), 0, "a put to another rank");
		is_int(symm_sync_wait_signal(trio.s[2], 0, 0, PATIENCE), 0, "arrives");
	}
	is_int(symm_sync_poisoned(trio.s[0]->group), 0, "the group has not failed");
	trio_close(&trio);
}

/* A wait of op that sleeps ends at once when its rank closes, and when the host fails the group. */
static void test_ended_by_host(uint32_t op)
{
	const struct symm_sync_record why = { SYMM_SYNC_BARRIER, 0, 2, 1, -10, 0, 0 };
	struct caller closes, fails;
	struct trio trio;

	trio_open(&trio);
	symm_sync_put_signal(trio.s[0], 1, 6, 0);
	symm_sync_put_signal(trio.s[2], 1, 6, 0);
	closes = (struct caller){ trio.s[0], op, 1, 6, 1, 0 };
	fails = (struct caller){ trio.s[2], op, 1, 6, 1, 0 };
	caller_start(&closes);
	caller_start(&fails);
	symm_sync_tell(trio.s[0], SYMM_STATE_CLOSED);
	is_int(caller_end(&closes), SYMM_SYNC_CLOSED, "op %u of the rank that closes ends", op);
	ok(symm_sync_poison(trio.s[2]->group, &why), "the host fails the group");
	ok(!symm_sync_poison(trio.s[2]->group, &why), "once");
	symm_sync_wake(trio.s[2], 2);
	is_int(caller_end(&fails), why.code, "op %u ends with the code", op);
	is_record(trio.s[2], why.op, why.channel, why.peer, why.missing, why.code);
	trio_close(&trio);
}

static void *put_and_fail(void *arg)
{
	struct trio *trio = arg;

	symm_sync_put_signal(trio->s[1], 0, 0, 0);
	symm_sync_tell(trio->s[1], SYMM_STATE_FAILED);
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
		lost += symm_sync_wait_signal(trio.s[0], 1, 0, PATIENCE) != 0;
		pthread_join(thread, NULL);
		trio_close(&trio);
	}
	is_int(lost, 0, "a signal that came before a failure counts");
}

static void test_misuse(void)
{
	struct trio trio;
	struct caller first;

	trio_open(&trio);
	first = (struct caller){ trio.s[0], SYMM_SYNC_BARRIER, 0, 8, 1, 0 };
	caller_start(&first);
	is_int(symm_sync_barrier(trio.s[0], 8, PATIENCE), SYMM_SYNC_MISUSE, "a second barrier on the channel");
	is_int(caller_end(&first), SYMM_SYNC_MISUSE, "fails the first as well");
	is_record(trio.s[0], SYMM_SYNC_BARRIER, 8, 0, 0, SYMM_SYNC_MISUSE);
	is_int(symm_sync_barrier(trio.s[1], 7, PATIENCE), SYMM_SYNC_GONE, "and the group on other ranks");
	trio_close(&trio);
}

static void test_generation(void)
{
	struct trio trio;

	trio_open(&trio);
	is_int(symm_sync_put_signal(trio.s[1], 0, 0, 0), 0, "a signal of generation 7");
	symm_sync_tell(trio.s[2], SYMM_STATE_FAILED);
	trio.s[0]->group->generation = 8;
	is_int(symm_sync_state(trio.s[0], 2), SYMM_STATE_OPEN, "generation 8 does not believe its states");
	is_int(symm_sync_wait_signal(trio.s[0], 1, 0, MS), SYMM_SYNC_TIMEDOUT, "nor its signals");
	trio_close(&trio);
}

/* Who sleeps is woken by the word that it waits for, not by the end of its nap. */
static void test_wake(void)
{
	struct trio trio;
	struct symm_sync_layout layout = symm_sync_layout(3);
	struct caller waiter;

	trio_open(&trio);
	waiter = (struct caller){ trio.s[0], SYMM_SYNC_WAIT_SIGNAL, 1, 3, 1, 0 };
	caller_start(&waiter);
	is_int(symm_sync_put_signal(trio.s[1], 0, 3, 0), 0, "a put to a sleeper");
	is_int(symm_flag_load(symm_sync_bell(trio.s[0], &layout, 0, 3)) & 1, 0, "rings its bell");
	is_int(caller_end(&waiter), 0, "and wakes it");
	trio_close(&trio);
}

static void test_put_blocks(void)
{
	struct trio trio;
	struct caller second;

	trio_open(&trio);
	is_int(symm_sync_put_signal(trio.s[0], 1, 3, 0), 0, "a put");
	second = (struct caller){ trio.s[0], SYMM_SYNC_PUT_SIGNAL, 1, 3, 1, 0 };
	caller_start(&second);
	nap(30);
	is_int(second.code, 1, "a second put blocks while the first is unconsumed");
	is_int(symm_sync_put_signal(trio.s[0], 2, 3, 0), 0, "another rank is another matter");
	is_int(symm_sync_put_signal(trio.s[0], 1, 4, 0), 0, "so is another channel");
	is_int(symm_sync_wait_signal(trio.s[1], 0, 3, 0), 0, "the first is consumed");
	is_int(caller_end(&second), 0, "the second goes");
	is_int(symm_sync_wait_signal(trio.s[1], 0, 3, 0), 0, "and arrives");
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
	CHECK(symm_sync_barrier(murder->survivor, 0, PATIENCE) == SYMM_SYNC_GONE);
	CHECK(murder->survivor->group->record.peer == 1);
	return 0;
}

static void test_murder(void)
{
	struct murder murder = { .arena = arena_in(tap_shared(arena_bytes(2)), 2, 0) };
	struct symm_sync *s = sync_new(&murder.arena, 0);
	struct symm_sync_group *group = tap_shared(sizeof(*group) + 2 * sizeof(uint32_t));
	struct symm_sync shared = { group, s->slot, s->local };
	uint32_t *gone = (uint32_t *)(group + 1);
	int pid[2];

	*group = *s->group;
	group->gone = gone;
	murder.survivor = &shared;
	tap_ranks_start(2, murder_play, &murder, pid);
	nap(50);
	kill(pid[1], SIGKILL);
	tap_wait(pid[1], 10);
	symm_flag_publish(&gone[1], SYMM_GONE_DIED);
	symm_sync_wake(&shared, 0);
	is_int(tap_wait(pid[0], 10), 0, "a rank in a barrier learns that its peer was killed");
	sync_free(s);
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
	test_misuse();
	test_generation();
	test_wake();
	test_put_blocks();
	test_murder();
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		run(&scenarios[i]);
	return tap_done();
}
