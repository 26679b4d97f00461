/* keyspace.h: what a group keeps in Redis, and the scripts that change it. man/symm-keyspace.7 documents every key.
 *
 * KEYS of a group start with "symm:{JOB/GROUP}:", one hash tag, so one slot of a Redis Cluster:
 *   group             hash: generation, nonce, state (forming, sealed, failed), world, ranks, why; opened, sealed:
 *                     when, in ms
 *   members           hash: rank -> member record (wire.h)
 *   leases            sorted set: rank, score = server time in ms + lease
 *   doing             hash: rank -> what the rank is doing now, one line
 *   events            stream, capped: the group's history for operators
 *   NONCE:host:BOOT   set: the ranks on that host
 *   NONCE:arrived:SEQ hash: rank -> "INCARNATION DIGEST" of who has come to rendezvous SEQ
 *   NONCE:fabric:SEQ  hash: rank -> "INCARNATION HANDLE ...", of groups that span hosts
 *   NONCE:vote:SEQ    hash: rank -> "INCARNATION ok" or "INCARNATION CODE TEXT"
 *   NONCE:verdict:SEQ string: the verdict; SEQ 0 is the join
 *   NONCE:PART-arrived:SEQ, -vote, -verdict   the same for a part of a rendezvous, which may fail by itself
 * Verdicts are written once: nothing, then "go" (all came and agree), then "ready" (all voted ok); or "fail CODE RANK
 * TEXT" from the first failure at any point before "ready". For SEQ 0: nothing, then "ready" (sealed) or "fail ...".
 * Every key has a TTL; lease refreshes renew those of the group.
 */
#ifndef SYMM_KEYSPACE_H
#define SYMM_KEYSPACE_H

#include "store.h"
#include "wire.h"

#define SYMM_DIGEST_MAX 160
#define SYMM_VERDICT_TEXT 400
#define SYMM_DOING_MAX 200
#define SYMM_WORLD_LIMIT (1 << 20) /* no world is larger: a figure beyond it is damage */

/* A group's place in a store. Plain data. */
struct symm_keyspace {
	struct symm_store *store;
	char prefix[160]; /* "symm:{JOB/GROUP}:" */
	uint64_t nonce;   /* of the generation that the calls below are about; 0 before the join knows it */
	int64_t lease_ms;
	char part[16]; /* of the rendezvous that the calls below are about: "multicast"; "": all of it */
};
void symm_keyspace_init(struct symm_keyspace *ks, struct symm_store *store, const char *job, const char *group,
			int64_t lease_ms);
/* "-" or [A-Za-z0-9._:-]{1,64}: SYMM_EINVAL otherwise; what is "group" or "job". */
int symm_name_check(const char *what, const char *name);

struct symm_verdict {
	enum { SYMM_VERDICT_NONE, SYMM_VERDICT_GO, SYMM_VERDICT_READY, SYMM_VERDICT_FAILED } what;
	int code; /* FAILED: the SYMM code, -1 .. -99 */
	int rank; /* FAILED: whose failure; -1: nobody's */
	char text[SYMM_VERDICT_TEXT];
};

/* A generation as a script found it. */
struct symm_generation {
	uint64_t nonce; /* 0: there is none */
	int64_t number;
	enum { SYMM_FORMING, SYMM_SEALED, SYMM_FAILED } state;
	int world;
	bool sealed; /* it was complete once: one that FAILED without that failed while forming */
};

struct symm_join {
	const struct symm_member *member;
	int world;
	uint64_t expected; /* nonce of the generation that I want to enter, or have proven dead; 0: there is none */
	uint64_t fresh;    /* nonce of the generation that I open if there is none to enter */
	/* I have proven all members of the sealed or failed generation `expected` dead, or it failed while forming. */
	bool replace_generation;
	struct symm_id replace; /* I have proven this incarnation of my rank in the forming generation dead; none: no */
	bool look_first;        /* LAST rather than SEALED: I have not looked yet whether the other members live */
	const char *ranks;      /* which ranks of which other group they are, in words; NULL: nobody has said */
};
struct symm_join_answer {
	enum {
		SYMM_JOIN_ENTERED, /* I am a member of the forming generation; wait for verdict 0 */
		SYMM_JOIN_SEALED,  /* I am a member, and all are there */
		SYMM_JOIN_OTHER,   /* the current generation is not as expected: see generation, think again */
		SYMM_JOIN_LAST,    /* I am not in, and would complete the group: for look_first */
		SYMM_JOIN_TAKEN,   /* my rank belongs to another incarnation in the forming generation: see holder */
		SYMM_JOIN_FAILED   /* it failed while forming: verdict. One that failed later is SEALED or OTHER */
	} what;
	struct symm_generation generation; /* always the one that the script left behind */
	struct symm_member holder;
	int64_t holder_lease_ms; /* what is left of the holder's lease; negative: expired */
	struct symm_verdict verdict;
};

/* All calls: not on the loop thread; SYMM_ESTORE or SYMM_EAUTH when the store does not answer by the deadline,
 * SYMM_ESTALE when the store's generation has another nonce than ks->nonce, SYMM_EPROTO for a reply that cannot be.
 * All bear being sent twice. */

/* Enters, opens, replaces or seals, in one script. Other ranks, or a different world size, fail a forming generation
 * for all, with both. ks->nonce becomes that of answer->generation. */
int symm_keyspace_join(struct symm_keyspace *ks, const struct symm_join *join, int64_t deadline,
		       struct symm_join_answer *answer);
/* Takes a joiner out of the forming generation: me at my deadline, or one proven dead. *sealed: too late, it has
 * joined. */
int symm_keyspace_unjoin(struct symm_keyspace *ks, const struct symm_member *member, int64_t deadline, bool *sealed);
/* Leaves for good; the last to leave deletes every key of the group, those of rendezvous first to seq among them. */
int symm_keyspace_leave(struct symm_keyspace *ks, const struct symm_member *member, uint64_t first, uint64_t seq,
			int64_t deadline);

/* A member as Redis knows it now. */
struct symm_presence {
	struct symm_member member; /* host "": that rank has never been there */
	int64_t lease_ms;          /* left of its lease; negative: expired */
	char doing[SYMM_DOING_MAX];
};
/* The members of the host with this boot id, ordered by rank; the caller frees *members. */
int symm_keyspace_roster(struct symm_keyspace *ks, const char *boot, int64_t deadline, struct symm_member **members,
			 size_t *n);
/* All members, ordered by rank; the caller frees *members. */
int symm_keyspace_members(struct symm_keyspace *ks, int64_t deadline, struct symm_presence **members, size_t *n);

/* Publishes my digest for rendezvous seq, or, with failure->code, that I cannot take part; compares; the last to
 * come writes "go" and deletes the keys of seq - 1, of its parts too. offer: what ranks of other hosts shall find, or
 * NULL. ttl_ms: for the keys. *verdict: as it stands then. meanwhile: NULL, or as in struct symm_command. */
int symm_keyspace_publish(struct symm_keyspace *ks, const struct symm_member *member, int world, uint64_t seq,
			  const char *digest, const struct symm_offer *offer, const struct symm_err *failure,
			  int64_t ttl_ms, int64_t deadline, const struct symm_meanwhile *meanwhile,
			  struct symm_verdict *verdict);
/* What ranks have offered for seq, by rank: offers[world], spoilt on failure; count 0 for who has offered nothing. */
int symm_keyspace_offers(struct symm_keyspace *ks, int world, uint64_t seq, int64_t deadline,
			 struct symm_offer *offers);
/* Votes: failure NULL or code 0 is "ok". The last ok writes "ready", the first failure "fail". */
int symm_keyspace_vote(struct symm_keyspace *ks, const struct symm_member *member, int world, uint64_t seq,
		       const struct symm_err *failure, int64_t ttl_ms, int64_t deadline, struct symm_verdict *verdict);
/* Writes a failure verdict unless "ready" or a failure stands; *verdict: what stands. Also for seq 0 (then the
 * forming generation fails). */
int symm_keyspace_decide(struct symm_keyspace *ks, int rank, uint64_t seq, const struct symm_err *failure,
			 int64_t ttl_ms, int64_t deadline, struct symm_verdict *verdict);
/* Reads the verdict of seq. One GET. */
int symm_keyspace_poll(struct symm_keyspace *ks, uint64_t seq, int64_t deadline, struct symm_verdict *verdict);
/* Who has not come to seq, or, once all came, not voted: the first `max` missing ranks with their presence
 * (member.rank is the rank; host "" if it never joined). *missing: how many in all. *voting: they miss the vote. For
 * seq 0: who has not joined. */
int symm_keyspace_missing(struct symm_keyspace *ks, int world, uint64_t seq, int64_t deadline,
			  struct symm_presence *who, size_t max, size_t *missing, bool *voting);

/* Marks the group failed for all, in the background (any thread, the loop too). The first one's text stays. */
void symm_keyspace_fail(struct symm_keyspace *ks, int rank, const struct symm_err *why);

/* What a refresh of my lease brought. */
struct symm_lease_answer {
	struct symm_err err; /* code: the store did not answer, SYMM_ESTALE, or SYMM_ENOENT (my membership is gone) */
	struct symm_verdict failed; /* what FAILED: the group has failed */
	int members;                /* how many there are: fewer than the world size, once some have left */
	const int *expired;         /* ranks whose lease has run out */
	size_t n_expired;
};
/* Refreshes my lease and says what I am doing, in the background; finished runs on the loop thread. */
int symm_keyspace_refresh(struct symm_keyspace *ks, const struct symm_member *member, const char *doing,
			  int64_t deadline, void (*finished)(void *arg, const struct symm_lease_answer *answer),
			  void *arg);

/* ---- for operators: symm group ---- */

struct symm_rendezvous_state {
	uint64_t seq;
	size_t arrived, voted;
	uint8_t *has_arrived, *has_voted; /* [world] */
	struct symm_verdict verdict;
};
struct symm_group_state {
	char job[SYMM_NAME_MAX + 1], group[SYMM_NAME_MAX + 1];
	struct symm_generation generation;
	char why[SYMM_VERDICT_TEXT];
	struct symm_presence *members;
	size_t n_members;
	struct symm_rendezvous_state *rendezvous; /* those with keys now, ordered by seq */
	size_t n_rendezvous;
};
/* Calls each for every group in the store (of the job, if not NULL), found by SCAN. */
int symm_keyspace_list(struct symm_store *store, const char *job, int64_t deadline,
		       void (*each)(void *arg, const char *job, const char *group), void *arg);
int symm_keyspace_show(struct symm_store *store, const char *job, const char *group, int64_t deadline,
		       struct symm_group_state **state);
void symm_group_state_free(struct symm_group_state *state);
/* Deletes every key of the group; *deleted: how many. */
int symm_keyspace_remove(struct symm_store *store, const char *job, const char *group, int64_t deadline,
			 int64_t *deleted);

#endif
