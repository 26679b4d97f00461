/* Links between real processes: pulls, notices, death, proofs. t/link_raw.c plays the strangers and the odd peers. */
#include "base.h"
#include "link.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 4, EXPORTS = 5, FREED = 5, MANY = 200, NOTICES = 150 };
#define NONCE UINT64_C(0xfeedfacecafe)
#define DIGEST "size=4096"

/* Shared by the ranks of a test. */
struct world {
	int ranks;
	int rally;
	int gate; /* a test's own */
	struct symm_process process[RANKS];
};

static int me;
static int memfds[EXPORTS];
static struct symm_loop *loop;

/* What the hooks heard; the loop thread writes. */
static struct {
	int deaths, notices, notices_at_death, disorder;
	int64_t died_at;
	struct symm_id dead, sender;
	struct symm_notice last;
} heard;

static int load(const int *value)
{
	return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static void add(int *value)
{
	__atomic_fetch_add(value, 1, __ATOMIC_ACQ_REL);
}

static bool wait_for(const int *value, int at_least, int timeout_ms)
{
	int64_t deadline = symm_now() + timeout_ms * SYMM_NS_PER_MS;

	while (load(value) < at_least && symm_now() < deadline)
		symm_sleep(SYMM_NS_PER_MS / 5, deadline);
	return load(value) >= at_least;
}

/* ---- hooks ---- */

static void on_died(const struct symm_id *process)
{
	heard.dead = *process;
	heard.died_at = symm_now();
	heard.notices_at_death = heard.notices;
	add(&heard.deaths);
}

static void on_notice(const struct symm_id *process, const struct symm_notice *notice)
{
	heard.sender = *process;
	heard.last = *notice;
	if (notice->rank != heard.notices)
		heard.disorder++;
	add(&heard.notices);
}

static int on_exported(uint64_t nonce, uint64_t seq, int rank, const char *digest, int fds[SYMM_LINK_FDS], int *count,
		       struct symm_err *err)
{
	if (digest[0] != '\0' && strcmp(digest, DIGEST) != 0)
		return symm_err_set(err, SYMM_ENOENT, "rank %d came with something else", rank);
	if (nonce != NONCE || rank != me || seq > FREED)
		return symm_err_set(err, SYMM_ENOENT, "rank %d exported nothing there", rank);
	if (seq == FREED)
		return symm_err_set(err, SYMM_ESTALE, "rank %d has freed it", rank);
	fds[0] = memfds[seq];
	fds[1] = memfds[(seq + 1) % EXPORTS];
	*count = seq == 0 ? 1 : 2;
	return SYMM_OK;
}

static const struct symm_link_hooks hooks = { on_died, on_notice, on_exported };

/* ---- the frame of a rank ---- */

static int begin(int rank, struct world *world)
{
	char text[64];

	me = rank;
	for (int i = 0; i < EXPORTS; i++) {
		int n = snprintf(text, sizeof(text), "rank %d export %d", rank, i);

		memfds[i] = memfd_create("export", MFD_CLOEXEC);
		CHECK(pwrite(memfds[i], text, (size_t)n + 1, 0) == n + 1);
	}
	CHECK(symm_loop_get(&loop) == SYMM_OK);
	CHECK(symm_link_open(loop, &hooks) == SYMM_OK, ": %s", symm_last_error());
	world->process[rank] = *symm_link_self();
	tap_rally(&world->rally, world->ranks);
	return 0;
}

static int end(struct world *world)
{
	if (world != NULL)
		tap_rally(&world->rally, world->ranks);
	symm_link_close();
	symm_loop_put(loop);
	for (int i = 0; i < EXPORTS; i++)
		close(memfds[i]);
	return 0;
}

static int64_t soon(void)
{
	return symm_now() + 20000 * SYMM_NS_PER_MS;
}

/* A promise of so many milliseconds, on a machine that may be instrumented. */
static int64_t promise(int ms)
{
	const char *factor = getenv("TAP_TIMEOUT_FACTOR");

	return ms * SYMM_NS_PER_MS * (factor ? atoi(factor) : 1);
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

/* ---- pulls ---- */

static int check_fds(const struct symm_pull *pull)
{
	char expected[64], got[64] = "";

	CHECK(pull->count == (pull->seq == 0 ? 1 : 2), ": %d", pull->count);
	for (int i = 0; i < pull->count; i++) {
		snprintf(expected, sizeof(expected), "rank %d export %d", pull->rank, ((int)pull->seq + i) % EXPORTS);
		CHECK(pread(pull->fds[i], got, sizeof(got), 0) > 0);
		CHECK(strcmp(got, expected) == 0, ": %s instead of %s", got, expected);
		CHECK(fcntl(pull->fds[i], F_GETFD) == FD_CLOEXEC);
		close(pull->fds[i]);
	}
	return 0;
}

static int pull_one(struct symm_link *link, int rank, uint64_t nonce, uint64_t seq, struct symm_pull *pull)
{
	*pull = (struct symm_pull){ .link = link, .nonce = nonce, .seq = seq, .rank = rank };
	symm_pull_begin(pull);
	return symm_pull_finish(pull, soon());
}

/* From who came with the digest. */
static int pull_as(struct symm_link *link, int rank, const char *digest, struct symm_pull *pull)
{
	*pull = (struct symm_pull){ .link = link, .nonce = NONCE, .rank = rank, .digest = digest };
	symm_pull_begin(pull);
	return symm_pull_finish(pull, soon());
}

static int pull_all(int rank, void *arg)
{
	struct world *world = arg;
	struct symm_link *link[RANKS], *again;
	struct symm_pull pull;

	CHECK(begin(rank, world) == 0);
	for (int peer = 0; peer < world->ranks; peer++) {
		if (peer == rank)
			continue;
		CHECK(symm_link_get(&world->process[peer], &link[peer]) == SYMM_OK);
		CHECK(symm_link_get(&world->process[peer], &again) == SYMM_OK);
		CHECK(link[peer] == again, ": one link to a process");
		symm_link_put(again);
		for (uint64_t seq = 0; seq < EXPORTS; seq++) {
			CHECK(pull_one(link[peer], peer, NONCE, seq, &pull) == SYMM_OK, ": %s", symm_last_error());
			CHECK(check_fds(&pull) == 0);
		}
		CHECK(pull_one(link[peer], peer, NONCE, FREED, &pull) == SYMM_ESTALE);
		CHECK(strstr(symm_last_error(), "has freed it") != NULL, ": %s", symm_last_error());
		CHECK(pull.count == 0 && pull.fds[0] == -1);
		CHECK(pull_one(link[peer], peer, NONCE + 1, 0, &pull) == SYMM_ENOENT);
		CHECK(pull_as(link[peer], peer, DIGEST, &pull) == SYMM_OK, ": %s", symm_last_error());
		CHECK(check_fds(&pull) == 0);
		CHECK(pull_as(link[peer], peer, "size=8192", &pull) == SYMM_ENOENT);
		CHECK(strstr(symm_last_error(), "something else") != NULL, ": %s", symm_last_error());
		CHECK(pull_one(link[peer], rank, NONCE, 0, &pull) == SYMM_ENOENT);
	}
	tap_rally(&world->rally, world->ranks);
	CHECK(load(&heard.deaths) == 0);
	for (int peer = 0; peer < world->ranks; peer++)
		if (peer != rank)
			symm_link_put(link[peer]);
	return end(world);
}

static int pull_many(int rank, void *arg)
{
	static struct symm_pull pulls[MANY];
	struct world *world = arg;
	struct symm_link *link[RANKS];
	int before;

	CHECK(begin(rank, world) == 0);
	before = count_fds();
	tap_rally(&world->rally, world->ranks);
	for (int peer = 0; peer < world->ranks; peer++)
		if (peer != rank)
			CHECK(symm_link_get(&world->process[peer], &link[peer]) == SYMM_OK);
	for (int i = 0; i < MANY; i++) {
		int peer = (rank + 1 + i % (world->ranks - 1)) % world->ranks;

		pulls[i] = (struct symm_pull){
			.link = link[peer], .nonce = NONCE, .seq = (uint64_t)i % EXPORTS, .rank = peer
		};
		symm_pull_begin(&pulls[i]);
	}
	for (int i = 0; i < MANY; i++) {
		CHECK(symm_pull_finish(&pulls[i], soon()) == SYMM_OK, ": %s", symm_last_error());
		CHECK(check_fds(&pulls[i]) == 0);
	}
	tap_rally(&world->rally, world->ranks);
	for (int peer = 0; peer < world->ranks; peer++)
		if (peer != rank)
			symm_link_put(link[peer]);
	tap_rally(&world->rally, world->ranks);
	for (int i = 0; i < 1000 && count_fds() != before; i++)
		symm_sleep(SYMM_NS_PER_MS, INT64_MAX);
	CHECK(count_fds() == before, ": %d fds instead of %d", count_fds(), before);
	return end(world);
}

/* ---- death ---- */

/* Rank 1 is stopped, so that pulls from it are pending, and then killed. */
static int watch_death(int rank, void *arg)
{
	struct world *world = arg;
	struct symm_pull pull, late[3];
	struct symm_link *link;
	int64_t killed_at;

	CHECK(begin(rank, world) == 0);
	if (rank == 1)
		for (;;)
			pause();
	CHECK(symm_link_get(&world->process[1], &link) == SYMM_OK);
	CHECK(pull_one(link, 1, NONCE, 1, &pull) == SYMM_OK, ": %s", symm_last_error());
	CHECK(check_fds(&pull) == 0);
	kill(world->process[1].pid, SIGSTOP);
	symm_sleep(20 * SYMM_NS_PER_MS, INT64_MAX);
	for (int i = 0; i < 3; i++) {
		late[i] = (struct symm_pull){ .link = link, .nonce = NONCE, .seq = 1, .rank = 1 };
		symm_pull_begin(&late[i]);
	}
	CHECK(symm_pull_finish(&late[0], symm_now() + 30 * SYMM_NS_PER_MS) == SYMM_ETIMEDOUT);
	CHECK(load(&heard.deaths) == 0, ": stopped is not dead");
	killed_at = symm_now();
	kill(world->process[1].pid, SIGKILL);
	for (int i = 1; i < 3; i++) {
		CHECK(symm_pull_finish(&late[i], soon()) == SYMM_EPEER);
		CHECK(strstr(symm_last_error(), world->process[1].host) != NULL, ": %s", symm_last_error());
	}
	CHECK(wait_for(&heard.deaths, 1, 10000));
	CHECK(symm_id_equal(&heard.dead, &world->process[1].id));
	CHECK(heard.died_at - killed_at < promise(50), ": %lld us", (long long)(heard.died_at - killed_at) / 1000);
	CHECK(pull_one(link, 1, NONCE, 1, &pull) == SYMM_EPEER, ": a pull after the death");
	symm_link_put(link);

	CHECK(symm_link_get(&world->process[1], &link) == SYMM_OK, ": a link to a dead process");
	CHECK(wait_for(&heard.deaths, 2, 10000), ": finds out anew");
	symm_link_put(link);
	symm_sleep(20 * SYMM_NS_PER_MS, INT64_MAX);
	CHECK(load(&heard.deaths) == 2);
	return end(NULL);
}

static void test_death(void)
{
	struct world *world = tap_shared(sizeof(*world));
	int pid[2];

	world->ranks = 2;
	tap_ranks_start(2, watch_death, world, pid);
	is_int(tap_wait(pid[0], 60), 0, "kill -9 of a peer: its death is told within 50 ms, pending pulls fail");
	tap_wait(pid[1], 10);
	munmap(world, sizeof(*world));
}

/* Rank 1 tells and ends at once; rank 0 is stopped meanwhile, so that all arrives together. */
static int tell_and_end(int rank, void *arg)
{
	struct world *world = arg;
	struct symm_notice notice = { .type = SYMM_MESSAGE_FAIL,
				      .nonce = NONCE,
				      .why = { SYMM_ETIMEDOUT, "too late" } };
	struct symm_link *link;
	struct symm_pull pull;

	CHECK(begin(rank, world) == 0);
	CHECK(symm_link_get(&world->process[!rank], &link) == SYMM_OK);
	CHECK(pull_one(link, !rank, NONCE, 1, &pull) == SYMM_OK);
	CHECK(check_fds(&pull) == 0);
	tap_rally(&world->rally, 2);
	if (rank == 1) {
		if (world->gate == 1)
			kill(world->process[0].pid, SIGSTOP);
		for (notice.rank = 0; notice.rank < NOTICES; notice.rank++)
			symm_link_notify(link, &notice);
		symm_link_put(link);
		return end(NULL);
	}
	CHECK(wait_for(&heard.deaths, 1, 20000));
	CHECK(heard.notices_at_death == NOTICES, ": %d notices before the death", heard.notices_at_death);
	CHECK(heard.disorder == 0);
	CHECK(symm_id_equal(&heard.sender, &world->process[1].id) && symm_id_equal(&heard.dead, &heard.sender));
	CHECK(heard.last.type == SYMM_MESSAGE_FAIL && heard.last.nonce == NONCE && heard.last.rank == NOTICES - 1);
	CHECK(heard.last.why.code == SYMM_ETIMEDOUT && strcmp(heard.last.why.text, "too late") == 0);
	symm_link_put(link);
	return end(NULL);
}

static void test_last_words(bool stopped)
{
	struct world *world = tap_shared(sizeof(*world));
	int pid[2];

	world->ranks = 2;
	world->gate = stopped;
	tap_ranks_start(2, tell_and_end, world, pid);
	is_int(tap_wait(pid[1], 60), 0, "a process notifies, closes and exits");
	kill(pid[0], SIGCONT);
	is_int(tap_wait(pid[0], 60), 0, "its %d notices come before its death%s", NOTICES,
	       stopped ? ", also to a process that was stopped" : "");
	munmap(world, sizeof(*world));
}

/* ---- a peer that is stopped ---- */

static int stopped_peer(int rank, void *arg)
{
	struct world *world = arg;
	struct symm_notice notice = { .type = SYMM_MESSAGE_LEFT, .nonce = NONCE };
	struct symm_pull pull = { .nonce = NONCE, .seq = 1, .rank = 1 };
	struct symm_link *link;
	int64_t start;
	int fds;

	CHECK(begin(rank, world) == 0);
	if (rank == 1) {
		CHECK(wait_for(&world->gate, 1, 60000));
		CHECK(wait_for(&heard.notices, 1, 10000), ": what was told meanwhile has come");
		return end(NULL);
	}
	CHECK(symm_link_get(&world->process[1], &link) == SYMM_OK);
	CHECK(pull_one(link, 1, NONCE, 1, &pull) == SYMM_OK);
	CHECK(check_fds(&pull) == 0);
	fds = count_fds();
	kill(world->process[1].pid, SIGSTOP);
	symm_sleep(20 * SYMM_NS_PER_MS, INT64_MAX);
	pull.link = link;
	symm_pull_begin(&pull);
	start = symm_now();
	CHECK(symm_pull_finish(&pull, start + 40 * SYMM_NS_PER_MS) == SYMM_ETIMEDOUT);
	CHECK(symm_now() - start < promise(500));
	CHECK(pull.count == 0 && pull.fds[0] == -1);
	kill(world->process[1].pid, SIGCONT);
	CHECK(pull_one(link, 1, NONCE, 2, &pull) == SYMM_OK, ": %s", symm_last_error());
	CHECK(check_fds(&pull) == 0);
	CHECK(count_fds() == fds, ": the fds of the late answer are closed");

	kill(world->process[1].pid, SIGSTOP);
	symm_sleep(20 * SYMM_NS_PER_MS, INT64_MAX);
	for (int i = 0; i < 2000; i++)
		symm_link_notify(link, &notice);
	symm_link_put(link);
	start = symm_now();
	CHECK(end(NULL) == 0);
	CHECK(symm_now() - start < promise(500), ": close waits a bounded time for notices");
	add(&world->gate);
	kill(world->process[1].pid, SIGCONT);
	return 0;
}

/* Rank 1 is stopped and owes rank 0 more than may be on its way at once: what rank 0 needs of rank 2 comes all the
 * same. */
static int ahead_of_need(int rank, void *arg)
{
	struct world *world = arg;
	struct symm_link *link[RANKS];
	struct symm_pull ahead[20], pull;
	size_t n = sizeof(ahead) / sizeof(ahead[0]);

	CHECK(begin(rank, world) == 0);
	if (rank != 0) {
		CHECK(wait_for(&world->gate, 1, 60000));
		return end(NULL);
	}
	for (int peer = 1; peer < world->ranks; peer++)
		CHECK(symm_link_get(&world->process[peer], &link[peer]) == SYMM_OK);
	CHECK(pull_one(link[1], 1, NONCE, 1, &pull) == SYMM_OK, ": %s", symm_last_error());
	CHECK(check_fds(&pull) == 0);
	kill(world->process[1].pid, SIGSTOP);
	symm_sleep(20 * SYMM_NS_PER_MS, INT64_MAX);
	for (size_t i = 0; i < n; i++) {
		ahead[i] = (struct symm_pull){ .link = link[1], .nonce = NONCE, .seq = 1, .rank = 1, .ahead = true };
		symm_pull_begin(&ahead[i]);
	}
	CHECK(pull_one(link[2], 2, NONCE, 1, &pull) == SYMM_OK, ": %s", symm_last_error());
	CHECK(check_fds(&pull) == 0);
	kill(world->process[1].pid, SIGCONT);
	for (size_t i = 0; i < n; i++) {
		CHECK(symm_pull_finish(&ahead[i], soon()) == SYMM_OK, ": %s", symm_last_error());
		CHECK(check_fds(&ahead[i]) == 0);
	}
	for (int peer = 1; peer < world->ranks; peer++)
		symm_link_put(link[peer]);
	add(&world->gate);
	return end(NULL);
}

/* ---- endpoints ---- */

/* Every second time a notice is all that is sent, before the connection can have been made. */
static int open_and_close(int rank, void *arg)
{
	struct world *world = arg;
	struct symm_notice notice = { .type = SYMM_MESSAGE_LEFT, .nonce = NONCE };
	struct symm_link *link;
	struct symm_pull pull;
	int before;

	CHECK(begin(rank, world) == 0);
	before = count_fds();
	tap_rally(&world->rally, world->ranks);
	for (int i = 0; i < 100; i++) {
		if (rank == 1)
			continue;
		CHECK(symm_link_get(&world->process[1], &link) == SYMM_OK);
		if (i % 2 == 0) {
			CHECK(pull_one(link, 1, NONCE, (uint64_t)i % EXPORTS, &pull) == SYMM_OK);
			CHECK(check_fds(&pull) == 0);
		} else {
			symm_link_notify(link, &notice);
		}
		symm_link_put(link);
		symm_link_close();
		CHECK(symm_link_open(loop, &hooks) == SYMM_OK);
		CHECK(count_fds() <= before, ": %d fds instead of %d", count_fds(), before);
	}
	tap_rally(&world->rally, 2);
	for (int i = 0; i < 1000 && count_fds() != before; i++)
		symm_sleep(SYMM_NS_PER_MS, INT64_MAX);
	CHECK(count_fds() == before, ": %d fds instead of %d", count_fds(), before);
	CHECK(load(&heard.deaths) == 0);
	CHECK(rank == 0 || load(&heard.notices) == 50, ": %d notices instead of 50", load(&heard.notices));
	return end(world);
}

/* The second socket serves where the abstract name does not reach. */
static int by_path(int rank, void *arg)
{
	struct world *world = arg;
	char dir[] = "/tmp/symm-link-XXXXXX";
	struct symm_process other;
	struct symm_link *link;
	struct symm_pull pull;
	struct stat st;

	CHECK(mkdtemp(dir) != NULL);
	setenv("SYMM_LINK_DIR", dir, 1);
	CHECK(begin(rank, world) == 0);
	CHECK(strncmp(world->process[rank].path, dir, strlen(dir)) == 0 && stat(world->process[rank].path, &st) == 0);
	other = world->process[!rank];
	other.netns++;
	strcpy(other.socket, "symm-nobody");
	CHECK(symm_link_get(&other, &link) == SYMM_OK);
	CHECK(pull_one(link, !rank, NONCE, 1, &pull) == SYMM_OK, ": %s", symm_last_error());
	CHECK(check_fds(&pull) == 0);
	tap_rally(&world->rally, 2);
	symm_link_put(link);
	other.path[0] = '\0';
	CHECK(symm_link_get(&other, &link) == SYMM_EUNREACH);
	CHECK(strstr(symm_last_error(), "SYMM_LINK_DIR") != NULL);
	CHECK(end(world) == 0);
	CHECK(stat(world->process[rank].path, &st) != 0 && errno == ENOENT, ": the socket is gone after close");
	CHECK(rmdir(dir) == 0);
	return 0;
}

static int bad_environment(int rank, void *arg)
{
	static const char *const bad[] = { "relative", "/nowhere/at/all", "/tmp/with blank",
					   "/tmp/much-longer-than-any-path-that-fits-into-the-name-of-a-socket" };

	(void)rank;
	(void)arg;
	CHECK(symm_loop_get(&loop) == SYMM_OK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int before = count_fds();

		setenv("SYMM_LINK_DIR", bad[i], 1);
		CHECK(symm_link_open(loop, &hooks) < 0, ": %s", bad[i]);
		CHECK(strstr(symm_last_error(), "SYMM_LINK_DIR") != NULL, ": %s", symm_last_error());
		CHECK(count_fds() == before);
	}
	unsetenv("SYMM_LINK_DIR");
	setenv("SYMM_BOOT_ID", "0123456789012345678901234567890123456789", 1);
	CHECK(symm_link_open(loop, &hooks) == SYMM_EINVAL);
	setenv("SYMM_BOOT_ID", "host-two", 1);
	CHECK(symm_link_open(loop, &hooks) == SYMM_OK);
	CHECK(strcmp(symm_link_self()->boot, "host-two") == 0);
	symm_link_close();
	symm_loop_put(loop);
	return 0;
}

/* ---- proofs ---- */

static int serve(int rank, void *arg)
{
	struct world *world = arg;

	CHECK(begin(rank, world) == 0);
	wait_for(&world->gate, 1, 60000);
	symm_link_close();
	add(&world->gate);
	wait_for(&world->gate, 3, 60000);
	symm_loop_put(loop);
	return 0;
}

/* A process that has no core now may answer too late. */
static enum symm_proof prove_patiently(const struct symm_process *process)
{
	enum symm_proof proof = SYMM_UNPROVEN;

	for (int try = 0; try < 20 && proof == SYMM_UNPROVEN; try++)
		proof = symm_link_prove(process);
	return proof;
}

static void test_proofs(void)
{
	struct world *world = tap_shared(sizeof(*world));
	struct symm_process process, other;
	siginfo_t info;
	int pid;

	world->ranks = 2;
	tap_ranks_start(1, serve, world, &pid);
	tap_rally(&world->rally, 2);
	process = world->process[0];
	is_int(symm_link_prove(&process), SYMM_ALIVE, "a live process");
	other = process;
	other.start++;
	is_int(symm_link_prove(&other), SYMM_DEAD, "its pid with another start time");
	other = process;
	other.pidns++;
	is_int(prove_patiently(&other), SYMM_ALIVE, "by its socket, where the pid says nothing");
	other.id.bytes[0] ^= 1;
	is_int(symm_link_prove(&other), SYMM_UNPROVEN, "another id answers");
	kill(pid, SIGSTOP);
	waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT);
	is_int(symm_link_prove(&process), SYMM_ALIVE, "a stopped process");
	other = process;
	other.pidns++;
	is_int(symm_link_prove(&other), SYMM_UNPROVEN, "a stopped process, by its socket");
	kill(pid, SIGCONT);
	add(&world->gate);
	wait_for(&world->gate, 2, 10000);
	is_int(symm_link_prove(&process), SYMM_ALIVE, "a live process that has closed its socket");
	is_int(symm_link_prove(&other), SYMM_DEAD, "no socket in this network namespace");
	other.netns++;
	is_int(symm_link_prove(&other), SYMM_UNPROVEN, "no socket, but in another network namespace");
	add(&world->gate);
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	is_int(symm_link_prove(&process), SYMM_DEAD, "a zombie");
	is_int(tap_wait(pid, 10), 0, "it ended well");
	is_int(symm_link_prove(&process), SYMM_DEAD, "a process that is gone");
	munmap(world, sizeof(*world));
}

/* exit() with everything open. */
static int leave_open(int rank, void *arg)
{
	struct world *world = arg;
	static struct symm_link *link;

	CHECK(begin(rank, world) == 0);
	CHECK(symm_link_get(&world->process[!rank], &link) == SYMM_OK);
	tap_rally(&world->rally, 2);
	exit(0);
}

static void test_ranks(const char *name, int ranks, int (*fn)(int rank, void *arg))
{
	struct world *world = tap_shared(sizeof(*world));

	world->ranks = ranks;
	tap_ranks(name, ranks, fn, world, 60);
	munmap(world, sizeof(*world));
}

int main(void)
{
	unsetenv("SYMM_LINK_DIR");
	unsetenv("SYMM_BOOT_ID");
	test_ranks("pull", 2, pull_all);
	test_ranks("pull", RANKS, pull_all);
	test_ranks("200 pulls at once", 3, pull_many);
	test_death();
	test_last_words(false);
	test_last_words(true);
	test_ranks("a stopped peer", 2, stopped_peer);
	test_ranks("what is needed, and what is pulled ahead of need", 3, ahead_of_need);
	test_ranks("100 opens and closes", 2, open_and_close);
	test_ranks("by path", 2, by_path);
	test_ranks("bad environment", 1, bad_environment);
	test_proofs();
	test_ranks("exit with links open", 2, leave_open);
	return tap_done();
}
