#include "link_internal.h"

#include <stdio.h>
#include <string.h>

#define WINDOW 8 /* pulls of this process on their way at once, and as many ahead of need */

struct pulls {
	struct symm_pull *first;
	int count[2]; /* by ahead */
};

/* The loop thread's. */
static struct pulls waiting, sent;
static uint64_t last_request;

/* ---- lists, in order of asking ---- */

static void pulls_append(struct pulls *pulls, struct symm_pull *pull)
{
	struct symm_pull **at = &pulls->first;

	while (*at != NULL)
		at = &(*at)->next;
	pull->next = NULL;
	*at = pull;
	pulls->count[pull->ahead]++;
}

static bool pulls_remove(struct pulls *pulls, struct symm_pull *pull)
{
	for (struct symm_pull **at = &pulls->first; *at != NULL; at = &(*at)->next)
		if (*at == pull) {
			*at = pull->next;
			pulls->count[pull->ahead]--;
			return true;
		}
	return false;
}

static struct symm_pull *pulls_find(const struct pulls *pulls, const struct symm_link *link)
{
	struct symm_pull *pull = pulls->first;

	while (pull != NULL && pull->link != link)
		pull = pull->next;
	return pull;
}

/* ---- the loop's side ---- */

/* A send that fails for good is left to the end of the connection, which the reading side sees. */
static bool pull_send(struct symm_pull *pull)
{
	struct symm_message message = { .type = SYMM_MESSAGE_PULL, .nonce = pull->nonce, .seq = pull->seq };
	int rc;

	message.rank = (uint32_t)pull->rank;
	if (pull->digest != NULL)
		snprintf(message.text, sizeof(message.text), "%s", pull->digest);
	message.request = ++last_request;
	rc = symm_socket_send(pull->link->conn.fd, &message, NULL, 0);
	if (rc != 0 && symm_socket_passing(-rc))
		symm_conn_wait(&pull->link->conn, -rc);
	if (rc == 0)
		pull->request = message.request;
	return rc == 0;
}

void symm_pulls_pump(void)
{
	struct symm_pull *pull, *next;

	for (pull = waiting.first; pull != NULL; pull = next) {
		next = pull->next;
		if (sent.count[pull->ahead] >= WINDOW || !symm_link_can_send(pull->link) || !pull_send(pull))
			continue;
		pulls_remove(&waiting, pull);
		pulls_append(&sent, pull);
	}
}

static void pulls_fail(struct pulls *pulls, const struct symm_link *link)
{
	struct symm_pull *pull;

	while ((pull = pulls_find(pulls, link)) != NULL) {
		pulls_remove(pulls, pull);
		pull->err = link->why;
		symm_done_set(&pull->done);
	}
}

void symm_pulls_fail(struct symm_link *link)
{
	pulls_fail(&waiting, link);
	pulls_fail(&sent, link);
}

void symm_pulls_again(struct symm_link *link)
{
	struct symm_pull *pull;

	while ((pull = pulls_find(&sent, link)) != NULL) {
		pulls_remove(&sent, pull);
		pulls_append(&waiting, pull);
	}
}

bool symm_pulls_answer(struct symm_link *link, struct symm_parcel *parcel)
{
	const struct symm_message *message = &parcel->message;
	struct symm_pull *pull = sent.first;

	if (message->type != SYMM_MESSAGE_FDS || message->count > SYMM_LINK_FDS)
		return false;
	while (pull != NULL && (pull->link != link || pull->request != message->request))
		pull = pull->next;
	if (pull == NULL) {
		symm_parcel_drop(parcel);
		return true;
	}
	pulls_remove(&sent, pull);
	if (message->code != SYMM_OK) {
		symm_err_set(&pull->err, message->code, "%s", message->text);
	} else if (parcel->count != message->count) {
		symm_err_set(&pull->err, SYMM_ESYS, "%u of %u fds arrived: is this process at its limit of open files?",
			     parcel->count, message->count);
	} else {
		memcpy(pull->fds, parcel->fds, sizeof(pull->fds[0]) * parcel->count);
		pull->count = (int)parcel->count;
		parcel->count = 0;
	}
	symm_parcel_drop(parcel);
	symm_done_set(&pull->done);
	return true;
}

/* ---- the caller's side ---- */

static void pull_start(void *arg)
{
	struct symm_pull *pull = arg;

	if (pull->link->state == SYMM_LINK_GONE) {
		pull->err = pull->link->why;
		symm_done_set(&pull->done);
		return;
	}
	pulls_append(&waiting, pull);
	symm_pulls_pump();
}

void symm_pull_begin(struct symm_pull *pull)
{
	for (int i = 0; i < SYMM_LINK_FDS; i++)
		pull->fds[i] = -1;
	pull->count = 0;
	pull->err.code = SYMM_OK;
	pull->task = (struct symm_task){ .fn = pull_start, .arg = pull };
	symm_done_init(&pull->done);
	symm_loop_post(symm_endpoint.loop, &pull->task);
}

/* On neither list: it was done between the deadline and now. An answer that comes later finds no pull, and its fds are
 * closed. */
static void pull_cancel(void *arg)
{
	struct symm_pull *pull = arg;

	if (!pulls_remove(&waiting, pull) && !pulls_remove(&sent, pull))
		return;
	symm_err_set(&pull->err, SYMM_ETIMEDOUT, "process %d on %s has not answered over its link",
		     pull->link->process.pid, pull->link->process.host);
	symm_pulls_pump();
}

bool symm_pull_is_done(const struct symm_pull *pull)
{
	return symm_done_is_set(&pull->done);
}

int symm_pull_finish(struct symm_pull *pull, int64_t deadline)
{
	if (!symm_done_wait(&pull->done, deadline))
		symm_loop_call(symm_endpoint.loop, pull_cancel, pull);
	return pull->err.code == SYMM_OK ? SYMM_OK : symm_err_return(&pull->err);
}
