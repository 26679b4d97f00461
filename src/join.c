/* join.c: entering a group. The scripts of the store decide; this file proves who is alive and waits.
 *
 * none, or failed while forming -> open a new generation -> forming -> (the last one enters) sealed
 * sealed by others: wait until all its members are proven dead, then open the next generation.
 */
#include "join.h"

#include "await.h"
#include "base.h"
#include "handle.h"
#include "log.h"
#include "multicast.h"
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct joining {
	struct context *context;
	const char *name;
	int64_t started, deadline;
	struct symm_keyspace ks;
	struct symm_member self;
	struct symm_join join;
	const struct kin *kin; /* NULL: not of another group */
	struct symm_join_answer answer;
	int64_t watching; /* since when I watch the leases of a generation that is not mine */
	uint64_t watched; /* its nonce */
};

/* Of a process of another host only its lease tells: run out while I watched without a break for a whole lease, or
 * refreshed meanwhile. */
static enum symm_proof prove_by_lease(const struct joining *j, int64_t lease_left_ms)
{
	int64_t since = symm_store_unbroken_since(j->ks.store), lease = j->ks.lease_ms * SYMM_NS_PER_MS;

	if (j->watching > since)
		since = j->watching;
	if (since == INT64_MAX || symm_now() - since < lease)
		return SYMM_UNPROVEN;
	return lease_left_ms < 0 ? SYMM_DEAD : SYMM_ALIVE;
}

static enum symm_proof prove(const struct joining *j, const struct symm_member *member, int64_t lease_left_ms)
{
	const struct symm_process *me = symm_link_self();

	if (symm_id_equal(&member->process.id, &me->id))
		return symm_group_lives_here(&member->incarnation) ? SYMM_ALIVE : prove_by_lease(j, lease_left_ms);
	if (strcmp(member->process.boot, me->boot) == 0)
		return symm_link_prove(&member->process);
	return prove_by_lease(j, lease_left_ms);
}

static void watch(struct joining *j, uint64_t nonce)
{
	if (j->watched != nonce) {
		j->watched = nonce;
		j->watching = symm_now();
	}
}

static int exists(const struct joining *j, const struct symm_member *holder)
{
	return symm_error(SYMM_EEXIST,
			  "rank %d of group %s is held by pid %d on %s, which is alive: does another run use job %s?",
			  holder->rank, j->name, (int)holder->process.pid, holder->process.host, j->context->job);
}

static int busy(const struct joining *j, const struct symm_presence *members, size_t n)
{
	char living[256] = "";
	size_t used = 0;

	for (size_t i = 0; i < n && used < sizeof(living); i++)
		if (prove(j, &members[i].member, members[i].lease_ms) != SYMM_DEAD)
			used += (size_t)snprintf(living + used, sizeof(living) - used, "%srank %d (%s, pid %d)",
						 used > 0 ? "; " : "", members[i].member.rank,
						 members[i].member.process.host, (int)members[i].member.process.pid);
	return symm_error(SYMM_EBUSY, "group %s belongs to an earlier run that has not ended: still there: %s", j->name,
			  living);
}

/* A sealed or failed generation stands in the way. *all_dead: it does no more. */
static int judge_members(struct joining *j, uint64_t nonce, bool *all_dead)
{
	struct symm_keyspace theirs = j->ks;
	struct symm_presence *members;
	size_t n, dead = 0;
	int rc;

	watch(j, nonce);
	theirs.nonce = nonce;
	rc = symm_keyspace_members(&theirs, symm_await_store_deadline(&j->ks, j->deadline), &members, &n);
	if (rc != 0)
		return rc == SYMM_ESTALE ? 0 : rc;
	for (size_t i = 0; i < n && rc == 0; i++) {
		enum symm_proof proof = prove(j, &members[i].member, members[i].lease_ms);

		dead += proof == SYMM_DEAD;
		if (proof == SYMM_ALIVE && members[i].member.rank == j->self.rank)
			rc = exists(j, &members[i].member);
	}
	*all_dead = dead == n;
	if (rc == 0 && !*all_dead && symm_now() >= j->deadline)
		rc = busy(j, members, n);
	free(members);
	return rc;
}

/* The generation is not the one I thought: think again. */
static int think(struct joining *j)
{
	const struct symm_generation *found = &j->answer.generation;
	bool all_dead = false;
	int rc;

	j->join.expected = found->nonce;
	j->join.replace_generation = false;
	j->join.look_first = true;
	memset(&j->join.replace, 0, sizeof(j->join.replace));
	if (found->nonce == 0 || found->state == SYMM_FORMING)
		return 0;
	if (!found->sealed) {
		j->join.replace_generation = true;
		return 0;
	}
	rc = judge_members(j, found->nonce, &all_dead);
	j->join.replace_generation = all_dead;
	return rc;
}

/* I would complete the group. Who died while it was forming is taken out first: its next life could not come in, and
 * its peers would begin with a dead member. */
static int bury(struct joining *j)
{
	struct symm_keyspace theirs = j->ks;
	struct symm_presence *members;
	bool sealed;
	size_t n;
	int rc;

	watch(j, j->answer.generation.nonce);
	rc = symm_keyspace_members(&theirs, symm_await_store_deadline(&j->ks, j->deadline), &members, &n);
	if (rc != 0)
		return rc == SYMM_ESTALE ? 0 : rc;
	for (size_t i = 0; i < n && rc == 0; i++)
		if (prove(j, &members[i].member, members[i].lease_ms) == SYMM_DEAD)
			rc = symm_keyspace_unjoin(&theirs, &members[i].member,
						  symm_await_store_deadline(&j->ks, j->deadline), &sealed);
	free(members);
	j->join.look_first = false;
	return rc == SYMM_ESTALE ? 0 : rc;
}

/* Somebody else holds my rank in the forming generation. */
static int contest(struct joining *j, bool *at_once)
{
	const struct symm_member *holder = &j->answer.holder;
	enum symm_proof proof;

	watch(j, j->answer.generation.nonce);
	proof = prove(j, holder, j->answer.holder_lease_ms);
	if (proof == SYMM_ALIVE || (proof == SYMM_UNPROVEN && symm_now() >= j->deadline))
		return exists(j, holder);
	*at_once = proof == SYMM_DEAD;
	if (*at_once)
		j->join.replace = holder->incarnation;
	return 0;
}

/* The answer was no: what to say next, and whether at once or after a while. */
static int reconsider(struct joining *j, bool *at_once)
{
	const struct symm_generation *found = &j->answer.generation;
	int rc;

	*at_once = true;
	switch (j->answer.what) {
	case SYMM_JOIN_FAILED:
		return symm_error(j->answer.verdict.code, "%s", j->answer.verdict.text);
	case SYMM_JOIN_LAST:
		return bury(j);
	case SYMM_JOIN_OTHER:
		rc = think(j);
		*at_once = j->join.replace_generation || found->nonce == 0 || found->state == SYMM_FORMING;
		if (rc == 0 && !*at_once && symm_now() >= j->deadline)
			rc = symm_error(SYMM_EBUSY, "group %s belongs to an earlier run that has not ended", j->name);
		return rc;
	default:
		return contest(j, at_once);
	}
}

/* Until I am a member, or know that I cannot be. */
static int enter(struct joining *j)
{
	int64_t sleep = SYMM_NS_PER_MS;
	bool at_once;

	for (;;) {
		int rc = symm_keyspace_join(&j->ks, &j->join, symm_await_store_deadline(&j->ks, j->deadline),
					    &j->answer);

		if (rc != 0 || j->answer.what == SYMM_JOIN_ENTERED || j->answer.what == SYMM_JOIN_SEALED)
			return rc;
		rc = reconsider(j, &at_once);
		if (rc != 0)
			return rc;
		if (at_once)
			continue;
		symm_sleep(symm_jitter(sleep), INT64_MAX);
		if (sleep < 50 * SYMM_NS_PER_MS)
			sleep *= 2;
	}
}

/* At the deadline, when the store does not answer, or when the join failed for all: out again, unless it is too late
 * for that. */
static int withdraw(struct joining *j, const struct symm_err *why)
{
	bool sealed = false;
	int rc = symm_keyspace_unjoin(&j->ks, &j->self, symm_await_store_deadline(&j->ks, j->deadline), &sealed);

	if (rc == 0 && sealed)
		return 0;
	return symm_err_return(why);
}

/* The group is complete: with me, or with another life of my rank that took me for dead? */
static int check_in(struct joining *j)
{
	struct symm_keyspace again = j->ks;
	struct symm_join_answer answer;
	int rc = symm_keyspace_join(&again, &j->join, symm_await_store_deadline(&again, j->deadline), &answer);

	if (rc == 0 && answer.what != SYMM_JOIN_SEALED)
		rc = symm_error(SYMM_EEXIST,
				"rank %d of group %s was taken for dead, and another process came in its place",
				j->self.rank, j->name);
	return rc;
}

static int await_seal(struct joining *j)
{
	struct symm_verdict verdict = { SYMM_VERDICT_NONE, 0, -1, "" };
	struct await await = { .context = j->context,
			       .ks = &j->ks,
			       .join = &j->join,
			       .kin = j->kin,
			       .world_size = j->join.world,
			       .name = j->name,
			       .started = j->started,
			       .deadline = j->deadline };
	struct symm_err why;
	int rc;

	if (j->answer.what == SYMM_JOIN_SEALED)
		return 0;
	j->join.look_first = false;
	rc = symm_await_verdict(&await, &verdict, &why);
	if (rc == 0 && why.code == 0 && verdict.what == SYMM_VERDICT_READY)
		rc = check_in(j);
	if (rc != 0)
		symm_err_take(&why, rc);
	else if (why.code == 0 && verdict.what == SYMM_VERDICT_FAILED)
		symm_err_set(&why, verdict.code, "%s", verdict.text);
	return why.code != 0 ? withdraw(j, &why) : 0;
}

static void log_end(const struct joining *j, int rc)
{
	int64_t took = symm_now() - j->started;

	symm_count(&j->context->stats.collective_ns, (uint64_t)took);
	symm_log(SYMM_LOG_INFO, "join job=%s group=%s rank=%d world=%d generation=%lld ms=%.3f%s%s", j->context->job,
		 j->name, j->self.rank, j->join.world, (long long)j->answer.generation.number,
		 (double)took / SYMM_NS_PER_MS, rc == 0 ? "" : " failed: ", rc == 0 ? "" : symm_last_error());
}

static int join(struct joining *j, struct group **group)
{
	struct doing doing;
	int rc;

	symm_doing_begin(&doing, j->context, false, "join of group %s", j->name);
	rc = enter(j);
	if (rc == 0)
		rc = await_seal(j);
	symm_doing_end(&doing);
	log_end(j, rc);
	if (rc != 0)
		return rc;
	rc = symm_group_make(j->context, j->name, &j->ks, &j->self, j->join.world, j->answer.generation.number,
			     symm_await_store_deadline(&j->ks, j->deadline), group);
	if (rc != 0) {
		struct symm_err why;

		/* The others believe that I am in: they must hear. */
		symm_error_prefix(rc, "rank %d (%s, pid %d) cannot take part", j->self.rank, j->self.process.host,
				  (int)j->self.process.pid);
		symm_err_take(&why, rc);
		symm_keyspace_fail(&j->ks, j->self.rank, &why);
		symm_keyspace_leave(&j->ks, &j->self, 1, 1, symm_await_store_deadline(&j->ks, j->deadline));
		return symm_err_return(&why);
	}
	return 0;
}

static int check_arguments(struct context *context, const char *name, int *rank, int *world_size)
{
	int rc = symm_name_check("group", name);

	if (rc != 0)
		return rc;
	if (*rank == SYMM_AUTO)
		*rank = context->rank;
	if (*world_size == SYMM_AUTO)
		*world_size = context->world_size;
	if (*rank == SYMM_AUTO || *world_size == SYMM_AUTO)
		return symm_error(SYMM_EINVAL, "nobody has told the %s: give it, set %s, or start under symmrun",
				  *rank == SYMM_AUTO ? "rank" : "world size",
				  *rank == SYMM_AUTO ? "SYMM_RANK (with SYMM_WORLD_SIZE)"
						     : "SYMM_WORLD_SIZE (with SYMM_RANK)");
	if (*world_size > SYMM_WORLD_LIMIT)
		return symm_error(SYMM_EINVAL, "a group of %d ranks: %d at most", *world_size, SYMM_WORLD_LIMIT);
	if (*world_size < 1 || *rank < 0 || *rank >= *world_size)
		return symm_error(SYMM_EINVAL, "rank %d is not in a group of %d", *rank, *world_size);
	if (symm_group_of(context, name) != NULL)
		return symm_error(SYMM_EEXIST, "this context is in group %s already", name);
	return 0;
}

int symm_join(struct context *context, const char *name, int rank, int world_size, const struct kin *kin,
	      int64_t timeout_ms, struct group **group)
{
	struct joining j = { .context = context, .name = name, .started = symm_now() };
	int rc = check_arguments(context, name, &rank, &world_size);

	if (rc == 0)
		rc = symm_context_deadline(context, timeout_ms, &j.deadline);
	if (rc != 0)
		return rc;
	symm_keyspace_init(&j.ks, context->store, context->job, name, context->lease_ms);
	j.self.rank = rank;
	j.self.incarnation = symm_id_new();
	j.self.process = *symm_link_self();
	j.self.device = context->device_id;
	j.self.multicast = symm_multicast_offered(context->device);
	j.join.member = &j.self;
	j.join.world = world_size;
	j.join.ranks = kin != NULL ? kin->words : NULL;
	j.kin = kin;
	j.join.look_first = world_size > 1;
	symm_random(&j.join.fresh, sizeof(j.join.fresh));
	return symm_count_end(&context->stats, join(&j, group));
}

int symm_group_join(struct symm_context *handle, const char *name, int rank, int world_size, int64_t timeout_ms,
		    struct symm_group **out)
{
	SYMM_TRACE("symm_group_join");
	struct context *context;
	struct group *group;
	int rc;

	if (symm_log_here())
		return symm_log_refuse("symm_group_join");
	if (name == NULL || out == NULL)
		return symm_error(SYMM_EINVAL, "symm_group_join: name and group may not be NULL");
	context = symm_handle_get(handle, SYMM_HANDLE_CONTEXT, &rc);
	if (context == NULL)
		return symm_error_prefix(rc, "symm_group_join");
	rc = symm_join(context, name, rank, world_size, NULL, timeout_ms, &group);
	if (rc == 0)
		*out = group->handle;
	symm_handle_put(handle);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_group_join");
}

int symm_group_find(struct symm_context *handle, const char *name, struct symm_group **out)
{
	struct symm_group *group;
	struct context *context;
	int rc;

	if (name == NULL || out == NULL)
		return symm_error(SYMM_EINVAL, "symm_group_find: name and group may not be NULL");
	context = symm_handle_get(handle, SYMM_HANDLE_CONTEXT, &rc);
	if (context == NULL)
		return symm_error_prefix(rc, "symm_group_find");
	group = symm_group_of(context, name);
	if (group != NULL)
		*out = group;
	else
		rc = symm_error(SYMM_ENOENT, "symm_group_find: this context has joined no group %s", name);
	symm_handle_put(handle);
	return rc;
}
