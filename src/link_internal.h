/* link_internal.h: what the files of the links share. Nobody else includes it.
 *
 * link_socket.c   one message at a time over a non-blocking socket, and the addresses
 * link_process.c  who this process is, and what can be proven of another
 * link_endpoint.c the listening sockets and the connections that others made: we answer there
 * link.c          the connections of our own making, from the first get to the last put; notices
 * link_pull.c     the pulls over them
 *
 * All state but the counts of users belongs to the loop thread.
 */
#ifndef SYMM_LINK_INTERNAL_H
#define SYMM_LINK_INTERNAL_H

#include "link.h"

#include <event2/event.h>
#include <sys/types.h>

/* ---- link_socket.c; these return 0 or -errno ---- */

/* A message that came in, with the fds beside it: they are the receiver's. */
struct symm_parcel {
	struct symm_message message;
	int fds[SYMM_LINK_FDS];
	uint32_t count;
	bool truncated; /* there were more fds, of which none is kept */
};

int symm_socket_listen_abstract(const char *name, int *fd);
int symm_socket_listen_path(const char *path, int *fd);
/* By the abstract name, then by the path where the process may be in another network namespace than netns. */
int symm_socket_connect(const struct symm_process *process, uint64_t netns, int *fd);
/* Who is on the other side: false if it is neither our user nor root. pid is 0 if it is outside our PID namespace. */
bool symm_socket_trusted(int fd, pid_t *pid);
int symm_socket_send(int fd, const struct symm_message *message, const int *fds, uint32_t count);
int symm_socket_hello(int fd, const struct symm_id *self);
/* -EAGAIN: nothing there; -EPIPE: the other side is closed; -EPROTO: not a message. */
int symm_socket_recv(int fd, struct symm_parcel *parcel);
void symm_parcel_drop(struct symm_parcel *parcel);
/* The error of a send, a connect or an accept goes by in time. */
bool symm_socket_passing(int err);

/* A socket with its events, on the loop thread. */
struct symm_conn {
	int fd;
	struct event *readable;
	struct event *again; /* pending while a send has to wait */
	event_callback_fn on_again;
	void *arg;
};

/* Takes fd, also when it fails. */
int symm_conn_open(struct symm_conn *conn, int fd, event_callback_fn on_read, event_callback_fn on_again, void *arg);
void symm_conn_close(struct symm_conn *conn);
/* Calls on_again once, when what made a send fail with -err has passed. */
void symm_conn_wait(struct symm_conn *conn, int err);
bool symm_conn_waiting(const struct symm_conn *conn);

/* ---- link_process.c ---- */

/* Fills in who this process is, but for its second socket. */
int symm_process_self(struct symm_process *self);
/* What its pid and start time prove; SYMM_UNPROVEN where they say nothing. */
enum symm_proof symm_process_look(const struct symm_process *process);

/* ---- link_endpoint.c ---- */

struct symm_endpoint {
	struct symm_loop *loop;
	struct event_base *base;
	struct symm_link_hooks hooks;
	struct symm_process self;
};
extern struct symm_endpoint symm_endpoint;

/* Hands the notices that have come from the process to the hooks. */
void symm_endpoint_drain(const struct symm_id *process);

/* ---- link.c ---- */

/* Connecting -> greeting -> ready; a lost connection leads back to connecting, and gone is for ever. */
enum symm_link_state { SYMM_LINK_CONNECTING, SYMM_LINK_GREETING, SYMM_LINK_READY, SYMM_LINK_GONE };

struct symm_note;

struct symm_link {
	struct symm_process process;
	int users;              /* under lock */
	struct symm_link *next; /* under lock: the listed ones, to which a get may add a use */
	struct symm_task start, finish;

	enum symm_link_state state; /* all from here on: the loop thread's */
	struct symm_err why;        /* gone: the error of its pulls */
	struct symm_conn conn;
	int losses;
	int64_t ready_since;
	int pidfd;
	struct event *death; /* on pidfd */
	struct event *retry; /* to connect */
	struct symm_note *notes, **last_note;
	bool ending; /* put for the last time; the notes still go out */
	struct event *linger;
	struct symm_link *next_ending;
};

/* Connected, greeted, and the socket takes more. */
bool symm_link_can_send(const struct symm_link *link);
/* Waits until the links that were put have sent their notices, at most a bounded time; then closes them. */
void symm_link_settle(void);

/* ---- link_pull.c ---- */

/* Sends what the window and the links allow. */
void symm_pulls_pump(void);
/* Ends all pulls over the link with link->why. */
void symm_pulls_fail(struct symm_link *link);
/* The connection was lost: what was asked over it will be asked again. */
void symm_pulls_again(struct symm_link *link);
/* Takes an answer; false if it is none. */
bool symm_pulls_answer(struct symm_link *link, struct symm_parcel *parcel);

#endif
