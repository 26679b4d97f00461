#include "keyspace_internal.h"

#include <stdio.h>
#include <string.h>

/* Sends a script whose answer is {"ok", verdict}. */
static int ask_verdict(const struct symm_keyspace *ks, struct symm_call *call, uint64_t seq, int64_t deadline,
		       struct symm_verdict *verdict)
{
	struct symm_reply *reply;
	int rc = symm_keyspace_ask(ks, call, NULL, deadline, &reply);

	if (rc)
		return rc;
	rc = symm_verdict_parse(ks, seq, symm_reply_at(reply, 1), verdict);
	symm_reply_free(reply);
	return rc;
}

int symm_keyspace_publish(struct symm_keyspace *ks, const struct symm_member *member, int world, uint64_t seq,
			  const char *digest, const struct symm_offer *offer, const struct symm_err *failure,
			  int64_t ttl_ms, int64_t deadline, const struct symm_meanwhile *meanwhile,
			  struct symm_verdict *verdict)
{
	struct symm_call call;
	char clean[SYMM_DIGEST_MAX];

	/* Cut, two different digests could read alike. */
	if (strlen(digest) >= sizeof(clean))
		return symm_error(SYMM_EINVAL, "digest of %zu bytes: %d at most", strlen(digest), SYMM_DIGEST_MAX - 1);
	symm_text_clean(clean, sizeof(clean), digest, strlen(digest));
	symm_call_init(&call, &symm_script_publish);
	symm_call_group_keys(&call, ks, 2);
	symm_call_key(&call, ks, "events");
	symm_call_rendezvous_key(&call, ks, "arrived", seq);
	symm_call_rendezvous_key(&call, ks, "verdict", seq);
	symm_call_rendezvous_key(&call, ks, "fabric", seq);
	symm_call_rendezvous_keys(&call, ks, seq - 1);
	symm_call_nonce(&call, ks);
	symm_call_member(&call, member);
	symm_command_text(&call.command, clean);
	symm_command_int(&call.command, world);
	symm_call_seq(&call, ks, seq);
	call.text[0] = '\0';
	if (failure && failure->code)
		symm_failure_format(call.text, member->rank, failure);
	symm_command_text(&call.command, call.text);
	symm_command_int(&call.command, ttl_ms);
	symm_command_int(&call.command, symm_keyspace_lifetime_ms(ks));
	call.offer[0] = '\0';
	if (offer)
		symm_offer_format(offer, call.offer);
	symm_command_text(&call.command, call.offer);
	call.command.meanwhile = meanwhile;
	return ask_verdict(ks, &call, seq, deadline, verdict);
}

/* Elements: a rank, what it has offered, and so on. */
static int offers_parse(const struct symm_keyspace *ks, const char *key, const struct symm_reply *reply, int world,
			struct symm_offer *offers)
{
	for (size_t i = 0; i < symm_reply_count(reply); i += 2) {
		size_t length = 0;
		const char *text = symm_reply_text(symm_reply_at(reply, i + 1), &length);
		int rank, rc = symm_rank_parse(ks, key, symm_reply_at(reply, i), world, &rank);

		if (rc)
			return rc;
		if (!text)
			return symm_keyspace_damaged(ks, key, "an offer is no text");
		rc = symm_offer_parse(text, length, &offers[rank]);
		if (rc)
			return symm_error_prefix(rc, "key %s%s, field %d", ks->prefix, key, rank);
	}
	return SYMM_OK;
}

int symm_keyspace_offers(struct symm_keyspace *ks, int world, uint64_t seq, int64_t deadline, struct symm_offer *offers)
{
	struct symm_call call;
	struct symm_reply *reply;
	int rc;

	symm_call_init(&call, NULL);
	symm_command_text(&call.command, "HGETALL");
	symm_call_rendezvous_key(&call, ks, "fabric", seq);
	rc = symm_keyspace_send(ks->store, &call.command, deadline, &reply);
	if (rc)
		return rc;
	memset(offers, 0, (size_t)world * sizeof(*offers));
	rc = offers_parse(ks, call.command.arg[1] + strlen(ks->prefix), reply, world, offers);
	symm_reply_free(reply);
	return rc;
}

int symm_keyspace_vote(struct symm_keyspace *ks, const struct symm_member *member, int world, uint64_t seq,
		       const struct symm_err *failure, int64_t ttl_ms, int64_t deadline, struct symm_verdict *verdict)
{
	struct symm_call call;
	const char *why = failure && failure->code ? failure->text : "";

	symm_call_init(&call, &symm_script_vote);
	symm_call_key(&call, ks, "group");
	symm_call_key(&call, ks, "events");
	symm_call_rendezvous_key(&call, ks, "vote", seq);
	symm_call_rendezvous_key(&call, ks, "verdict", seq);
	symm_call_nonce(&call, ks);
	symm_call_member(&call, member);
	symm_command_int(&call.command, failure ? failure->code : 0);
	symm_text_clean(call.text, SYMM_VERDICT_TEXT, why, strnlen(why, SYMM_ERROR_TEXT));
	symm_command_text(&call.command, call.text);
	symm_command_int(&call.command, world);
	symm_call_seq(&call, ks, seq);
	symm_command_int(&call.command, ttl_ms);
	symm_command_int(&call.command, symm_keyspace_lifetime_ms(ks));
	return ask_verdict(ks, &call, seq, deadline, verdict);
}

int symm_keyspace_decide(struct symm_keyspace *ks, int rank, uint64_t seq, const struct symm_err *failure,
			 int64_t ttl_ms, int64_t deadline, struct symm_verdict *verdict)
{
	struct symm_call call;

	symm_call_init(&call, &symm_script_decide);
	symm_call_key(&call, ks, "group");
	symm_call_key(&call, ks, "events");
	symm_call_rendezvous_key(&call, ks, "verdict", seq);
	symm_call_nonce(&call, ks);
	symm_command_int(&call.command, rank);
	symm_call_seq(&call, ks, seq);
	symm_failure_format(call.text, rank, failure);
	symm_command_text(&call.command, call.text);
	symm_command_int(&call.command, ttl_ms);
	symm_command_int(&call.command, symm_keyspace_lifetime_ms(ks));
	return ask_verdict(ks, &call, seq, deadline, verdict);
}

int symm_keyspace_poll(struct symm_keyspace *ks, uint64_t seq, int64_t deadline, struct symm_verdict *verdict)
{
	struct symm_call call;
	struct symm_reply *reply;
	int rc;

	symm_call_init(&call, NULL);
	symm_command_text(&call.command, "GET");
	symm_call_rendezvous_key(&call, ks, "verdict", seq);
	rc = symm_keyspace_send(ks->store, &call.command, deadline, &reply);
	if (rc)
		return rc;
	rc = symm_verdict_parse(ks, seq, reply, verdict);
	symm_reply_free(reply);
	return rc;
}

static int missing_parse(const struct symm_keyspace *ks, const struct symm_reply *reply, int world,
			 struct symm_presence *who, size_t max, size_t *missing, bool *voting)
{
	size_t count = symm_reply_count(reply), named = count > 3 ? (count - 3) / 4 : 0;
	int64_t votes, all;
	int rc;

	if (!symm_reply_int(symm_reply_at(reply, 1), &votes) || !symm_reply_int(symm_reply_at(reply, 2), &all) ||
	    all < 0 || all > world || named != ((size_t)all < max ? (size_t)all : max))
		return symm_keyspace_damaged(ks, "members", "the answer to who is missing is none");
	rc = symm_presences_parse(ks, reply, 3, world, who, named);
	if (rc)
		return rc;
	*missing = (size_t)all;
	*voting = votes != 0;
	return SYMM_OK;
}

int symm_keyspace_missing(struct symm_keyspace *ks, int world, uint64_t seq, int64_t deadline,
			  struct symm_presence *who, size_t max, size_t *missing, bool *voting)
{
	struct symm_call call;
	struct symm_reply *reply;
	int rc;

	symm_call_init(&call, &symm_script_missing);
	symm_call_group_keys(&call, ks, 4);
	symm_call_rendezvous_key(&call, ks, "arrived", seq);
	symm_call_rendezvous_key(&call, ks, "vote", seq);
	symm_call_nonce(&call, ks);
	symm_command_int(&call.command, world);
	symm_call_seq(&call, ks, seq);
	symm_command_int(&call.command, (int64_t)max);
	rc = symm_keyspace_ask(ks, &call, NULL, deadline, &reply);
	if (rc)
		return rc;
	rc = missing_parse(ks, reply, world, who, max, missing, voting);
	symm_reply_free(reply);
	return rc;
}
