/* exports.h: what the ranks of this process offer to their peers during a rendezvous: to ranks of this process the
 * blocks themselves, to other processes fds over the links, to other hosts fabric handles in the store. */
#ifndef SYMM_EXPORTS_H
#define SYMM_EXPORTS_H

#include "error.h"
#include "link.h"
#include "memory.h"

#define SYMM_EXPORT_BLOCKS SYMM_LINK_FDS
_Static_assert(SYMM_EXPORT_BLOCKS == SYMM_OFFER_BLOCKS, "what travels by fd travels by fabric handle too");

struct export
{
	uint64_t nonce, seq;
	int rank;
	struct block *block[SYMM_EXPORT_BLOCKS]; /* held while offered */
	int fd[SYMM_EXPORT_BLOCKS];              /* -1: nobody outside this process wants it */
	int count;
	const char *digest;     /* what the rank comes with; NULL: nothing is compared */
	struct symm_loop *loop; /* NULL: without fds */
	bool fabric;            /* with fabric handles, which hold nothing: the blocks are held here */
	struct symm_offer offer;
	struct export *next;
};

/* Offers export->count blocks (they, nonce, seq, rank, digest, loop and fabric are filled in): with fds if loop is
 * given, some peer is in another process; with fabric, makes the handles of `offer` for peers on other hosts. */
int symm_export_begin(struct export *export);
/* Offers what is no block: export->fd[0], its own from now on (nonce, seq, rank and loop are filled in). */
void symm_export_fd_begin(struct export *export);
void symm_export_end(struct export *export);
/* Block i that a rank of this process offers, with that digest: a reference; NULL if it offers none. */
struct block *symm_export_block(uint64_t nonce, uint64_t seq, int rank, const char *digest, int i);
/* A duplicate of the fd that a rank of this process offers as such, close-on-exec; SYMM_ENOENT: it offers none. */
int symm_export_fd(uint64_t nonce, uint64_t seq, int rank, int *fd);
/* The hook of link.h. */
int symm_exports_find(uint64_t nonce, uint64_t seq, int rank, const char *digest, int fds[SYMM_LINK_FDS], int *count,
		      struct symm_err *err);

#endif
