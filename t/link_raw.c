/* Links and what else may be at the other end of a socket: strangers that talk to our endpoint, and listeners that are
 * not what they should be. The loop serves; the test's own thread plays the other side, with plain sockets. */
#include "base.h"
#include "link.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { WINDOW = 8, FLOOD = 600, IN_FLIGHT = 64 };

static struct symm_loop *loop;
static int memfd;
static struct {
	int deaths, notices;
	struct symm_notice last;
} heard;

static int load(const int *value)
{
	return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static bool wait_for(const int *value, int at_least)
{
	int64_t deadline = symm_now() + 10000 * SYMM_NS_PER_MS;

	while (load(value) < at_least && symm_now() < deadline)
		symm_sleep(SYMM_NS_PER_MS / 5, deadline);
	return load(value) >= at_least;
}

static int64_t soon(void)
{
	return symm_now() + 20000 * SYMM_NS_PER_MS;
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

/* The loop closes its side a little later than we see it. */
static bool fds_become(int n)
{
	for (int i = 0; i < 2000 && count_fds() != n; i++)
		symm_sleep(SYMM_NS_PER_MS, INT64_MAX);
	return count_fds() == n;
}

/* ---- hooks ---- */

static void on_died(const struct symm_id *process)
{
	(void)process;
	__atomic_fetch_add(&heard.deaths, 1, __ATOMIC_ACQ_REL);
}

static void on_notice(const struct symm_id *process, const struct symm_notice *notice)
{
	(void)process;
	heard.last = *notice;
	__atomic_fetch_add(&heard.notices, 1, __ATOMIC_ACQ_REL);
}

/* seq 0: two fds; 1: a refusal; 2: an fd that is none. */
static int on_exported(uint64_t nonce, uint64_t seq, int rank, const char *digest, int fds[SYMM_LINK_FDS], int *count,
		       struct symm_err *err)
{
	(void)digest;
	(void)nonce;
	(void)rank;
	if (seq == 1)
		return symm_err_set(err, SYMM_ENOENT, "nothing there");
	fds[0] = fds[1] = seq == 0 ? memfd : 12345;
	*count = 2;
	return SYMM_OK;
}

static const struct symm_link_hooks hooks = { on_died, on_notice, on_exported };

/* ---- plain sockets ---- */

static socklen_t address_of(const char *name, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	strcpy(address->sun_path + 1, name);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static int stranger(void)
{
	struct sockaddr_un address;
	socklen_t length = address_of(symm_link_self()->socket, &address);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&address, length) != 0)
		tap_bail("cannot connect to our own endpoint: %s", strerror(errno));
	return fd;
}

static bool send_message(int fd, const struct symm_message *message, int flags)
{
	uint8_t bytes[SYMM_MESSAGE_BYTES];

	symm_message_pack(message, bytes);
	return send(fd, bytes, sizeof(bytes), flags | MSG_NOSIGNAL) == (ssize_t)sizeof(bytes);
}

static bool send_type(int fd, uint32_t type, uint64_t seq)
{
	struct symm_message message = { .type = type, .seq = seq, .request = 7 };

	if (type == SYMM_MESSAGE_HELLO)
		message.process = symm_id_new();
	return send_message(fd, &message, 0);
}

static void send_fds(int fd, uint32_t type, int count)
{
	struct symm_message message = { .type = type, .process = symm_id_new() };
	uint8_t bytes[SYMM_MESSAGE_BYTES];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(16 * sizeof(int))] = { 0 };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control };
	struct cmsghdr *cmsg = (struct cmsghdr *)control;

	symm_message_pack(&message, bytes);
	header.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
	for (int i = 0; i < count; i++)
		memcpy(CMSG_DATA(cmsg) + (size_t)i * sizeof(int), &memfd, sizeof(int));
	sendmsg(fd, &header, MSG_NOSIGNAL);
}

/* The next message within 10 s, its fds closed; false at the end of the connection. */
static bool receive(int fd, struct symm_message *message, int *fds)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	uint8_t bytes[SYMM_MESSAGE_BYTES + 1];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(SYMM_LINK_FDS * sizeof(int))];
	struct msghdr header = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *cmsg;
	ssize_t n;
	int got;

	*fds = 0;
	if (poll(&poll_fd, 1, 10000) != 1)
		return false;
	n = recvmsg(fd, &header, 0);
	if (n <= 0)
		return false;
	for (cmsg = CMSG_FIRSTHDR(&header); cmsg != NULL; cmsg = CMSG_NXTHDR(&header, cmsg))
		for (size_t at = 0; at + CMSG_LEN(0) < cmsg->cmsg_len; at += sizeof(got), ++*fds) {
			memcpy(&got, CMSG_DATA(cmsg) + at, sizeof(got));
			close(got);
		}
	return symm_message_unpack(bytes, (size_t)n, message) == SYMM_OK;
}

static bool greeted(int fd)
{
	struct symm_message message;
	int fds;

	return send_type(fd, SYMM_MESSAGE_HELLO, 0) && receive(fd, &message, &fds) &&
	       message.type == SYMM_MESSAGE_HELLO && symm_id_equal(&message.process, &symm_link_self()->id);
}

/* The connection has ended: an end or a reset, not a message and not silence. */
static bool dropped(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	char byte;

	return poll(&poll_fd, 1, 10000) == 1 && recv(fd, &byte, 1, 0) <= 0;
}

/* ---- strangers ---- */

static void bad_garbage(int fd)
{
	char garbage[SYMM_MESSAGE_BYTES];

	symm_random(garbage, sizeof(garbage));
	send(fd, garbage, sizeof(garbage), MSG_NOSIGNAL);
}

static void bad_short(int fd)
{
	send(fd, "SYMM", 4, MSG_NOSIGNAL);
}

static void bad_long(int fd)
{
	static char zeros[60000];

	send(fd, zeros, sizeof(zeros), MSG_NOSIGNAL);
}

static void bad_empty(int fd)
{
	send(fd, "", 0, MSG_NOSIGNAL);
}

static void bad_nameless(int fd)
{
	struct symm_message hello = { .type = SYMM_MESSAGE_HELLO };

	send_message(fd, &hello, 0);
}

static void bad_pull_first(int fd)
{
	send_type(fd, SYMM_MESSAGE_PULL, 0);
}

static void bad_hello_with_fds(int fd)
{
	send_fds(fd, SYMM_MESSAGE_HELLO, 2);
}

static void bad_hello_twice(int fd)
{
	greeted(fd);
	send_type(fd, SYMM_MESSAGE_HELLO, 0);
}

static void bad_answer(int fd)
{
	greeted(fd);
	send_type(fd, SYMM_MESSAGE_FDS, 0);
}

static void bad_pull_with_fds(int fd)
{
	greeted(fd);
	send_fds(fd, SYMM_MESSAGE_PULL, 1);
}

static void bad_many_fds(int fd)
{
	greeted(fd);
	send_fds(fd, SYMM_MESSAGE_PULL, 16);
}

static const struct {
	void (*act)(int fd);
	const char *name;
} strangers[] = {
	{ bad_garbage, "garbage" },
	{ bad_short, "a short message" },
	{ bad_long, "a long message" },
	{ bad_empty, "an empty message" },
	{ bad_nameless, "a hello without an id" },
	{ bad_pull_first, "a pull before hello" },
	{ bad_hello_with_fds, "fds beside hello" },
	{ bad_hello_twice, "hello twice" },
	{ bad_answer, "an answer to no question" },
	{ bad_pull_with_fds, "an fd beside a pull" },
	{ bad_many_fds, "16 fds beside a pull" },
};

static void test_strangers(void)
{
	struct symm_message message;
	int before = count_fds(), good = stranger(), fds;

	ok(greeted(good), "a well-behaved connection");
	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
		int fd = stranger();

		strangers[i].act(fd);
		ok(dropped(fd), "%s: dropped", strangers[i].name);
		close(fd);
	}
	for (int i = 0; i < 50; i++)
		close(stranger());
	send_type(good, SYMM_MESSAGE_PULL, 0);
	ok(receive(good, &message, &fds) && message.type == SYMM_MESSAGE_FDS && message.request == 7 && fds == 2,
	   "the first connection is served as before");
	send_type(good, SYMM_MESSAGE_PULL, 1);
	ok(receive(good, &message, &fds) && message.code == SYMM_ENOENT && fds == 0, "a refusal");
	is_str(message.text, "nothing there", "with its text");
	send_type(good, SYMM_MESSAGE_PULL, 2);
	ok(receive(good, &message, &fds) && message.code == SYMM_ESYS && fds == 0, "an export that cannot be sent");
	has_str(message.text, strerror(EBADF), "says why");
	close(good);
	ok(fds_become(before), "no fd is left");
	is_int(load(&heard.notices), 0, "nobody was notified");
}

static void tell_and_close(void *arg)
{
	struct symm_message notice = { .type = SYMM_MESSAGE_LEFT, .rank = 3 };
	int *fd = arg;

	send_message(*fd, &notice, 0);
	close(*fd);
}

/* The unread answer makes the connection end with a reset: the notice behind it must not be lost. */
static void test_unread(void)
{
	int before = load(&heard.notices), fd = stranger();
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	greeted(fd);
	send_type(fd, SYMM_MESSAGE_PULL, 0);
	poll(&poll_fd, 1, 10000);
	symm_loop_call(loop, tell_and_close, &fd);
	ok(wait_for(&heard.notices, before + 1), "a notice comes, though its sender closed with our answer unread");
	is_int(heard.last.rank, 3, "from the right rank");
	is_int(heard.last.type, SYMM_MESSAGE_LEFT, "of the right type");
}

/* Sends n pulls without reading as long as that works, then reads as many answers as were asked for. */
static int flood(int fd, int n, uint64_t seq, int *answers, int *fds)
{
	struct symm_message pull = { .type = SYMM_MESSAGE_PULL, .seq = seq }, message;
	int asked = 0, count;

	*answers = *fds = 0;
	while (asked < n && send_message(fd, &pull, MSG_DONTWAIT))
		asked++;
	symm_sleep(20 * SYMM_NS_PER_MS, INT64_MAX);
	while (*answers < asked && receive(fd, &message, &count)) {
		++*answers;
		*fds += count;
	}
	return asked;
}

static void test_flood(void)
{
	int fd = stranger(), asked, answers, fds;

	greeted(fd);
	asked = flood(fd, FLOOD, 1, &answers, &fds);
	ok(asked > 0, "%d pulls without reading an answer", asked);
	is_int(answers, asked, "all are answered at last");
	close(fd);
}

/* In a child, as a user who may have only so many fds on their way. */
static int many_fds(int rank, void *arg)
{
	struct rlimit limit;
	int fd, asked, answers, fds;

	(void)rank;
	(void)arg;
	CHECK(getuid() != 0 || setresuid(65534, 65534, 65534) == 0);
	prctl(PR_SET_DUMPABLE, 1);
	memfd = memfd_create("export", MFD_CLOEXEC);
	CHECK(symm_loop_get(&loop) == SYMM_OK);
	CHECK(symm_link_open(loop, &hooks) == SYMM_OK, ": %s", symm_last_error());
	fd = stranger();
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 40;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHECK(greeted(fd));
	asked = flood(fd, IN_FLIGHT, 0, &answers, &fds);
	CHECK(asked == IN_FLIGHT, ": %d", asked);
	CHECK(answers == asked && fds == 2 * asked, ": %d answers, %d fds", answers, fds);
	close(fd);
	symm_link_close();
	symm_loop_put(loop);
	close(memfd);
	return 0;
}

/* ---- listeners ---- */

/* A process like ours, whose link socket is this test's own. */
static int pretend(struct symm_process *process)
{
	struct sockaddr_un address;
	socklen_t length;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	*process = *symm_link_self();
	process->id = symm_id_new();
	symm_id_format(&process->id, process->socket);
	length = address_of(process->socket, &address);
	if (bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, 16) != 0)
		tap_bail("cannot listen: %s", strerror(errno));
	return fd;
}

static void nothing(void *arg)
{
	(void)arg;
}

/* Returns when the loop has closed the link. */
static void put_now(struct symm_link *link)
{
	symm_link_put(link);
	symm_loop_call(loop, nothing, NULL);
}

/* Accepts and takes the hello. */
static int take_call(int listener)
{
	struct symm_message message;
	int fds, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (!receive(fd, &message, &fds) || message.type != SYMM_MESSAGE_HELLO)
		tap_diag("no hello came");
	return fd;
}

static void answer_hello(int fd, const struct symm_process *process)
{
	struct symm_message hello = { .type = SYMM_MESSAGE_HELLO, .process = process->id };

	send_message(fd, &hello, 0);
}

static bool silent(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, 30) == 0;
}

static void test_window(void)
{
	struct symm_pull pulls[2 * WINDOW];
	struct symm_message message, answer = { .type = SYMM_MESSAGE_FDS, .code = SYMM_ESTALE, .text = "no more" };
	struct symm_process process;
	struct symm_link *link;
	int listener = pretend(&process), fd, fds, good = 0, n = 0;

	symm_link_get(&process, &link);
	for (int i = 0; i < 2 * WINDOW; i++) {
		pulls[i] = (struct symm_pull){ .link = link, .nonce = 1, .seq = (uint64_t)i };
		symm_pull_begin(&pulls[i]);
	}
	fd = take_call(listener);
	ok(silent(fd), "nothing is asked before the hello is answered");
	answer_hello(fd, &process);
	while (n < WINDOW && receive(fd, &message, &fds))
		n += message.type == SYMM_MESSAGE_PULL;
	ok(n == WINDOW && silent(fd), "%d pulls are on their way at once", n);
	close(fd);
	fd = take_call(listener);
	answer_hello(fd, &process);
	for (n = 0; n < 2 * WINDOW && receive(fd, &message, &fds); n++) {
		answer.request = message.request;
		send_message(fd, &answer, 0);
	}
	is_int(n, 2 * WINDOW, "after a lost connection all are asked");
	for (int i = 0; i < 2 * WINDOW; i++)
		good += symm_pull_finish(&pulls[i], soon()) == SYMM_ESTALE;
	is_int(good, 2 * WINDOW, "and answered");
	is_str(symm_last_error(), "no more", "with the text");
	is_int(load(&heard.deaths), 0, "nobody died");
	put_now(link);
	ok(dropped(fd), "the last put ends the connection");
	close(fd);
	close(listener);
}

static void test_late_answer(void)
{
	struct symm_pull pull = { .nonce = 1 };
	struct symm_message message;
	struct symm_process process;
	int listener = pretend(&process), fd, fds, before;

	symm_link_get(&process, &pull.link);
	fd = take_call(listener);
	answer_hello(fd, &process);
	symm_pull_begin(&pull);
	receive(fd, &message, &fds);
	before = count_fds();
	is_int(symm_pull_finish(&pull, symm_now() + 10 * SYMM_NS_PER_MS), SYMM_ETIMEDOUT, "no answer at the deadline");
	send_fds(fd, SYMM_MESSAGE_FDS, 2);
	ok(silent(fd) && fds_become(before), "the fds of a late answer are closed");
	put_now(pull.link);
	close(fd);
	close(listener);
}

/* A listener that is not the process that we want, or drops us, or answers nonsense. */
enum odd { OTHER_ID, HANG_UP, NONSENSE, CLOSED };

static void play(enum odd odd, int listener, const struct symm_process *process)
{
	struct pollfd poll_fd = { .fd = listener, .events = POLLIN };
	int deaths = load(&heard.deaths);

	while (load(&heard.deaths) == deaths) {
		struct symm_process other = *process;
		int fd;

		if (poll(&poll_fd, 1, 20) != 1)
			continue;
		fd = take_call(listener);
		if (odd == OTHER_ID)
			other.id = symm_id_new();
		if (odd == NONSENSE)
			bad_garbage(fd);
		else if (odd == OTHER_ID)
			answer_hello(fd, &other);
		close(fd);
	}
}

static void test_odd(enum odd odd, const char *part, const char *name)
{
	struct symm_pull pull = { .nonce = 1 };
	struct symm_process process;
	int before = count_fds(), deaths = load(&heard.deaths), listener = pretend(&process);

	if (odd == CLOSED)
		close(listener);
	symm_link_get(&process, &pull.link);
	symm_pull_begin(&pull);
	if (odd != CLOSED)
		play(odd, listener, &process);
	is_int(symm_pull_finish(&pull, soon()), SYMM_EPEER, "%s: the pull fails", name);
	has_str(symm_last_error(), part, "%s: the reason", name);
	ok(wait_for(&heard.deaths, deaths + 1), "%s: it counts as dead", name);
	put_now(pull.link);
	if (odd != CLOSED)
		close(listener);
	ok(fds_become(before), "%s: no fd is left", name);
	is_int(load(&heard.deaths), deaths + 1, "%s: once", name);
}

/* An answer whose fds did not all arrive. */
static void test_too_few(void)
{
	struct symm_pull pull = { .nonce = 1 };
	struct symm_message message, answer = { .type = SYMM_MESSAGE_FDS, .count = 2 };
	struct symm_process process;
	int listener = pretend(&process), fd, fds;

	symm_link_get(&process, &pull.link);
	fd = take_call(listener);
	answer_hello(fd, &process);
	symm_pull_begin(&pull);
	receive(fd, &message, &fds);
	answer.request = message.request;
	send_message(fd, &answer, 0);
	is_int(symm_pull_finish(&pull, soon()), SYMM_ESYS, "an answer without its fds");
	has_str(symm_last_error(), "0 of 2 fds", "says so");
	put_now(pull.link);
	close(fd);
	close(listener);
}

int main(void)
{
	tap_ranks("128 fds asked for at once by a user with a limit of 40", 1, many_fds, NULL, 30);
	memfd = memfd_create("export", MFD_CLOEXEC);
	if (symm_loop_get(&loop) != SYMM_OK || symm_link_open(loop, &hooks) != SYMM_OK)
		tap_bail("cannot open an endpoint: %s", symm_last_error());
	test_strangers();
	test_unread();
	test_flood();
	test_window();
	test_late_answer();
	test_odd(OTHER_ID, "another process", "another process listens");
	test_odd(HANG_UP, "closes each connection", "a listener that hangs up");
	test_odd(NONSENSE, "closes each connection", "a listener that talks nonsense");
	test_odd(CLOSED, "refused", "a socket that is closed");
	test_too_few();
	symm_link_close();
	symm_loop_put(loop);
	return tap_done();
}
