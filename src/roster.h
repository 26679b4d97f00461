/* roster.h: the members of one generation: those that run on this host, and, once they are asked for, those of other
 * hosts. Read once a process and shared by its contexts: a thousand contexts of one process would otherwise each read a
 * thousand records. Immutable: a sealed membership is.
 */
#ifndef SYMM_ROSTER_H
#define SYMM_ROSTER_H

#include "keyspace.h"

struct roster {
	size_t n;
	struct symm_member *member; /* ordered by rank */
	size_t n_far;               /* known after symm_roster_far */
	struct symm_member *far;    /* of other hosts, ordered by rank */
	/* private to roster.c */
	uint64_t nonce;
	int refs;
	enum { ROSTER_LOADING, ROSTER_READY, ROSTER_FAILED } state, far_state;
	struct roster *next;
};

int symm_roster_get(struct symm_keyspace *ks, int64_t deadline, struct roster **roster);
/* Reads the members of other hosts too, unless that has been done. Who has left before is not among them. */
int symm_roster_far(struct roster *roster, struct symm_keyspace *ks, int64_t deadline);
void symm_roster_put(struct roster *roster);

#endif
