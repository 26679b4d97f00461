#include "doctor.h"

#include "base.h"
#include "connect.h"
#include "tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PINGS 21
#define SLOW_NS (10 * SYMM_NS_PER_MS)
/* Enough for the ranks of a few jobs, each with a connection or two. */
#define FEW_CLIENTS 100

struct server {
	struct symm_tool_store connection;
	int64_t patience; /* for each call, in nanoseconds */
	char *info;       /* what INFO says; "" if it is forbidden */
};

/* ---- talking to it ---- */

static int call(struct server *server, const char *const *words, struct symm_reply **reply)
{
	struct symm_command command;

	symm_command_init(&command, NULL);
	for (; *words != NULL; words++)
		symm_command_text(&command, *words);
	return symm_store_call(server->connection.store, &command, symm_now() + server->patience, reply);
}

static int load_info(struct server *server)
{
	static const char *const words[] = { "INFO", NULL };
	struct symm_reply *reply;
	const char *text = NULL;
	size_t length;

	if (call(server, words, &reply) == 0) {
		text = symm_reply_text(reply, &length);
		server->info = strdup(text != NULL ? text : "");
		symm_reply_free(reply);
	} else {
		server->info = strdup("");
	}
	return server->info != NULL ? 0 : symm_error(SYMM_ENOMEM, "no memory");
}

static bool field(const struct server *server, const char *name, char out[64])
{
	return symm_tool_field(server->info, name, out, 64);
}

/* It does not answer, or does not want us. */
static void tell_unreached(struct symm_doctor *doctor, int rc)
{
	symm_doctor_tell(doctor, SYMM_HEALTH_BAD, "store",
			 rc == SYMM_EAUTH
				 ? "correct the user and password (SYMM_REDIS_PASSWORD), or the rights: ACL SETUSER"
			 : rc == SYMM_EINVAL ? "give --url or SYMM_URL as redis://HOST:PORT, rediss:// or unix:///PATH"
					     : "start redis-server, or give the URL of one that this host reaches",
			 "%s", symm_last_error());
}

static long long number(const struct server *server, const char *name)
{
	char text[64];

	return field(server, name, text) ? strtoll(text, NULL, 10) : 0;
}

/* ---- what is looked at ---- */

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void tell_latency(struct symm_doctor *doctor, struct server *server)
{
	static const char *const words[] = { "PING", NULL };
	int64_t ns[PINGS], median;
	int rc;

	for (int i = 0; i < PINGS; i++) {
		struct symm_reply *reply;

		ns[i] = symm_now();
		rc = call(server, words, &reply);
		if (rc != 0) {
			tell_unreached(doctor, rc);
			return;
		}
		ns[i] = symm_now() - ns[i];
		symm_reply_free(reply);
	}
	qsort(ns, PINGS, sizeof(ns[0]), by_value);
	median = ns[PINGS / 2];
	symm_doctor_tell(doctor, median < SLOW_NS ? SYMM_HEALTH_OK : SYMM_HEALTH_WARN, "store latency",
			 median < SLOW_NS ? NULL
					  : "take a server nearer to the ranks, or one with less to do: joining and "
					    "rendezvous take some ten round trips",
			 "%.3f ms a round trip (median of %d; longest %.3f ms)", (double)median / 1e6, PINGS,
			 (double)ns[PINGS - 1] / 1e6);
}

static void tell_version(struct symm_doctor *doctor, const struct server *server)
{
	char version[64], valkey[64];
	const char *name = symm_store_name(server->connection.store);

	if (!field(server, "redis_version", version)) {
		symm_doctor_tell(doctor, SYMM_HEALTH_WARN, "store",
				 "let the user run INFO (ACL SETUSER ... +info), so that more can be told",
				 "%s answers, but does not say what it is", name);
		return;
	}
	if (atoi(version) < 5)
		symm_doctor_tell(doctor, SYMM_HEALTH_BAD, "store", "install Redis 5 or later, or Valkey",
				 "%s is Redis %s, which has no streams", name, version);
	else if (field(server, "valkey_version", valkey))
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "store", NULL, "%s, Valkey %s", name, valkey);
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "store", NULL, "%s, Redis %s", name, version);
}

/* Redis 5 tells maxclients by CONFIG alone. */
static long long max_clients(struct server *server)
{
	static const char *const words[] = { "CONFIG", "GET", "maxclients", NULL };
	long long clients = number(server, "maxclients");
	struct symm_reply *reply;
	int64_t value;

	if (clients > 0 || call(server, words, &reply) != 0)
		return clients;
	if (symm_reply_int(symm_reply_at(reply, 1), &value))
		clients = value;
	symm_reply_free(reply);
	return clients;
}

static void tell_clients(struct symm_doctor *doctor, struct server *server)
{
	long long most = max_clients(server), now = number(server, "connected_clients"), left = most - now;
	bool few = left < FEW_CLIENTS;

	if (most == 0)
		return;
	symm_doctor_tell(doctor,
			 left < doctor->ranks ? SYMM_HEALTH_BAD
			 : few                ? SYMM_HEALTH_WARN
					      : SYMM_HEALTH_OK,
			 "store clients",
			 left < doctor->ranks || few
				 ? "CONFIG SET maxclients 10000, with ulimit -n of the server above it, "
				   "or end clients that are of no use: CLIENT LIST"
				 : NULL,
			 "%lld of at most %lld are connected; each process of a rank is one", now, most);
}

static bool is_set(const struct server *server, const char *name, const char *value)
{
	char text[64];

	return field(server, name, text) && strcmp(text, value) == 0;
}

/* False: it takes no writes. */
static bool tell_role(struct symm_doctor *doctor, const struct server *server)
{
	if (is_set(server, "cluster_enabled", "1") || is_set(server, "redis_mode", "cluster"))
		symm_doctor_tell(doctor, SYMM_HEALTH_WARN, "store role",
				 "use a server that is no cluster, or the node that CLUSTER KEYSLOT and CLUSTER SLOTS "
				 "show for the key {JOB/GROUP}",
				 "it is a node of a cluster: a group works if this node has its slot");
	if (!is_set(server, "role", "slave"))
		return true;
	symm_doctor_tell(doctor, SYMM_HEALTH_BAD, "store role",
			 "point the URL at the primary: INFO replication names it",
			 "it is a replica, which takes no writes");
	return false;
}

/* All keys of symm have a TTL, so that policies for volatile keys evict them too. */
static void tell_memory(struct symm_doctor *doctor, const struct server *server)
{
	long long most = number(server, "maxmemory"), used = number(server, "used_memory");
	char policy[64] = "noeviction";

	field(server, "maxmemory_policy", policy);
	if (most == 0)
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "store memory", NULL, "%lld KiB used, no limit", used >> 10);
	else if (strcmp(policy, "noeviction") != 0)
		symm_doctor_tell(doctor, SYMM_HEALTH_WARN, "store memory",
				 "CONFIG SET maxmemory-policy noeviction, or a server of its own for symm",
				 "policy %s evicts keys once %lld KiB are used, which fails groups; now %lld KiB are",
				 policy, most >> 10, used >> 10);
	else
		symm_doctor_tell(doctor, used < most / 10 * 9 ? SYMM_HEALTH_OK : SYMM_HEALTH_WARN, "store memory",
				 used < most / 10 * 9 ? NULL
						      : "CONFIG SET maxmemory to more, or delete what is not needed",
				 "%lld of %lld KiB used, nothing is evicted", used >> 10, most >> 10);
}

static void tell_persistence(struct symm_doctor *doctor, const struct server *server)
{
	symm_doctor_tell(doctor, SYMM_HEALTH_OK, "store disk", NULL, "%s; symm needs none",
			 is_set(server, "aof_enabled", "1") ? "writes an append-only file" : "no append-only file");
}

/* ---- rights: each command that symm sends, in a form that changes nothing ---- */

/* KEY is a string with a TTL. What wants another type is refused for that alone, after the rights were checked. */
#define KEY "symm:{doctor}:key"
static const char *const commands[][8] = {
	{ "SET", KEY, "symm doctor", "PX", "5000" },
	{ "PEXPIRE", KEY, "5000" },
	{ "GET", KEY },
	{ "EXISTS", KEY },
	{ "HGET", KEY, "0" },
	{ "HMGET", KEY, "0" },
	{ "HGETALL", KEY },
	{ "HKEYS", KEY },
	{ "HVALS", KEY },
	{ "HLEN", KEY },
	{ "HEXISTS", KEY, "0" },
	{ "HSET", KEY, "0", "0" },
	{ "HSETNX", KEY, "0", "0" },
	{ "HDEL", KEY, "0" },
	{ "SADD", KEY, "0" },
	{ "SMEMBERS", KEY },
	{ "SREM", KEY, "0" },
	{ "ZADD", KEY, "0", "0" },
	{ "ZSCORE", KEY, "0" },
	{ "ZRANGEBYSCORE", KEY, "0", "0" },
	{ "ZREM", KEY, "0" },
	{ "XADD", KEY, "*", "0", "0" },
	{ "TIME" },
	{ "SCAN", "0", "MATCH", KEY, "COUNT", "1" },
	{ "EVAL", "return redis.call('TIME')", "1", KEY },
	{ "EVALSHA", "0000000000000000000000000000000000000000", "1", KEY },
	{ "UNLINK", KEY },
	{ "DEL", KEY },
};

/* Answers that come after the rights have been checked: as good as success. */
static bool is_allowed(struct server *server, const char *const *words)
{
	struct symm_reply *reply;

	if (call(server, words, &reply) != 0)
		return strstr(symm_last_error(), "WRONGTYPE") != NULL || strstr(symm_last_error(), "NOSCRIPT") != NULL;
	symm_reply_free(reply);
	return true;
}

static void tell_rights(struct symm_doctor *doctor, struct server *server)
{
	char refused[SYMM_ERROR_TEXT] = "";
	const size_t n = sizeof(commands) / sizeof(commands[0]);

	for (size_t i = 0; i < n; i++) {
		size_t used = strlen(refused);

		if (!is_allowed(server, commands[i]))
			snprintf(refused + used, sizeof(refused) - used, " %s", commands[i][0]);
		/* Without the key that it makes, what follows would make one. */
		if (i == 0 && refused[0] != '\0') {
			symm_doctor_tell(
				doctor, SYMM_HEALTH_BAD, "store rights",
				strstr(symm_last_error(), "NOPERM") != NULL
					? "ACL SETUSER ... ~symm:* +@all -@dangerous +info, or another user in the URL"
					: "as it says; for OOM: CONFIG SET maxmemory to more, or delete what is not "
					  "needed",
				"%s", symm_last_error());
			return;
		}
	}
	if (refused[0] == '\0')
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "store rights", NULL,
				 "all %zu commands of symm, on keys symm:*", n);
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_BAD, "store rights",
				 "ACL SETUSER ... ~symm:* with + for each of these, or another user in the URL",
				 "refused:%s", refused);
}

static void tell_clock(struct symm_doctor *doctor, struct server *server)
{
	static const char *const words[] = { "TIME", NULL };
	struct symm_reply *reply;
	int64_t seconds;

	if (call(server, words, &reply) != 0)
		return;
	if (symm_reply_int(symm_reply_at(reply, 0), &seconds))
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "store clock", NULL,
				 "%+" PRId64 " s against this host; leases go by the server's alone",
				 seconds - (int64_t)time(NULL));
	symm_reply_free(reply);
}

static void tell_server(struct symm_doctor *doctor, struct server *server)
{
	tell_version(doctor, server);
	tell_latency(doctor, server);
	if (tell_role(doctor, server))
		tell_rights(doctor, server);
	tell_clock(doctor, server);
	if (server->info[0] == '\0')
		return;
	tell_clients(doctor, server);
	tell_memory(doctor, server);
	tell_persistence(doctor, server);
}

void symm_doctor_store(struct symm_doctor *doctor, const char *url)
{
	struct server server = { .info = NULL };
	int64_t start = symm_now();
	int rc;

	if (url == NULL && symm_tool_env("SYMM_URL") == NULL) {
		symm_doctor_tell(doctor, SYMM_HEALTH_OK, "store", NULL,
				 "not looked at: no --url and no SYMM_URL; symmrun starts a server of its own");
		return;
	}
	rc = symm_tool_connect(&server.connection, url);
	if (rc != 0) {
		tell_unreached(doctor, rc);
		return;
	}
	server.patience = server.connection.deadline - start;
	if (load_info(&server) == 0)
		tell_server(doctor, &server);
	else
		symm_doctor_tell(doctor, SYMM_HEALTH_BAD, "store", "free memory", "%s", symm_last_error());
	free(server.info);
	symm_tool_disconnect(&server.connection);
}
