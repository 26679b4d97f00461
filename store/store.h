/* store.h: a Redis (or Valkey) server, reached by a URL: one command connection per URL and process.
 *
 * hiredis formats and parses RESP2, libevent moves the bytes (plain, Unix, TLS); all of it on the loop thread. Calls
 * are pipelined in the order in which they are made; what the server was too busy for, or whose script it did not know,
 * is sent again later. When the connection is lost it is made again with jittered back-off, and what was not answered
 * is sent again until its deadline: so every command sent here must bear being run twice.
 */
#ifndef SYMM_STORE_H
#define SYMM_STORE_H

#include "error.h"
#include "loop.h"

struct symm_store;
struct symm_reply;

/* The store of a URL: finds or makes it, and proves that it answers (PING) before the deadline. */
int symm_store_open(struct symm_loop *loop, const char *url, int64_t deadline, struct symm_store **store);
/* The last user's closes the connection; what is not answered finishes with SYMM_ESTALE. Not on the loop thread. NULL
 * is fine. */
void symm_store_close(struct symm_store *store);
/* What has been sent to the server so far; how much of it again, as the connection was lost or the server was busy; how
 * often a connection was made again after the first. Any thread. */
struct symm_store_counts {
	uint64_t commands, retries, reconnects;
};
struct symm_store_counts symm_store_counts(const struct symm_store *store);
/* The URL without user, password and key options. */
const char *symm_store_name(const struct symm_store *store);
/* Since when (symm_now) the connection has been unbroken and has answered within a second; INT64_MAX while there is
 * none. Any thread. */
int64_t symm_store_unbroken_since(struct symm_store *store);

/* A Lua script, sent by EVALSHA, and by EVAL when the server does not know it. Static storage; sha is filled in. */
struct symm_script {
	const char *name;
	const char *text;
	char sha[41];
};

#define SYMM_STORE_ARGS 32

/* A command with binary-safe arguments, built piece by piece from memory that stays the caller's; copied when the call
 * is made. More than SYMM_STORE_ARGS: the call is SYMM_EINVAL. Never copy the struct: it points into itself. */
struct symm_command {
	struct symm_script *script; /* NULL: a plain command, its name is the first argument */
	int keys;                   /* script: how many of the arguments are KEYS, first */
	int n;
	const char *arg[SYMM_STORE_ARGS];
	size_t length[SYMM_STORE_ARGS];
	char number[SYMM_STORE_ARGS][24];
	const struct symm_meanwhile *meanwhile; /* NULL, or what symm_store_call does while the loop is hurried */
};
void symm_command_init(struct symm_command *command, struct symm_script *script);
void symm_command_key(struct symm_command *command, const char *key);
void symm_command_text(struct symm_command *command, const char *text);
void symm_command_bytes(struct symm_command *command, const void *bytes, size_t length);
void symm_command_int(struct symm_command *command, int64_t value);

/* Calls and waits for the reply: not on the loop thread. SYMM_ETIMEDOUT never: a deadline passed without a connection
 * or answer is SYMM_ESTORE, and the detail names the server and the last cause. SYMM_EAUTH: refused. *reply is freed by
 * the caller. */
int symm_store_call(struct symm_store *store, const struct symm_command *command, int64_t deadline,
		    struct symm_reply **reply);
/* Calls without waiting. finished runs on the loop thread, exactly once, with the reply (freed after it returns) and
 * err->code 0, or with NULL and err; never when this call itself returns an error. */
int symm_store_send(struct symm_store *store, const struct symm_command *command, int64_t deadline,
		    void (*finished)(void *arg, const struct symm_reply *reply, const struct symm_err *err), void *arg);
/* Questions are coming: wakes the server, which takes its time after a rest, and keeps it awake, by asking it nothing
 * again and again, while the loop is hurried. For a few askers: together they leave it no rest. Any thread. */
void symm_store_rouse(struct symm_store *store);

/* Replies: bounds- and type-checked reading. A reply that is an error never comes here. */
void symm_reply_free(struct symm_reply *reply);
/* How many elements: an array's; else 0. */
size_t symm_reply_count(const struct symm_reply *reply);
/* Element i of an array; NULL if there is none. Owned by reply. */
const struct symm_reply *symm_reply_at(const struct symm_reply *reply, size_t i);
bool symm_reply_is_nil(const struct symm_reply *reply);
/* The text of a bulk or status reply, NUL-terminated, with its length; NULL for another type. Accepts reply == NULL. */
const char *symm_reply_text(const struct symm_reply *reply, size_t *length);
/* An integer, or a bulk that is one in decimal; false for anything else. Accepts reply == NULL. */
bool symm_reply_int(const struct symm_reply *reply, int64_t *value);

#endif
