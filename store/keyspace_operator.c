#include "keyspace_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- finding keys ---- */

struct keys {
	char **key;
	size_t n, room;
};

static void keys_free(struct keys *keys)
{
	for (size_t i = 0; i < keys->n; i++)
		free(keys->key[i]);
	free(keys->key);
}

static int keys_add(struct keys *keys, const char *key)
{
	if (keys->n == keys->room) {
		size_t room = keys->room ? 2 * keys->room : 64;
		char **grown = realloc(keys->key, room * sizeof(*grown));

		if (!grown)
			return symm_error(SYMM_ENOMEM, "%zu keys", room);
		keys->key = grown;
		keys->room = room;
	}
	keys->key[keys->n] = strdup(key);
	if (!keys->key[keys->n])
		return symm_error(SYMM_ENOMEM, "%zu keys", keys->n);
	keys->n++;
	return SYMM_OK;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* SCAN may give a key more than once. */
static void keys_order(struct keys *keys)
{
	size_t kept = 0;

	if (keys->n > 1)
		qsort(keys->key, keys->n, sizeof(*keys->key), by_text);
	for (size_t i = 0; i < keys->n; i++) {
		if (kept > 0 && strcmp(keys->key[kept - 1], keys->key[i]) == 0)
			free(keys->key[i]);
		else
			keys->key[kept++] = keys->key[i];
	}
	keys->n = kept;
}

static int scan_step(struct symm_store *store, const char *pattern, char cursor[24], int64_t deadline,
		     struct keys *keys)
{
	struct symm_command command;
	struct symm_reply *reply;
	const struct symm_reply *found;
	const char *next;
	int rc;

	symm_command_init(&command, NULL);
	symm_command_text(&command, "SCAN");
	symm_command_text(&command, cursor);
	symm_command_text(&command, "MATCH");
	symm_command_text(&command, pattern);
	symm_command_text(&command, "COUNT");
	symm_command_int(&command, 1000);
	rc = symm_keyspace_send(store, &command, deadline, &reply);
	if (rc)
		return rc;
	next = symm_reply_text(symm_reply_at(reply, 0), NULL);
	found = symm_reply_at(reply, 1);
	if (!next || strlen(next) >= 24)
		rc = symm_error(SYMM_EPROTO, "SCAN for %s: the answer has no cursor", pattern);
	else
		strcpy(cursor, next);
	for (size_t i = 0; i < symm_reply_count(found) && !rc; i++) {
		size_t length;
		const char *key = symm_reply_text(symm_reply_at(found, i), &length);

		/* A key with a NUL in it is not ours. */
		if (key && strlen(key) == length)
			rc = keys_add(keys, key);
	}
	symm_reply_free(reply);
	return rc;
}

/* All keys that match; names and prefixes hold none of a pattern's special characters. On failure *keys holds
 * nothing. */
static int scan(struct symm_store *store, const char *pattern, int64_t deadline, struct keys *keys)
{
	struct keys found = { 0 };
	char cursor[24] = "0";
	int rc;

	do {
		rc = scan_step(store, pattern, cursor, deadline, &found);
	} while (!rc && strcmp(cursor, "0") != 0);
	if (rc) {
		keys_free(&found);
		return rc;
	}
	keys_order(&found);
	*keys = found;
	return SYMM_OK;
}

/* ---- list and remove ---- */

/* Takes "symm:{JOB/GROUP}:group" apart, in place; false for somebody else's key. */
static bool names_parse(char *key, const char **job, const char **group)
{
	static const char head[] = "symm:{", tail[] = "}:group";
	size_t length = strlen(key);
	char *slash, *end;

	if (length < strlen(head) + strlen(tail))
		return false;
	end = key + length - strlen(tail);
	slash = strchr(key, '/');
	if (!slash || slash > end || strncmp(key, head, strlen(head)) != 0 || strcmp(end, tail) != 0)
		return false;
	*slash = *end = '\0';
	*job = key + strlen(head);
	*group = slash + 1;
	return symm_name_is_good(*job, strlen(*job)) && symm_name_is_good(*group, strlen(*group));
}

int symm_keyspace_list(struct symm_store *store, const char *job, int64_t deadline,
		       void (*each)(void *arg, const char *job, const char *group), void *arg)
{
	char pattern[SYMM_NAME_MAX + 32];
	struct keys keys;
	const char *j, *g;
	int rc = job ? symm_name_check("job", job) : SYMM_OK;

	if (rc)
		return rc;
	if (job)
		snprintf(pattern, sizeof(pattern), "symm:{%s/*}:group", job);
	else
		snprintf(pattern, sizeof(pattern), "symm:{*}:group");
	rc = scan(store, pattern, deadline, &keys);
	if (rc)
		return rc;
	for (size_t i = 0; i < keys.n; i++)
		if (names_parse(keys.key[i], &j, &g))
			each(arg, j, g);
	keys_free(&keys);
	return SYMM_OK;
}

static int names_check(const char *job, const char *group)
{
	int rc = symm_name_check("job", job);

	return rc ? rc : symm_name_check("group", group);
}

static int remove_some(struct symm_store *store, char *const *key, size_t n, int64_t deadline, int64_t *deleted)
{
	struct symm_command command;
	struct symm_reply *reply;
	int64_t count;
	int rc;

	symm_command_init(&command, NULL);
	symm_command_text(&command, "UNLINK");
	for (size_t i = 0; i < n; i++)
		symm_command_text(&command, key[i]);
	rc = symm_keyspace_send(store, &command, deadline, &reply);
	if (rc)
		return rc;
	if (symm_reply_int(reply, &count))
		*deleted += count;
	else
		rc = symm_error(SYMM_EPROTO, "UNLINK %s: the answer is no number", key[0]);
	symm_reply_free(reply);
	return rc;
}

int symm_keyspace_remove(struct symm_store *store, const char *job, const char *group, int64_t deadline,
			 int64_t *deleted)
{
	const size_t batch = SYMM_STORE_ARGS - 1;
	struct symm_keyspace ks;
	char pattern[sizeof(ks.prefix) + 2];
	struct keys keys;
	int64_t count = 0;
	int rc = names_check(job, group);

	if (rc)
		return rc;
	symm_keyspace_init(&ks, store, job, group, 0);
	snprintf(pattern, sizeof(pattern), "%s*", ks.prefix);
	rc = scan(store, pattern, deadline, &keys);
	if (rc)
		return rc;
	for (size_t i = 0; i < keys.n && !rc; i += batch)
		rc = remove_some(store, keys.key + i, keys.n - i < batch ? keys.n - i : batch, deadline, &count);
	keys_free(&keys);
	if (!rc)
		*deleted = count;
	return rc;
}

/* ---- show ---- */

static int by_seq(const void *a, const void *b)
{
	const struct symm_rendezvous_state *x = a, *y = b;

	return (x->seq > y->seq) - (x->seq < y->seq);
}

/* The number at the end of PREFIX NONCE:KIND:SEQ; 0, which is the join, for any other key. */
static uint64_t key_seq(const char *key, size_t nonce_end)
{
	static const char *const kinds[] = { "arrived:", "vote:", "verdict:" };

	for (int i = 0; i < 3; i++) {
		const char *digits = key + nonce_end + strlen(kinds[i]);
		char *end;
		uint64_t seq;

		if (strncmp(key + nonce_end, kinds[i], strlen(kinds[i])) != 0 || *digits < '1' || *digits > '9')
			continue;
		seq = strtoull(digits, &end, 10);
		return *end == '\0' ? seq : 0;
	}
	return 0;
}

/* Makes the list of rendezvous, with their numbers alone. */
static int find_rendezvous(const struct symm_keyspace *ks, int64_t deadline, struct symm_group_state *state)
{
	char pattern[SYMM_KEY_MAX];
	struct symm_rendezvous_state *list;
	struct keys keys;
	size_t nonce_end = (size_t)snprintf(pattern, sizeof(pattern), "%s%016" PRIx64 ":*", ks->prefix, ks->nonce) - 1,
	       n = 0;
	int rc = scan(ks->store, pattern, deadline, &keys);

	if (rc)
		return rc;
	list = calloc(keys.n + 1, sizeof(*list));
	for (size_t i = 0; list && i < keys.n; i++) {
		list[n].seq = key_seq(keys.key[i], nonce_end);
		n += list[n].seq != 0;
	}
	keys_free(&keys);
	if (!list)
		return symm_error(SYMM_ENOMEM, "rendezvous of %s", ks->prefix);
	qsort(list, n, sizeof(*list), by_seq);
	state->rendezvous = list;
	for (size_t i = 0; i < n; i++)
		if (i == 0 || list[i].seq != list[state->n_rendezvous - 1].seq)
			list[state->n_rendezvous++].seq = list[i].seq;
	return SYMM_OK;
}

/* Which ranks have a field in NONCE:KIND:SEQ. */
static int show_ranks(struct symm_keyspace *ks, const char *kind, uint64_t seq, int world, int64_t deadline,
		      uint8_t **has, size_t *n)
{
	struct symm_call call;
	struct symm_reply *reply;
	int rank, rc;

	*has = calloc((size_t)world, 1);
	if (!*has)
		return symm_error(SYMM_ENOMEM, "ranks of %s", ks->prefix);
	symm_call_init(&call, NULL);
	symm_command_text(&call.command, "HKEYS");
	symm_call_rendezvous_key(&call, ks, kind, seq);
	rc = symm_keyspace_send(ks->store, &call.command, deadline, &reply);
	if (rc)
		return rc;
	for (size_t i = 0; i < symm_reply_count(reply) && !rc; i++) {
		rc = symm_rank_parse(ks, call.key[0] + strlen(ks->prefix), symm_reply_at(reply, i), world, &rank);
		if (!rc && !(*has)[rank]) {
			(*has)[rank] = 1;
			++*n;
		}
	}
	symm_reply_free(reply);
	return rc;
}

static int show_rendezvous(struct symm_keyspace *ks, int world, int64_t deadline, struct symm_rendezvous_state *r)
{
	int rc = show_ranks(ks, "arrived", r->seq, world, deadline, &r->has_arrived, &r->arrived);

	if (!rc)
		rc = show_ranks(ks, "vote", r->seq, world, deadline, &r->has_voted, &r->voted);
	if (!rc)
		rc = symm_keyspace_poll(ks, r->seq, deadline, &r->verdict);
	return rc;
}

static int show(struct symm_keyspace *ks, int64_t deadline, struct symm_group_state *state)
{
	struct symm_census census;
	int rc = symm_keyspace_census(ks, true, deadline, &census);

	if (rc)
		return rc;
	state->generation = census.generation;
	state->members = census.members;
	state->n_members = census.n;
	strcpy(state->why, census.why.text);
	ks->nonce = census.generation.nonce;
	rc = find_rendezvous(ks, deadline, state);
	for (size_t i = 0; i < state->n_rendezvous && !rc; i++)
		rc = show_rendezvous(ks, census.generation.world, deadline, &state->rendezvous[i]);
	return rc;
}

int symm_keyspace_show(struct symm_store *store, const char *job, const char *group, int64_t deadline,
		       struct symm_group_state **state)
{
	struct symm_keyspace ks;
	struct symm_group_state *s;
	int rc = names_check(job, group);

	if (rc)
		return rc;
	s = calloc(1, sizeof(*s));
	if (!s)
		return symm_error(SYMM_ENOMEM, "state of group %s/%s", job, group);
	strcpy(s->job, job);
	strcpy(s->group, group);
	symm_keyspace_init(&ks, store, job, group, 0);
	rc = show(&ks, deadline, s);
	if (rc)
		symm_group_state_free(s);
	else
		*state = s;
	return rc;
}

void symm_group_state_free(struct symm_group_state *state)
{
	if (!state)
		return;
	for (size_t i = 0; i < state->n_rendezvous; i++) {
		free(state->rendezvous[i].has_arrived);
		free(state->rendezvous[i].has_voted);
	}
	free(state->rendezvous);
	free(state->members);
	free(state);
}
