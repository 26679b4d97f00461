#include "tap.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int my_rank = -1;

int tap_rank_failed(const char *file, int line, const char *cond, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	tap_diag("rank %d: %s:%d: not so: %s%s", my_rank, file, line, cond, text);
	return 1;
}

#define LONG 1 /* seconds: worth a word */

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double deadline_after(int timeout_s)
{
	const char *factor = getenv("TAP_TIMEOUT_FACTOR");

	return seconds() + timeout_s * (factor ? atof(factor) : 1);
}

static void run_rank(int rank, int (*fn)(int rank, void *arg), void *arg, int parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	my_rank = rank;
	exit(fn(rank, arg));
}

void tap_ranks_start(int n, int (*fn)(int rank, void *arg), void *arg, int *pid)
{
	int parent = getpid();

	fflush(NULL);
	for (int rank = 0; rank < n; rank++) {
		pid[rank] = fork();
		if (pid[rank] < 0)
			tap_bail("fork of rank %d: %s", rank, strerror(errno));
		if (pid[rank] == 0)
			run_rank(rank, fn, arg, parent);
	}
}

static int wait_until(int pid, double deadline)
{
	const struct timespec nap = { .tv_nsec = 1000000 };
	int status, got;

	while ((got = waitpid(pid, &status, WNOHANG)) == 0 && seconds() < deadline)
		nanosleep(&nap, NULL);
	if (got == pid)
		return status;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return -1;
}

int tap_wait(int pid, int timeout_s)
{
	return wait_until(pid, deadline_after(timeout_s));
}

static bool report_rank(const char *name, int rank, int status, int timeout_s)
{
	if (ok(status == 0, "%s: rank %d", name, rank))
		return true;
	if (status == -1)
		tap_diag("killed: not done after %d s", timeout_s);
	else if (WIFSIGNALED(status))
		tap_diag("died of signal %d, %s", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		tap_diag("exit status %d", WEXITSTATUS(status));
	return false;
}

bool tap_ranks(const char *name, int n, int (*fn)(int rank, void *arg), void *arg, int timeout_s)
{
	int *pid = calloc((size_t)n, sizeof(*pid));
	double begun = seconds(), deadline;
	bool all = true;

	if (!pid)
		tap_bail("no memory for %d ranks", n);
	tap_ranks_start(n, fn, arg, pid);
	deadline = deadline_after(timeout_s);
	for (int rank = 0; rank < n; rank++)
		all &= report_rank(name, rank, wait_until(pid[rank], deadline), timeout_s);
	if (seconds() - begun > LONG)
		tap_diag("%.1f s: %s", seconds() - begun, name);
	free(pid);
	return all;
}

void *tap_shared(size_t bytes)
{
	void *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		tap_bail("mmap of %zu shared bytes: %s", bytes, strerror(errno));
	return shared;
}

void tap_rally(void *shared_int, int n)
{
	const struct timespec nap = { .tv_nsec = 200000 };
	int *count = shared_int;
	int round = __atomic_fetch_add(count, 1, __ATOMIC_ACQ_REL) / n;

	for (int spins = 0; __atomic_load_n(count, __ATOMIC_ACQUIRE) / n <= round; spins++) {
		if (spins < 100)
			sched_yield();
		else
			nanosleep(&nap, NULL);
	}
}
