/* roster.h: the members of one generation that run on this host. Read once a process and shared by its contexts: a
 * thousand contexts of one process would otherwise each read a thousand records. Immutable: a sealed membership is.
 */
#ifndef SYMM_ROSTER_H
#define SYMM_ROSTER_H

#include "keyspace.h"

struct roster {
	size_t n;
	struct symm_member *member; /* ordered by rank */
	/* private to roster.c */
	uint64_t nonce;
	int refs;
	enum { ROSTER_LOADING, ROSTER_READY, ROSTER_FAILED } state;
	struct roster *next;
};

int symm_roster_get(struct symm_keyspace *ks, int64_t deadline, struct roster **roster);
void symm_roster_put(struct roster *roster);

#endif
