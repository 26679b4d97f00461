#include "link_internal.h"

#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 64   /* of messages or connections, before others get their turn */
#define DRAIN 1024 /* more than a socket buffer holds */

/* A connection that another process made. */
struct incoming {
	struct symm_conn conn;
	bool greeted;
	struct symm_id process; /* once greeted */
	bool held;              /* the answer to `asked` could not be sent yet: nothing more is read meanwhile */
	struct symm_message asked;
	struct incoming *next, **prev;
};

struct listener {
	int fd;
	struct event *event;
};

struct symm_endpoint symm_endpoint;
static pthread_mutex_t users_lock = PTHREAD_MUTEX_INITIALIZER; /* held while opening and closing */
static int users;

static struct listener listeners[2] = { { .fd = -1 }, { .fd = -1 } }; /* abstract, path */
static struct event *resume;                                          /* listening again after a lack of fds */
static struct incoming *incomings;

static const struct timeval resume_time = { .tv_usec = 10000 };
static const struct timeval hello_time = { .tv_sec = 10 };

/* ---- one connection ---- */

static void incoming_free(struct incoming *in)
{
	symm_conn_close(&in->conn);
	*in->prev = in->next;
	if (in->next != NULL)
		in->next->prev = in->prev;
	free(in);
}

/* What the hook says goes out as it is; if the kernel refuses its fds, the asker hears of that instead. */
static int send_answer(struct incoming *in)
{
	struct symm_message answer = { .type = SYMM_MESSAGE_FDS, .request = in->asked.request };
	struct symm_err err = { .code = SYMM_OK };
	int fds[SYMM_LINK_FDS], count = 0, rc;
	char why[128];

	answer.code = symm_endpoint.hooks.exported(in->asked.nonce, in->asked.seq, (int)in->asked.rank, in->asked.text,
						   fds, &count, &err);
	if (answer.code != SYMM_OK) {
		snprintf(answer.text, sizeof(answer.text), "%.*s", (int)sizeof(answer.text) - 1, err.text);
		return symm_socket_send(in->conn.fd, &answer, NULL, 0);
	}
	answer.count = (uint32_t)count;
	rc = symm_socket_send(in->conn.fd, &answer, fds, answer.count);
	if (rc == 0 || rc == -EPIPE || symm_socket_passing(-rc))
		return rc;
	answer.code = SYMM_ESYS;
	answer.count = 0;
	snprintf(answer.text, sizeof(answer.text), "sending the fds failed: %s", strerror_r(-rc, why, sizeof(why)));
	return symm_socket_send(in->conn.fd, &answer, NULL, 0);
}

/* The request is kept rather than the answer, so that no fd has to outlive what the runtime says now. */
static void incoming_answer(struct incoming *in)
{
	int rc = send_answer(in);

	in->held = rc != 0 && symm_socket_passing(-rc);
	if (in->held) {
		event_del(in->conn.readable);
		symm_conn_wait(&in->conn, -rc);
	}
}

static void on_incoming_again(evutil_socket_t fd, short what, void *arg)
{
	struct incoming *in = arg;

	(void)fd;
	(void)what;
	incoming_answer(in);
	if (!in->held)
		event_add(in->conn.readable, NULL);
}

static bool incoming_greet(struct incoming *in, const struct symm_message *message)
{
	if (message->type != SYMM_MESSAGE_HELLO || symm_id_is_none(&message->process))
		return false;
	in->process = message->process;
	in->greeted = true;
	event_remove_timer(in->conn.readable);
	return symm_socket_hello(in->conn.fd, &symm_endpoint.self.id) == 0;
}

static void incoming_notice(const struct incoming *in, const struct symm_message *message)
{
	struct symm_notice notice = { .type = message->type, .nonce = message->nonce, .rank = (int)message->rank };

	symm_err_set(&notice.why, message->code, "%s", message->text);
	symm_endpoint.hooks.notice(&in->process, &notice);
}

/* False: not what a well-behaved process sends. */
static bool incoming_handle(struct incoming *in, const struct symm_message *message)
{
	if (!in->greeted)
		return incoming_greet(in, message);
	switch (message->type) {
	case SYMM_MESSAGE_PULL:
		in->asked = *message;
		incoming_answer(in);
		return true;
	case SYMM_MESSAGE_FAIL:
	case SYMM_MESSAGE_LEFT:
		incoming_notice(in, message);
		return true;
	default:
		return false;
	}
}

/* Reads and handles one message. False: no more now, or the connection has ended and `in` is gone. */
static bool incoming_take(struct incoming *in)
{
	struct symm_parcel parcel;
	int rc;

	if (in->held)
		return false;
	rc = symm_socket_recv(in->conn.fd, &parcel);
	if (rc == -EAGAIN)
		return false;
	if (rc == 0 && (parcel.count > 0 || parcel.truncated)) {
		symm_parcel_drop(&parcel);
		rc = -EPROTO;
	}
	if (rc == 0 && !incoming_handle(in, &parcel.message))
		rc = -EPROTO;
	if (rc == 0)
		return true;
	if (rc != -EPIPE)
		symm_log(SYMM_LOG_INFO, "dropped a connection to our link socket (errno %d)", -rc);
	incoming_free(in);
	return false;
}

static void on_incoming_read(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	if ((what & EV_TIMEOUT) != 0) {
		incoming_free(arg);
		return;
	}
	for (int i = 0; i < BATCH; i++)
		if (!incoming_take(arg))
			return;
}

/* A dead process gets no answer: what it has asked may be dropped to reach what it has told. */
void symm_endpoint_drain(const struct symm_id *process)
{
	struct incoming *in, *next;

	for (in = incomings; in != NULL; in = next) {
		next = in->next;
		if (!in->greeted || !symm_id_equal(&in->process, process))
			continue;
		for (int i = 0; i < DRAIN; i++) {
			in->held = false;
			if (!incoming_take(in))
				break;
		}
	}
}

/* ---- listening ---- */

static void incoming_new(int fd)
{
	struct incoming *in;
	pid_t pid;

	if (!symm_socket_trusted(fd, &pid)) {
		symm_log(SYMM_LOG_WARN, "refused a connection to our link socket from another user (pid %d)", (int)pid);
		close(fd);
		return;
	}
	in = calloc(1, sizeof(*in));
	if (in == NULL) {
		close(fd);
		return;
	}
	if (symm_conn_open(&in->conn, fd, on_incoming_read, on_incoming_again, in) != 0) {
		free(in);
		return;
	}
	event_add(in->conn.readable, &hello_time);
	in->next = incomings;
	in->prev = &incomings;
	if (in->next != NULL)
		in->next->prev = &in->next;
	incomings = in;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct listener *listener = arg;

	(void)what;
	for (int i = 0; i < BATCH; i++) {
		int new = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (new >= 0) {
			incoming_new(new);
			continue;
		}
		if (errno == ECONNABORTED)
			continue;
		if (errno != EAGAIN) {
			event_del(listener->event);
			event_add(resume, &resume_time);
		}
		return;
	}
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	for (int i = 0; i < 2; i++)
		if (listeners[i].event != NULL)
			event_add(listeners[i].event, NULL);
}

static int listen_second(struct symm_process *self)
{
	const char *dir = getenv("SYMM_LINK_DIR");
	char path[SYMM_PATH_MAX];
	int n, err;

	if (dir == NULL || *dir == '\0')
		return SYMM_OK;
	n = snprintf(path, sizeof(path), "%s/%s.sock", dir, self->socket);
	if (*dir != '/' || strchr(dir, ' ') != NULL || n >= (int)sizeof(path))
		return symm_error(SYMM_EINVAL,
				  "SYMM_LINK_DIR: not an absolute path of at most %zu characters without blanks",
				  sizeof(path) - strlen(self->socket) - sizeof("/.sock"));
	err = symm_socket_listen_path(path, &listeners[1].fd);
	if (err != 0)
		return symm_error_sys(SYMM_ESYS, -err, "SYMM_LINK_DIR: cannot listen at %s", path);
	strcpy(self->path, path);
	return SYMM_OK;
}

static int listen_both(void)
{
	struct symm_process *self = &symm_endpoint.self;
	int rc = symm_process_self(self);

	if (rc != SYMM_OK)
		return rc;
	rc = symm_socket_listen_abstract(self->socket, &listeners[0].fd);
	if (rc != 0)
		return symm_error_sys(SYMM_ESYS, -rc, "cannot listen at the abstract socket %s", self->socket);
	return listen_second(self);
}

/* ---- first and last use ---- */

static void start(void *arg)
{
	bool *started = arg;

	resume = event_new(symm_endpoint.base, -1, 0, on_resume, NULL);
	*started = resume != NULL;
	for (int i = 0; i < 2 && *started; i++) {
		struct listener *listener = &listeners[i];

		if (listener->fd < 0)
			continue;
		listener->event =
			event_new(symm_endpoint.base, listener->fd, EV_READ | EV_PERSIST, on_accept, listener);
		*started = listener->event != NULL && event_add(listener->event, NULL) == 0;
	}
}

static void stop(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2; i++) {
		if (listeners[i].event != NULL)
			event_free(listeners[i].event);
		if (listeners[i].fd >= 0)
			close(listeners[i].fd);
		listeners[i] = (struct listener){ .fd = -1 };
	}
	if (symm_endpoint.self.path[0] != '\0')
		unlink(symm_endpoint.self.path);
	if (resume != NULL)
		event_free(resume);
	resume = NULL;
	while (incomings != NULL)
		incoming_free(incomings);
}

static int open_first(struct symm_loop *loop, const struct symm_link_hooks *hooks)
{
	bool started = false;
	int rc;

	symm_endpoint = (struct symm_endpoint){ .loop = loop, .base = symm_loop_base(loop), .hooks = *hooks };
	rc = listen_both();
	if (rc != SYMM_OK)
		goto fail;
	symm_loop_call(loop, start, &started);
	if (!started) {
		rc = symm_error(SYMM_ENOMEM, "no memory for the events of the link sockets");
		goto fail;
	}
	return SYMM_OK;
fail:
	symm_loop_call(loop, stop, NULL);
	return rc;
}

int symm_link_open(struct symm_loop *loop, const struct symm_link_hooks *hooks)
{
	int rc = SYMM_OK;

	pthread_mutex_lock(&users_lock);
	if (users == 0)
		rc = open_first(loop, hooks);
	if (rc == SYMM_OK)
		users++;
	pthread_mutex_unlock(&users_lock);
	return rc;
}

void symm_link_close(void)
{
	pthread_mutex_lock(&users_lock);
	if (--users == 0) {
		symm_link_settle();
		symm_loop_call(symm_endpoint.loop, stop, NULL);
	}
	pthread_mutex_unlock(&users_lock);
}

const struct symm_process *symm_link_self(void)
{
	return &symm_endpoint.self;
}
