#include "journal.h"

#include "error.h"

#include <stdio.h>

/* For a given hash no two values give the same, and for a given value no two hashes do. */
static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 32;
}

void symm_journal_add(struct journal *journal, uint32_t kind, const struct heap_piece *piece)
{
	struct journal_entry *entry = &journal->entry[++journal->head.count % SYMM_JOURNAL_LAST];

	*entry = (struct journal_entry){ .kind = kind,
					 .persistent = piece->persistent,
					 .bytes = piece->bytes,
					 .offset = piece->offset,
					 .id = piece->id };
	journal->head.hash = mix(journal->head.hash, (uint64_t)kind << 32 | entry->persistent);
	journal->head.hash = mix(journal->head.hash, entry->bytes);
	journal->head.hash = mix(journal->head.hash, entry->offset);
	journal->head.hash = mix(journal->head.hash, entry->id);
	entry->hash = journal->head.hash;
}

/* Operation n; NULL if it has not been done, or is no longer known. */
static const struct journal_entry *entry_of(const struct journal *journal, uint64_t n)
{
	if (n == 0 || n > journal->head.count || journal->head.count - n >= SYMM_JOURNAL_LAST)
		return NULL;
	return &journal->entry[n % SYMM_JOURNAL_LAST];
}

/* True if both are known to have been alike after operation n. */
static bool alike_after(const struct journal *a, const struct journal *b, uint64_t n)
{
	const struct journal_entry *x = entry_of(a, n), *y = entry_of(b, n);

	return n == 0 || (x != NULL && y != NULL && x->hash == y->hash);
}

static const char *describe(const struct journal_entry *entry, char *out, size_t size)
{
	int used;

	if (entry->kind == SYMM_JOURNAL_ALLOC)
		used = snprintf(out, size, "alloc of %llu bytes", (unsigned long long)entry->bytes);
	else
		used = snprintf(out, size, "free of %llu bytes at offset %llu", (unsigned long long)entry->bytes,
				(unsigned long long)entry->offset);
	if (entry->persistent)
		snprintf(out + used, size - (size_t)used, " with alloc_id %llu", (unsigned long long)entry->id);
	return out;
}

/* Of operation n, the first that differs, at least one is there: one side may not have come to it. */
static int tell(const struct journal_entry *ours, const struct journal_entry *theirs, uint64_t n, const char *name)
{
	unsigned long long number = n;
	char a[128], b[128];

	if (theirs == NULL)
		return symm_error(SYMM_EMISMATCH, "our operation %llu is %s, which %s has not done", number,
				  describe(ours, a, sizeof(a)), name);
	if (ours == NULL)
		return symm_error(SYMM_EMISMATCH, "%s: its operation %llu is %s, which we have not done", name, number,
				  describe(theirs, b, sizeof(b)));
	return symm_error(SYMM_EMISMATCH, "%s: its operation %llu is %s, ours %s", name, number,
			  describe(theirs, b, sizeof(b)), describe(ours, a, sizeof(a)));
}

int symm_journal_differ(const struct journal *ours, const struct journal *theirs, const char *name)
{
	uint64_t n = ours->head.count < theirs->head.count ? ours->head.count : theirs->head.count;
	const struct journal_entry *x, *y;

	/* After n + 1 of them they are not alike, or one of them has done no more. */
	for (int i = 0; i < SYMM_JOURNAL_LAST && n > 0 && !alike_after(ours, theirs, n); i++)
		n--;
	x = entry_of(ours, n + 1);
	y = entry_of(theirs, n + 1);
	if (alike_after(ours, theirs, n) && (x != NULL || n == ours->head.count) &&
	    (y != NULL || n == theirs->head.count) && (x != NULL || y != NULL))
		return tell(x, y, n + 1, name);
	return symm_error(SYMM_EMISMATCH,
			  "%s: it has done %llu operations and we %llu; what differs first lies further back than the "
			  "last %d, which alone are known",
			  name, (unsigned long long)theirs->head.count, (unsigned long long)ours->head.count,
			  SYMM_JOURNAL_LAST);
}
