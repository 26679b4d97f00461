/* exchange.h: fetching what all other ranks offer for a rendezvous: the blocks of ranks of this process as they are,
 * fds from other processes over the links, fabric handles of other hosts from the store. Before all have come, a rank
 * may offer nothing yet.
 */
#ifndef SYMM_EXCHANGE_H
#define SYMM_EXCHANGE_H

#include "group.h"
#include "memory.h"

struct exchange {
	struct group *group;
	uint64_t seq;
	int blocks;         /* how many each rank offers */
	const char *digest; /* and with what it comes */
	bool ahead;         /* not all may have come yet */
	/* private */
	struct symm_pull *pulls;   /* [roster->n], those without a link unused */
	struct symm_offer *offers; /* [world_size]; NULL: all are on this host */
};

/* Asks; group, seq, blocks and digest are filled in. On failure there is nothing to finish. */
int symm_exchange_begin(struct exchange *exchange);
/* True if all who were asked over links have answered. */
bool symm_exchange_is_answered(const struct exchange *exchange);
/* Fetches. On failure there is nothing to end. */
int symm_exchange_finish(struct exchange *exchange, int64_t deadline, int64_t store_deadline);
/* Block k of every other rank, world_size - 1 of them, on which the caller holds the references; the array is his to
 * free. What it points to lasts until the end. */
int symm_exchange_gather(const struct exchange *exchange, int k, struct incoming **incoming);
void symm_exchange_drop(struct incoming *incoming, size_t n);
void symm_exchange_end(struct exchange *exchange);

#endif
