#include "log.h"

#include "error.h"
#include "fork.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE 1024
#define MOST_LINES 1024 /* that wait for the program's function: what comes then is dropped, and counted */

struct line {
	struct line *next;
	enum symm_log_level level;
	char text[];
};

/* A function of the program's, and what waits for it. */
struct sink {
	void (*fn)(void *arg, int level, const char *line);
	void *arg;
	struct line *first, **last;
	size_t n;
	unsigned long long dropped; /* after the last in the queue */
	bool held;                  /* the function before has lines to take first */
	bool stop;                  /* when the queue is empty */
	pthread_t thread;
};

/* One sets the function, or begins or ends its thread, at a time. Taken before the other lock, never by that thread. */
static pthread_mutex_t life = PTHREAD_MUTEX_INITIALIZER;
static unsigned contexts;   /* under life */
static struct sink *chosen; /* under life; NULL: stderr */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct sink *running; /* under lock: takes lines, its thread delivers them */

static int limit = SYMM_AUTO; /* the last level that is logged; SYMM_AUTO: nobody has asked yet; atomic */

_Thread_local bool symm_log_thread __attribute__((tls_model("initial-exec")));

static const char *const names[] = { "error", "warn", "info", "debug" };

/* ---- levels ---- */

static enum symm_log_level level_from_environment(void)
{
	const char *want = getenv("SYMM_LOG");

	for (int i = 0; want != NULL && i <= SYMM_LOG_DEBUG; i++)
		if (strcmp(want, names[i]) == 0)
			return (enum symm_log_level)i;
	return SYMM_LOG_WARN;
}

bool symm_log_on(enum symm_log_level level)
{
	int now = __atomic_load_n(&limit, __ATOMIC_RELAXED), unknown = SYMM_AUTO;

	if (now == SYMM_AUTO) {
		now = (int)level_from_environment();
		if (!__atomic_compare_exchange_n(&limit, &unknown, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			now = unknown;
	}
	return (int)level <= now;
}

/* ---- lines ---- */

/* One write a line, so that the lines of many ranks on one stderr stay whole. */
static void to_stderr(enum symm_log_level level, const char *text)
{
	char line[LINE + 64];
	int n = snprintf(line, sizeof(line), "symm[%d] %s: %s\n", (int)getpid(), names[level], text);

	if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}

/* With the lock held. The loop thread cannot wait for a slow function, so a line too many is dropped. */
static void queue(struct sink *sink, enum symm_log_level level, const char *text)
{
	size_t bytes = strlen(text) + 1;
	struct line *line = sink->n < MOST_LINES ? malloc(sizeof(*line) + bytes) : NULL;

	if (line == NULL) {
		sink->dropped++;
		return;
	}
	line->next = NULL;
	line->level = level;
	memcpy(line->text, text, bytes);
	*sink->last = line;
	sink->last = &line->next;
	sink->n++;
	pthread_cond_signal(&changed);
}

void symm_log_write(enum symm_log_level level, const char *format, ...)
{
	char text[LINE];
	bool queued = false;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* In the child of a fork the lock may be held for ever. */
	if (!symm_fork_is_child()) {
		pthread_mutex_lock(&lock);
		queued = running != NULL;
		if (queued)
			queue(running, level, text);
		pthread_mutex_unlock(&lock);
	}
	if (!queued)
		to_stderr(level, text);
}

/* ---- the thread of the program's function ---- */

static void deliver(const struct sink *sink, struct line *line)
{
	struct line *next;

	for (; line != NULL; line = next) {
		next = line->next;
		sink->fn(sink->arg, (int)line->level, line->text);
		free(line);
	}
}

static void report_dropped(const struct sink *sink, unsigned long long dropped)
{
	char text[128];

	if (dropped == 0)
		return;
	snprintf(text, sizeof(text), "%llu lines of the log are lost here: the function of symm_set_log is too slow",
		 dropped);
	sink->fn(sink->arg, SYMM_LOG_WARN, text);
}

/* Called and returns with the lock. */
static void deliver_all(struct sink *sink)
{
	struct line *first = sink->first;
	unsigned long long dropped = sink->dropped;

	sink->first = NULL;
	sink->last = &sink->first;
	sink->n = 0;
	sink->dropped = 0;
	pthread_mutex_unlock(&lock);
	deliver(sink, first);
	report_dropped(sink, dropped);
	pthread_mutex_lock(&lock);
}

static void *work(void *arg)
{
	struct sink *sink = arg;

	symm_log_thread = true;
	pthread_mutex_lock(&lock);
	while (sink->first != NULL || !sink->stop)
		if (sink->first != NULL && !sink->held)
			deliver_all(sink);
		else
			pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* Signals are for the threads of the program. */
static int start(struct sink *sink)
{
	sigset_t every, old;
	int err;

	sink->held = true;
	sink->stop = false;
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &old);
	err = pthread_create(&sink->thread, NULL, work, sink);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err != 0)
		return symm_error_sys(SYMM_ESYS, err, "cannot start the thread of the log (ulimit -u)");
	pthread_setname_np(sink->thread, "symm-log");
	return 0;
}

/* From now on lines go to that sink, NULL: stderr. Returns the one before. */
static struct sink *run(struct sink *sink)
{
	struct sink *before;

	pthread_mutex_lock(&lock);
	before = running;
	running = sink;
	if (before != NULL)
		before->stop = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return before;
}

/* Lines go from one to the other; the second begins when the first has ended. */
static void change(struct sink *to)
{
	struct sink *before = run(to);

	if (before != NULL)
		pthread_join(before->thread, NULL);
	pthread_mutex_lock(&lock);
	if (to != NULL)
		to->held = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

int symm_log_hold(void)
{
	int rc = 0;

	pthread_mutex_lock(&life);
	if (contexts == 0 && chosen != NULL) {
		rc = start(chosen);
		if (rc == 0)
			change(chosen);
	}
	if (rc == 0)
		contexts++;
	pthread_mutex_unlock(&life);
	return rc;
}

void symm_log_release(void)
{
	pthread_mutex_lock(&life);
	if (--contexts == 0)
		change(NULL);
	pthread_mutex_unlock(&life);
}

int symm_log_refuse(const char *call)
{
	return symm_error(SYMM_EDEADLK, "%s: called by the function of symm_set_log, which may not wait", call);
}

/* ---- the call ---- */

static int sink_new(void (*fn)(void *arg, int level, const char *line), void *arg, struct sink **out)
{
	struct sink *sink = NULL;

	if (fn != NULL) {
		sink = malloc(sizeof(*sink));
		if (sink == NULL)
			return symm_error(SYMM_ENOMEM, "no memory");
		*sink = (struct sink){ .fn = fn, .arg = arg, .last = &sink->first };
	}
	*out = sink;
	return 0;
}

/* With life held. */
static int replace(struct sink *sink)
{
	int rc = sink != NULL && contexts > 0 ? start(sink) : 0;

	if (rc != 0)
		return rc;
	change(contexts > 0 ? sink : NULL);
	free(chosen);
	chosen = sink;
	return 0;
}

int symm_set_log(int level, void (*fn)(void *arg, int level, const char *line), void *arg)
{
	struct sink *sink;
	int rc = symm_fork_check();

	if (rc != 0)
		return symm_error_prefix(rc, "symm_set_log");
	if (symm_log_here())
		return symm_log_refuse("symm_set_log");
	if (level != SYMM_AUTO && (level < SYMM_LOG_ERROR || level > SYMM_LOG_DEBUG))
		return symm_error(SYMM_EINVAL,
				  "symm_set_log: level %d: it may be SYMM_LOG_ERROR (%d) to SYMM_LOG_DEBUG "
				  "(%d), or SYMM_AUTO (%d)",
				  level, SYMM_LOG_ERROR, SYMM_LOG_DEBUG, SYMM_AUTO);
	rc = sink_new(fn, arg, &sink);
	if (rc == 0) {
		pthread_mutex_lock(&life);
		rc = replace(sink);
		pthread_mutex_unlock(&life);
		if (rc != 0)
			free(sink);
	}
	if (rc != 0)
		return symm_error_prefix(rc, "symm_set_log");
	__atomic_store_n(&limit, level, __ATOMIC_RELAXED);
	return 0;
}
