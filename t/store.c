/* The store against real servers. What a server seldom says is in store_fake.c. */
#include "base.h"
#include "store.h"
#include "tap.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static struct symm_loop *loop;

static int64_t after_ms(int64_t ms)
{
	return symm_now() + ms * SYMM_NS_PER_MS;
}

static struct symm_store *open_store(const char *url)
{
	struct symm_store *store = NULL;

	if (!is_int(symm_store_open(loop, url, after_ms(10000), &store), SYMM_OK, "open %s", url))
		tap_diag("%s", symm_last_error());
	return store;
}

/* A plain command of the words of a line. */
static void build(struct symm_command *command, char *line)
{
	char *rest = line;

	symm_command_init(command, NULL);
	for (char *word = strsep(&rest, " "); word != NULL; word = strsep(&rest, " "))
		symm_command_text(command, word);
}

static int call(struct symm_store *store, const char *line, int64_t ms, struct symm_reply **reply)
{
	struct symm_command command;
	char words[256];

	snprintf(words, sizeof(words), "%s", line);
	build(&command, words);
	return symm_store_call(store, &command, after_ms(ms), reply);
}

/* Returns whether the line is answered by text. */
static bool answers(struct symm_store *store, const char *line, const char *text)
{
	struct symm_reply *reply = NULL;
	const char *got;
	bool same;

	if (call(store, line, 10000, &reply) != SYMM_OK) {
		tap_diag("%s: %s", line, symm_last_error());
		return false;
	}
	got = symm_reply_text(reply, NULL);
	same = got != NULL && strcmp(got, text) == 0;
	symm_reply_free(reply);
	return same;
}

static void test_round_trip(const char *url, const char *name)
{
	struct symm_store *store = open_store(url);

	char line[300];

	if (store == NULL)
		return;
	snprintf(line, sizeof(line), "SET key %s", name);
	ok(answers(store, line, "OK"), "%s: set", name);
	ok(answers(store, "GET key", name), "%s: get", name);
	is_str(symm_store_name(store), name, "its name has no secrets");
	ok(symm_store_unbroken_since(store) <= symm_now(), "%s: unbroken", name);
	symm_store_close(store);
}

/* Opening fails with code before the deadline is due, and the error holds part, but not the secret. */
static void test_refused(const char *url, int code, const char *part, const char *secret)
{
	struct symm_store *store = NULL;
	int64_t start = symm_now();

	is_int(symm_store_open(loop, url, after_ms(10000), &store), code, "%s is refused", url);
	ok(symm_now() - start < 5 * SECOND, "at once");
	has_str(symm_last_error(), part, "the error says why");
	ok(secret == NULL || strstr(symm_last_error(), secret) == NULL, "and keeps the secret: %s", symm_last_error());
	if (!ok(store == NULL, "and gives no store"))
		symm_store_close(store);
}

static void test_tcp(void)
{
	struct tap_redis redis;
	char url[256], name[256];

	tap_redis_start(&redis, TAP_REDIS_TCP);
	test_round_trip(redis.url, redis.url);
	snprintf(url, sizeof(url), "redis://[::1]:%d", redis.port);
	test_round_trip(url, url);
	snprintf(url, sizeof(url), "redis://localhost:%d", redis.port);
	test_round_trip(url, url);
	snprintf(url, sizeof(url), "unix://%s?db=3", redis.socket);
	test_round_trip(url, url);
	snprintf(url, sizeof(url), "redis://nobody:wrong@127.0.0.1:%d", redis.port);
	test_refused(url, SYMM_EAUTH, "WRONGPASS", "wrong@");
	snprintf(url, sizeof(url), "redis://:secret@127.0.0.1:%d", redis.port);
	test_refused(url, SYMM_EAUTH, "AUTH", "secret");
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d/99", redis.port);
	test_refused(url, SYMM_ESTORE, "DB index is out of range", NULL);
	snprintf(url, sizeof(url), "redis://name-that-is-nowhere.invalid:%d", redis.port);
	snprintf(name, sizeof(name), "name-that-is-nowhere.invalid");
	is_int(symm_store_open(loop, url, after_ms(500), &(struct symm_store *){ NULL }), SYMM_ESTORE,
	       "a host that does not exist");
	has_str(symm_last_error(), name, "the error names it: %s", symm_last_error());
	tap_redis_stop(&redis);
}

static void test_password(void)
{
	struct tap_redis redis;
	char url[256], name[256];

	tap_redis_start(&redis, TAP_REDIS_PASSWORD);
	snprintf(name, sizeof(name), "redis://127.0.0.1:%d", redis.port);
	test_round_trip(redis.url, name);
	snprintf(url, sizeof(url), "redis://:se%%25cret%%40%%3A%%2F@127.0.0.1:%d", redis.port);
	test_round_trip(url, name);
	test_refused(name, SYMM_EAUTH, "NOAUTH", NULL);
	snprintf(url, sizeof(url), "redis://ann:wrong-word@127.0.0.1:%d", redis.port);
	test_refused(url, SYMM_EAUTH, "WRONGPASS", "wrong-word");
	tap_redis_stop(&redis);
}

static void test_tls(void)
{
	struct tap_redis redis, other;
	struct symm_store *store;
	char url[1024], name[256], unix_url[256];

	tap_redis_start(&redis, TAP_REDIS_TLS);
	tap_redis_start(&other, TAP_REDIS_TLS);
	snprintf(name, sizeof(name), "rediss://localhost:%d", redis.port);
	test_round_trip(redis.url, name);
	snprintf(url, sizeof(url), "%s?cacert=%s", name, other.cacert);
	test_refused(url, SYMM_EAUTH, "certificate verify failed", NULL);
	snprintf(url, sizeof(url), "%s&sni=elsewhere", redis.url);
	test_refused(url, SYMM_EAUTH, "certificate verify failed: hostname mismatch", NULL);
	snprintf(url, sizeof(url), "rediss://127.0.0.1:%d?cacert=%s", redis.port, redis.cacert);
	test_refused(url, SYMM_EAUTH, "certificate verify failed: IP address mismatch", NULL);
	snprintf(url, sizeof(url), "%s?verify=none", name);
	test_round_trip(url, name);
	snprintf(url, sizeof(url), "%s?cacert=/nowhere/ca.crt", name);
	test_refused(url, SYMM_EINVAL, "/nowhere/ca.crt: No such file", NULL);
	snprintf(url, sizeof(url), "%s&cert=%s&key=/nowhere/key", redis.url, redis.cert);
	test_refused(url, SYMM_EINVAL, "/nowhere/key: No such file", NULL);
	snprintf(url, sizeof(url), "%s&cert=%s&key=%s", redis.url, redis.cert, other.key);
	test_refused(url, SYMM_EINVAL, other.key, NULL);

	snprintf(unix_url, sizeof(unix_url), "unix://%s", redis.socket);
	store = open_store(unix_url);
	ok(answers(store, "CONFIG SET tls-auth-clients yes", "OK"), "now the server wants certificates");
	symm_store_close(store);
	test_refused(redis.url, SYMM_EAUTH, "certificate required", NULL);
	snprintf(url, sizeof(url), "%s&cert=%s&key=%s", redis.url, redis.cert, redis.key);
	test_round_trip(url, name);
	tap_redis_stop(&other);
	tap_redis_stop(&redis);
}

/* ---- arguments and replies ---- */

static void test_binary(struct symm_store *store)
{
	char bytes[512];
	struct symm_command command;
	struct symm_reply *reply;
	const char *text;
	size_t length = 0;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)i;
	memcpy(bytes + 100, "\r\n$3\r\n", 6);
	symm_command_init(&command, NULL);
	symm_command_text(&command, "ECHO");
	symm_command_bytes(&command, bytes, sizeof(bytes));
	if (!is_int(symm_store_call(store, &command, after_ms(10000), &reply), SYMM_OK, "an argument of all bytes"))
		return;
	text = symm_reply_text(reply, &length);
	ok(text != NULL && length == sizeof(bytes) && memcmp(text, bytes, length) == 0 && text[length] == '\0',
	   "comes back as it was, and ended by a NUL");
	symm_reply_free(reply);
	symm_command_init(&command, NULL);
	is_int(symm_store_call(store, &command, after_ms(100), &reply), SYMM_EINVAL, "a command without words");
	for (int i = 0; i < SYMM_STORE_ARGS + 1; i++)
		symm_command_int(&command, i);
	is_int(symm_store_call(store, &command, after_ms(100), &reply), SYMM_EINVAL, "a command of too many words");
}

static struct symm_script types = {
	.name = "types",
	.text = "return {1, 'two', false, {'12', '-9223372036854775808', '9223372036854775808', '1x', '', '-'}, "
		"redis.status_reply('fine'), KEYS[1], KEYS[2], ARGV[1], #KEYS, #ARGV}",
};

static void test_replies(struct symm_store *store)
{
	struct symm_command command;
	struct symm_reply *reply;
	const struct symm_reply *inner;
	int64_t value = 7;

	symm_command_init(&command, &types);
	is_int((int64_t)strlen(types.sha), 40, "the sum of a script is filled in");
	symm_command_key(&command, "{k}1");
	symm_command_key(&command, "{k}2");
	symm_command_int(&command, INT64_MIN);
	for (int i = 0; i < 2; i++) {
		if (!is_int(symm_store_call(store, &command, after_ms(10000), &reply), SYMM_OK, "a script, call %d", i))
			return tap_diag("%s", symm_last_error());
		is_int((int64_t)symm_reply_count(reply), 10, "an array");
		ok(symm_reply_text(reply, NULL) == NULL && !symm_reply_int(reply, &value),
		   "is neither text nor integer");
		ok(symm_reply_int(symm_reply_at(reply, 0), &value) && value == 1, "an integer");
		ok(symm_reply_text(symm_reply_at(reply, 0), NULL) == NULL, "is no text");
		is_str(symm_reply_text(symm_reply_at(reply, 1), NULL), "two", "a bulk");
		ok(symm_reply_is_nil(symm_reply_at(reply, 2)) && !symm_reply_is_nil(reply), "a nil");
		is_str(symm_reply_text(symm_reply_at(reply, 4), NULL), "fine", "a status");
		is_str(symm_reply_text(symm_reply_at(reply, 6), NULL), "{k}2", "a key");
		is_str(symm_reply_text(symm_reply_at(reply, 7), NULL), "-9223372036854775808", "an argument");
		ok(symm_reply_at(reply, 10) == NULL && symm_reply_at(symm_reply_at(reply, 1), 0) == NULL,
		   "nothing past the end");
		inner = symm_reply_at(reply, 3);
		ok(symm_reply_int(symm_reply_at(inner, 0), &value) && value == 12, "a bulk that is an integer");
		ok(symm_reply_int(symm_reply_at(inner, 1), &value) && value == INT64_MIN, "the least");
		for (size_t bad = 2; bad < 6; bad++)
			ok(!symm_reply_int(symm_reply_at(inner, bad), &value), "a bulk that is none, %zu", bad);
		is_int(value, INT64_MIN, "outputs are written on success only");
		symm_reply_free(reply);
		if (i == 0)
			ok(answers(store, "SCRIPT FLUSH", "OK"), "the server forgets its scripts");
	}
	ok(symm_reply_count(NULL) == 0 && symm_reply_text(NULL, NULL) == NULL && !symm_reply_int(NULL, &value) &&
		   !symm_reply_is_nil(NULL),
	   "a reply of NULL");
	symm_reply_free(NULL);
}

static void test_errors(struct symm_store *store)
{
	struct symm_script broken = { .name = "broken", .text = "return redis.call('INCR', KEYS[1])" };
	struct symm_command command;
	struct symm_reply *reply = NULL;

	is_int(call(store, "NO-SUCH-COMMAND", 10000, &reply), SYMM_ESTORE, "a command that Redis does not know");
	has_str(symm_last_error(), "unknown command", "the error is Redis's");
	ok(answers(store, "SET {k}text text", "OK"), "a key that is no number");
	symm_command_init(&command, &broken);
	symm_command_key(&command, "{k}text");
	is_int(symm_store_call(store, &command, after_ms(10000), &reply), SYMM_ESTORE, "a script that fails");
	has_str(symm_last_error(), "not an integer", "the error is Redis's");
	has_str(symm_last_error(), "broken: ", "and names the script");
	ok(reply == NULL, "outputs are written on success only");
}

/* ---- many at once ---- */

enum { THREADS = 8, SENDS = 1250 };

struct sender {
	struct symm_store *store;
	int thread;
	int next; /* loop thread: the number that is due */
	int wrong;
	struct symm_done done;
	struct sent {
		struct sender *sender;
		int number;
	} sent[SENDS];
};

static void on_echo(void *arg, const struct symm_reply *reply, const struct symm_err *err)
{
	struct sent *sent = arg;
	struct sender *sender = sent->sender;
	int64_t value = -1;

	if (err->code != SYMM_OK || !symm_reply_int(reply, &value) || value != sender->thread * SENDS + sent->number ||
	    sent->number != sender->next)
		sender->wrong++;
	if (++sender->next == SENDS)
		symm_done_set(&sender->done);
}

static void *send_all(void *arg)
{
	struct sender *sender = arg;
	struct symm_command command;

	for (int i = 0; i < SENDS; i++) {
		sender->sent[i] = (struct sent){ sender, i };
		symm_command_init(&command, NULL);
		symm_command_text(&command, "ECHO");
		symm_command_int(&command, sender->thread * SENDS + i);
		if (symm_store_send(sender->store, &command, after_ms(30000), on_echo, &sender->sent[i]) != SYMM_OK)
			tap_bail("send: %s", symm_last_error());
	}
	return NULL;
}

static void test_pipeline(struct symm_store *store)
{
	struct sender *senders = calloc(THREADS, sizeof(*senders));
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++) {
		senders[i].store = store;
		senders[i].thread = i;
		symm_done_init(&senders[i].done);
		pthread_create(&threads[i], NULL, send_all, &senders[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		ok(symm_done_wait(&senders[i].done, after_ms(30000)), "thread %d: all %d are answered", i, SENDS);
		is_int(senders[i].wrong, 0, "in order, each with its own answer");
	}
	free(senders);
}

static void test_sharing(const char *url)
{
	enum { USERS = 1000 };
	static struct symm_store *stores[USERS];
	struct symm_reply *reply;
	int64_t clients = 0;
	const char *text;
	int failed = 0;

	for (int i = 0; i < USERS; i++)
		failed += symm_store_open(loop, url, after_ms(10000), &stores[i]) != SYMM_OK;
	is_int(failed, 0, "%d users open the same URL", USERS);
	if (call(stores[0], "INFO clients", 10000, &reply) == SYMM_OK) {
		text = strstr(symm_reply_text(reply, NULL), "connected_clients:");
		clients = text != NULL ? atoi(text + strlen("connected_clients:")) : 0;
		symm_reply_free(reply);
	}
	is_int(clients, 1, "and share one connection");
	for (int i = 0; i < USERS; i++)
		symm_store_close(stores[i]);
}

/* How many descriptors a child's program would inherit. */
static int inherited(void)
{
	int n = 0;

	for (int fd = 3; fd < 256; fd++) {
		int flags = fcntl(fd, F_GETFD);

		n += flags >= 0 && (flags & FD_CLOEXEC) == 0;
	}
	return n;
}

static void test_unix(int before)
{
	struct tap_redis redis;
	struct symm_store *store;

	tap_redis_start(&redis, TAP_REDIS_UNIX);
	test_round_trip(redis.url, redis.url);
	test_sharing(redis.url);
	store = open_store(redis.url);
	is_int(inherited(), before, "no descriptor of it is left to a child's program");
	test_binary(store);
	test_replies(store);
	test_errors(store);
	test_pipeline(store);
	symm_store_close(store);
	symm_store_close(NULL);
	tap_redis_stop(&redis);
}

/* ---- servers that go away ---- */

struct caller {
	struct symm_store *store;
	int calls, failed; /* atomic */
	bool stop;         /* atomic */
};

static void *call_on(void *arg)
{
	struct caller *caller = arg;
	struct symm_reply *reply;

	while (!__atomic_load_n(&caller->stop, __ATOMIC_RELAXED)) {
		if (call(caller->store, "SET key value", 20000, &reply) == SYMM_OK) {
			symm_reply_free(reply);
		} else {
			tap_diag("%s", symm_last_error());
			__atomic_add_fetch(&caller->failed, 1, __ATOMIC_RELAXED);
		}
		__atomic_add_fetch(&caller->calls, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void wait_calls(struct caller *caller, int more)
{
	int goal = __atomic_load_n(&caller->calls, __ATOMIC_RELAXED) + more;
	int64_t deadline = after_ms(30000);

	while (__atomic_load_n(&caller->calls, __ATOMIC_RELAXED) < goal && symm_now() < deadline)
		symm_sleep(SYMM_NS_PER_MS, deadline);
}

static void test_restart(void)
{
	struct tap_redis redis;
	struct caller caller = { 0 };
	pthread_t threads[4];
	int64_t before;

	tap_redis_start(&redis, TAP_REDIS_UNIX);
	caller.store = open_store(redis.url);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, call_on, &caller);
	for (int i = 0; i < 3; i++) {
		wait_calls(&caller, 200);
		before = symm_now();
		tap_redis_restart(&redis);
	}
	wait_calls(&caller, 200);
	__atomic_store_n(&caller.stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	is_int(caller.failed, 0, "calls survive three restarts of the server in mid-flight (%d calls)", caller.calls);
	ok(symm_store_unbroken_since(caller.store) > before, "and the connection is known to be young");
	symm_store_close(caller.store);
	tap_redis_stop(&redis);
}

struct counted {
	int finished, stale; /* loop thread, then read after the close */
};

static void on_counted(void *arg, const struct symm_reply *reply, const struct symm_err *err)
{
	struct counted *counted = arg;

	(void)reply;
	counted->finished++;
	counted->stale += err->code == SYMM_ESTALE;
}

static void test_stopped(void)
{
	struct tap_redis redis;
	struct symm_store *store;
	struct symm_command command;
	struct symm_reply *reply;
	struct counted counted[100] = { { 0 } };
	int64_t start;
	int once = 0;

	tap_redis_start(&redis, TAP_REDIS_TCP);
	store = open_store(redis.url);
	kill(redis.pid, SIGSTOP);
	start = symm_now();
	is_int(call(store, "SET key lost", 300, &reply), SYMM_ESTORE, "the server is stopped: a call fails");
	ok(symm_now() - start >= 300 * SYMM_NS_PER_MS && symm_now() - start < SECOND, "at its deadline");
	has_str(symm_last_error(), "does not answer", "the error says so: %s", symm_last_error());
	kill(redis.pid, SIGCONT);
	ok(answers(store, "GET key", "lost"), "the late answer is not taken for the next call's");

	kill(redis.pid, SIGSTOP);
	symm_command_init(&command, NULL);
	symm_command_text(&command, "PING");
	for (int i = 0; i < 100; i++)
		symm_store_send(store, &command, after_ms(60000), on_counted, &counted[i]);
	symm_store_close(store);
	for (int i = 0; i < 100; i++)
		once += counted[i].finished == 1 && counted[i].stale == 1;
	is_int(once, 100, "close finishes what is in flight, each exactly once");
	kill(redis.pid, SIGCONT);
	tap_redis_stop(&redis);
}

static void test_nobody(void)
{
	struct tap_redis redis;
	struct symm_store *store;
	struct symm_reply *reply;
	int64_t start;

	tap_redis_start(&redis, TAP_REDIS_TCP);
	store = open_store(redis.url);
	tap_redis_stop(&redis);
	start = symm_now();
	is_int(call(store, "GET key", 700, &reply), SYMM_ESTORE, "nobody listens");
	ok(symm_now() - start >= 700 * SYMM_NS_PER_MS && symm_now() - start < 2 * SECOND,
	   "the call ends at its deadline");
	has_str(symm_last_error(), redis.url, "the error names the server");
	has_str(symm_last_error(), "Connection refused (tried for 0.7 s)", "and the cause: %s", symm_last_error());
	is_int(symm_store_unbroken_since(store), INT64_MAX, "the connection is known to be broken");
	symm_store_close(store);
	is_int(symm_store_open(loop, "unix:///nowhere/socket", after_ms(50), &store), SYMM_ESTORE, "no such socket");
	has_str(symm_last_error(), "cannot reach unix:///nowhere/socket: No such file", "the error says so");
}

/* ---- names ---- */

/* In the place of libc's: slow.test takes its time, two.test has a first address where nobody listens. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	bool slow = strcmp(node, "slow.test") == 0, two = strcmp(node, "two.test") == 0;
	struct addrinfo *second;
	int rc;

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	if ((hints->ai_flags & AI_NUMERICHOST) != 0 || (!slow && !two))
		return real(node, service, hints, list);
	if (slow)
		symm_sleep(300 * SYMM_NS_PER_MS, INT64_MAX);
	rc = real("127.0.0.1", service, hints, &second);
	if (rc != 0 || slow) {
		*list = second;
		return rc;
	}
	rc = real("127.0.0.1", "1", hints, list);
	if (rc == 0)
		(*list)->ai_next = second;
	return rc;
}

static void test_names(void)
{
	struct tap_redis redis;
	struct symm_store *store = NULL;
	char url[64];

	tap_redis_start(&redis, TAP_REDIS_TCP);
	snprintf(url, sizeof(url), "redis://two.test:%d", redis.port);
	test_round_trip(url, url);
	snprintf(url, sizeof(url), "redis://slow.test:%d", redis.port);
	is_int(symm_store_open(loop, url, after_ms(100), &store), SYMM_ESTORE,
	       "a name that takes longer than the caller has");
	has_str(symm_last_error(), "looking up the host", "the error says so: %s", symm_last_error());
	test_round_trip(url, url); /* its loop outlives the look-up that the close has left behind */
	tap_redis_stop(&redis);
}

int main(void)
{
	int before = inherited();

	if (symm_loop_get(&loop) != SYMM_OK)
		tap_bail("%s", symm_last_error());
	test_unix(before);
	test_tcp();
	test_names();
	test_password();
	test_tls();
	test_restart();
	test_stopped();
	test_nobody();
	symm_loop_put(loop);
	return tap_done();
}
