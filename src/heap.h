/* heap.h: which parts of a segment are taken: offsets only, so that the same calls in the same order give the same
 * offsets on every rank and machine. Not locked; knows neither memory nor ranks.
 *
 * Best fit: of the free pieces that are large enough the smallest is taken, of equal ones that with the lowest offset.
 * All calls take O(log n) of n pieces.
 */
#ifndef SYMM_HEAP_H
#define SYMM_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Pieces begin at multiples of this, and take up multiples of it. */
#define SYMM_HEAP_ALIGN ((size_t)256)

struct heap;

/* A piece that is taken. */
struct heap_piece {
	size_t offset;
	size_t bytes; /* as asked for */
	bool persistent;
	uint64_t id; /* of a persistent one; else 0 */
};

struct heap_usage {
	size_t capacity;
	size_t used;    /* by pieces that are taken, and by persistent ones that are not */
	size_t largest; /* free piece */
};

/* bytes: a multiple of SYMM_HEAP_ALIGN, not 0. */
int symm_heap_create(size_t bytes, struct heap **heap);
void symm_heap_destroy(struct heap *heap);
/* Takes a piece: piece->bytes, persistent and id are what is wanted, the offset is written. SYMM_ENOMEM; and for a
 * persistent one SYMM_EBUSY while it is taken, SYMM_EMISMATCH for another size. */
int symm_heap_take(struct heap *heap, struct heap_piece *piece);
/* Gives a piece back, by piece->offset; the rest is written. SYMM_ENOENT: none is taken there. */
int symm_heap_give(struct heap *heap, struct heap_piece *piece);
struct heap_usage symm_heap_usage(const struct heap *heap);

#endif
