/* The store against a server of our own that says what real ones seldom say. */
#include "base.h"
#include "store.h"
#include "tap.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static struct symm_loop *loop;

/* ---- the server: a child ---- */

/* What it answers to each command in turn, the last for ever. */
struct fake {
	const char *const *answers;
	const char *greeting; /* to what has CLIENT in it */
	int next;
	bool big; /* after each answer comes a bulk without end */
	char path[64];
	int pid;
};

#define CLOSE "close" /* no answer: the connection is closed */
#define SILENCE "silence"

static void say(int fd, const char *text)
{
	size_t n = strlen(text);

	if (send(fd, text, n, MSG_NOSIGNAL) != (ssize_t)n)
		_exit(1);
}

static void say_without_end(int fd)
{
	static char junk[1 << 16];

	while (send(fd, junk, sizeof(junk), MSG_NOSIGNAL) > 0)
		;
}

/* One read is one command here: the clients send one at a time. */
static void serve(struct fake *fake, int fd)
{
	char command[4096];
	ssize_t n;

	while ((n = read(fd, command, sizeof(command))) > 0) {
		const char *answer = fake->answers[fake->next];

		if (memmem(command, (size_t)n, "CLIENT", 6) != NULL) {
			say(fd, fake->greeting);
			continue;
		}
		if (fake->answers[fake->next + 1] != NULL)
			fake->next++;
		if (strcmp(answer, CLOSE) == 0)
			return;
		if (strcmp(answer, SILENCE) == 0)
			continue;
		say(fd, answer);
		if (fake->big)
			say_without_end(fd);
	}
}

static void run_fake(struct fake *fake, int listener, int parent)
{
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		serve(fake, fd);
		close(fd);
	}
	_exit(0);
}

static void start_fake(struct fake *fake)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int parent = getpid(), listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(fake->path, sizeof(fake->path), "/tmp/symm-fake-%d.socket", parent);
	unlink(fake->path);
	strcpy(address.sun_path, fake->path);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(listener, 8) != 0)
		tap_bail("%s: %s", fake->path, strerror(errno));
	fflush(NULL);
	fake->pid = fork();
	if (fake->pid == 0)
		run_fake(fake, listener, parent);
	close(listener);
	if (fake->pid < 0)
		tap_bail("fork: %s", strerror(errno));
}

static void stop_fake(struct fake *fake)
{
	kill(fake->pid, SIGKILL);
	waitpid(fake->pid, NULL, 0);
	unlink(fake->path);
}

/* ---- cases ---- */

#define PONG "+PONG\r\n"
#define DEEP "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"
#define WRAPPED "-ERR Error running script (call to f_0): @user_script:1: @user_script: 1: "
#define ANSWERS(...) ((const char *const[]){ __VA_ARGS__, NULL })

#define HELLO "+OK\r\n"

static const struct fake_case {
	const char *name;
	const char *greeting;
	const char *const *answers; /* to PING */
	int code;
	const char *part; /* of the error */
	enum { SOON, LATE, LATE_AND_BIG } when;
} cases[] = {
	/* what is no Redis */
	{ "HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", ANSWERS(PONG), SYMM_ESTORE, "does not speak RESP", LATE },
	{ "two greetings", "+OK\r\n+OK\r\n", ANSWERS(PONG), SYMM_ESTORE, "does not speak RESP", LATE },
	{ "too deep", HELLO, ANSWERS(DEEP DEEP DEEP ":1\r\n"), SYMM_ESTORE, "does not speak RESP", LATE },
	{ "an array of 2^31 - 1", HELLO, ANSWERS("*2147483647\r\n"), SYMM_ESTORE, "does not speak RESP", LATE },
	{ "no end", HELLO, ANSWERS("$100000000\r\n"), SYMM_ESTORE, "more than 64 MiB", LATE_AND_BIG },
	/* what is tried again, in vain */
	{ "hangs up", HELLO, ANSWERS(CLOSE), SYMM_ESTORE, "closed the connection", LATE },
	{ "silent", HELLO, ANSWERS(SILENCE), SYMM_ESTORE, "does not answer", LATE },
	{ "full", "-ERR max number of clients\r\n", ANSWERS(CLOSE), SYMM_ESTORE, "max number of clients", LATE },
	{ "loading", HELLO, ANSWERS("-LOADING Redis is\r\n"), SYMM_ESTORE, "LOADING Redis is", LATE },
	{ "a replica", HELLO, ANSWERS("-READONLY You can't\r\n"), SYMM_ESTORE, "READONLY", LATE },
	{ "a replica before Redis 7", HELLO, ANSWERS(WRAPPED "-READONLY You\r\n"), SYMM_ESTORE, "READONLY", LATE },
	/* what is not */
	{ "no memory", HELLO, ANSWERS("-OOM command not\r\n"), SYMM_ESTORE, "OOM command not", SOON },
	{ "another node's", HELLO, ANSWERS("-MOVED 1 10.0.0.1:1\r\n"), SYMM_ESTORE, "point the URL at", SOON },
	{ "no password", HELLO, ANSWERS("-NOAUTH Authentication\r\n"), SYMM_EAUTH, "NOAUTH", SOON },
	{ "no permission", HELLO, ANSWERS("-NOPERM \033[31mred\r\n"), SYMM_EAUTH, "NOPERM ?[31mred", SOON },
	{ "protected mode", "-DENIED Redis is\r\n", ANSWERS(PONG), SYMM_EAUTH, "DENIED Redis is", SOON },
	/* what is tried again, and works */
	{ "no right to a name", "-NOPERM this user\r\n", ANSWERS(PONG), SYMM_OK, "", SOON },
	{ "busy", HELLO, ANSWERS("-LOADING a\r\n", "-BUSY b\r\n", "-MASTERDOWN c\r\n", PONG), SYMM_OK, "", SOON },
	{ "no replica any more", HELLO, ANSWERS("-READONLY You\r\n", CLOSE, PONG), SYMM_OK, "", SOON },
};

/* All answers but the last were in vain. */
static int retries(const struct fake_case *c)
{
	int n = 0;

	while (c->answers[n + 1] != NULL)
		n++;
	return n;
}

static void test_case(const struct fake_case *c)
{
	static const int64_t patience_ms[] = { [SOON] = 10000, [LATE] = 400, [LATE_AND_BIG] = 4000 };
	struct fake fake = { .answers = c->answers, .greeting = c->greeting, .big = c->when == LATE_AND_BIG };
	struct symm_store *store = NULL;
	int64_t start = symm_now(), patience = patience_ms[c->when] * SYMM_NS_PER_MS, took;
	char url[80];
	int rc;

	start_fake(&fake);
	snprintf(url, sizeof(url), "unix://%s", fake.path);
	rc = symm_store_open(loop, url, start + patience, &store);
	took = symm_now() - start;
	is_int(rc, c->code, "%s: %s", c->name, rc == SYMM_OK ? "works" : symm_last_error());
	if (rc != SYMM_OK)
		has_str(symm_last_error(), c->part, "%s: the error says so", c->name);
	else
		is_int((int)symm_store_counts(store).retries, retries(c), "%s: what was sent again is counted",
		       c->name);
	if (c->when == SOON)
		ok(took < 2 * SECOND, "%s: at once", c->name);
	else
		ok(took >= patience && took < patience + 2 * SECOND, "%s: at the deadline", c->name);
	symm_store_close(store);
	stop_fake(&fake);
}

/* A connection that swallows a request is given up before the request's deadline. */
static void test_stall(void)
{
	struct fake fake = { .answers = ANSWERS(SILENCE, PONG), .greeting = "+OK\r\n" };
	struct symm_store *store = NULL;
	int64_t start = symm_now();
	char url[80];

	start_fake(&fake);
	snprintf(url, sizeof(url), "unix://%s", fake.path);
	is_int(symm_store_open(loop, url, start + 20 * SECOND, &store), SYMM_OK, "a stalled connection is replaced");
	ok(symm_now() - start > 4 * SECOND && symm_now() - start < 8 * SECOND, "after 5 seconds");
	ok(symm_store_unbroken_since(store) > start + 4 * SECOND, "and the outage is known");
	symm_store_close(store);
	stop_fake(&fake);
}

int main(void)
{
	if (symm_loop_get(&loop) != SYMM_OK)
		tap_bail("%s", symm_last_error());
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		test_case(&cases[i]);
	test_stall();
	symm_loop_put(loop);
	return tap_done();
}
