/* keyspace_help.h: what the tests of the keyspace share: a store, groups in it, and Redis by hand. */
#ifndef KEYSPACE_HELP_H
#define KEYSPACE_HELP_H

#include "base.h"
#include "error.h"
#include "keyspace.h"
#include "loop.h"
#include "store.h"
#include "tap.h"

enum { MOST = 8, TTL_MS = 60000, LEASE_MS = 5000 };

extern struct symm_loop *loop;
extern struct symm_store *store;
void suite_start(struct tap_redis *redis, enum tap_redis_kind kind);
int suite_end(struct tap_redis *redis);

/* A deadline. */
int64_t soon(void);
/* Sends the words, up to NULL; all that came back as one line. */
const char *raw(const char *word, ...);
/* A key of a group, or of its generation: static, for one use at a time. */
const char *key(const struct symm_keyspace *ks, const char *kind);
const char *generation_key(const struct symm_keyspace *ks, const char *kind);

/* A life of a rank: its incarnation is all bytes `life`, its pid 1000 + life, its host's boot id "boot-of-HOST". */
struct symm_member member(int rank, int life, const char *host);
/* A generation's nonce: all 64 bits count, as no Lua number could. */
uint64_t nonce(int n);

/* A sealed group: rank r on host "a", "b" or "c" with life r + 1. */
struct group {
	struct symm_keyspace ks;
	struct symm_member member[MOST];
	int world;
};
void group_make(struct group *group, const char *name, int world);

/* Each is sent twice. */
struct symm_verdict publish(struct group *g, int rank, uint64_t seq, const char *digest,
			    const struct symm_err *failure);
struct symm_verdict vote(struct group *g, int rank, uint64_t seq, const struct symm_err *failure);
struct symm_verdict decide(struct group *g, int rank, uint64_t seq, int code, const char *text);
void is_verdict(const struct symm_verdict *v, int what, int code, int rank, const char *text, const char *name);
void is_poll(struct group *g, uint64_t seq, int what, const char *name);
/* Nothing is left in the store. */
void is_empty(const char *name);

struct refreshed {
	struct symm_done done;
	int code, failed_code, n_expired, expired;
	char text[SYMM_ERROR_TEXT];
};
struct refreshed refresh(struct symm_keyspace *ks, const struct symm_member *m, const char *doing);

#endif
