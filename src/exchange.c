#include "exchange.h"

#include "exports.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- links ---- */

int symm_exchange_begin(struct exchange *exchange)
{
	struct group *group = exchange->group;
	struct symm_pull *pulls = calloc(group->roster->n, sizeof(*pulls));

	if (pulls == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	for (size_t i = 0; i < group->roster->n; i++) {
		pulls[i] = (struct symm_pull){ .link = group->link[i],
					       .nonce = group->ks.nonce,
					       .seq = exchange->seq,
					       .rank = group->roster->member[i].rank,
					       .digest = exchange->digest,
					       .ahead = exchange->ahead };
		if (pulls[i].link != NULL)
			symm_pull_begin(&pulls[i]);
	}
	exchange->pulls = pulls;
	exchange->offers = NULL;
	return 0;
}

bool symm_exchange_is_answered(const struct exchange *exchange)
{
	for (size_t i = 0; i < exchange->group->roster->n; i++)
		if (exchange->pulls[i].link != NULL && !symm_pull_is_done(&exchange->pulls[i]))
			return false;
	return true;
}

/* All are finished even after one has failed: a pull that was begun must end. */
static int finish_pulls(struct exchange *exchange, int64_t deadline)
{
	struct group *group = exchange->group;
	struct symm_err first = { 0, "" };

	for (size_t i = 0; i < group->roster->n; i++) {
		struct symm_pull *pull = &exchange->pulls[i];
		char name[128];
		int rc;

		if (pull->link == NULL)
			continue;
		rc = symm_pull_finish(pull, deadline);
		if (rc == 0 && pull->count != exchange->blocks)
			rc = symm_error(SYMM_EPROTO, "%d fds came where %d were due", pull->count, exchange->blocks);
		if (rc == 0 || first.code != 0)
			continue;
		symm_error_prefix(rc, "the memory of %s did not come",
				  symm_group_rank_name(group, pull->rank, name, sizeof(name)));
		symm_err_take(&first, rc);
	}
	return first.code != 0 ? symm_err_return(&first) : 0;
}

/* ---- the store ---- */

static int check_offer(const struct exchange *exchange, const struct symm_member *member)
{
	const struct symm_offer *offer = &exchange->offers[member->rank];

	if (offer->count == exchange->blocks && symm_id_equal(&offer->incarnation, &member->incarnation))
		return 0;
	return symm_error(SYMM_EPROTO,
			  "the memory of rank %d on %s did not come: the store %s has %d of its fabric handles where "
			  "%d are due",
			  member->rank, member->process.host, symm_store_name(exchange->group->ks.store),
			  symm_id_equal(&offer->incarnation, &member->incarnation) ? offer->count : 0,
			  exchange->blocks);
}

static int read_offers(struct exchange *exchange, int64_t store_deadline)
{
	struct group *group = exchange->group;
	struct roster *roster = group->roster;
	int rc;

	if (roster->n_far == 0)
		return 0;
	exchange->offers = calloc((size_t)group->world_size, sizeof(*exchange->offers));
	if (exchange->offers == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	rc = symm_keyspace_offers(&group->ks, group->world_size, exchange->seq, store_deadline, exchange->offers);
	for (size_t i = 0; i < roster->n_far && rc == 0; i++)
		rc = check_offer(exchange, &roster->far[i]);
	return rc;
}

/* ---- all of it ---- */

int symm_exchange_finish(struct exchange *exchange, int64_t deadline, int64_t store_deadline)
{
	int pulled, rc = read_offers(exchange, store_deadline);
	struct symm_err why;

	if (rc != 0)
		symm_err_take(&why, rc);
	pulled = finish_pulls(exchange, deadline);
	if (rc != 0)
		symm_err_return(&why);
	else
		rc = pulled;
	if (rc != 0)
		symm_exchange_end(exchange);
	return rc;
}

void symm_exchange_end(struct exchange *exchange)
{
	for (size_t i = 0; i < exchange->group->roster->n; i++)
		for (int k = 0; k < exchange->pulls[i].count; k++)
			close(exchange->pulls[i].fds[k]);
	free(exchange->pulls);
	free(exchange->offers);
}

void symm_exchange_drop(struct incoming *incoming, size_t n)
{
	for (size_t i = 0; i < n; i++)
		symm_block_unref(incoming[i].block);
	free(incoming);
}

/* Block k of rank roster->member[i]. */
static int gather_local(const struct exchange *exchange, size_t i, int k, struct incoming *incoming)
{
	struct group *group = exchange->group;
	int rank = group->roster->member[i].rank;

	*incoming = (struct incoming){ .rank = rank, .fd = -1 };
	if (group->link[i] != NULL) {
		incoming->fd = exchange->pulls[i].fds[k];
		return 0;
	}
	incoming->block = symm_export_block(group->ks.nonce, exchange->seq, rank, exchange->digest, k);
	if (incoming->block == NULL)
		return symm_error(SYMM_EPEER, "rank %d of this process offers nothing for rendezvous %llu", rank,
				  (unsigned long long)exchange->seq);
	return 0;
}

int symm_exchange_gather(const struct exchange *exchange, int k, struct incoming **out)
{
	struct group *group = exchange->group;
	struct roster *roster = group->roster;
	struct incoming *incoming;
	size_t n = 0;

	if (roster->n + roster->n_far != (size_t)group->world_size)
		return symm_error(SYMM_EPEER, "%zu ranks of group %s had left before this rendezvous",
				  (size_t)group->world_size - roster->n - roster->n_far, group->name);
	incoming = calloc((size_t)group->world_size, sizeof(*incoming));
	if (incoming == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	for (size_t i = 0; i < roster->n; i++) {
		int rc = 0;

		if (roster->member[i].rank != group->rank)
			rc = gather_local(exchange, i, k, &incoming[n++]);
		if (rc != 0) {
			symm_exchange_drop(incoming, n);
			return rc;
		}
	}
	for (size_t i = 0; i < roster->n_far; i++) {
		const struct symm_member *far = &roster->far[i];

		incoming[n++] = (struct incoming){ .rank = far->rank,
						   .fabric = exchange->offers[far->rank].handle[k],
						   .host = far->process.host,
						   .fd = -1 };
	}
	*out = incoming;
	return 0;
}
