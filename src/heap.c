#include "heap.h"

#include "base.h"
#include "error.h"

#include <search.h>
#include <stdlib.h>

#define LEAF 64u /* granules in a part of the map */

/* A part of the segment, free or taken. */
struct chunk {
	size_t offset, bytes;
	struct chunk *before, *after; /* its neighbours in the segment */
	enum { FREE, TAKEN, KEPT /* persistent, and not taken */ } state;
	union {
		struct { /* FREE: in the tree */
			struct chunk *left, *right;
			uint64_t priority;
		};
		struct heap_piece piece;
	};
};

/* The free chunks stand in a treap: a search tree by (bytes, offset), and by priority a heap. Priorities follow from
 * offsets, as good as at random, so that the tree is balanced, and the same everywhere. */
struct heap {
	size_t capacity, used;
	struct chunk *first;   /* in the segment */
	struct chunk *tree;    /* of the free ones */
	void *ids;             /* of the persistent ones, by id: tsearch */
	struct chunk ***taken; /* map from offset to chunk: [granule / LEAF][granule % LEAF], made where it is needed */
};

/* ---- the tree of free chunks ---- */

static bool is_less(size_t bytes, size_t offset, const struct chunk *than)
{
	return bytes != than->bytes ? bytes < than->bytes : offset < than->offset;
}

static uint64_t priority_of(size_t offset)
{
	uint64_t x = (offset / SYMM_HEAP_ALIGN + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
	return x ^ x >> 32;
}

/* Parts a tree in two: what is less than the chunk, and what is greater. */
static void split(struct chunk *tree, const struct chunk *at, struct chunk **less, struct chunk **greater)
{
	while (tree != NULL) {
		if (is_less(at->bytes, at->offset, tree)) {
			*greater = tree;
			greater = &tree->left;
			tree = tree->left;
		} else {
			*less = tree;
			less = &tree->right;
			tree = tree->right;
		}
	}
	*less = NULL;
	*greater = NULL;
}

/* Two trees, all of the one less than all of the other. */
static void join(struct chunk *less, struct chunk *greater, struct chunk **tree)
{
	while (less != NULL && greater != NULL) {
		if (less->priority > greater->priority) {
			*tree = less;
			tree = &less->right;
			less = less->right;
		} else {
			*tree = greater;
			tree = &greater->left;
			greater = greater->left;
		}
	}
	*tree = less != NULL ? less : greater;
}

static void tree_add(struct heap *heap, struct chunk *chunk)
{
	struct chunk **at = &heap->tree;

	chunk->state = FREE;
	chunk->priority = priority_of(chunk->offset);
	while (*at != NULL && (*at)->priority > chunk->priority)
		at = is_less(chunk->bytes, chunk->offset, *at) ? &(*at)->left : &(*at)->right;
	split(*at, chunk, &chunk->left, &chunk->right);
	*at = chunk;
}

static void tree_remove(struct heap *heap, struct chunk *chunk)
{
	struct chunk **at = &heap->tree;

	while (*at != chunk)
		at = is_less(chunk->bytes, chunk->offset, *at) ? &(*at)->left : &(*at)->right;
	join(chunk->left, chunk->right, at);
}

/* The smallest free chunk of at least so many bytes; NULL if there is none. */
static struct chunk *tree_find(const struct heap *heap, size_t bytes)
{
	struct chunk *at = heap->tree, *best = NULL;

	while (at != NULL) {
		if (at->bytes >= bytes) {
			best = at;
			at = at->left;
		} else {
			at = at->right;
		}
	}
	return best;
}

static size_t tree_largest(const struct heap *heap)
{
	const struct chunk *at = heap->tree;

	while (at != NULL && at->right != NULL)
		at = at->right;
	return at != NULL ? at->bytes : 0;
}

/* ---- the map of taken chunks ---- */

/* Where the chunk at an offset is kept, its part of the map made if need be; NULL for want of memory. */
static struct chunk **map_at(struct heap *heap, size_t offset)
{
	size_t granule = offset / SYMM_HEAP_ALIGN;
	struct chunk ***leaf = &heap->taken[granule / LEAF];

	if (*leaf == NULL)
		*leaf = calloc(LEAF, sizeof(**leaf));
	return *leaf != NULL ? &(*leaf)[granule % LEAF] : NULL;
}

/* The chunk that was taken, or is kept, at an offset; NULL if none begins there. */
static struct chunk *map_find(const struct heap *heap, size_t offset)
{
	size_t granule = offset / SYMM_HEAP_ALIGN;
	struct chunk **leaf;

	if (offset >= heap->capacity || offset % SYMM_HEAP_ALIGN != 0)
		return NULL;
	leaf = heap->taken[granule / LEAF];
	return leaf != NULL ? leaf[granule % LEAF] : NULL;
}

static size_t map_leaves(size_t bytes)
{
	return symm_round_up(bytes / SYMM_HEAP_ALIGN, LEAF) / LEAF;
}

/* ---- chunks ---- */

static void link_after(struct chunk *chunk, struct chunk *before)
{
	chunk->before = before;
	chunk->after = before->after;
	if (chunk->after != NULL)
		chunk->after->before = chunk;
	before->after = chunk;
}

/* Cuts what a free chunk has more than bytes off and leaves it free. */
static int trim(struct heap *heap, struct chunk *chunk, size_t bytes)
{
	struct chunk *rest;

	if (chunk->bytes > bytes) {
		rest = malloc(sizeof(*rest));
		if (rest == NULL)
			return symm_error(SYMM_ENOMEM, "no memory");
		*rest = (struct chunk){ .offset = chunk->offset + bytes, .bytes = chunk->bytes - bytes };
		tree_remove(heap, chunk);
		chunk->bytes = bytes;
		link_after(rest, chunk);
		tree_add(heap, rest);
	} else {
		tree_remove(heap, chunk);
	}
	return 0;
}

/* Makes a free chunk one with the free chunk behind it; neither is in the tree. */
static void swallow_next(struct chunk *chunk)
{
	struct chunk *next = chunk->after;

	chunk->bytes += next->bytes;
	chunk->after = next->after;
	if (chunk->after != NULL)
		chunk->after->before = chunk;
	free(next);
}

/* ---- persistent pieces ---- */

static int by_id(const void *a, const void *b)
{
	const struct chunk *x = a, *y = b;

	return (x->piece.id > y->piece.id) - (x->piece.id < y->piece.id);
}

static struct chunk *id_find(const struct heap *heap, uint64_t id)
{
	const struct chunk key = { .piece.id = id };
	void *node = tfind(&key, &heap->ids, by_id);

	return node != NULL ? *(struct chunk **)node : NULL;
}

/* Takes a kept piece again. */
static int take_again(struct chunk *chunk, struct heap_piece *piece)
{
	unsigned long long id = chunk->piece.id;

	if (chunk->state == TAKEN)
		return symm_error(SYMM_EBUSY,
				  "the allocation with alloc_id %llu is still active, %zu bytes at offset %zu: free it "
				  "first",
				  id, chunk->piece.bytes, chunk->offset);
	if (chunk->piece.bytes != piece->bytes)
		return symm_error(SYMM_EMISMATCH, "alloc_id %llu stands for %zu bytes, and %zu are asked for", id,
				  chunk->piece.bytes, piece->bytes);
	chunk->state = TAKEN;
	*piece = chunk->piece;
	return 0;
}

/* ---- the calls ---- */

static int no_room(const struct heap *heap, const struct heap_piece *piece)
{
	return symm_error(SYMM_ENOMEM, "%zu bytes are asked for, and of %zu bytes %zu are free, the largest piece %zu",
			  piece->bytes, heap->capacity, heap->capacity - heap->used, tree_largest(heap));
}

static int take_new(struct heap *heap, struct heap_piece *piece)
{
	struct chunk *chunk = NULL, **place;
	size_t bytes;
	int rc;

	/* Also what rounding up would make too much is more than the capacity. */
	if (piece->bytes <= heap->capacity) {
		bytes = symm_round_up(piece->bytes, SYMM_HEAP_ALIGN);
		chunk = tree_find(heap, bytes);
	}
	if (chunk == NULL)
		return no_room(heap, piece);
	place = map_at(heap, chunk->offset);
	if (place == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	rc = trim(heap, chunk, bytes);
	if (rc != 0)
		return rc;
	piece->offset = chunk->offset;
	chunk->state = TAKEN;
	chunk->piece = *piece;
	*place = chunk;
	heap->used += bytes;
	return 0;
}

/* Makes a taken chunk free, one with free neighbours. */
static void release(struct heap *heap, struct chunk *chunk)
{
	struct chunk *before = chunk->before, *after = chunk->after;

	*map_at(heap, chunk->offset) = NULL;
	heap->used -= chunk->bytes;
	if (after != NULL && after->state == FREE) {
		tree_remove(heap, after);
		swallow_next(chunk);
	}
	if (before != NULL && before->state == FREE) {
		tree_remove(heap, before);
		swallow_next(before);
		chunk = before;
	}
	tree_add(heap, chunk);
}

int symm_heap_take(struct heap *heap, struct heap_piece *piece)
{
	struct chunk *chunk = piece->persistent ? id_find(heap, piece->id) : NULL;
	int rc;

	if (chunk != NULL)
		return take_again(chunk, piece);
	rc = take_new(heap, piece);
	if (rc != 0 || !piece->persistent)
		return rc;
	chunk = map_find(heap, piece->offset);
	if (tsearch(chunk, &heap->ids, by_id) != NULL)
		return 0;
	release(heap, chunk);
	return symm_error(SYMM_ENOMEM, "no memory");
}

int symm_heap_give(struct heap *heap, struct heap_piece *piece)
{
	struct chunk *chunk = map_find(heap, piece->offset);

	if (chunk == NULL)
		return symm_error(SYMM_ENOENT, "no allocation begins at offset %zu", piece->offset);
	if (chunk->state != TAKEN)
		return symm_error(SYMM_ENOENT, "the persistent allocation at offset %zu has been freed", piece->offset);
	*piece = chunk->piece;
	if (chunk->piece.persistent)
		chunk->state = KEPT;
	else
		release(heap, chunk);
	return 0;
}

struct heap_usage symm_heap_usage(const struct heap *heap)
{
	return (struct heap_usage){ .capacity = heap->capacity, .used = heap->used, .largest = tree_largest(heap) };
}

int symm_heap_create(size_t bytes, struct heap **out)
{
	struct heap *heap = calloc(1, sizeof(*heap));

	if (heap == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	heap->capacity = bytes;
	heap->taken = calloc(map_leaves(bytes), sizeof(*heap->taken));
	heap->first = calloc(1, sizeof(*heap->first));
	if (heap->taken == NULL || heap->first == NULL) {
		free(heap->taken);
		free(heap->first);
		free(heap);
		return symm_error(SYMM_ENOMEM, "no memory to keep account of %zu bytes", bytes);
	}
	heap->first->bytes = bytes;
	tree_add(heap, heap->first);
	*out = heap;
	return 0;
}

/* The tree's nodes alone: what they stand for is freed as a chunk. */
static void forget(void *chunk)
{
	(void)chunk;
}

void symm_heap_destroy(struct heap *heap)
{
	struct chunk *next;

	if (heap == NULL)
		return;
	tdestroy(heap->ids, forget);
	for (struct chunk *chunk = heap->first; chunk != NULL; chunk = next) {
		next = chunk->after;
		free(chunk);
	}
	for (size_t i = 0; i < map_leaves(heap->capacity); i++)
		free(heap->taken[i]);
	free(heap->taken);
	free(heap);
}
