/* journal.h: what a rank has done with its pool: a count, a hash over all of it, and the last operations one by one.
 *
 * Two ranks that did the same have the same count and hash. A journal lies in memory that peers read, in this layout
 * (little-endian, as all that symm runs on), so that ranks whose hashes differ can tell what they differ in.
 */
#ifndef SYMM_JOURNAL_H
#define SYMM_JOURNAL_H

#include "heap.h"

#define SYMM_JOURNAL_LAST 256 /* operations are kept */

enum { SYMM_JOURNAL_ALLOC = 1, SYMM_JOURNAL_FREE };

struct journal_entry {
	uint64_t hash; /* when it was done */
	uint32_t kind; /* SYMM_JOURNAL_ALLOC, ... */
	uint32_t persistent;
	uint64_t bytes, offset, id;
};

/* What is compared when all is well. */
struct journal_head {
	uint64_t count, hash; /* of all operations */
};

struct journal {
	struct journal_head head;
	struct journal_entry entry[SYMM_JOURNAL_LAST]; /* operation n, from 1, is at n % SYMM_JOURNAL_LAST */
};

/* A journal is zero at first. */
void symm_journal_add(struct journal *journal, uint32_t kind, const struct heap_piece *piece);
/* SYMM_EMISMATCH, and says in what theirs, of a rank called `name`, differs from ours. */
int symm_journal_differ(const struct journal *ours, const struct journal *theirs, const char *name);

#endif
