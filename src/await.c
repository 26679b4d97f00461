#include "await.h"

#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARE_OF_SERVER (SYMM_NS_PER_MS / 100) /* for one question: some 100,000 a second is what Redis can answer */
#define SHORTEST_SLEEP (SYMM_NS_PER_MS / 5)    /* the kernel's timers are late by a quarter of that */
#define LONGEST_SLEEP (50 * SYMM_NS_PER_MS)
#define TELL_AFTER (20 * SYMM_NS_PER_MS)
#define NAMED 4

int64_t symm_await_store_deadline(const struct symm_keyspace *ks, int64_t deadline)
{
	int64_t now = symm_now(), lease = ks->lease_ms * SYMM_NS_PER_MS;

	if (deadline > now)
		deadline = now;
	return deadline + lease > now + lease / 10 ? deadline + lease : now + lease / 10;
}

static size_t describe(const struct symm_presence *who, char *out, size_t size)
{
	int n;

	if (who->member.process.host[0] == '\0')
		n = snprintf(out, size, "rank %d (%s)", who->member.rank,
			     who->doing[0] != '\0' ? "came, and has withdrawn" : "not there");
	else
		n = snprintf(out, size, "rank %d (%s, pid %d), %s%s%s", who->member.rank, who->member.process.host,
			     (int)who->member.process.pid, who->lease_ms < 0 ? "silent, last " : "now ",
			     who->doing[0] != '\0' ? "in " : "in no call of symm", who->doing);
	return n > 0 ? (size_t)n : 0;
}

static void add_missing(const struct symm_presence *who, size_t n, size_t missing, struct symm_err *why)
{
	size_t used = strlen(why->text);

	for (size_t i = 0; i < n && i < NAMED && used < sizeof(why->text) - 40; i++) {
		used += (size_t)snprintf(why->text + used, sizeof(why->text) - used, "%s",
					 i == 0 ? ": missing " : "; ");
		used += describe(&who[i], why->text + used, sizeof(why->text) - used);
	}
	if (missing > NAMED && used < sizeof(why->text))
		snprintf(why->text + used, sizeof(why->text) - used, "; and %zu more", missing - NAMED);
}

static void name_missing(struct await *await, struct symm_err *why)
{
	struct symm_presence who[NAMED];
	size_t missing;
	bool voting;

	if (symm_keyspace_missing(await->ks, await->world_size, await->seq,
				  symm_await_store_deadline(await->ks, await->deadline), who, NAMED, &missing,
				  &voting) == 0)
		add_missing(who, missing < NAMED ? missing : NAMED, missing, why);
}

/* Membership was complete once: who is in the store no more has left, even if no link told, or told only that its
 * process has ended since. Who died is still there. */
static uint32_t how_gone(const struct group *group, const struct symm_presence *who)
{
	if (who->member.rank == group->rank)
		return SYMM_GONE_NOT;
	return who->member.process.host[0] == '\0' ? SYMM_GONE_LEFT : symm_group_gone(group, who->member.rank);
}

/* The first rank that is gone and has not done its part; false if those who are gone did theirs before. */
static bool gone_is_missing(struct await *await, struct symm_err *why)
{
	struct symm_presence *who = calloc((size_t)await->world_size, sizeof(*who));
	size_t missing = 0;
	bool voting, found = false;
	char name[128];

	if (who == NULL || symm_keyspace_missing(await->ks, await->world_size, await->seq,
						 symm_await_store_deadline(await->ks, await->deadline), who,
						 (size_t)await->world_size, &missing, &voting) != 0)
		missing = 0;
	for (size_t i = 0; i < missing && !found; i++) {
		int rank = who[i].member.rank;
		uint32_t how = how_gone(await->group, &who[i]);

		if (how == SYMM_GONE_NOT)
			continue;
		found = true;
		symm_err_set(why, SYMM_EPEER, "%s %s before its part in rendezvous %llu of group %s",
			     symm_group_rank_name(await->group, rank, name, sizeof(name)),
			     how == SYMM_GONE_LEFT ? "left" : "died", (unsigned long long)await->seq, await->name);
	}
	free(who);
	return found;
}

static bool somebody_is_gone(const struct group *group)
{
	if (__atomic_load_n(&group->incomplete, __ATOMIC_ACQUIRE))
		return true;
	for (int rank = 0; rank < group->world_size; rank++)
		if (symm_group_gone(group, rank) != SYMM_GONE_NOT)
			return true;
	return false;
}

static void say_timeout(struct await *await, struct symm_err *why)
{
	double seconds = (double)(symm_now() - await->started) / 1e9;

	if (await->seq == 0)
		symm_err_set(why, SYMM_ETIMEDOUT, "join of group %s by %d ranks: timed out after %.1f s", await->name,
			     await->world_size, seconds);
	else
		symm_err_set(why, SYMM_ETIMEDOUT, "rendezvous %llu of group %s: %s timed out after %.1f s",
			     (unsigned long long)await->seq, await->name,
			     await->voting ? "the vote" : "the wait for its ranks", seconds);
	name_missing(await, why);
}

/* Why the verdict will never come by itself. */
static bool hopeless(struct await *await, struct symm_err *why)
{
	struct group *group = await->group;

	why->code = 0;
	if (group != NULL && symm_group_check(group) != 0)
		symm_err_take(why, symm_group_check(group));
	else if (group != NULL && __atomic_load_n(&group->leaving, __ATOMIC_ACQUIRE))
		symm_err_set(why, SYMM_EPEER, "rank %d left group %s during rendezvous %llu", group->rank, await->name,
			     (unsigned long long)await->seq);
	else if (symm_now() >= await->deadline)
		say_timeout(await, why);
	else if (group != NULL && somebody_is_gone(group))
		gone_is_missing(await, why);
	else if (await->kin != NULL)
		await->kin->lost(await->kin->arg, why);
	return why->code != 0;
}

static bool is_there(const struct await *await, const struct symm_verdict *verdict)
{
	if (verdict->what == SYMM_VERDICT_GO)
		return !await->voting && await->seq != 0;
	return verdict->what != SYMM_VERDICT_NONE;
}

/* Before there is a group, and its timer, whoever waits refreshes the lease: to enter again changes nothing else. */
static int keep_lease(struct await *await, int64_t *refreshed, struct symm_verdict *verdict)
{
	struct symm_keyspace again;
	struct symm_join_answer answer;
	int rc;

	if (await->join == NULL || symm_now() - *refreshed < await->ks->lease_ms * SYMM_NS_PER_MS / 3)
		return 0;
	*refreshed = symm_now();
	again = *await->ks;
	rc = symm_keyspace_join(&again, await->join, symm_await_store_deadline(&again, await->deadline), &answer);
	if (rc == 0 && answer.what == SYMM_JOIN_TAKEN)
		return symm_error(SYMM_EEXIST,
				  "rank %d of group %s was taken for dead, and pid %d on %s came in its place",
				  answer.holder.rank, await->name, (int)answer.holder.process.pid,
				  answer.holder.process.host);
	if (rc != 0 || answer.what != SYMM_JOIN_OTHER)
		return rc;
	/* It may have failed, and been replaced since: then its verdict is still there. */
	rc = symm_keyspace_poll(await->ks, await->seq, symm_await_store_deadline(await->ks, await->deadline), verdict);
	if (rc != 0 || verdict->what != SYMM_VERDICT_NONE)
		return rc;
	return symm_error(SYMM_ESTALE, "the store %s has lost group %s while it was forming",
			  symm_store_name(await->ks->store), await->name);
}

/* Who has waited for long sleeps for long, so that a verdict is seen late by half of the time that it took at most,
 * where there are cores to spare by a 64th; and all ranks together leave the server time for its work. */
static void nap(const struct await *await, int64_t begun)
{
	bool hurries = await->group != NULL && await->group->hurries;
	int64_t sleep = (symm_now() - begun) / (hurries ? 64 : 2), least = await->world_size * SHARE_OF_SERVER;

	if (sleep < least)
		sleep = least;
	if (sleep > LONGEST_SLEEP)
		sleep = LONGEST_SLEEP;
	if (sleep >= SHORTEST_SLEEP)
		symm_sleep(symm_jitter(sleep), await->deadline);
}

int symm_await_verdict(struct await *await, struct symm_verdict *verdict, struct symm_err *why)
{
	int64_t begun = symm_now(), refreshed = begun;
	bool told = false;
	bool fresh = await->meanwhile.fn == NULL; /* else the verdict may be older than what was done meanwhile */

	for (;;) {
		int rc = keep_lease(await, &refreshed, verdict);

		if (rc != 0)
			return rc;
		why->code = 0;
		if (is_there(await, verdict) || (fresh && hopeless(await, why)))
			return 0;
		if (await->meanwhile.fn == NULL || !await->meanwhile.fn(await->meanwhile.arg))
			nap(await, begun);
		if (!told && symm_now() - begun > TELL_AFTER) {
			told = true;
			symm_group_tell_doing(await->context);
		}
		symm_count(&await->context->stats.polls, 1);
		rc = symm_keyspace_poll(await->ks, await->seq, symm_await_store_deadline(await->ks, await->deadline),
					verdict);
		if (rc != 0)
			return rc;
		fresh = true;
	}
}

/* ---- a rendezvous ---- */

static int64_t keys_ttl_ms(const struct await *await)
{
	int64_t left = (await->deadline - symm_now()) / SYMM_NS_PER_MS;

	return (left > 0 ? left : 0) + 6 * await->ks->lease_ms;
}

static int obey(struct await *await, struct symm_verdict *verdict)
{
	struct symm_err why;
	int rc = symm_await_verdict(await, verdict, &why);

	if (rc == 0 && why.code != 0)
		rc = symm_keyspace_decide(await->ks, await->group->rank, await->seq, &why, keys_ttl_ms(await),
					  symm_await_store_deadline(await->ks, await->deadline), verdict);
	return rc;
}

int symm_await_publish(struct await *await, const char *digest, const struct symm_offer *offer,
		       const struct symm_err *failure, struct symm_verdict *verdict)
{
	int rc;

	symm_group_hurry(await->group, SYMM_LOOP_HURRY);
	rc = symm_keyspace_publish(await->ks, &await->group->self, await->world_size, await->seq, digest, offer,
				   failure, keys_ttl_ms(await), symm_await_store_deadline(await->ks, await->deadline),
				   await->meanwhile.fn != NULL ? &await->meanwhile : NULL, verdict);
	if (rc == 0)
		rc = obey(await, verdict);
	symm_group_hurry(await->group, rc == 0 && verdict->what == SYMM_VERDICT_GO ? SYMM_AWAIT_MAPPING : 0);
	return rc;
}

int symm_await_vote(struct await *await, const struct symm_err *failure, struct symm_verdict *verdict)
{
	int rc;

	await->voting = true;
	symm_group_hurry(await->group, SYMM_LOOP_HURRY);
	rc = symm_keyspace_vote(await->ks, &await->group->self, await->world_size, await->seq, failure,
				keys_ttl_ms(await), symm_await_store_deadline(await->ks, await->deadline), verdict);
	if (rc == 0)
		rc = obey(await, verdict);
	symm_group_hurry(await->group, 0);
	return rc;
}
