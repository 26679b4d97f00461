/* await.h: waiting for a verdict in the store, with a deadline, and ending the wait for all ranks when it cannot
 * come. */
#ifndef SYMM_AWAIT_H
#define SYMM_AWAIT_H

#include "group.h"
#include "join.h"

/* For symm_group_hurry: a few GiB of a GPU's memory, of a few peers. */
#define SYMM_AWAIT_MAPPING (40 * SYMM_NS_PER_MS)

struct await {
	struct context *context;
	struct symm_keyspace *ks;
	struct group *group;          /* NULL while joining ... */
	const struct symm_join *join; /* ... and then what is repeated to keep the lease ... */
	const struct kin *kin;        /* ... and who joins, if they are ranks of another group */
	int world_size;
	uint64_t seq;     /* 0: the join */
	const char *name; /* of the group */
	int64_t started, deadline;
	bool voting;                     /* all have come: the votes are awaited */
	struct symm_meanwhile meanwhile; /* while the others are awaited, or fn NULL: in a hurry or not */
};

/* When a call of the store that is made now must be answered, on behalf of a call of ours with that deadline: a lease
 * from now, or from the deadline, whichever is earlier; a tenth of a lease at least, for a process that was stopped
 * itself. */
int64_t symm_await_store_deadline(const struct symm_keyspace *ks, int64_t deadline);
/* Polls until the verdict is final, or for !voting "go", or a reason comes up why it never will be: a member is gone
 * or has failed, the group is being left, the deadline. *why: that reason (code 0: the verdict is there). Returns an
 * error only if the store does not answer. */
int symm_await_verdict(struct await *await, struct symm_verdict *verdict, struct symm_err *why);

/* The two questions of a rendezvous to all its ranks, for a member of the group: asked, and the answer awaited; when
 * none can come any more, this rank says so for all, and obeys what then stands. They return an error only if the store
 * does not answer, or no longer knows the group. */

/* Comes with a digest, and an offer or NULL; or, with failure->code, cannot. The verdict is "go" or further. */
int symm_await_publish(struct await *await, const char *digest, const struct symm_offer *offer,
		       const struct symm_err *failure, struct symm_verdict *verdict);
/* Could, or, with failure->code, could not. The verdict is final. */
int symm_await_vote(struct await *await, const struct symm_err *failure, struct symm_verdict *verdict);

#endif
