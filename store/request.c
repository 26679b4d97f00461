#include "redis_internal.h"

#include "log.h"

#include <event2/bufferevent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* A reply that takes longer than this is an outage for those who judge others by their leases. */
#define SLOW (1000 * SYMM_NS_PER_MS)
/* A connection whose oldest request waits longer than this is given up. */
#define STALLED (5000 * SYMM_NS_PER_MS)
/* Who waits for the first answer hears so often why. */
#define PROGRESS (5000 * SYMM_NS_PER_MS)
/* Alarms are not finer than this: ten thousand deadlines a microsecond apart are one scan. */
#define ALARM_GRAIN SYMM_NS_PER_MS

static const struct symm_err no_error;

/* ---- what an error reply means ---- */

enum symm_error_verdict symm_error_verdict(const char *text)
{
	static const struct {
		const char *start;
		enum symm_error_verdict verdict;
	} known[] = {
		{ "NOSCRIPT ", SYMM_ERROR_NOSCRIPT },
		{ "NOAUTH ", SYMM_ERROR_AUTH },
		{ "WRONGPASS ", SYMM_ERROR_AUTH },
		{ "NOPERM ", SYMM_ERROR_AUTH },
		{ "DENIED ", SYMM_ERROR_AUTH },
		{ "ERR invalid password", SYMM_ERROR_AUTH },
		{ "ERR Client sent AUTH", SYMM_ERROR_AUTH },
		{ "ERR AUTH ", SYMM_ERROR_AUTH },
		{ "ERR max number of clients", SYMM_ERROR_RECONNECT },
		{ "READONLY ", SYMM_ERROR_RECONNECT },
		{ "LOADING ", SYMM_ERROR_AGAIN },
		{ "BUSY ", SYMM_ERROR_AGAIN },
		{ "TRYAGAIN ", SYMM_ERROR_AGAIN },
		{ "CLUSTERDOWN ", SYMM_ERROR_AGAIN },
		{ "MASTERDOWN ", SYMM_ERROR_AGAIN },
		{ "MOVED ", SYMM_ERROR_MOVED },
		{ "ASK ", SYMM_ERROR_MOVED },
	};
	/* Before Redis 7: "ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -READONLY ..." */
	static const char wrapped[] = "ERR Error running script";
	const char *inner = strncmp(text, wrapped, sizeof(wrapped) - 1) == 0 ? strstr(text, ": -") : NULL;

	if (inner != NULL)
		text = inner + strlen(": -");
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strncmp(text, known[i].start, strlen(known[i].start)) == 0)
			return known[i].verdict;
	return SYMM_ERROR_FINAL;
}

/* ---- the end of a request ---- */

static void request_free(struct symm_request *request)
{
	symm_wire_free(&request->wire);
	free(request);
}

static void finish(struct symm_request *request, struct symm_reply *reply, const struct symm_err *err)
{
	void (*finished)(void *arg, const struct symm_reply *reply, const struct symm_err *err) = request->finished;
	struct symm_reply **keep = request->keep;

	request->finished = NULL;
	if (keep != NULL)
		*keep = reply;
	finished(request->arg, reply, err);
	if (keep == NULL)
		symm_reply_free(reply);
}

static void finish_late(struct symm_request *request)
{
	struct symm_store *store = request->store;
	double waited = (double)(symm_now() - request->made) / 1e9;
	struct symm_err err;

	/* Else the cause is not this request's. */
	if (store->state == SYMM_CONNECTION_READY && !store->paused && !request->lost)
		symm_err_set(&err, SYMM_ESTORE, "%s does not answer (waited for %.1f s)", store->url.name, waited);
	else
		symm_err_set(&err, SYMM_ESTORE, "cannot reach %s: %s (tried for %.1f s)", store->url.name,
			     store->cause[0] != '\0' ? store->cause : symm_connection_doing(store), waited);
	finish(request, NULL, &err);
}

void symm_requests_fail(struct symm_store *store, const struct symm_err *err)
{
	struct symm_requests all = TAILQ_HEAD_INITIALIZER(all);
	struct symm_request *request;

	TAILQ_CONCAT(&all, &store->flying, entry);
	TAILQ_CONCAT(&all, &store->waiting, entry);
	while ((request = TAILQ_FIRST(&all)) != NULL) {
		TAILQ_REMOVE(&all, request, entry);
		if (request->finished != NULL)
			finish(request, NULL, err);
		request_free(request);
	}
}

/* ---- deadlines ---- */

static void set_alarm(struct symm_store *store, int64_t at)
{
	int64_t wait;

	if (at >= store->alarm_at)
		return;
	store->alarm_at = at;
	wait = at - symm_now();
	symm_timer_set(&store->alarm, wait > ALARM_GRAIN ? wait : ALARM_GRAIN);
}

static void expire_waiting(struct symm_store *store, int64_t now, int64_t *next)
{
	struct symm_request *request, *following;

	for (request = TAILQ_FIRST(&store->waiting); request != NULL; request = following) {
		following = TAILQ_NEXT(request, entry);
		if (request->deadline <= now) {
			TAILQ_REMOVE(&store->waiting, request, entry);
			finish_late(request);
			request_free(request);
		} else if (request->deadline < *next) {
			*next = request->deadline;
		}
	}
}

static void expire_flying(struct symm_store *store, int64_t now, int64_t *next)
{
	struct symm_request *request;

	TAILQ_FOREACH(request, &store->flying, entry)
	{
		if (request->finished == NULL)
			continue;
		if (request->deadline <= now)
			finish_late(request);
		else if (request->deadline < *next)
			*next = request->deadline;
	}
}

static void on_alarm(evutil_socket_t fd, short what, void *arg)
{
	struct symm_store *store = arg;
	struct symm_request *oldest;
	int64_t now = symm_now(), next = INT64_MAX;

	(void)fd;
	(void)what;
	store->alarm_at = INT64_MAX;
	expire_waiting(store, now, &next);
	expire_flying(store, now, &next);
	set_alarm(store, next);
	oldest = TAILQ_FIRST(&store->flying);
	if (oldest == NULL)
		return;
	if (oldest->sent + STALLED <= now)
		symm_connection_drop(store, "no answer for %.1f s", (double)(now - oldest->sent) / 1e9);
	else
		set_alarm(store, oldest->sent + STALLED);
}

void symm_requests_init(struct symm_store *store)
{
	TAILQ_INIT(&store->waiting);
	TAILQ_INIT(&store->flying);
	evtimer_assign(&store->alarm, symm_loop_base(store->loop), on_alarm, store);
	store->alarm_at = INT64_MAX;
	store->pause = SYMM_BACKOFF_MIN;
}

/* ---- waiting and flying ---- */

/* In the order of arrival. A request that comes back is older than most that wait. */
static void wait_again(struct symm_store *store, struct symm_request *request)
{
	struct symm_request *later = TAILQ_FIRST(&store->waiting);

	while (later != NULL && later->number < request->number)
		later = TAILQ_NEXT(later, entry);
	if (later != NULL)
		TAILQ_INSERT_BEFORE(later, request, entry);
	else
		TAILQ_INSERT_TAIL(&store->waiting, request, entry);
}

/* With nothing in flight all was written, and somebody waits for just this: straight to the socket it spares the loop a
 * turn and two system calls. An error is left for the bufferevent to find. */
static size_t write_now(struct symm_store *store, const struct symm_wire *wire)
{
	ssize_t n;

	if (store->tls != NULL || !TAILQ_EMPTY(&store->flying))
		return 0;
	n = send(bufferevent_getfd(store->bev), wire->bytes, wire->length, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n > 0 ? (size_t)n : 0;
}

static void take_off(struct symm_store *store, struct symm_request *request, int64_t now)
{
	size_t written = write_now(store, &request->wire);

	request->sent = now;
	__atomic_fetch_add(&store->commands, 1, __ATOMIC_RELAXED);
	TAILQ_INSERT_TAIL(&store->flying, request, entry);
	if (written < request->wire.length)
		bufferevent_write(store->bev, request->wire.bytes + written, request->wire.length - written);
}

void symm_requests_flush(struct symm_store *store)
{
	struct symm_request *request;
	int64_t now = symm_now();

	if (TAILQ_EMPTY(&store->flying))
		set_alarm(store, now + STALLED);
	while ((request = TAILQ_FIRST(&store->waiting)) != NULL) {
		TAILQ_REMOVE(&store->waiting, request, entry);
		if (request->sent != 0)
			__atomic_fetch_add(&store->retries, 1, __ATOMIC_RELAXED);
		take_off(store, request, now);
	}
}

/* From the last to the first, so that each is put before those that it is older than, at the front. */
void symm_requests_land(struct symm_store *store)
{
	struct symm_request *request;

	while ((request = TAILQ_LAST(&store->flying, symm_requests)) != NULL) {
		TAILQ_REMOVE(&store->flying, request, entry);
		request->lost = true;
		if (request->finished != NULL)
			wait_again(store, request);
		else
			request_free(request);
	}
}

void symm_request_submit(void *arg)
{
	struct symm_request *request = arg;
	struct symm_store *store = request->store;
	struct symm_err closed;

	if (__atomic_load_n(&store->closing, __ATOMIC_RELAXED)) {
		symm_err_set(&closed, SYMM_ESTALE, "the store %s has been closed", store->url.name);
		finish(request, NULL, &closed);
		request_free(request);
		return;
	}
	request->number = store->numbers++;
	TAILQ_INSERT_TAIL(&store->waiting, request, entry);
	set_alarm(store, request->deadline);
	if (store->state == SYMM_CONNECTION_READY && !store->paused)
		symm_requests_flush(store);
	else
		symm_connection_want(store);
}

void symm_requests_delayed(struct symm_store *store)
{
	const struct symm_request *oldest = TAILQ_FIRST(&store->waiting);
	int64_t now = symm_now();

	if (store->answered || oldest == NULL)
		return;
	if (now - oldest->made < PROGRESS || now - store->told < PROGRESS)
		return;
	store->told = now;
	symm_log(SYMM_LOG_WARN, "cannot reach %s yet: %s (trying for %.0f s)", store->url.name,
		 store->cause[0] != '\0' ? store->cause : symm_connection_doing(store),
		 (double)(now - oldest->made) / 1e9);
}

/* ---- replies ---- */

static void pause_store(struct symm_store *store)
{
	if (store->paused)
		return;
	store->paused = true;
	symm_requests_delayed(store);
	symm_timer_set(&store->timer, symm_jitter(store->pause));
	store->pause = store->pause * 2 < SYMM_BACKOFF_MAX ? store->pause * 2 : SYMM_BACKOFF_MAX;
}

static void finish_refused(struct symm_request *request, enum symm_error_verdict verdict, const char *text)
{
	const char *name = request->store->url.name;
	const char *script = request->script != NULL ? request->script->name : "";
	struct symm_err err;

	if (verdict == SYMM_ERROR_MOVED)
		symm_err_set(&err, SYMM_ESTORE,
			     "%s is a cluster's node without the slot: point the URL at the one that owns it (%s)",
			     name, text);
	else
		symm_err_set(&err, verdict == SYMM_ERROR_AUTH ? SYMM_EAUTH : SYMM_ESTORE, "%s: %s%s%s", name, script,
			     script[0] != '\0' ? ": " : "", text);
	finish(request, NULL, &err);
	request_free(request);
}

/* An error reply to a request that has landed. */
static void answer_error(struct symm_store *store, struct symm_request *request, const char *text)
{
	enum symm_error_verdict verdict = symm_error_verdict(text);

	switch (verdict) {
	case SYMM_ERROR_AGAIN:
		wait_again(store, request);
		symm_connection_blame(store, "%s", text);
		pause_store(store);
		return;
	case SYMM_ERROR_RECONNECT:
		wait_again(store, request);
		symm_connection_drop(store, "%s", text);
		return;
	case SYMM_ERROR_NOSCRIPT:
		if (request->script != NULL && !request->wire.eval && symm_wire_eval(&request->wire, request->script)) {
			take_off(store, request, symm_now());
			return;
		}
		break;
	default:
		break;
	}
	finish_refused(request, verdict, text);
}

void symm_requests_reply(struct symm_store *store, struct symm_reply *reply)
{
	struct symm_request *request = TAILQ_FIRST(&store->flying);
	const char *error = symm_reply_error(reply);
	int64_t now = symm_now();

	if (request == NULL) {
		symm_reply_free(reply);
		symm_connection_drop(store, "it does not speak RESP: it answers what nobody asked");
		return;
	}
	TAILQ_REMOVE(&store->flying, request, entry);
	if (now - request->sent > SLOW)
		__atomic_store_n(&store->unbroken_since, now, __ATOMIC_RELAXED);
	if (request->finished != NULL && error != NULL) {
		answer_error(store, request, error);
		symm_reply_free(reply);
		return;
	}
	if (error == NULL) {
		store->cause[0] = '\0';
		store->answered = true;
		store->pause = SYMM_BACKOFF_MIN;
	}
	if (request->finished != NULL)
		finish(request, reply, &no_error);
	else
		symm_reply_free(reply);
	request_free(request);
}
