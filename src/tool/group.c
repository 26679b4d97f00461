#include "connect.h"
#include "json.h"
#include "keyspace.h"
#include "tool.h"
#include "url.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char help[] = "usage: symm group list [OPTION ...]\n"
			   "       symm group show [OPTION ...] NAME\n"
			   "       symm group rm [OPTION ...] NAME\n"
			   "Reads in Redis how the groups of jobs are doing: their members, and who has\n"
			   "arrived at which rendezvous and who has not.\n\n"
			   "  list           every group, one a line\n"
			   "  show           one group with its members and rendezvous\n"
			   "  rm             deletes what a group that is no more has left in Redis\n\n"
			   "  --url URL      the store (default: SYMM_URL, which other users cannot see)\n"
			   "  --job JOB      groups of that job only\n"
			   "  --force        rm: even if there are members whose lease runs\n"
			   "  --json         JSON: list gives one object a line, show gives one object\n"
			   "  --help, -h     this text\n";

struct options {
	const char *url, *job;
	bool force, json;
	const char *verb, *name;
};

static const char *const states[] = { "forming", "sealed", "failed" };

/* What others wrote in Redis goes to a terminal without its control characters. */
static const char *plain(char *text)
{
	for (char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	return text;
}

/* ---- finding groups ---- */

struct name {
	char job[SYMM_NAME_MAX + 1], group[SYMM_NAME_MAX + 1];
};

struct names {
	struct name *item;
	size_t n;
	const char *want; /* NULL: any */
	bool no_memory;
};

static void add_name(void *arg, const char *job, const char *group)
{
	struct names *names = arg;
	struct name *item;

	if (names->no_memory || (names->want != NULL && strcmp(names->want, group) != 0))
		return;
	item = reallocarray(names->item, names->n + 1, sizeof(*item));
	if (item == NULL) {
		names->no_memory = true;
		return;
	}
	names->item = item;
	snprintf(item[names->n].job, sizeof(item->job), "%s", job);
	snprintf(item[names->n].group, sizeof(item->group), "%s", group);
	names->n++;
}

static int by_name(const void *a, const void *b)
{
	const struct name *x = a, *y = b;
	int order = strcmp(x->job, y->job);

	return order != 0 ? order : strcmp(x->group, y->group);
}

/* The groups that the options ask for, in order. The caller frees names->item. */
static int find_names(struct symm_tool_store *connection, const struct options *options, struct names *names)
{
	int rc;

	memset(names, 0, sizeof(*names));
	names->want = options->name;
	rc = symm_keyspace_list(connection->store, options->job, connection->deadline, add_name, names);
	if (rc == 0 && names->no_memory)
		rc = symm_error(SYMM_ENOMEM, "no memory for the names of %zu groups", names->n);
	if (rc != 0)
		free(names->item);
	else if (names->n > 0)
		qsort(names->item, names->n, sizeof(*names->item), by_name);
	return rc;
}

/* The one group of that name. */
static int find_one(struct symm_tool_store *connection, const struct options *options, struct name *name)
{
	struct names names;
	int rc = find_names(connection, options, &names);

	if (rc != 0)
		return rc;
	if (names.n == 1)
		*name = names.item[0];
	else if (names.n == 0)
		rc = symm_error(SYMM_ENOENT, "%s has no group '%s'%s%s; 'symm group list' shows those that it has",
				symm_store_name(connection->store), options->name,
				options->job != NULL ? " of job " : "", options->job != NULL ? options->job : "");
	else
		rc = symm_error(SYMM_EEXIST, "%zu jobs have a group '%s', among them %s and %s: say which with --job",
				names.n, options->name, names.item[0].job, names.item[1].job);
	free(names.item);
	return rc;
}

/* What a group has in Redis; what cannot be read comes with its remedy. The caller frees *state. */
static int look(struct symm_tool_store *connection, const struct name *name, struct symm_group_state **state)
{
	int rc = symm_keyspace_show(connection->store, name->job, name->group, connection->deadline, state);

	if (rc != SYMM_EPROTO)
		return rc;
	return symm_error_prefix(rc, "group %s of job %s is damaged; 'symm group rm --force --job %s %s' removes it",
				 name->group, name->job, name->job, name->group);
}

/* ---- symm group list ---- */

static size_t count_alive(const struct symm_group_state *state)
{
	size_t alive = 0;

	for (size_t i = 0; i < state->n_members; i++)
		alive += state->members[i].lease_ms >= 0;
	return alive;
}

static void list_json(const struct symm_group_state *state)
{
	struct symm_json json = { stdout, false };

	symm_json_open(&json, NULL, '{');
	symm_json_text(&json, "job", state->job);
	symm_json_text(&json, "group", state->group);
	symm_json_int(&json, "generation", state->generation.number);
	symm_json_text(&json, "state", states[state->generation.state]);
	symm_json_int(&json, "members", (int64_t)state->n_members);
	symm_json_int(&json, "alive", (int64_t)count_alive(state));
	symm_json_int(&json, "world", state->generation.world);
	symm_json_close(&json, '}');
	symm_json_end(&json);
}

static void list_text(const struct symm_group_state *state)
{
	char members[48], alive[48];

	snprintf(members, sizeof(members), "%zu/%d", state->n_members, state->generation.world);
	snprintf(alive, sizeof(alive), "%zu/%d", count_alive(state), state->generation.world);
	printf("%-24s %-24s %10" PRId64 "  %-8s %9s %9s\n", state->job, state->group, state->generation.number,
	       states[state->generation.state], members, alive);
}

static int list(struct symm_tool_store *connection, const struct options *options)
{
	struct names names;
	int bad = 0, rc = find_names(connection, options, &names);

	if (rc != 0)
		return rc;
	if (!options->json)
		printf("%-24s %-24s %10s  %-8s %9s %9s\n", "job", "group", "generation", "state", "members", "alive");
	for (size_t i = 0; i < names.n && rc == 0; i++) {
		struct symm_group_state *state;

		rc = look(connection, &names.item[i], &state);
		if (rc == 0) {
			(options->json ? list_json : list_text)(state);
			symm_group_state_free(state);
		} else if (rc == SYMM_ENOENT) { /* it ended since */
			rc = 0;
		} else if (rc == SYMM_EPROTO || rc == SYMM_ESTALE) { /* the others may be well */
			symm_tool_fail("group list: %s", symm_last_error());
			bad++;
			rc = 0;
		}
	}
	free(names.item);
	return rc == 0 && bad > 0 ? symm_error(SYMM_EPROTO, "%d of %zu groups cannot be read", bad, names.n) : rc;
}

/* ---- symm group show ---- */

/* The ranks without, as "ranks 0-2, 5". */
static void print_without(const uint8_t *has, int world)
{
	const char *separator = "";
	int n = 0;

	for (int r = 0; r < world; r++)
		n += has[r] == 0;
	fputs(n == 1 ? "rank " : "ranks ", stdout);
	for (int r = 0; r < world; r++) {
		int first = r;

		if (has[r] != 0)
			continue;
		while (r + 1 < world && has[r + 1] == 0)
			r++;
		printf(first == r ? "%s%d" : "%s%d-%d", separator, first, r);
		separator = ", ";
	}
}

static const char *verdict_word(const struct symm_verdict *verdict)
{
	static const char *const words[] = { "none", "go", "ready", "failed" };

	return words[verdict->what];
}

static void show_members(const struct symm_group_state *state)
{
	uint8_t *here = calloc((size_t)state->generation.world + 1, 1);

	printf("%6s  %-24s %10s  %-18s %s\n", "rank", "host", "pid", "lease", "doing");
	for (size_t i = 0; i < state->n_members; i++) {
		struct symm_presence *who = &state->members[i];
		char lease[32];

		snprintf(lease, sizeof(lease), who->lease_ms < 0 ? "ended %.1f s ago" : "%.1f s left",
			 (double)(who->lease_ms < 0 ? -who->lease_ms : who->lease_ms) / 1e3);
		printf("%6d  %-24s %10d  %-18s %s\n", who->member.rank, who->member.process.host,
		       (int)who->member.process.pid, lease,
		       who->doing[0] != '\0' ? plain(who->doing) : "in no call of symm");
		if (here != NULL && who->member.rank >= 0 && who->member.rank < state->generation.world)
			here[who->member.rank] = 1;
	}
	if (here != NULL && state->n_members < (size_t)state->generation.world) {
		fputs("not here: ", stdout);
		print_without(here, state->generation.world);
		putchar('\n');
	}
	free(here);
}

static void show_rendezvous(struct symm_rendezvous_state *rendezvous, int world)
{
	printf("rendezvous %" PRIu64 ": %zu of %d arrived", rendezvous->seq, rendezvous->arrived, world);
	if (rendezvous->arrived < (size_t)world) {
		fputs(", not ", stdout);
		print_without(rendezvous->has_arrived, world);
	}
	printf("; %zu voted", rendezvous->voted);
	if (rendezvous->arrived == (size_t)world && rendezvous->voted < (size_t)world) {
		fputs(", not ", stdout);
		print_without(rendezvous->has_voted, world);
	}
	printf("; verdict %s", verdict_word(&rendezvous->verdict));
	if (rendezvous->verdict.what == SYMM_VERDICT_FAILED)
		printf(" (%s): %s", symm_strerror(rendezvous->verdict.code), plain(rendezvous->verdict.text));
	putchar('\n');
}

static void show_text(struct symm_group_state *state)
{
	printf("group %s of job %s: generation %" PRId64 " (%016" PRIx64 "), %s, %zu of %d members\n", state->group,
	       state->job, state->generation.number, state->generation.nonce, states[state->generation.state],
	       state->n_members, state->generation.world);
	if (state->why[0] != '\0')
		printf("failed: %s\n", plain(state->why));
	show_members(state);
	for (size_t i = 0; i < state->n_rendezvous; i++)
		show_rendezvous(&state->rendezvous[i], state->generation.world);
}

static void json_ranks(struct symm_json *json, const char *key, const uint8_t *has, int world, bool wanted)
{
	symm_json_open(json, key, '[');
	for (int r = 0; r < world; r++)
		if ((has[r] != 0) == wanted)
			symm_json_int(json, NULL, r);
	symm_json_close(json, ']');
}

static void json_member(struct symm_json *json, const struct symm_presence *who)
{
	symm_json_open(json, NULL, '{');
	symm_json_int(json, "rank", who->member.rank);
	symm_json_text(json, "host", who->member.process.host);
	symm_json_int(json, "pid", who->member.process.pid);
	symm_json_int(json, "lease_ms", who->lease_ms);
	symm_json_text(json, "doing", who->doing);
	symm_json_close(json, '}');
}

static void json_rendezvous(struct symm_json *json, const struct symm_rendezvous_state *rendezvous, int world)
{
	bool failed = rendezvous->verdict.what == SYMM_VERDICT_FAILED;

	symm_json_open(json, NULL, '{');
	symm_json_int(json, "seq", (int64_t)rendezvous->seq);
	json_ranks(json, "arrived", rendezvous->has_arrived, world, true);
	json_ranks(json, "not_arrived", rendezvous->has_arrived, world, false);
	json_ranks(json, "voted", rendezvous->has_voted, world, true);
	symm_json_text(json, "verdict", verdict_word(&rendezvous->verdict));
	if (failed) {
		symm_json_int(json, "code", rendezvous->verdict.code);
		symm_json_int(json, "rank", rendezvous->verdict.rank);
		symm_json_text(json, "text", rendezvous->verdict.text);
	}
	symm_json_close(json, '}');
}

static void show_json(struct symm_group_state *state)
{
	struct symm_json json = { stdout, false };
	char nonce[17];

	snprintf(nonce, sizeof(nonce), "%016" PRIx64, state->generation.nonce);
	symm_json_open(&json, NULL, '{');
	symm_json_text(&json, "job", state->job);
	symm_json_text(&json, "group", state->group);
	symm_json_int(&json, "generation", state->generation.number);
	symm_json_text(&json, "nonce", nonce);
	symm_json_text(&json, "state", states[state->generation.state]);
	symm_json_int(&json, "world", state->generation.world);
	symm_json_text(&json, "why", state->why[0] != '\0' ? state->why : NULL);
	symm_json_open(&json, "members", '[');
	for (size_t i = 0; i < state->n_members; i++)
		json_member(&json, &state->members[i]);
	symm_json_close(&json, ']');
	symm_json_open(&json, "rendezvous", '[');
	for (size_t i = 0; i < state->n_rendezvous; i++)
		json_rendezvous(&json, &state->rendezvous[i], state->generation.world);
	symm_json_close(&json, ']');
	symm_json_close(&json, '}');
	symm_json_end(&json);
}

/* A rank tells what it does once the group is complete. Who is in a forming one is joining it. */
static void tell_joining(struct symm_group_state *state)
{
	if (state->generation.state != SYMM_FORMING)
		return;
	for (size_t i = 0; i < state->n_members; i++)
		if (state->members[i].doing[0] == '\0')
			snprintf(state->members[i].doing, sizeof(state->members[i].doing), "join of group %s",
				 state->group);
}

static int show(struct symm_tool_store *connection, const struct options *options)
{
	struct symm_group_state *state;
	struct name name;
	int rc;

	if ((rc = find_one(connection, options, &name)) != 0 || (rc = look(connection, &name, &state)) != 0)
		return rc;
	tell_joining(state);
	(options->json ? show_json : show_text)(state);
	symm_group_state_free(state);
	return 0;
}

/* ---- symm group rm ---- */

static int check_dead(const struct symm_group_state *state)
{
	for (size_t i = 0; i < state->n_members; i++) {
		const struct symm_presence *who = &state->members[i];

		if (who->lease_ms > 0)
			return symm_error(
				SYMM_EBUSY,
				"group '%s' is in use: the lease of rank %d (host %s, pid %d) runs for another %.1f s; "
				"--force removes it all the same, and fails its ranks",
				state->group, who->member.rank, who->member.process.host, (int)who->member.process.pid,
				(double)who->lease_ms / 1e3);
	}
	return 0;
}

static int group_remove(struct symm_tool_store *connection, const struct options *options)
{
	struct symm_json json = { stdout, false };
	struct symm_group_state *state;
	struct name name;
	int64_t deleted;
	int rc = find_one(connection, options, &name);

	if (rc == 0 && !options->force) {
		rc = look(connection, &name, &state);
		if (rc == 0) {
			rc = check_dead(state);
			symm_group_state_free(state);
		}
	}
	if (rc == 0)
		rc = symm_keyspace_remove(connection->store, name.job, name.group, connection->deadline, &deleted);
	if (rc != 0)
		return rc;
	if (!options->json) {
		printf("removed group %s of job %s: %" PRId64 " keys\n", name.group, name.job, deleted);
		return 0;
	}
	symm_json_open(&json, NULL, '{');
	symm_json_text(&json, "job", name.job);
	symm_json_text(&json, "group", name.group);
	symm_json_int(&json, "deleted", deleted);
	symm_json_close(&json, '}');
	symm_json_end(&json);
	return 0;
}

/* ---- the command line ---- */

static const struct verb {
	const char *name;
	bool named; /* wants NAME */
	int (*run)(struct symm_tool_store *connection, const struct options *options);
} verbs[] = { { "list", false, list }, { "show", true, show }, { "rm", true, group_remove } };

static int parse(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "url", required_argument, NULL, 'u' },
		{ "job", required_argument, NULL, 'j' },
		{ "force", no_argument, NULL, 'f' },
		{ "json", no_argument, NULL, 'J' },
		{ NULL, 0, NULL, 0 },
	};
	struct symm_url url;
	int option;

	memset(options, 0, sizeof(*options));
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'u':
			options->url = optarg;
			break;
		case 'j':
			options->job = optarg;
			break;
		case 'f':
			options->force = true;
			break;
		case 'J':
			options->json = true;
			break;
		default:
			return symm_tool_misuse(&symm_tool_group, NULL);
		}
	}
	if (optind == argc)
		return symm_tool_misuse(&symm_tool_group, "group: list, show or rm?");
	options->verb = argv[optind++];
	if (optind < argc)
		options->name = argv[optind++];
	if (optind < argc)
		return symm_tool_misuse(&symm_tool_group, "group: what is '%s'?", argv[optind]);
	if (options->url != NULL && symm_url_parse(options->url, &url) != 0)
		return symm_tool_misuse(&symm_tool_group, "group: --url: %s", symm_last_error());
	return SYMM_TOOL_OK;
}

/* NULL after it has said what is wrong. */
static const struct verb *find_verb(const struct options *options)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].name, options->verb) != 0)
			continue;
		if (verbs[i].named == (options->name != NULL))
			return &verbs[i];
		if (verbs[i].named)
			symm_tool_misuse(&symm_tool_group, "group %s: which group?", options->verb);
		else
			symm_tool_misuse(&symm_tool_group, "group %s: what is '%s'?", options->verb, options->name);
		return NULL;
	}
	symm_tool_misuse(&symm_tool_group, "group: there is no '%s'", options->verb);
	return NULL;
}

static int group_run(int argc, char **argv)
{
	struct symm_tool_store connection;
	struct options options;
	const struct verb *verb;
	int rc;

	if (parse(argc, argv, &options) != SYMM_TOOL_OK || (verb = find_verb(&options)) == NULL)
		return SYMM_TOOL_USAGE;
	rc = symm_tool_connect(&connection, options.url);
	if (rc == 0) {
		rc = verb->run(&connection, &options);
		symm_tool_disconnect(&connection);
	}
	return rc == 0 ? SYMM_TOOL_OK : symm_tool_fail("group %s: %s", options.verb, symm_last_error());
}

const struct symm_tool_command symm_tool_group = { "group", "shows and removes groups in Redis", help, group_run };
