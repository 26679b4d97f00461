#include "keyspace_help.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

struct symm_loop *loop;
struct symm_store *store;

int64_t soon(void)
{
	return symm_now() + 20000 * SYMM_NS_PER_MS;
}

/* ---- Redis by hand ---- */

enum { LINE = 2000 };

static void append(char out[LINE], const struct symm_reply *reply)
{
	const char *text = symm_reply_text(reply, NULL), *space = out[0] ? " " : "";
	size_t used = strlen(out);
	int64_t n;

	for (size_t i = 0; i < symm_reply_count(reply); i++)
		append(out, symm_reply_at(reply, i));
	if (text)
		snprintf(out + used, LINE - used, "%s%s", space, text);
	else if (symm_reply_int(reply, &n))
		snprintf(out + used, LINE - used, "%s%" PRId64, space, n);
}

const char *raw(const char *word, ...)
{
	static char out[LINE];
	struct symm_command command;
	struct symm_reply *reply;
	va_list words;

	symm_command_init(&command, NULL);
	va_start(words, word);
	for (; word; word = va_arg(words, const char *))
		symm_command_text(&command, word);
	va_end(words);
	out[0] = '\0';
	if (symm_store_call(store, &command, soon(), &reply))
		return symm_last_error();
	append(out, reply);
	symm_reply_free(reply);
	return out;
}

const char *key(const struct symm_keyspace *ks, const char *kind)
{
	static char out[256];

	snprintf(out, sizeof(out), "%s%s", ks->prefix, kind);
	return out;
}

const char *generation_key(const struct symm_keyspace *ks, const char *kind)
{
	static char out[256];

	snprintf(out, sizeof(out), "%s%016" PRIx64 ":%s", ks->prefix, ks->nonce, kind);
	return out;
}

/* ---- members ---- */

struct symm_member member(int rank, int life, const char *host)
{
	struct symm_member m = { .rank = rank };

	memset(m.incarnation.bytes, life, sizeof(m.incarnation.bytes));
	m.process.id = m.incarnation;
	snprintf(m.process.host, sizeof(m.process.host), "%s", host);
	snprintf(m.process.boot, sizeof(m.process.boot), "boot-of-%s", host);
	m.process.pid = 1000 + life;
	snprintf(m.process.socket, sizeof(m.process.socket), "symm-socket");
	m.device = (struct symm_device_id){ .kind = "host", .uuid = "-", .fabric = "-" };
	return m;
}

uint64_t nonce(int n)
{
	return n ? UINT64_C(0xfedcba9876543200) + (uint64_t)n : 0;
}

void group_make(struct group *group, const char *name, int world)
{
	static const char *const hosts[] = { "a", "b", "c" };
	struct symm_join_answer answer;

	symm_keyspace_init(&group->ks, store, "-", name, LEASE_MS);
	group->world = world;
	for (int r = 0; r < world; r++) {
		struct symm_join join = { .member = &group->member[r], .world = world, .fresh = nonce(1) };

		group->member[r] = member(r, r + 1, hosts[r % 3]);
		join.expected = r ? nonce(1) : 0;
		if (symm_keyspace_join(&group->ks, &join, soon(), &answer))
			tap_bail("group %s, rank %d: %s", name, r, symm_last_error());
	}
	if (answer.what != SYMM_JOIN_SEALED)
		tap_bail("group %s: not sealed, but %d", name, answer.what);
}

struct symm_verdict publish(struct group *g, int rank, uint64_t seq, const char *digest, const struct symm_err *failure)
{
	struct symm_verdict v = { .rank = -2 };

	for (int i = 0; i < 2; i++)
		is_int(symm_keyspace_publish(&g->ks, &g->member[rank], g->world, seq, digest, NULL, failure, TTL_MS,
					     soon(), NULL, &v),
		       0, "rank %d publishes for %d%s", rank, (int)seq, i ? ", again" : "");
	return v;
}

struct symm_verdict vote(struct group *g, int rank, uint64_t seq, const struct symm_err *failure)
{
	struct symm_verdict v = { .rank = -2 };

	for (int i = 0; i < 2; i++)
		is_int(symm_keyspace_vote(&g->ks, &g->member[rank], g->world, seq, failure, TTL_MS, soon(), &v), 0,
		       "rank %d votes for %d%s", rank, (int)seq, i ? ", again" : "");
	return v;
}

struct symm_verdict decide(struct group *g, int rank, uint64_t seq, int code, const char *text)
{
	struct symm_err failure;
	struct symm_verdict v = { .rank = -2 };

	symm_err_set(&failure, code, "%s", text);
	is_int(symm_keyspace_decide(&g->ks, rank, seq, &failure, TTL_MS, soon(), &v), 0, "rank %d decides on %d", rank,
	       (int)seq);
	return v;
}

void is_verdict(const struct symm_verdict *v, int what, int code, int rank, const char *text, const char *name)
{
	if (is_int(v->what, what, "%s: verdict", name) && what == SYMM_VERDICT_FAILED) {
		is_int(v->code, code, "%s: code", name);
		is_int(v->rank, rank, "%s: rank", name);
		is_str(v->text, text, "%s: text", name);
	}
}

void is_poll(struct group *g, uint64_t seq, int what, const char *name)
{
	struct symm_verdict v = { .rank = -2 };

	is_int(symm_keyspace_poll(&g->ks, seq, soon(), &v), 0, "%s: poll", name);
	is_int(v.what, what, "%s: verdict polled", name);
}

void is_empty(const char *name)
{
	is_str(raw("KEYS", "*", NULL), "", "%s: nothing is left", name);
	raw("FLUSHALL", NULL);
}

/* ---- leases ---- */

static void refresh_finished(void *arg, const struct symm_lease_answer *answer)
{
	struct refreshed *r = arg;

	r->code = answer->err.code;
	if (r->code)
		snprintf(r->text, sizeof(r->text), "%s", answer->err.text);
	r->failed_code = answer->failed.what == SYMM_VERDICT_FAILED ? answer->failed.code : 0;
	r->n_expired = (int)answer->n_expired;
	r->expired = answer->n_expired ? answer->expired[0] : -1;
	symm_done_set(&r->done);
}

struct refreshed refresh(struct symm_keyspace *ks, const struct symm_member *m, const char *doing)
{
	struct refreshed r = { .code = 1 };

	symm_done_init(&r.done);
	if (is_int(symm_keyspace_refresh(ks, m, doing, soon(), refresh_finished, &r), 0, "a refresh is sent"))
		ok(symm_done_wait(&r.done, soon()), "and answered");
	return r;
}

/* ---- the server ---- */

void suite_start(struct tap_redis *redis, enum tap_redis_kind kind)
{
	tap_redis_start(redis, kind);
	if (symm_loop_get(&loop) || symm_store_open(loop, redis->url, soon(), &store))
		tap_bail("%s: %s", redis->url, symm_last_error());
}

int suite_end(struct tap_redis *redis)
{
	symm_store_close(store);
	symm_loop_put(loop);
	tap_redis_stop(redis);
	return tap_done();
}
