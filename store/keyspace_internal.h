/* keyspace_internal.h: how the keyspace's files build a script call and read what comes back. Untrusted: all of it. */
#ifndef SYMM_KEYSPACE_INTERNAL_H
#define SYMM_KEYSPACE_INTERNAL_H

#include "keyspace.h"
#include "scripts.h"

#define SYMM_KEY_MAX 256
#define SYMM_CALL_KEYS 14
#define SYMM_NONCE_HEX 17
#define SYMM_FAILURE_MAX (SYMM_VERDICT_TEXT + 24) /* "CODE RANK TEXT" */
#define SYMM_LEASES_KEPT 6                        /* a group's keys outlive its last refresh by so many leases */

/* A command and the texts that its arguments point to. */
struct symm_call {
	struct symm_command command;
	char key[SYMM_CALL_KEYS][SYMM_KEY_MAX];
	char nonce[SYMM_NONCE_HEX];
	char seq[40];
	char incarnation[SYMM_ID_HEX];
	char text[SYMM_FAILURE_MAX];
	char offer[SYMM_OFFER_MAX];
};
void symm_call_init(struct symm_call *call, struct symm_script *script);
/* KEYS: one named by the format under the group's prefix; one of a generation; one of a rendezvous, or of the part of
 * it that ks names; all of a rendezvous and its parts; and the first n of group, members, leases, doing, events. */
void symm_call_key(struct symm_call *call, const struct symm_keyspace *ks, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void symm_call_generation_key(struct symm_call *call, const struct symm_keyspace *ks, uint64_t nonce, const char *kind,
			      const char *of);
void symm_call_rendezvous_key(struct symm_call *call, const struct symm_keyspace *ks, const char *kind, uint64_t seq);
void symm_call_rendezvous_keys(struct symm_call *call, const struct symm_keyspace *ks, uint64_t seq);
void symm_call_group_keys(struct symm_call *call, const struct symm_keyspace *ks, int n);
/* ARGV: the nonce of ks, the rank and its incarnation; and how the events call a rendezvous or its part. */
void symm_call_nonce(struct symm_call *call, const struct symm_keyspace *ks);
void symm_call_member(struct symm_call *call, const struct symm_member *member);
void symm_call_seq(struct symm_call *call, const struct symm_keyspace *ks, uint64_t seq);
int64_t symm_keyspace_lifetime_ms(const struct symm_keyspace *ks);

/* Calls a script and reads the word that its answer begins with: "ok" is SYMM_OK, "stale" SYMM_ESTALE, another that
 * is `also` SYMM_OK. */
int symm_keyspace_ask(const struct symm_keyspace *ks, struct symm_call *call, const char *also, int64_t deadline,
		      struct symm_reply **reply);
/* The same for an answer that is here. */
int symm_keyspace_status(const struct symm_keyspace *ks, const struct symm_reply *reply, const char *also);
/* The server says that a key holds a value of another type: that is damage, SYMM_EPROTO, and not the server's
 * failure. */
bool symm_is_wrong_type(int code, const char *text);
/* Sends a plain command or a script. A key of a wrong type is SYMM_EPROTO. */
int symm_keyspace_send(struct symm_store *store, const struct symm_command *command, int64_t deadline,
		       struct symm_reply **reply);
/* SYMM_EPROTO, with the key's name and what is wrong there. */
int symm_keyspace_damaged(const struct symm_keyspace *ks, const char *key, const char *what);

/* Copies what fits, with control characters replaced. */
void symm_text_clean(char *out, size_t size, const char *text, size_t length);
/* Writes "CODE RANK TEXT". */
void symm_failure_format(char out[SYMM_FAILURE_MAX], int rank, const struct symm_err *failure);
bool symm_failure_parse(const char *text, size_t length, struct symm_verdict *verdict);
/* A verdict's value, or "" or nil for none. */
int symm_verdict_parse(const struct symm_keyspace *ks, uint64_t seq, const struct symm_reply *reply,
		       struct symm_verdict *verdict);
/* Elements first .. first + 4: nonce, number, state, world size, whether it was sealed. No nonce: all zero. */
int symm_generation_parse(const struct symm_keyspace *ks, const struct symm_reply *reply, size_t first,
			  struct symm_generation *generation);
/* Element: a rank below the limit. */
int symm_rank_parse(const struct symm_keyspace *ks, const char *key, const struct symm_reply *element, int limit,
		    int *rank);
/* The record of that rank under members. */
int symm_record_parse(const struct symm_keyspace *ks, const struct symm_reply *element, int rank,
		      struct symm_member *member);
/* Elements from first on, four for each: rank, record or "", ms left, doing. n of them have been counted and fit
 * into `out`. */
int symm_presences_parse(const struct symm_keyspace *ks, const struct symm_reply *reply, size_t first, int world,
			 struct symm_presence *out, size_t n);
/* The group and all its members, at one moment. members: the caller's to free. */
struct symm_census {
	struct symm_generation generation;
	struct symm_verdict why;       /* what FAILED: the generation has failed */
	struct symm_presence *members; /* ordered by rank */
	size_t n;
};
/* Of ks->nonce, or, with `any`, of whatever generation there is; SYMM_ENOENT: none. */
int symm_keyspace_census(const struct symm_keyspace *ks, bool any, int64_t deadline, struct symm_census *census);

bool symm_name_is_good(const char *name, size_t length);

#endif
