/* exports.h: what the ranks of this process offer to their peers during a rendezvous: to other processes as fds over
 * the links, to ranks of this process as the blocks themselves. */
#ifndef SYMM_EXPORTS_H
#define SYMM_EXPORTS_H

#include "error.h"
#include "link.h"
#include "memory.h"

#define SYMM_EXPORT_BLOCKS SYMM_LINK_FDS

struct export
{
	uint64_t nonce, seq;
	int rank;
	struct block *block[SYMM_EXPORT_BLOCKS]; /* held while offered */
	int fd[SYMM_EXPORT_BLOCKS];              /* -1: nobody outside this process wants it */
	int count;
	struct symm_loop *loop; /* NULL: without fds */
	struct export *next;
};

/* Offers export->count blocks (they, nonce, seq, rank and loop are filled in), with fds if loop is given: some peer
 * is in another process. */
int symm_export_begin(struct export *export);
void symm_export_end(struct export *export);
/* Block i that a rank of this process offers: a reference; NULL if it offers none. */
struct block *symm_export_block(uint64_t nonce, uint64_t seq, int rank, int i);
/* The hook of link.h. */
int symm_exports_find(uint64_t nonce, uint64_t seq, int rank, int fds[SYMM_LINK_FDS], int *count, struct symm_err *err);

#endif
