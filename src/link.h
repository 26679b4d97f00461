/* link.h: Unix-domain connections between the processes of one host: they carry fds and notices, and show death.
 *
 * One endpoint a process (counted, shared by its contexts): a listening SOCK_SEQPACKET socket under an unguessable
 * abstract name, and a second one at a path (folder SYMM_LINK_DIR, else none) for peers in another network namespace.
 * Who is on the other side must have our uid or be root (SO_PEERCRED) and say hello with the process id that the store
 * told. To each process that we share a group with we hold one connection of our own making: we ask and notify on it,
 * the other answers on it.
 */
#ifndef SYMM_LINK_H
#define SYMM_LINK_H

#include "error.h"
#include "loop.h"
#include "wire.h"

struct symm_link; /* our connection to one other process, counted */

#define SYMM_LINK_FDS 2 /* fds in one answer at most */

struct symm_notice {
	enum symm_message_type type; /* FAIL or LEFT */
	uint64_t nonce;
	int rank;
	struct symm_err why;
};

/* What the runtime is told and asked, on the loop thread; it must not block. Set once, before the first endpoint. A
 * hook may call get, put and notify, and may take locks that callers of those hold, but none that is held around open,
 * close or finish. */
struct symm_link_hooks {
	/* The process is gone: its pidfd says so, or its link ended and cannot be made again. Notices it sent came
	 * first. Once for each link: a get after it makes a new link, which finds out anew. */
	void (*died)(const struct symm_id *process);
	void (*notice)(const struct symm_id *process, const struct symm_notice *notice);
	/* Which fds did `rank` of this process export at (nonce, seq), with that digest unless it is ""? Fills fds
	 * (still owned by the runtime, sent as duplicates by the kernel) and count; or returns a code with err->text.
	 * May be asked twice for one pull. */
	int (*exported)(uint64_t nonce, uint64_t seq, int rank, const char *digest, int fds[SYMM_LINK_FDS], int *count,
			struct symm_err *err);
};

/* One use more of this process's endpoint. hooks must be the same each time. */
int symm_link_open(struct symm_loop *loop, const struct symm_link_hooks *hooks);
/* One use less; the last waits a bounded time for the notices of links that were put. All links have been put. */
void symm_link_close(void);
/* This process, as its members are published. Valid between open and close. */
const struct symm_process *symm_link_self(void);

/* One use more of the connection to a process of this host; begins to connect and to watch its pidfd, in the
 * background. SYMM_EUNREACH: it is in another network namespace and has no path. */
int symm_link_get(const struct symm_process *process, struct symm_link **link);
/* One use less; the last lets what was notified go out (bounded), then closes, in the background. NULL is fine. */
void symm_link_put(struct symm_link *link);
/* Sends in the background, in order. Any thread. */
void symm_link_notify(struct symm_link *link, const struct symm_notice *notice);

/* A pull under way: begin several, then finish each. At most 8 of this process are on their way at once, and 8 that are
 * made ahead of need, which a process that does not answer may hold up for long; the rest queue. */
struct symm_pull {
	struct symm_link *link;
	uint64_t nonce, seq;
	int rank;               /* whose export */
	const char *digest;     /* what it has to come with; NULL: any */
	bool ahead;             /* of need: it holds up none that is needed now */
	int fds[SYMM_LINK_FDS]; /* after finish: owned by the caller, close-on-exec */
	int count;
	struct symm_err err;
	struct symm_done done; /* private from here on */
	struct symm_task task;
	uint64_t request;
	struct symm_pull *next;
};
void symm_pull_begin(struct symm_pull *pull);
/* True if to finish it takes no time. */
bool symm_pull_is_done(const struct symm_pull *pull);
/* Waits for the answer; SYMM_ETIMEDOUT at the deadline, SYMM_EPEER if the process died, else what its hook said.
 * Always ends the pull. The link is put after it. */
int symm_pull_finish(struct symm_pull *pull, int64_t deadline);

/* What can be proven about a process of this host, by its pid, its start time and its socket. Needs no endpoint.
 * Blocks a few milliseconds at most. Not the loop thread. */
enum symm_proof { SYMM_UNPROVEN, SYMM_ALIVE, SYMM_DEAD };
enum symm_proof symm_link_prove(const struct symm_process *process);

#endif
