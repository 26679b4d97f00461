/* exchange.h: fetching what all other ranks offer for a rendezvous, once all have come: the blocks of ranks of this
 * process as they are, fds from other processes over the links, fabric handles of other hosts from the store.
 */
#ifndef SYMM_EXCHANGE_H
#define SYMM_EXCHANGE_H

#include "group.h"
#include "memory.h"

struct exchange {
	struct group *group;
	uint64_t seq;
	int blocks; /* how many each rank offers */
	/* private */
	struct symm_pull *pulls;   /* [roster->n], those without a link unused */
	struct symm_offer *offers; /* [world_size]; NULL: all are on this host */
};

/* Fetches; group, seq and blocks are filled in. On failure there is nothing to end. */
int symm_exchange_run(struct exchange *exchange, int64_t deadline, int64_t store_deadline);
/* Block k of every other rank, world_size - 1 of them, on which the caller holds the references; the array is his to
 * free. What it points to lasts until the end. */
int symm_exchange_gather(const struct exchange *exchange, int k, struct incoming **incoming);
void symm_exchange_drop(struct incoming *incoming, size_t n);
void symm_exchange_end(struct exchange *exchange);

#endif
