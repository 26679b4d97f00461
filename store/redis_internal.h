/* redis_internal.h: what the files of the Redis transport share.
 *
 *   redis.c       the stores of this process: open, close, call, send
 *   command.c     commands and scripts, and their bytes
 *   request.c     what was asked and not yet answered: order, deadlines, error replies
 *   connection.c  the connection, from the first address to the loss of the last
 *   lookup.c      names to addresses
 *   reply.c       replies
 *
 * All of a store is on the loop thread, but for what says otherwise.
 *
 * A request waits until it is written, flies until it is answered, and then it is finished. A lost connection makes
 * what flew wait again, in its old order. A request that times out in flight is finished at once and flies on without a
 * caller, to consume its reply.
 */
#ifndef SYMM_REDIS_INTERNAL_H
#define SYMM_REDIS_INTERNAL_H

#include "base.h"
#include "store.h"
#include "tls.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <netdb.h>
#include <sys/queue.h>
#include <sys/un.h>

#define SYMM_BACKOFF_MIN (10 * SYMM_NS_PER_MS)
#define SYMM_BACKOFF_MAX (1000 * SYMM_NS_PER_MS)

struct bufferevent;
struct redisReader;
struct symm_lookup;

/* ---- commands ---- */

/* A command as RESP. A script's is EVALSHA; `tail` is what EVAL has in common with it. */
struct symm_wire {
	char *bytes;
	size_t length;
	size_t tail;
	int args;
	bool eval; /* it has been made an EVAL, from our own memory */
};
/* SYMM_EINVAL: too many arguments. */
int symm_wire_make(const struct symm_command *command, struct symm_wire *wire);
/* Makes an EVALSHA an EVAL of the script. False: no memory, and unchanged. */
bool symm_wire_eval(struct symm_wire *wire, const struct symm_script *script);
void symm_wire_free(struct symm_wire *wire);

/* ---- requests ---- */

struct symm_request {
	TAILQ_ENTRY(symm_request) entry;
	struct symm_task task;
	struct symm_store *store;
	const struct symm_script *script; /* NULL: a plain command */
	struct symm_wire wire;
	uint64_t number; /* of the store's requests: their order */
	int64_t made, deadline;
	int64_t sent;             /* when it took off last; 0: never */
	bool lost;                /* a connection was lost under it */
	struct symm_reply **keep; /* NULL, or who takes the reply over */
	/* NULL: it has been called */
	void (*finished)(void *arg, const struct symm_reply *reply, const struct symm_err *err);
	void *arg;
};
TAILQ_HEAD(symm_requests, symm_request);

enum symm_connection_state {
	SYMM_CONNECTION_IDLE,       /* nobody has asked for it since it was refused, or ever */
	SYMM_CONNECTION_LOOKUP,     /* of the host's addresses */
	SYMM_CONNECTION_CONNECTING, /* to one of them */
	SYMM_CONNECTION_TLS,        /* handshake */
	SYMM_CONNECTION_GREETING,   /* AUTH, SELECT, CLIENT SETNAME */
	SYMM_CONNECTION_READY,
	SYMM_CONNECTION_BACKOFF /* before the next try */
};

struct symm_store {
	/* for any thread */
	struct symm_url url;
	SSL_CTX *tls; /* NULL: not TLS */
	struct symm_loop *loop;
	int64_t unbroken_since; /* atomic */
	bool closing;           /* atomic */
	bool roused;            /* atomic: symm_store_rouse is at it */
	uint64_t commands;      /* sent; atomic, like the next two */
	uint64_t retries;       /* of these, again */
	uint64_t connects;      /* greeted */
	char *text;             /* the URL as it was given: what users share a store by */
	int users;              /* under the lock of the list */
	LIST_ENTRY(symm_store) entry;

	/* requests */
	struct symm_requests waiting, flying;
	uint64_t numbers;
	struct event alarm; /* at the earliest deadline, or when the oldest in flight has been away for too long */
	int64_t alarm_at;   /* INT64_MAX: off */
	bool paused;        /* the server is busy: nothing takes off until the connection's timer rings */
	bool answered;      /* a request of ours, once */
	int64_t told;       /* when the log was told last that nothing is answered yet */
	int64_t pause;      /* the last one's length */

	/* the connection */
	enum symm_connection_state state;
	struct event timer; /* end of back-off, of a pause, or of patience with a peer that hangs */
	int64_t backoff;
	struct symm_lookup *lookup;
	struct addrinfo unix_address;
	struct sockaddr_un unix_name;
	struct addrinfo *found;      /* to be freed */
	const struct addrinfo *next; /* the address to try next */
	int fd;                      /* while connecting; then it is the bufferevent's */
	struct event connecting;
	struct bufferevent *bev;
	struct redisReader *reader;
	size_t unparsed;   /* bytes fed since the last whole reply */
	unsigned greeting; /* replies to come, a bit each, lowest first */
	char cause[256];   /* why the server could not be reached or did not do it, last; "": no trouble */
};

/* ---- request.c ---- */

void symm_requests_init(struct symm_store *store);
/* A task: takes the request over, on the loop thread. */
void symm_request_submit(void *request);
/* What waits takes off; for a connection that is ready. */
void symm_requests_flush(struct symm_store *store);
/* The connection was lost: what flew waits again. */
void symm_requests_land(struct symm_store *store);
/* A reply to the oldest in flight; taken over. */
void symm_requests_reply(struct symm_store *store, struct symm_reply *reply);
/* The server is not to be had now. Until it has answered for the first time, the log tells now and then. */
void symm_requests_delayed(struct symm_store *store);
/* Finishes all requests with err. */
void symm_requests_fail(struct symm_store *store, const struct symm_err *err);

/* What an error reply means. */
enum symm_error_verdict {
	SYMM_ERROR_FINAL, /* the caller's to know */
	SYMM_ERROR_AUTH,  /* SYMM_EAUTH */
	SYMM_ERROR_MOVED, /* another node of a cluster has the key */
	SYMM_ERROR_NOSCRIPT,
	SYMM_ERROR_AGAIN,    /* later it may work */
	SYMM_ERROR_RECONNECT /* on a new connection it may work */
};
enum symm_error_verdict symm_error_verdict(const char *text);

/* ---- connection.c ---- */

void symm_connection_init(struct symm_store *store);
/* Somebody waits: connects if it is idle. */
void symm_connection_want(struct symm_store *store);
/* Gives the connection up and tries the next address, or again later. */
void symm_connection_drop(struct symm_store *store, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Closes for good, or until somebody wants it. */
void symm_connection_close(struct symm_store *store);
/* Notes why it is not working. */
void symm_connection_blame(struct symm_store *store, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What it is doing now, for an error. */
const char *symm_connection_doing(const struct symm_store *store);
void symm_timer_set(struct event *timer, int64_t ns);

/* ---- lookup.c ---- */

/* Starts a thread that looks the host up; found runs on the loop thread, with a list that it frees or with an error of
 * getaddrinfo. NULL: no thread. */
struct symm_lookup *symm_lookup_start(struct symm_loop *loop, const char *host, uint16_t port,
				      void (*found)(void *arg, struct addrinfo *list, int error), void *arg);
/* found will not run. Only before it has. */
void symm_lookup_cancel(struct symm_lookup *lookup);
/* getaddrinfo for host and port, with more flags. */
int symm_lookup_now(const char *host, uint16_t port, int flags, struct addrinfo **list);

/* ---- reply.c ---- */

struct redisReader *symm_reader_new(void);
/* The text of an error reply, with its control characters made '?'; NULL for any other reply. */
const char *symm_reply_error(struct symm_reply *reply);

#endif
