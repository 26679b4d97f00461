#include "keyspace_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define SWEPT_AT_ONCE 2 /* so that their keys fit one call */

/* ---- join and leave ---- */

struct join_text {
	char record[SYMM_RECORD_MAX];
	char fresh[SYMM_NONCE_HEX];
	char replace[SYMM_ID_HEX];
};

static void join_call(const struct symm_keyspace *ks, const struct symm_join *join, struct join_text *text,
		      struct symm_call *call)
{
	const char *boot = join->member->process.boot;
	struct symm_command *command = &call->command;

	symm_call_init(call, &symm_script_join);
	symm_call_group_keys(call, ks, 5);
	symm_call_generation_key(call, ks, join->expected, "host", boot);
	symm_call_generation_key(call, ks, join->expected, "verdict", "0");
	symm_call_generation_key(call, ks, join->fresh, "host", boot);
	symm_call_generation_key(call, ks, join->fresh, "verdict", "0");
	snprintf(call->nonce, sizeof(call->nonce), "%016" PRIx64, join->expected);
	symm_command_text(command, call->nonce);
	snprintf(text->fresh, SYMM_NONCE_HEX, "%016" PRIx64, join->fresh);
	symm_command_text(command, text->fresh);
	symm_call_member(call, join->member);
	symm_command_text(command, text->record);
	symm_command_int(command, join->world);
	symm_command_int(command, ks->lease_ms);
	symm_command_int(command, symm_keyspace_lifetime_ms(ks));
	symm_command_int(command, join->replace_generation);
	symm_id_format(&join->replace, text->replace);
	symm_command_text(command, symm_id_is_none(&join->replace) ? "" : text->replace);
	symm_command_int(command, join->look_first);
	symm_command_text(command, join->ranks != NULL ? join->ranks : "");
}

static int join_word_parse(const struct symm_keyspace *ks, const struct symm_reply *reply, struct symm_join_answer *a)
{
	static const char *const words[] = {
		[SYMM_JOIN_ENTERED] = "entered", [SYMM_JOIN_SEALED] = "sealed", [SYMM_JOIN_OTHER] = "other",
		[SYMM_JOIN_LAST] = "last",       [SYMM_JOIN_TAKEN] = "taken",   [SYMM_JOIN_FAILED] = "failed"
	};
	const char *word = symm_reply_text(symm_reply_at(reply, 0), NULL);

	for (size_t i = 0; word && i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(word, words[i]) == 0) {
			a->what = (int)i;
			return SYMM_OK;
		}
	return symm_keyspace_damaged(ks, "group", "the join's answer is none");
}

static int join_parse(const struct symm_keyspace *ks, const struct symm_join *join, const struct symm_reply *reply,
		      struct symm_join_answer *a)
{
	size_t length = 0;
	const char *why = symm_reply_text(symm_reply_at(reply, 6), &length);
	int rc = join_word_parse(ks, reply, a);

	if (!rc)
		rc = symm_generation_parse(ks, reply, 1, &a->generation);
	if (rc || a->what == SYMM_JOIN_OTHER)
		return rc;
	if (a->generation.nonce == 0)
		return symm_keyspace_damaged(ks, "group", "there is none after the join");
	if (a->what == SYMM_JOIN_TAKEN) {
		rc = symm_record_parse(ks, symm_reply_at(reply, 7), join->member->rank, &a->holder);
		if (!rc && !symm_reply_int(symm_reply_at(reply, 8), &a->holder_lease_ms))
			rc = symm_keyspace_damaged(ks, "leases", "a lease is no time");
	} else if (a->what == SYMM_JOIN_FAILED) {
		if (!why || !symm_failure_parse(why, length, &a->verdict))
			rc = symm_keyspace_damaged(ks, "group", "field why is not \"CODE RANK TEXT\"");
	} else if (a->generation.world != join->world) {
		rc = symm_keyspace_damaged(ks, "group", "field world is not what this rank entered with");
	}
	return rc;
}

int symm_keyspace_join(struct symm_keyspace *ks, const struct symm_join *join, int64_t deadline,
		       struct symm_join_answer *answer)
{
	struct symm_call call;
	struct symm_reply *reply;
	struct symm_join_answer a = { .holder.rank = -1, .verdict.rank = -1 };
	struct join_text text = { .fresh = "" };
	int rc = symm_member_format(join->member, text.record, sizeof(text.record));

	if (rc)
		return rc;
	join_call(ks, join, &text, &call);
	rc = symm_keyspace_send(ks->store, &call.command, deadline, &reply);
	if (rc)
		return rc;
	rc = join_parse(ks, join, reply, &a);
	symm_reply_free(reply);
	if (rc)
		return rc;
	ks->nonce = a.generation.nonce;
	*answer = a;
	return SYMM_OK;
}

static void leave_call(const struct symm_keyspace *ks, const struct symm_member *member, struct symm_call *call)
{
	symm_call_init(call, &symm_script_leave);
	symm_call_group_keys(call, ks, 5);
	symm_call_generation_key(call, ks, ks->nonce, "host", member->process.boot);
	symm_call_rendezvous_key(call, ks, "verdict", 0);
}

/* *other: the answer was `word`, not "ok". */
static int leave_ask(const struct symm_keyspace *ks, const struct symm_member *member, struct symm_call *call,
		     bool unjoin, int64_t deadline, bool *other)
{
	struct symm_reply *reply;
	int rc;

	symm_call_nonce(call, ks);
	symm_call_member(call, member);
	symm_command_int(&call->command, symm_keyspace_lifetime_ms(ks));
	symm_command_int(&call->command, unjoin);
	rc = symm_keyspace_ask(ks, call, unjoin ? "sealed" : "last", deadline, &reply);
	if (rc)
		return rc;
	*other = strcmp(symm_reply_text(symm_reply_at(reply, 0), NULL), "ok") != 0;
	symm_reply_free(reply);
	return SYMM_OK;
}

int symm_keyspace_unjoin(struct symm_keyspace *ks, const struct symm_member *member, int64_t deadline, bool *sealed)
{
	struct symm_call call;

	leave_call(ks, member, &call);
	return leave_ask(ks, member, &call, true, deadline, sealed);
}

/* What failed rendezvous have left: nobody reads it any more. */
static int sweep(const struct symm_keyspace *ks, uint64_t first, uint64_t last, int64_t deadline)
{
	while (first <= last) {
		struct symm_call call;
		struct symm_reply *reply;
		int rc;

		symm_call_init(&call, NULL);
		symm_command_text(&call.command, "DEL");
		for (int i = 0; i < SWEPT_AT_ONCE && first <= last; i++, first++)
			symm_call_rendezvous_keys(&call, ks, first);
		rc = symm_keyspace_send(ks->store, &call.command, deadline, &reply);
		if (rc)
			return rc;
		symm_reply_free(reply);
	}
	return SYMM_OK;
}

int symm_keyspace_leave(struct symm_keyspace *ks, const struct symm_member *member, uint64_t first, uint64_t seq,
			int64_t deadline)
{
	struct symm_call call;
	bool last;
	int rc;

	leave_call(ks, member, &call);
	rc = leave_ask(ks, member, &call, false, deadline, &last);
	if (rc == 0 && last)
		rc = sweep(ks, first, seq, deadline);
	return rc;
}

/* ---- who is there ---- */

static int by_rank(const void *a, const void *b)
{
	const struct symm_member *x = a, *y = b;

	return (x->rank > y->rank) - (x->rank < y->rank);
}

/* member is the first thing in a presence: one comparison orders both kinds. */
_Static_assert(offsetof(struct symm_presence, member) == 0, "by_rank sorts presences too");

/* Orders, and refuses a rank that stands twice ("1" and "01"): callers count on one entry a rank. */
static int order(const struct symm_keyspace *ks, void *array, size_t n, size_t size)
{
	const char *at = array;

	qsort(array, n, size, by_rank);
	for (size_t i = 1; i < n; i++)
		if (by_rank(at + (i - 1) * size, at + i * size) == 0)
			return symm_keyspace_damaged(ks, "members", "a rank stands twice");
	return SYMM_OK;
}

static int roster_parse(const struct symm_keyspace *ks, const struct symm_reply *reply, const char *boot,
			struct symm_member *members, size_t *n)
{
	size_t length, count = symm_reply_count(reply), found = 0;
	int rank, rc;

	for (size_t i = 1; i + 1 < count; i += 2) {
		const struct symm_reply *record = symm_reply_at(reply, i + 1);

		rc = symm_rank_parse(ks, "host", symm_reply_at(reply, i), SYMM_WORLD_LIMIT, &rank);
		if (rc)
			return rc;
		/* A rank that was replaced by a life on another host may still stand in this host's set. */
		if (symm_reply_text(record, &length) && length == 0)
			continue;
		rc = symm_record_parse(ks, record, rank, &members[found]);
		if (rc)
			return rc;
		if (strcmp(members[found].process.boot, boot) == 0)
			found++;
	}
	*n = found;
	return order(ks, members, found, sizeof(*members));
}

int symm_keyspace_roster(struct symm_keyspace *ks, const char *boot, int64_t deadline, struct symm_member **members,
			 size_t *n)
{
	struct symm_call call;
	struct symm_reply *reply;
	struct symm_member *found;
	int rc;

	symm_call_init(&call, &symm_script_roster);
	symm_call_group_keys(&call, ks, 2);
	symm_call_generation_key(&call, ks, ks->nonce, "host", boot);
	symm_call_nonce(&call, ks);
	rc = symm_keyspace_ask(ks, &call, NULL, deadline, &reply);
	if (rc)
		return rc;
	found = calloc(symm_reply_count(reply), sizeof(*found));
	rc = found ? roster_parse(ks, reply, boot, found, n) : symm_error(SYMM_ENOMEM, "roster of %s", ks->prefix);
	symm_reply_free(reply);
	if (rc)
		free(found);
	else
		*members = found;
	return rc;
}

static int census_parse(const struct symm_keyspace *ks, const struct symm_reply *reply, struct symm_census *census)
{
	size_t length = 0, count = symm_reply_count(reply);
	const char *why = symm_reply_text(symm_reply_at(reply, 6), &length);
	struct symm_census c = { .n = count > 7 ? (count - 7) / 4 : 0 };
	int rc = symm_generation_parse(ks, reply, 1, &c.generation);

	if (rc)
		return rc;
	if (c.generation.nonce == 0)
		return symm_keyspace_damaged(ks, "group", "no field nonce");
	if (!why || (length > 0 && !symm_failure_parse(why, length, &c.why)))
		return symm_keyspace_damaged(ks, "group", "field why is not \"CODE RANK TEXT\"");
	c.members = calloc(c.n + 1, sizeof(*c.members));
	if (!c.members)
		return symm_error(SYMM_ENOMEM, "%zu members of %s", c.n, ks->prefix);
	rc = symm_presences_parse(ks, reply, 7, c.generation.world, c.members, c.n);
	if (!rc)
		rc = order(ks, c.members, c.n, sizeof(*c.members));
	if (rc)
		free(c.members);
	else
		*census = c;
	return rc;
}

int symm_keyspace_census(const struct symm_keyspace *ks, bool any, int64_t deadline, struct symm_census *census)
{
	struct symm_call call;
	struct symm_reply *reply;
	int rc;

	symm_call_init(&call, &symm_script_members);
	symm_call_group_keys(&call, ks, 4);
	if (any)
		symm_command_text(&call.command, "");
	else
		symm_call_nonce(&call, ks);
	rc = symm_keyspace_ask(ks, &call, NULL, deadline, &reply);
	if (rc)
		return rc;
	rc = census_parse(ks, reply, census);
	symm_reply_free(reply);
	return rc;
}

int symm_keyspace_members(struct symm_keyspace *ks, int64_t deadline, struct symm_presence **members, size_t *n)
{
	struct symm_census census;
	int rc = symm_keyspace_census(ks, false, deadline, &census);

	if (rc)
		return rc;
	*members = census.members;
	*n = census.n;
	return SYMM_OK;
}

/* ---- in the background ---- */

static void fail_finished(void *arg, const struct symm_reply *reply, const struct symm_err *err)
{
	const char *word = symm_reply_text(symm_reply_at(reply, 0), NULL);

	(void)arg;
	if (err &&
	    err->code) /* SYMM_ESTALE: the context was closed meanwhile, so we have left or will be taken for dead */
		symm_log(err->code == SYMM_ESTALE ? SYMM_LOG_INFO : SYMM_LOG_WARN,
			 "a failed group could not be marked failed: %s", err->text);
	else if (!word || strcmp(word, "ok") != 0)
		symm_log(SYMM_LOG_INFO, "a failed group was not marked failed: %s", word ? word : "no status");
}

void symm_keyspace_fail(struct symm_keyspace *ks, int rank, const struct symm_err *why)
{
	struct symm_call call;

	symm_call_init(&call, &symm_script_fail);
	symm_call_key(&call, ks, "group");
	symm_call_key(&call, ks, "events");
	symm_call_nonce(&call, ks);
	symm_command_int(&call.command, rank);
	symm_failure_format(call.text, rank, why);
	symm_command_text(&call.command, call.text);
	symm_command_int(&call.command, symm_keyspace_lifetime_ms(ks));
	if (symm_store_send(ks->store, &call.command, symm_now() + ks->lease_ms * SYMM_NS_PER_MS, fail_finished, NULL))
		symm_log(SYMM_LOG_WARN, "a failed group could not be marked failed: %s", symm_last_error());
}

struct refresh {
	struct symm_keyspace ks; /* a copy: the caller's may end before the answer comes */
	void (*finished)(void *arg, const struct symm_lease_answer *answer);
	void *arg;
};

/* expired has room for every element of the reply. */
static int refresh_parse(const struct symm_keyspace *ks, const struct symm_reply *reply,
			 struct symm_lease_answer *answer, int *expired)
{
	size_t length = 0, count = symm_reply_count(reply);
	int64_t members;
	int rc = symm_keyspace_status(ks, reply, NULL);
	const char *state = symm_reply_text(symm_reply_at(reply, 1), NULL),
		   *why = symm_reply_text(symm_reply_at(reply, 2), &length);

	if (rc)
		return rc;
	if (!state || !why)
		return symm_keyspace_damaged(ks, "group", "fields state and why are no texts");
	if (strcmp(state, "failed") == 0 && !symm_failure_parse(why, length, &answer->failed))
		return symm_keyspace_damaged(ks, "group", "field why is not \"CODE RANK TEXT\"");
	if (!symm_reply_int(symm_reply_at(reply, 3), &members) || members < 0 || members > SYMM_WORLD_LIMIT)
		return symm_keyspace_damaged(ks, "members", "their number is none");
	for (size_t i = 4; i < count && !rc; i++)
		rc = symm_rank_parse(ks, "leases", symm_reply_at(reply, i), SYMM_WORLD_LIMIT, &expired[i - 4]);
	answer->members = (int)members;
	answer->expired = expired;
	answer->n_expired = count - 4;
	return rc;
}

static void refresh_finished(void *arg, const struct symm_reply *reply, const struct symm_err *err)
{
	struct refresh *refresh = arg;
	struct symm_lease_answer answer = { .failed.rank = -1 }, bad = { .failed.rank = -1 };
	int rc, *expired = calloc(symm_reply_count(reply) + 1, sizeof(*expired));

	if (err && err->code && symm_is_wrong_type(err->code, err->text))
		symm_err_set(&bad.err, SYMM_EPROTO, "key %sgroup or one beside it: %.300s", refresh->ks.prefix,
			     err->text);
	else if (err && err->code)
		bad.err = *err;
	else if (!expired)
		symm_err_set(&bad.err, SYMM_ENOMEM, "answer to a lease refresh of %s", refresh->ks.prefix);
	else if ((rc = refresh_parse(&refresh->ks, reply, &answer, expired)))
		symm_err_take(&bad.err, rc);
	refresh->finished(refresh->arg, bad.err.code ? &bad : &answer);
	free(expired);
	free(refresh);
}

int symm_keyspace_refresh(struct symm_keyspace *ks, const struct symm_member *member, const char *doing,
			  int64_t deadline, void (*finished)(void *arg, const struct symm_lease_answer *answer),
			  void *arg)
{
	struct refresh *refresh = malloc(sizeof(*refresh));
	struct symm_call call;
	int rc;

	if (!refresh)
		return symm_error(SYMM_ENOMEM, "lease refresh of %s", ks->prefix);
	*refresh = (struct refresh){ .ks = *ks, .finished = finished, .arg = arg };
	symm_call_init(&call, &symm_script_refresh);
	symm_call_group_keys(&call, ks, 5);
	symm_call_generation_key(&call, ks, ks->nonce, "host", member->process.boot);
	symm_call_nonce(&call, ks);
	symm_call_member(&call, member);
	symm_command_int(&call.command, ks->lease_ms);
	symm_command_int(&call.command, symm_keyspace_lifetime_ms(ks));
	symm_text_clean(call.text, SYMM_DOING_MAX, doing, strlen(doing));
	symm_command_text(&call.command, call.text);
	rc = symm_store_send(ks->store, &call.command, deadline, refresh_finished, refresh);
	if (rc)
		free(refresh);
	return rc;
}
