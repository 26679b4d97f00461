/* subgroup.c: a group of some ranks of another. All of them name the same list of ranks, and the store compares what it
 * is called in words: a long list is shortened there, and a checksum stands for what is left out. */
#include "await.h"
#include "base.h"
#include "handle.h"
#include "join.h"
#include "log.h"
#include "trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 80
#define WORDS_MAX (LIST_MAX + SYMM_NAME_MAX + 64)

struct list {
	const int *ranks;
	int n;
};

/* Of how many ranks, each the one after the last, the list goes on from number i. */
static int run_length(const struct list *list, int i)
{
	int end = i + 1;

	while (end < list->n && list->ranks[end] == list->ranks[end - 1] + 1)
		end++;
	return end - i;
}

/* "0,2,5-8"; false if it is cut, behind a whole rank. */
static bool write_list(const struct list *list, char text[LIST_MAX])
{
	size_t used = 0;
	char item[32];
	int run;

	for (int i = 0; i < list->n; i += run) {
		int first = list->ranks[i];

		run = run_length(list, i);
		if (run < 3)
			run = 1;
		if (run == 1)
			snprintf(item, sizeof(item), "%s%d", i > 0 ? "," : "", first);
		else
			snprintf(item, sizeof(item), "%s%d-%d", i > 0 ? "," : "", first, first + run - 1);
		if (used + strlen(item) >= LIST_MAX)
			return false;
		strcpy(text + used, item);
		used += strlen(item);
	}
	return true;
}

/* FNV-1a over the ranks, as 32-bit numbers. */
static uint64_t checksum(const struct list *list)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (int i = 0; i < list->n; i++)
		for (int shift = 0; shift < 32; shift += 8)
			sum = (sum ^ ((uint32_t)list->ranks[i] >> shift & 0xff)) * UINT64_C(0x100000001b3);
	return sum;
}

/* Two lists, or lists of two groups, read alike only if they are the same. */
static void write_words(const struct group *parent, const struct list *list, char words[WORDS_MAX])
{
	char text[LIST_MAX];

	if (write_list(list, text))
		snprintf(words, WORDS_MAX, "ranks %s of group %s", text, parent->name);
	else
		snprintf(words, WORDS_MAX, "ranks %s,... (%d, checksum %016" PRIx64 ") of group %s", text, list->n,
			 checksum(list), parent->name);
}

/* *index: where this rank stands in the list, or -1. */
static int check_ranks(const struct group *parent, const struct list *list, bool *seen, int *index)
{
	*index = -1;
	for (int i = 0; i < list->n; i++) {
		int rank = list->ranks[i];

		if (rank < 0 || rank >= parent->world_size)
			return symm_error(SYMM_EINVAL, "ranks[%d]: rank %d is not in group %s of %d", i, rank,
					  parent->name, parent->world_size);
		if (seen[rank])
			return symm_error(SYMM_EINVAL, "ranks[%d]: rank %d stands twice in the list", i, rank);
		seen[rank] = true;
		if (rank == parent->rank)
			*index = i;
	}
	return 0;
}

static int check_list(const struct group *parent, const struct list *list, int *index)
{
	bool *seen;
	int rc;

	if (list->n < 1 || list->n > parent->world_size)
		return symm_error(SYMM_EINVAL, "a list of %d ranks of group %s, which has %d", list->n, parent->name,
				  parent->world_size);
	seen = calloc((size_t)parent->world_size, sizeof(*seen));
	if (seen == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	rc = check_ranks(parent, list, seen, index);
	free(seen);
	return rc;
}

/* What the join needs of the parent, whose handle need not be held while it lasts. */
struct plan {
	struct context *context; /* held */
	char words[WORDS_MAX];
	int rank;
};

static int make_plan(struct group *parent, const struct list *list, struct plan *plan)
{
	int rc = check_list(parent, list, &plan->rank);

	if (rc == 0)
		rc = symm_group_check(parent);
	if (rc != 0)
		return rc;
	write_words(parent, list, plan->words);
	if (plan->rank < 0)
		return symm_error(SYMM_EINVAL, "rank %d of group %s calls, and is not one of %s", parent->rank,
				  parent->name, plan->words);
	plan->context = symm_handle_get(parent->context->handle, SYMM_HANDLE_CONTEXT, &rc);
	return rc;
}

/* Where the join looks, again and again, whether all are still to be expected. */
struct family {
	struct symm_group *parent;
	const struct list *list;
	const char *name; /* of the new group */
};

/* Who is in the store no more has left, even if his link told only that his process has ended. */
static bool has_left(struct group *parent, int rank)
{
	size_t world = (size_t)parent->world_size, missing = 0;
	struct symm_presence *who = calloc(world, sizeof(*who));
	bool voting, left = false;

	if (who == NULL || symm_keyspace_missing(&parent->ks, parent->world_size, 0,
						 symm_await_store_deadline(&parent->ks, symm_now()), who, world,
						 &missing, &voting) != 0)
		missing = 0;
	for (size_t i = 0; i < missing && i < world && !left; i++)
		left = who[i].member.rank == rank && who[i].member.process.host[0] == '\0';
	free(who);
	return left;
}

static bool has_died(struct group *parent, int rank)
{
	return symm_group_gone(parent, rank) == SYMM_GONE_DIED && !has_left(parent, rank);
}

static void lost(const void *arg, struct symm_err *why)
{
	const struct family *family = arg;
	const struct list *list = family->list;
	bool found = false;
	char name[128];
	int rc;
	struct group *parent = symm_group_get(family->parent, &rc);

	for (int i = 0; parent != NULL && i < list->n && !found; i++) {
		found = has_died(parent, list->ranks[i]);
		if (found)
			symm_err_set(why, SYMM_EPEER, "%s of group %s died before it joined group %s",
				     symm_group_rank_name(parent, list->ranks[i], name, sizeof(name)), parent->name,
				     family->name);
	}
	if (parent != NULL)
		symm_group_put(parent);
}

static int join(struct symm_group *handle, const char *name, const struct list *list, int64_t timeout_ms,
		struct symm_group **out)
{
	const struct family family = { handle, list, name };
	struct group *parent, *group;
	struct plan plan;
	struct kin kin = { plan.words, lost, &family };
	int rc;

	if (name == NULL || list->ranks == NULL || out == NULL)
		return symm_error(SYMM_EINVAL, "name, ranks and group may not be NULL");
	parent = symm_group_get(handle, &rc);
	if (parent == NULL)
		return rc;
	rc = make_plan(parent, list, &plan);
	symm_group_put(parent);
	if (rc != 0)
		return rc;
	rc = symm_join(plan.context, name, plan.rank, list->n, &kin, timeout_ms, &group);
	if (rc == 0)
		*out = group->handle;
	symm_handle_put(plan.context->handle);
	return rc;
}

int symm_group_join_ranks(struct symm_group *parent, const char *name, const int *ranks, int n, int64_t timeout_ms,
			  struct symm_group **group)
{
	SYMM_TRACE("symm_group_join_ranks");
	const struct list list = { ranks, n };
	int rc;

	if (symm_log_here())
		return symm_log_refuse("symm_group_join_ranks");
	rc = join(parent, name, &list, timeout_ms, group);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_group_join_ranks");
}
