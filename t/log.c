/* The log: what is told of a rank, on stderr and by a function of the program's, and the thread on which that runs. The
 * clock is the test's, for lines that come after seconds only. */
#include "ask.h"
#include "base.h"
#include "log.h"
#include "rig.h"
#include "symm/pool.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define RANKS 2
#define MOST 4000

static struct tap_redis redis;

static int64_t later; /* by how much the library's clock is ahead */

int64_t __real_symm_now(void);
int64_t __wrap_symm_now(void);

int64_t __wrap_symm_now(void)
{
	return __real_symm_now() + __atomic_load_n(&later, __ATOMIC_RELAXED);
}

/* ---- what has been logged ---- */

/* By the function: each line as "LEVEL TEXT". */
static struct {
	char line[MOST][200];
	int n; /* atomic */
	pid_t thread;
	bool threads; /* there were two */
	sem_t *hold;  /* NULL, or what each line waits for */
} seen;

static void see(void *arg, int level, const char *line)
{
	int n = __atomic_load_n(&seen.n, __ATOMIC_RELAXED);

	seen.threads |= n > 0 && seen.thread != gettid();
	seen.thread = gettid();
	if (seen.hold != NULL)
		sem_wait(seen.hold);
	snprintf(seen.line[n], sizeof(seen.line[n]), "%d %s%s", level, (const char *)arg, line);
	__atomic_store_n(&seen.n, n + 1, __ATOMIC_RELEASE);
}

/* How many lines have the text. */
static int lines_with(const char *text)
{
	int n = __atomic_load_n(&seen.n, __ATOMIC_ACQUIRE), with = 0;

	for (int i = 0; i < n; i++)
		with += strstr(seen.line[i], text) != NULL;
	return with;
}

static bool comes(const char *text, int n)
{
	double start = seconds_now();

	while (lines_with(text) < n && seconds_now() - start < patience(5))
		nap_ms(5);
	return lines_with(text) == n;
}

/* Appends: two threads at once would write to the same place of a memfd. */
static int stderr_take(int *saved)
{
	int log = memfd_create("log", MFD_CLOEXEC);

	CHECK(log >= 0 && fcntl(log, F_SETFL, O_APPEND) == 0);
	CHECK((*saved = dup(2)) >= 0 && dup2(log, 2) == 2);
	return close(log);
}

static const char *stderr_give(int saved)
{
	static char text[65536];
	ssize_t n = pread(2, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	dup2(saved, 2);
	close(saved);
	return text;
}

/* How many threads of this process have that name. */
static int threads_named(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	int n = 0;

	while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
		char path[300], comm[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		file = fopen(path, "re");
		if (file != NULL && fgets(comm, sizeof(comm), file) != NULL)
			n += strncmp(comm, name, strlen(name)) == 0;
		if (file != NULL)
			fclose(file);
	}
	if (tasks != NULL)
		closedir(tasks);
	return n;
}

/* ---- events ---- */

static const char *const events[] = { "2 open job=test rank=", "2 join job=test group=world rank=",
				      "2 rendezvous job=test group=world rank=", "2 leave job=test group=world rank=",
				      "2 close job=test rank=" };

/* The events are there once each, in their order. */
static int events_are_there(void)
{
	int at = 0;

	for (size_t e = 0; e < sizeof(events) / sizeof(events[0]); e++) {
		CHECK(lines_with(events[e]) == 1, "%s: %d", events[e], lines_with(events[e]));
		while (strstr(seen.line[at], events[e]) == NULL)
			CHECK(++at < seen.n, "%s comes too early", events[e]);
	}
	return 0;
}

static int life(struct rig *rig, int rank)
{
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(rig_memory(rig, 4096, &ptr, &mem));
	CHECK(threads_named("symm-log") == 1);
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_group_leave(rig->group));
	return symm_close(rig->context);
}

/* The function gets all lines, and stderr none; when the last context is closed, the thread has ended. */
static int function(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	const char *text;
	int saved, rc;

	(void)arg;
	GOOD(symm_set_log(SYMM_LOG_INFO, see, (void *)(uintptr_t) ""));
	CHECK(threads_named("symm-log") == 0);
	CHECK(stderr_take(&saved) == 0);
	rc = life(&rig, rank);
	text = stderr_give(saved);
	CHECK(rc == 0, "%s", text);
	CHECK(threads_named("symm-log") == 0);
	CHECK(*text == '\0', "%s", text);
	CHECK(!seen.threads && seen.thread != gettid());
	CHECK(lines_with("bytes=4096 ms=") == 1 && lines_with("generation=1 ms=") == 1);
	return events_are_there();
}

/* SYMM_LOG=info, and nobody set a function. */
static int on_stderr(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 1 };
	char line[64];
	const char *text;
	int saved;

	(void)arg;
	setenv("SYMM_LOG", "info", 1);
	CHECK(stderr_take(&saved) == 0);
	GOOD(rig_join(&rig, rank));
	GOOD(symm_close(rig.context));
	text = stderr_give(saved);
	snprintf(line, sizeof(line), "symm[%d] info: join job=test group=world rank=0 world=1 ", (int)getpid());
	CHECK(strstr(text, line) != NULL, "%s", text);
	return 0;
}

/* What a rank fails with is told under locks, on whatever thread hears of it, and once. */
static int failure(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	struct symm_mem *mem;
	char line[64];
	void *ptr;

	(void)arg;
	GOOD(symm_set_log(SYMM_LOG_WARN, see, (void *)(uintptr_t) ""));
	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, 4096, &ptr, &mem));
	if (rank == 0)
		BAD(symm_wait_signal(mem, 1, 3, 50), SYMM_ETIMEDOUT, "timed out");
	else
		BAD(symm_wait_signal(mem, 0, 4, 0), SYMM_ETIMEDOUT, "timed out");
	GOOD(symm_close(rig.context));
	snprintf(line, sizeof(line), "1 failure job=test group=world rank=%d: rank 0 (", rank);
	CHECK(lines_with(line) == 1, "%s", seen.n > 0 ? seen.line[0] : "no line");
	CHECK(lines_with("2 ") == 0);
	return 0;
}

/* Rank 1 ends without a word. */
static int death(int rank, void *arg)
{
	static const char line[] = "1 gone job=test group=world rank=0 peer=1: rank 1 (";
	struct rig rig = { .url = redis.url, .world = RANKS };

	(void)arg;
	GOOD(symm_set_log(SYMM_LOG_WARN, see, (void *)(uintptr_t) ""));
	GOOD(rig_join(&rig, rank));
	if (rank == 1)
		return 0;
	CHECK(comes(line, 1) && strstr(seen.line[0], ") died") != NULL);
	GOOD(symm_close(rig.context));
	CHECK(lines_with("gone ") == 1);
	return 0;
}

/* ---- a function that calls symm ---- */

static struct rig within;
static struct symm_mem *within_mem;
static void *within_stream, *within_ptr;
static int within_result;

#define REFUSED(call) BAD(call, SYMM_EDEADLK, "called by the function of symm_set_log")

/* Calls that wait are refused, the others do as ever. */
static int calls_of_function(void)
{
	struct symm_stats stats = SYMM_STATS_INIT;
	struct symm_context *context;
	struct symm_group *group;
	struct symm_pool *pool;
	struct symm_mem *mem;
	int rank = 0;
	char word[8];

	REFUSED(symm_open(NULL, &context));
	REFUSED(symm_close(within.context));
	REFUSED(symm_group_join(within.context, "other", 0, 1, 0, &group));
	REFUSED(symm_group_leave(within.group));
	REFUSED(symm_rendezvous(within_ptr, NULL, 0, &mem));
	REFUSED(symm_free(within_ptr));
	REFUSED(symm_mem_release(within_mem));
	REFUSED(symm_barrier(within_mem, 0, 0));
	REFUSED(symm_put_signal(within_mem, 0, 0, 0));
	REFUSED(symm_wait_signal(within_mem, 0, 0, 0));
	REFUSED(symm_group_join_ranks(within.group, "some", &rank, 1, 0, &group));
	REFUSED(symm_pool_create(within.group, 4096, NULL, 0, &pool));
	REFUSED(symm_put_with_signal(within_mem, 0, 0, word, sizeof(word), 0, 0));
	REFUSED(symm_put(within_mem, 0, 0, word, sizeof(word)));
	REFUSED(symm_get(within_mem, 0, 0, word, sizeof(word)));
	REFUSED(symm_stream_synchronize(within_stream, 0));
	REFUSED(symm_set_log(SYMM_AUTO, NULL, NULL));
	GOOD(symm_barrier_on_stream(within_mem, 0, 0, within_stream));
	GOOD(symm_context_stats(within.context, &stats));
	GOOD(symm_group_status(within.group));
	CHECK(symm_group_rank(within.group) == 0);
	return 0;
}

static void call_symm(void *arg, int level, const char *line)
{
	(void)arg;
	(void)level;
	if (strstr(line, "now") != NULL)
		within_result = calls_of_function();
}

static int calls(int rank, void *arg)
{
	(void)arg;
	within = (struct rig){ .url = redis.url, .world = 1 };
	within_result = -1;
	GOOD(rig_join(&within, rank));
	GOOD(rig_memory(&within, 4096, &within_ptr, &within_mem));
	GOOD(symm_stream_create(within.context, &within_stream));
	GOOD(symm_set_log(SYMM_AUTO, call_symm, NULL));
	symm_log(SYMM_LOG_WARN, "now");
	GOOD(symm_set_log(SYMM_AUTO, NULL, NULL));
	CHECK(within_result == 0);
	GOOD(symm_stream_destroy(within_stream));
	return symm_close(within.context);
}

/* ---- a function that is slow ---- */

/* Waits for nobody, loses what is too much, and says where and how much. */
static int slow(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 1 };
	unsigned long long lost = 0;
	int n = 0, next = 0;
	double start;
	sem_t hold;

	(void)arg;
	sem_init(&hold, 0, 0);
	seen.hold = &hold;
	GOOD(symm_set_log(SYMM_LOG_INFO, see, (void *)(uintptr_t) ""));
	GOOD(rig_join(&rig, rank)); /* the function is stuck in the first of its lines */
	start = seconds_now();
	for (int i = 0; i < 3000; i++)
		symm_log(SYMM_LOG_WARN, "number %d", i);
	CHECK(seconds_now() - start < patience(1));
	for (int i = 0; i < MOST; i++)
		sem_post(&hold);
	GOOD(symm_close(rig.context));
	for (int i = 0; i < seen.n; i++) {
		unsigned long long m;

		if (seen.line[i][0] == '2')
			continue;
		if (sscanf(seen.line[i], "1 %llu lines of the log are lost here", &m) == 1) {
			lost += m;
			next += (int)m;
		} else {
			CHECK(sscanf(seen.line[i], "1 number %d", &n) == 1 && n == next, "%s after %d lines",
			      seen.line[i], next);
			next++;
		}
	}
	/* Lines of symm_close may be among those that are lost last. */
	CHECK(lost > 900 && next >= 3000 && next < 3005, "%llu lost, %d in all", lost, next);
	return 0;
}

/* ---- setting it ---- */

static int settings(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 1 };
	const char *text;
	int saved;

	(void)arg;
	BAD(symm_set_log(-2, NULL, NULL), SYMM_EINVAL, "symm_set_log: level -2");
	BAD(symm_set_log(SYMM_LOG_DEBUG + 1, NULL, NULL), SYMM_EINVAL, "symm_set_log: level 4");
	GOOD(rig_open(&rig, rank));
	GOOD(symm_set_log(SYMM_LOG_ERROR, see, (void *)(uintptr_t) "first: "));
	CHECK(threads_named("symm-log") == 1);
	symm_log(SYMM_LOG_WARN, "not this");
	symm_log(SYMM_LOG_ERROR, "one");
	GOOD(symm_set_log(SYMM_LOG_DEBUG, see, (void *)(uintptr_t) "second: "));
	CHECK(lines_with("first: ") == 1 && lines_with("0 first: one") == 1);
	symm_log(SYMM_LOG_DEBUG, "two");
	CHECK(stderr_take(&saved) == 0);
	GOOD(symm_set_log(SYMM_AUTO, NULL, NULL));
	CHECK(threads_named("symm-log") == 0);
	symm_log(SYMM_LOG_WARN, "three");
	symm_log(SYMM_LOG_INFO, "four");
	text = stderr_give(saved);
	CHECK(lines_with("3 second: two") == 1 && seen.n == 2);
	CHECK(strstr(text, "warn: three\n") != NULL && strstr(text, "four") == NULL, "%s", text);
	return symm_close(rig.context);
}

/* Lines of many threads while one sets and unsets: none is lost, none comes twice. */
static void *chatter(void *arg)
{
	for (int i = 0; i < 300; i++)
		symm_log(SYMM_LOG_WARN, "thread %d line %d.", *(int *)arg, i);
	return NULL;
}

static int lines_in(const char *text, int thread)
{
	char line[64];
	int wrong = 0;

	for (int i = 0; i < 300; i++) {
		const char *found;
		int n;

		snprintf(line, sizeof(line), "thread %d line %d.", thread, i);
		n = lines_with(line);
		for (found = text; (found = strstr(found, line)) != NULL; found++)
			n++;
		wrong += n != 1;
	}
	return wrong;
}

static int threads(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 1 };
	int number[3] = { 0, 1, 2 }, saved, rc = 0;
	pthread_t thread[3];
	const char *text;

	(void)arg;
	GOOD(rig_open(&rig, rank));
	CHECK(stderr_take(&saved) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&thread[i], NULL, chatter, &number[i]) == 0);
	for (int i = 0; i < 30 && rc == 0; i++) {
		rc = symm_set_log(SYMM_LOG_WARN, i % 3 == 2 ? NULL : see, (void *)(uintptr_t) "");
		usleep(200);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	if (rc == 0)
		rc = symm_set_log(SYMM_LOG_WARN, NULL, NULL);
	text = stderr_give(saved);
	CHECK(rc == 0);
	for (int i = 0; i < 3; i++)
		CHECK(lines_in(text, i) == 0, "%d lines of thread %d", lines_in(text, i), i);
	return symm_close(rig.context);
}

/* Contexts come and go on several threads: the thread of the function is there while there is one. */
static void *open_often(void *arg)
{
	int n = rounds(20), rc = 0;

	for (int i = 0; i < n && rc == 0; i++) {
		struct rig rig = { .url = redis.url, .world = 1 };

		rc = rig_open(&rig, *(int *)arg);
		symm_log(SYMM_LOG_WARN, "opened");
		rc = rc == 0 ? symm_close(rig.context) : rc;
	}
	*(int *)arg = rc;
	return NULL;
}

static int contexts(int rank, void *arg)
{
	int number[3] = { 0, 0, 0 }, n = 3 * rounds(20);
	pthread_t thread[3];

	(void)rank;
	(void)arg;
	GOOD(symm_set_log(SYMM_LOG_INFO, see, (void *)(uintptr_t) ""));
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&thread[i], NULL, open_often, &number[i]) == 0);
	for (int i = 0; i < 3; i++) {
		pthread_join(thread[i], NULL);
		GOOD(number[i]);
	}
	CHECK(threads_named("symm-log") == 0);
	CHECK(lines_with("1 opened") == n, "%d", lines_with("1 opened"));
	CHECK(lines_with("2 open job=test rank=0 ") == n && lines_with("2 close job=test rank=0") == n);
	return 0;
}

/* A child has no such thread: its lines go to stderr. */
static int child(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 1 };
	const char *text;
	int saved, pid;

	(void)arg;
	GOOD(symm_set_log(SYMM_LOG_WARN, see, (void *)(uintptr_t) ""));
	GOOD(rig_open(&rig, rank));
	CHECK(stderr_take(&saved) == 0);
	pid = fork();
	if (pid == 0) {
		symm_log(SYMM_LOG_WARN, "from the child");
		_exit(symm_set_log(SYMM_AUTO, NULL, NULL) == SYMM_EFORK ? 0 : 1);
	}
	CHECK(tap_wait(pid, 10) == 0);
	text = stderr_give(saved);
	CHECK(strstr(text, "warn: from the child") != NULL, "%s", text);
	GOOD(symm_close(rig.context));
	CHECK(lines_with("from the child") == 0);
	return 0;
}

/* ---- what is logged while it waits ---- */

static void *open_and_close(void *arg)
{
	struct rig *rig = arg;

	rig->world = rig_open(rig, 0) == 0 && symm_close(rig->context) == 0 ? 1 : 0;
	return NULL;
}

static void pass(int64_t seconds)
{
	__atomic_fetch_add(&later, seconds * 1000 * SYMM_NS_PER_MS, __ATOMIC_RELAXED);
}

/* Who waits for a store that cannot be reached yet is told so every 5 s. */
static int progress(int rank, void *arg)
{
	char url[200], line[300];
	struct rig rig = { .url = url, .world = 1, .timeout_ms = 60000 };
	pthread_t thread;

	(void)rank;
	(void)arg;
	snprintf(url, sizeof(url), "unix://%s/later", redis.dir);
	snprintf(line, sizeof(line), "1 cannot reach %s yet: No such file or directory (trying for ", url);
	GOOD(symm_set_log(SYMM_LOG_WARN, see, (void *)(uintptr_t) ""));
	CHECK(pthread_create(&thread, NULL, open_and_close, &rig) == 0);
	nap_ms(100);
	CHECK(lines_with("") == 0);
	pass(6);
	CHECK(comes(line, 1));
	pass(6);
	CHECK(comes(line, 2));
	nap_ms(900);
	CHECK(lines_with(line) == 2, "too many");
	CHECK(symlink(redis.socket, url + strlen("unix://")) == 0);
	pthread_join(thread, NULL);
	CHECK(rig.world == 1);
	return 0;
}

int main(void)
{
	if (!need_device(RANKS))
		return 0;
	unsetenv("SYMM_LOG");
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	tap_ranks("a rank's life, by a function", RANKS, function, NULL, 20);
	tap_ranks("on stderr", 1, on_stderr, NULL, 20);
	tap_ranks("a failure", RANKS, failure, NULL, 20);
	tap_ranks("a death", RANKS, death, NULL, 20);
	tap_ranks("a function that calls symm", 1, calls, NULL, 20);
	tap_ranks("a function that is slow", 1, slow, NULL, 20);
	tap_ranks("set and set again", 1, settings, NULL, 20);
	tap_ranks("set while threads log", 1, threads, NULL, 20);
	tap_ranks("contexts on several threads", 1, contexts, NULL, 20);
	tap_ranks("in a child", 1, child, NULL, 20);
	tap_ranks("a store that cannot be reached", 1, progress, NULL, 20);
	tap_redis_stop(&redis);
	return tap_done();
}
