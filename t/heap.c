/* The heap of a pool against a naive one, over a random trace; and the words in which journals differ. */
#include "error.h"
#include "journal.h"
#include "tap.h"

#include <string.h>

#define GRANULES 1500 /* no power of two */
#define CAPACITY (GRANULES * SYMM_HEAP_ALIGN)
#define OPERATIONS 100000
#define LIVE_MAX 400
#define IDS 20

/* ---- the naive heap: an owner for each granule ---- */

struct model {
	bool taken[GRANULES];
	struct heap_piece live[LIVE_MAX];
	int n_live;
	size_t used; /* granules */
	struct {
		size_t bytes, offset;
		bool known, active;
	} id[IDS];
};

static uint32_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 33);
}

static size_t granules(size_t bytes)
{
	return (bytes + SYMM_HEAP_ALIGN - 1) / SYMM_HEAP_ALIGN;
}

static size_t run_length(const struct model *model, size_t at)
{
	size_t n = 0;

	while (at + n < GRANULES && !model->taken[at + n])
		n++;
	return n;
}

/* The first of the smallest runs of at least n granules, GRANULES if there is none; and the longest run. */
static size_t best_fit(const struct model *model, size_t n, size_t *longest)
{
	size_t best = GRANULES, best_length = SIZE_MAX, length;

	*longest = 0;
	for (size_t at = 0; at < GRANULES; at += length + 1) {
		length = run_length(model, at);
		if (length > *longest)
			*longest = length;
		if (length >= n && length < best_length) {
			best = at;
			best_length = length;
		}
	}
	return best;
}

static void mark(struct model *model, const struct heap_piece *piece, bool taken)
{
	size_t n = granules(piece->bytes);

	memset(&model->taken[piece->offset / SYMM_HEAP_ALIGN], taken, n);
	model->used += taken ? n : -n;
}

/* ---- one operation on both ---- */

/* Mostly small ones, with a tail of large ones. */
static size_t random_bytes(uint64_t *seed)
{
	return 1 + next_random(seed) % ((size_t)256 << next_random(seed) % 9);
}

static bool take_known(struct heap *heap, struct model *model, uint32_t id, size_t bytes)
{
	struct heap_piece piece = { .bytes = bytes, .persistent = true, .id = id };
	int rc = symm_heap_take(heap, &piece);

	if (model->id[id].active)
		return rc == SYMM_EBUSY;
	if (bytes != model->id[id].bytes)
		return rc == SYMM_EMISMATCH;
	model->id[id].active = true;
	model->live[model->n_live++] = piece;
	return rc == 0 && piece.offset == model->id[id].offset;
}

static bool take_one(struct heap *heap, struct model *model, uint64_t *seed)
{
	struct heap_piece piece = { .bytes = random_bytes(seed), .persistent = next_random(seed) % 16 == 0 };
	size_t longest, expected = best_fit(model, granules(piece.bytes), &longest);
	char text[64];
	int rc;

	piece.id = piece.persistent ? next_random(seed) % IDS : 0;
	if (piece.persistent && model->id[piece.id].known)
		return take_known(heap, model, (uint32_t)piece.id,
				  next_random(seed) % 8 == 0 ? piece.bytes : model->id[piece.id].bytes);
	rc = symm_heap_take(heap, &piece);
	if (expected == GRANULES) {
		snprintf(text, sizeof(text), "the largest piece %zu", longest * SYMM_HEAP_ALIGN);
		return rc == SYMM_ENOMEM && strstr(symm_last_error(), text) != NULL;
	}
	if (rc != 0 || piece.offset != expected * SYMM_HEAP_ALIGN)
		return false;
	mark(model, &piece, true);
	model->live[model->n_live++] = piece;
	if (piece.persistent) {
		model->id[piece.id].known = true;
		model->id[piece.id].active = true;
		model->id[piece.id].bytes = piece.bytes;
		model->id[piece.id].offset = piece.offset;
	}
	return true;
}

static bool give_one(struct heap *heap, struct model *model, int at)
{
	struct heap_piece piece = model->live[at], given = { .offset = piece.offset };

	if (symm_heap_give(heap, &given) != 0 || given.bytes != piece.bytes || given.persistent != piece.persistent ||
	    given.id != piece.id)
		return false;
	model->live[at] = model->live[--model->n_live];
	if (piece.persistent)
		model->id[piece.id].active = false;
	else
		mark(model, &piece, false);
	return symm_heap_give(heap, &given) == SYMM_ENOENT;
}

static bool usage_agrees(const struct heap *heap, const struct model *model)
{
	struct heap_usage usage = symm_heap_usage(heap);
	size_t longest;

	best_fit(model, 1, &longest);
	return usage.capacity == CAPACITY && usage.used == model->used * SYMM_HEAP_ALIGN &&
	       usage.largest == longest * SYMM_HEAP_ALIGN;
}

static void test_trace(uint64_t seed)
{
	static struct model model;
	struct heap *heap;
	int wrong = 0, n;
	bool grows = true;

	memset(&model, 0, sizeof(model));
	if (symm_heap_create(CAPACITY, &heap) != 0)
		tap_bail("%s", symm_last_error());
	for (n = 0; n < OPERATIONS && wrong == 0; n++) {
		/* The pool fills up and empties by turns. */
		if (next_random(&seed) % 500 == 0)
			grows = !grows;
		if (model.n_live < LIVE_MAX && (model.n_live == 0 || next_random(&seed) % 8 < (grows ? 5 : 3)))
			wrong += !take_one(heap, &model, &seed);
		else
			wrong += !give_one(heap, &model, (int)(next_random(&seed) % (uint32_t)model.n_live));
		if (n % 16 == 0)
			wrong += !usage_agrees(heap, &model);
	}
	is_int(wrong, 0, "operation %d is as the naive heap's (%s)", n, wrong > 0 ? symm_last_error() : "all are");
	while (model.n_live > 0)
		wrong += !give_one(heap, &model, model.n_live - 1);
	ok(wrong == 0 && usage_agrees(heap, &model), "what is freed is there again, but for persistent pieces");
	symm_heap_destroy(heap);
}

/* ---- the edges ---- */

static int take(struct heap *heap, size_t bytes, size_t *offset)
{
	struct heap_piece piece = { .bytes = bytes };
	int rc = symm_heap_take(heap, &piece);

	*offset = piece.offset;
	return rc;
}

static int give(struct heap *heap, size_t offset)
{
	struct heap_piece piece = { .offset = offset };

	return symm_heap_give(heap, &piece);
}

static void test_edges(void)
{
	static const size_t nowhere[] = { 1, 255, 257, 256 * 100, CAPACITY, CAPACITY + 256, SIZE_MAX, SIZE_MAX - 255 };
	struct heap *heap;
	size_t at, all;
	int found = 0;

	if (symm_heap_create(CAPACITY, &heap) != 0)
		tap_bail("%s", symm_last_error());
	ok(take(heap, CAPACITY, &all) == 0 && all == 0, "all of it in one piece");
	is_int(take(heap, 1, &at), SYMM_ENOMEM, "then nothing is left");
	is_str(symm_last_error(), "1 bytes are asked for, and of 384000 bytes 0 are free, the largest piece 0",
	       "said in figures");
	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++)
		found += give(heap, nowhere[i]) != SYMM_ENOENT;
	is_int(found, 0, "nothing begins elsewhere");
	ok(give(heap, all) == 0 && give(heap, all) == SYMM_ENOENT, "freed once");
	ok(take(heap, SIZE_MAX, &at) == SYMM_ENOMEM && take(heap, CAPACITY + 1, &at) == SYMM_ENOMEM, "too large");
	for (size_t i = 0; i < GRANULES; i++)
		found += take(heap, 256, &at) != 0 || at != i * 256;
	is_int(found, 0, "every granule by itself, from the lowest up");
	for (size_t i = 0; i < GRANULES; i += 2)
		found += give(heap, i * 256) != 0;
	for (size_t i = 1; i < GRANULES; i += 2)
		found += give(heap, i * 256) != 0;
	ok(found == 0 && symm_heap_usage(heap).largest == CAPACITY, "freed, every other one first, they are one again");
	symm_heap_destroy(heap);
	ok(symm_heap_create(SYMM_HEAP_ALIGN, &heap) == 0 && take(heap, 1, &at) == 0 && give(heap, at) == 0,
	   "a heap of one granule");
	symm_heap_destroy(heap);
	symm_heap_destroy(NULL);
}

/* ---- journals ---- */

static void add(struct journal *journal, uint64_t n, size_t bytes)
{
	const struct heap_piece piece = { .bytes = bytes, .offset = 256 * n };

	symm_journal_add(journal, SYMM_JOURNAL_ALLOC, &piece);
}

/* Two ranks do n operations, of which number `other` is another size on the one; then the one does `more`. */
static bool differs_at(uint64_t n, uint64_t other, uint64_t more, const char *text)
{
	static struct journal ours, theirs;
	bool found;

	memset(&ours, 0, sizeof(ours));
	memset(&theirs, 0, sizeof(theirs));
	for (uint64_t i = 1; i <= n; i++) {
		add(&ours, i, 1000);
		add(&theirs, i, i == other ? 2000 : 1000);
	}
	for (uint64_t i = 1; i <= more; i++)
		add(&theirs, n + i, 3000);
	found = symm_journal_differ(&ours, &theirs, "rank 7") == SYMM_EMISMATCH &&
		strstr(symm_last_error(), text) != NULL;
	if (!found)
		tap_diag("(%llu, %llu, %llu): %s", (unsigned long long)n, (unsigned long long)other,
			 (unsigned long long)more, symm_last_error());
	return found;
}

static void test_journals(void)
{
	static const struct {
		uint64_t n, other, more;
		const char *text;
	} cases[] = {
		{ 1, 1, 0, "rank 7: its operation 1 is alloc of 2000 bytes, ours alloc of 1000 bytes" },
		{ 17, 17, 0, "operation 17 is alloc of 2000" },
		{ 300, 45, 0,
		  "it has done 300 operations and we 300; what differs first lies further back than the last 256" },
		{ 300, 46, 0, "operation 46 is alloc of 2000" },
		{ 300, 46, 1, "further back" },
		{ 256, 1, 0, "operation 1 is alloc of 2000" },
		{ 257, 1, 0, "further back" },
		{ 10, 0, 1, "its operation 11 is alloc of 3000 bytes, which we have not done" },
		{ 0, 0, 1, "its operation 1 is alloc of 3000 bytes, which we have not done" },
		{ 300, 0, 255, "its operation 301 is alloc of 3000 bytes, which we have not done" },
		{ 300, 0, 256, "it has done 556 operations and we 300; what differs first lies further back" },
		{ 0, 0, 257, "it has done 257 operations and we 0; what differs first lies further back" },
		{ 1000, 900, 50, "operation 900 is alloc of 2000" },
	};
	static struct journal zero, wild = { .head = { UINT64_MAX, 1 } }, odd = { .head = { 0, 1 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ok(differs_at(cases[i].n, cases[i].other, cases[i].more, cases[i].text), "%s", cases[i].text);
	is_int(symm_journal_differ(&zero, &wild, "rank 7"), SYMM_EMISMATCH, "a journal that cannot be is no crash");
	is_int(symm_journal_differ(&wild, &zero, "rank 7"), SYMM_EMISMATCH, "neither as ours");
	is_int(symm_journal_differ(&zero, &odd, "rank 7"), SYMM_EMISMATCH, "nor a hash of nothing");
}

/* Each part of an operation is in the hash. */
static void test_hash(void)
{
	static const struct heap_piece piece = { .bytes = 1, .offset = 256 };
	static const struct {
		uint32_t kind;
		struct heap_piece piece;
		const char *what;
	} others[] = {
		{ SYMM_JOURNAL_FREE, { 256, 1, false, 0 }, "the kind" },
		{ SYMM_JOURNAL_ALLOC, { 512, 1, false, 0 }, "the offset" },
		{ SYMM_JOURNAL_ALLOC, { 256, 2, false, 0 }, "the bytes" },
		{ SYMM_JOURNAL_ALLOC, { 256, 1, true, 0 }, "persistent or not" },
		{ SYMM_JOURNAL_ALLOC, { 256, 1, false, 1 }, "the id" },
	};
	static struct journal one, two;

	symm_journal_add(&one, SYMM_JOURNAL_ALLOC, &piece);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		memset(&two, 0, sizeof(two));
		symm_journal_add(&two, others[i].kind, &others[i].piece);
		ok(one.head.hash != two.head.hash, "%s counts", others[i].what);
	}
}

int main(void)
{
	test_edges();
	for (uint64_t seed = 1; seed <= 3; seed++)
		test_trace(seed);
	test_journals();
	test_hash();
	return tap_done();
}
