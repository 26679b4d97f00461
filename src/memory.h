/* memory.h: blocks of a device's memory, and the span of addresses at which all ranks' blocks are seen here. */
#ifndef SYMM_MEMORY_H
#define SYMM_MEMORY_H

#include "device.h"

/* Memory of this process's own, mapped at the start of a reserved range; the slots behind it are for peers' blocks. It
 * keeps its device open: a span of another context may outlive the context that made it. */
struct block {
	int refs;
	struct symm_device *device;
	char *base;
	size_t bytes;   /* of the block, and from one slot to the next */
	size_t spare;   /* slots behind the own one */
	int spare_used; /* a span has them */
	symm_phys phys;
	uint64_t granted; /* devices of this process, by bit, that may use it besides its own */
	int fd;           /* kept for who exports the block next; -1: none */
};
/* Full of zeros. */
int symm_block_create(struct symm_device *device, size_t bytes, size_t spare, struct block **block);
struct block *symm_block_ref(struct block *block);
/* The last reference unmaps and releases. */
void symm_block_unref(struct block *block);
/* An fd of the block for peers, which goes back with symm_block_export_end. */
int symm_block_export(struct block *block, int *fd);
void symm_block_export_end(struct block *block, int fd);

/* One rank's block as it comes to us: a block of this process, or an fd or a fabric handle of a peer's. */
struct incoming {
	int rank;
	struct block *block;   /* of this process: a reference, taken over; NULL: foreign */
	const uint8_t *fabric; /* foreign: of another host, [SYMM_FABRIC_BYTES]; NULL: by its fd */
	const char *host;      /* that one's name */
	int fd;                /* stays the caller's */
};

/* Where every rank's block is seen here. */
struct span {
	struct block *own;
	void **address;      /* [world_size] */
	struct block **held; /* blocks of other ranks of this process */
	size_t n_held;
	char *foreign; /* where the foreign blocks are mapped */
	size_t n_foreign;
	int reserved; /* the range is the span's own, not the block's spare slots */
};
/* Maps every rank's block: own at `rank`, the others as they came in (world_size - 1 of them, any order). own: a
 * reference, taken over. On failure nothing is taken. */
int symm_span_map(struct span *span, struct block *own, int rank, int world_size, const struct incoming *incoming);
/* Unmaps foreign blocks and drops all references. Nothing may use them any more. */
void symm_span_unmap(struct span *span);

#endif
