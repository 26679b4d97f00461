#include "keyspace_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

bool symm_name_is_good(const char *name, size_t length)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-";

	return length >= 1 && length <= SYMM_NAME_MAX && strspn(name, good) >= length;
}

int symm_name_check(const char *what, const char *name)
{
	if (!name)
		return symm_error(SYMM_EINVAL, "%s name: NULL", what);
	if (!symm_name_is_good(name, strlen(name)))
		return symm_error(SYMM_EINVAL, "%s name \"%.80s\": 1 to %d of A-Z a-z 0-9 . _ : - are allowed", what,
				  name, SYMM_NAME_MAX);
	return SYMM_OK;
}

void symm_keyspace_init(struct symm_keyspace *ks, struct symm_store *store, const char *job, const char *group,
			int64_t lease_ms)
{
	ks->store = store;
	ks->nonce = 0;
	ks->lease_ms = lease_ms;
	ks->part[0] = '\0';
	snprintf(ks->prefix, sizeof(ks->prefix), "symm:{%.*s/%.*s}:", SYMM_NAME_MAX, job, SYMM_NAME_MAX, group);
}

int64_t symm_keyspace_lifetime_ms(const struct symm_keyspace *ks)
{
	return SYMM_LEASES_KEPT * ks->lease_ms;
}

/* ---- calls ---- */

void symm_call_init(struct symm_call *call, struct symm_script *script)
{
	symm_command_init(&call->command, script);
}

void symm_call_key(struct symm_call *call, const struct symm_keyspace *ks, const char *format, ...)
{
	char *key = call->key[call->command.keys];
	size_t used = strlen(ks->prefix);
	va_list args;

	memcpy(key, ks->prefix, used);
	va_start(args, format);
	vsnprintf(key + used, SYMM_KEY_MAX - used, format, args);
	va_end(args);
	symm_command_key(&call->command, key);
}

void symm_call_generation_key(struct symm_call *call, const struct symm_keyspace *ks, uint64_t nonce, const char *kind,
			      const char *of)
{
	symm_call_key(call, ks, "%016" PRIx64 ":%s:%s", nonce, kind, of);
}

void symm_call_rendezvous_key(struct symm_call *call, const struct symm_keyspace *ks, const char *kind, uint64_t seq)
{
	symm_call_key(call, ks, "%016" PRIx64 ":%s%s%s:%" PRIu64, ks->nonce, ks->part, ks->part[0] != '\0' ? "-" : "",
		      kind, seq);
}

void symm_call_rendezvous_keys(struct symm_call *call, const struct symm_keyspace *ks, uint64_t seq)
{
	static const char *const kinds[] = {
		"arrived", "fabric", "vote", "verdict", "multicast-arrived", "multicast-vote", "multicast-verdict"
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		symm_call_key(call, ks, "%016" PRIx64 ":%s:%" PRIu64, ks->nonce, kinds[i], seq);
}

void symm_call_seq(struct symm_call *call, const struct symm_keyspace *ks, uint64_t seq)
{
	snprintf(call->seq, sizeof(call->seq), "%" PRIu64 "%s%s", seq, ks->part[0] != '\0' ? ", " : "", ks->part);
	symm_command_text(&call->command, call->seq);
}

void symm_call_group_keys(struct symm_call *call, const struct symm_keyspace *ks, int n)
{
	static const char *const names[] = { "group", "members", "leases", "doing", "events" };

	for (int i = 0; i < n; i++)
		symm_call_key(call, ks, "%s", names[i]);
}

void symm_call_nonce(struct symm_call *call, const struct symm_keyspace *ks)
{
	snprintf(call->nonce, sizeof(call->nonce), "%016" PRIx64, ks->nonce);
	symm_command_text(&call->command, call->nonce);
}

void symm_call_member(struct symm_call *call, const struct symm_member *member)
{
	symm_id_format(&member->incarnation, call->incarnation);
	symm_command_int(&call->command, member->rank);
	symm_command_text(&call->command, call->incarnation);
}

int symm_keyspace_damaged(const struct symm_keyspace *ks, const char *key, const char *what)
{
	return symm_error(SYMM_EPROTO, "key %s%s: %s", ks->prefix, key, what);
}

bool symm_is_wrong_type(int code, const char *text)
{
	return code == SYMM_ESTORE && strstr(text, "WRONGTYPE");
}

int symm_keyspace_send(struct symm_store *store, const struct symm_command *command, int64_t deadline,
		       struct symm_reply **reply)
{
	int rc = symm_store_call(store, command, deadline, reply);

	if (symm_is_wrong_type(rc, symm_last_error()))
		return symm_error_prefix(SYMM_EPROTO, "key %s or one beside it", command->arg[command->script ? 0 : 1]);
	return rc;
}

int symm_keyspace_status(const struct symm_keyspace *ks, const struct symm_reply *reply, const char *also)
{
	const char *word = symm_reply_text(symm_reply_at(reply, 0), NULL);

	if (!word)
		return symm_keyspace_damaged(ks, "group", "the script's answer has no status");
	if (strcmp(word, "ok") == 0 || (also && strcmp(word, also) == 0))
		return SYMM_OK;
	if (strcmp(word, "stale") == 0)
		return symm_error(SYMM_ESTALE, "key %sgroup in %s: generation %016" PRIx64 " is gone or was replaced",
				  ks->prefix, symm_store_name(ks->store), ks->nonce);
	if (strcmp(word, "gone") == 0)
		return symm_error(SYMM_ENOENT, "key %smembers in %s: this rank is no member any more", ks->prefix,
				  symm_store_name(ks->store));
	if (strcmp(word, "none") == 0)
		return symm_error(SYMM_ENOENT, "no group %.*s in %s", (int)strlen(ks->prefix) - 8, ks->prefix + 6,
				  symm_store_name(ks->store));
	return symm_keyspace_damaged(ks, "group", "the script's answer has an unknown status");
}

int symm_keyspace_ask(const struct symm_keyspace *ks, struct symm_call *call, const char *also, int64_t deadline,
		      struct symm_reply **reply)
{
	struct symm_reply *got;
	int rc = symm_keyspace_send(ks->store, &call->command, deadline, &got);

	if (rc)
		return rc;
	rc = symm_keyspace_status(ks, got, also);
	if (rc)
		symm_reply_free(got);
	else
		*reply = got;
	return rc;
}

/* ---- what comes back ---- */

void symm_text_clean(char *out, size_t size, const char *text, size_t length)
{
	size_t n = length < size ? length : size - 1;

	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i];
	out[n] = '\0';
}

void symm_failure_format(char out[SYMM_FAILURE_MAX], int rank, const struct symm_err *failure)
{
	char text[SYMM_VERDICT_TEXT];

	symm_text_clean(text, sizeof(text), failure->text, strnlen(failure->text, sizeof(failure->text)));
	snprintf(out, SYMM_FAILURE_MAX, "%d %d %s", failure->code, rank, text);
}

bool symm_failure_parse(const char *text, size_t length, struct symm_verdict *verdict)
{
	int code, rank, used = 0;

	if (sscanf(text, "%4d %8d%n", &code, &rank, &used) != 2 || text[used] != ' ')
		return false;
	if (code > -1 || code < -99 || rank < -1 || rank >= SYMM_WORLD_LIMIT)
		return false;
	used++;
	verdict->what = SYMM_VERDICT_FAILED;
	verdict->code = code;
	verdict->rank = rank;
	symm_text_clean(verdict->text, sizeof(verdict->text), text + used, length - (size_t)used);
	return true;
}

static bool nonce_parse(const char *text, size_t length, uint64_t *nonce)
{
	if (length < 16 || strspn(text, "0123456789abcdef") != 16)
		return false;
	*nonce = strtoull(text, NULL, 16);
	return *nonce != 0;
}

int symm_verdict_parse(const struct symm_keyspace *ks, uint64_t seq, const struct symm_reply *reply,
		       struct symm_verdict *verdict)
{
	char key[64];
	uint64_t nonce;
	size_t length = 0;
	const char *text = symm_reply_text(reply, &length), *word;
	struct symm_verdict v = { .what = SYMM_VERDICT_NONE, .rank = -1 };

	snprintf(key, sizeof(key), "%016" PRIx64 ":%s%sverdict:%" PRIu64, ks->nonce, ks->part,
		 ks->part[0] != '\0' ? "-" : "", seq);
	if (!text && !(reply && symm_reply_is_nil(reply)))
		return symm_keyspace_damaged(ks, key, "no text");
	if (text && length > 0) {
		if (!nonce_parse(text, length, &nonce) || text[16] != ' ')
			return symm_keyspace_damaged(ks, key, "no nonce at its start");
		if (nonce != ks->nonce)
			return symm_error(SYMM_ESTALE, "key %s%s: it is of generation %016" PRIx64, ks->prefix, key,
					  nonce);
		word = text + 17;
		length -= 17;
		if (strcmp(word, "go") == 0)
			v.what = SYMM_VERDICT_GO;
		else if (strcmp(word, "ready") == 0)
			v.what = SYMM_VERDICT_READY;
		else if (strncmp(word, "fail ", 5) != 0 || !symm_failure_parse(word + 5, length - 5, &v))
			return symm_keyspace_damaged(ks, key, "no verdict");
	}
	*verdict = v;
	return SYMM_OK;
}

static bool state_parse(const char *text, struct symm_generation *generation)
{
	static const char *const names[] = {
		[SYMM_FORMING] = "forming", [SYMM_SEALED] = "sealed", [SYMM_FAILED] = "failed"
	};

	for (int i = 0; text && i < 3; i++)
		if (strcmp(text, names[i]) == 0) {
			generation->state = i;
			return true;
		}
	return false;
}

int symm_generation_parse(const struct symm_keyspace *ks, const struct symm_reply *reply, size_t first,
			  struct symm_generation *generation)
{
	struct symm_generation g = { 0 };
	size_t length = 0;
	const char *nonce = symm_reply_text(symm_reply_at(reply, first), &length);
	int64_t world, sealed;

	if (!nonce)
		return symm_keyspace_damaged(ks, "group", "the script's answer has no nonce");
	if (length > 0) {
		if (length != 16 || !nonce_parse(nonce, length, &g.nonce))
			return symm_keyspace_damaged(ks, "group", "field nonce is not 16 hex digits");
		if (!symm_reply_int(symm_reply_at(reply, first + 1), &g.number) || g.number < 1)
			return symm_keyspace_damaged(ks, "group", "field generation is not a number from 1 on");
		if (!state_parse(symm_reply_text(symm_reply_at(reply, first + 2), NULL), &g))
			return symm_keyspace_damaged(ks, "group", "field state is not forming, sealed or failed");
		if (!symm_reply_int(symm_reply_at(reply, first + 3), &world) || world < 1 || world > SYMM_WORLD_LIMIT)
			return symm_keyspace_damaged(ks, "group", "field world is not a world size");
		if (!symm_reply_int(symm_reply_at(reply, first + 4), &sealed))
			return symm_keyspace_damaged(ks, "group",
						     "the script's answer does not tell whether it was sealed");
		g.world = (int)world;
		g.sealed = sealed != 0;
	}
	*generation = g;
	return SYMM_OK;
}

int symm_rank_parse(const struct symm_keyspace *ks, const char *key, const struct symm_reply *element, int limit,
		    int *rank)
{
	int64_t n;

	if (!symm_reply_int(element, &n) || n < 0 || n >= limit)
		return symm_keyspace_damaged(ks, key, "holds something that is no rank");
	*rank = (int)n;
	return SYMM_OK;
}

int symm_record_parse(const struct symm_keyspace *ks, const struct symm_reply *element, int rank,
		      struct symm_member *member)
{
	size_t length = 0;
	const char *text = symm_reply_text(element, &length);
	struct symm_member m;
	int rc;

	if (!text)
		return symm_keyspace_damaged(ks, "members", "a record is no text");
	rc = symm_member_parse(text, length, &m);
	if (rc)
		return symm_error_prefix(rc, "key %smembers, field %d", ks->prefix, rank);
	if (m.rank != rank)
		return symm_error(SYMM_EPROTO, "key %smembers, field %d: the record is rank %d's", ks->prefix, rank,
				  m.rank);
	*member = m;
	return SYMM_OK;
}

static int presence_parse(const struct symm_keyspace *ks, const struct symm_reply *reply, size_t first, int world,
			  struct symm_presence *out)
{
	const struct symm_reply *record = symm_reply_at(reply, first + 1);
	size_t length = 0;
	const char *text = symm_reply_text(record, &length);
	int rank = 0, rc = symm_rank_parse(ks, "members", symm_reply_at(reply, first), world, &rank);

	memset(out, 0, sizeof(*out));
	if (rc)
		return rc;
	if (text && length == 0)
		out->member.rank = rank;
	else if ((rc = symm_record_parse(ks, record, rank, &out->member)))
		return rc;
	if (!symm_reply_int(symm_reply_at(reply, first + 2), &out->lease_ms))
		return symm_keyspace_damaged(ks, "leases", "a lease is no time");
	text = symm_reply_text(symm_reply_at(reply, first + 3), &length);
	if (!text)
		return symm_keyspace_damaged(ks, "doing", "a line is no text");
	symm_text_clean(out->doing, sizeof(out->doing), text, length);
	return SYMM_OK;
}

int symm_presences_parse(const struct symm_keyspace *ks, const struct symm_reply *reply, size_t first, int world,
			 struct symm_presence *out, size_t n)
{
	int rc = SYMM_OK;

	for (size_t i = 0; i < n && !rc; i++)
		rc = presence_parse(ks, reply, first + 4 * i, world, &out[i]);
	return rc;
}
