#include "redis_internal.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define ROUSED_FOR (5000 * SYMM_NS_PER_MS) /* a ping's deadline: nobody waits for it */

static pthread_mutex_t stores_lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, symm_store) stores = LIST_HEAD_INITIALIZER(stores);

/* ---- a store's life ---- */

static void start(void *arg)
{
	struct symm_store *store = arg;

	symm_requests_init(store);
	symm_connection_init(store);
}

static void stop(void *arg)
{
	struct symm_store *store = arg;
	struct symm_err closed;

	__atomic_store_n(&store->closing, true, __ATOMIC_RELAXED);
	evtimer_del(&store->alarm);
	symm_connection_close(store);
	symm_err_set(&closed, SYMM_ESTALE, "the store %s has been closed", store->url.name);
	symm_requests_fail(store, &closed);
}

static void destroy(void *arg)
{
	struct symm_store *store = arg;

	SSL_CTX_free(store->tls);
	explicit_bzero(&store->url, sizeof(store->url));
	explicit_bzero(store->text, strlen(store->text));
	free(store->text);
	free(store);
}

static int create(struct symm_loop *loop, const char *text, struct symm_store **out)
{
	struct symm_store *store = calloc(1, sizeof(*store));
	int rc;

	if (store == NULL)
		return symm_error(SYMM_ENOMEM, "no memory for a store");
	store->loop = loop;
	store->text = strdup(text);
	rc = store->text != NULL ? symm_url_parse(text, &store->url) : symm_error(SYMM_ENOMEM, "no memory for a store");
	if (rc == SYMM_OK && store->url.kind == SYMM_URL_TLS)
		rc = symm_tls_context_new(&store->url, &store->tls);
	if (rc != SYMM_OK) {
		free(store->text);
		free(store);
		return rc;
	}
	symm_loop_call(loop, start, store);
	*out = store;
	return SYMM_OK;
}

static int find_or_create(struct symm_loop *loop, const char *text, struct symm_store **out)
{
	struct symm_store *store;
	int rc = SYMM_OK;

	pthread_mutex_lock(&stores_lock);
	LIST_FOREACH(store, &stores, entry)
	if (strcmp(store->text, text) == 0)
		break;
	if (store == NULL) {
		rc = create(loop, text, &store);
		if (rc == SYMM_OK)
			LIST_INSERT_HEAD(&stores, store, entry);
	}
	if (rc == SYMM_OK) {
		store->users++;
		*out = store;
	}
	pthread_mutex_unlock(&stores_lock);
	return rc;
}

int symm_store_open(struct symm_loop *loop, const char *url, int64_t deadline, struct symm_store **store)
{
	struct symm_command ping;
	struct symm_store *opened;
	struct symm_reply *pong;
	int rc = find_or_create(loop, url, &opened);

	if (rc != SYMM_OK)
		return rc;
	symm_command_init(&ping, NULL);
	symm_command_text(&ping, "PING");
	rc = symm_store_call(opened, &ping, deadline, &pong);
	if (rc != SYMM_OK) {
		symm_store_close(opened);
		return rc;
	}
	symm_reply_free(pong);
	*store = opened;
	return SYMM_OK;
}

/* In two steps: a callback on the loop may have posted a request just before stop; it runs before destroy. */
void symm_store_close(struct symm_store *store)
{
	int users;

	if (store == NULL)
		return;
	pthread_mutex_lock(&stores_lock);
	users = --store->users;
	if (users == 0)
		LIST_REMOVE(store, entry);
	pthread_mutex_unlock(&stores_lock);
	if (users > 0)
		return;
	symm_loop_call(store->loop, stop, store);
	symm_loop_call(store->loop, destroy, store);
}

const char *symm_store_name(const struct symm_store *store)
{
	return store->url.name;
}

struct symm_store_counts symm_store_counts(const struct symm_store *store)
{
	uint64_t connects = __atomic_load_n(&store->connects, __ATOMIC_RELAXED);

	return (struct symm_store_counts){ .commands = __atomic_load_n(&store->commands, __ATOMIC_RELAXED),
					   .retries = __atomic_load_n(&store->retries, __ATOMIC_RELAXED),
					   .reconnects = connects > 0 ? connects - 1 : 0 };
}

int64_t symm_store_unbroken_since(struct symm_store *store)
{
	return __atomic_load_n(&store->unbroken_since, __ATOMIC_RELAXED);
}

/* ---- calls ---- */

static int post(struct symm_store *store, const struct symm_command *command, const struct symm_request *model)
{
	struct symm_request *request;
	int rc;

	if (__atomic_load_n(&store->closing, __ATOMIC_RELAXED))
		return symm_error(SYMM_ESTALE, "the store %s has been closed", store->url.name);
	request = malloc(sizeof(*request));
	if (request == NULL)
		return symm_error(SYMM_ENOMEM, "no memory for a store request");
	*request = *model;
	request->store = store;
	request->script = command->script;
	request->made = symm_now();
	request->task = (struct symm_task){ .fn = symm_request_submit, .arg = request };
	rc = symm_wire_make(command, &request->wire);
	if (rc != SYMM_OK) {
		free(request);
		return rc;
	}
	symm_loop_post(store->loop, &request->task);
	return SYMM_OK;
}

int symm_store_send(struct symm_store *store, const struct symm_command *command, int64_t deadline,
		    void (*finished)(void *arg, const struct symm_reply *reply, const struct symm_err *err), void *arg)
{
	const struct symm_request model = { .deadline = deadline, .finished = finished, .arg = arg };

	return post(store, command, &model);
}

struct call {
	struct symm_done done;
	struct symm_reply *reply;
	struct symm_err err;
};

static void on_call_finished(void *arg, const struct symm_reply *reply, const struct symm_err *err)
{
	struct call *call = arg;

	(void)reply;
	call->err = *err;
	symm_done_set(&call->done);
}

static void await_call(const struct call *call, const struct symm_meanwhile *meanwhile)
{
	while (symm_loop_hurried() && !symm_done_is_set(&call->done))
		if (!meanwhile->fn(meanwhile->arg))
			sched_yield();
}

int symm_store_call(struct symm_store *store, const struct symm_command *command, int64_t deadline,
		    struct symm_reply **reply)
{
	struct call call;
	const struct symm_request model = {
		.deadline = deadline,
		.keep = &call.reply,
		.finished = on_call_finished,
		.arg = &call,
	};
	int rc;

	symm_done_init(&call.done);
	rc = post(store, command, &model);
	if (rc == SYMM_OK) {
		if (command->meanwhile != NULL)
			await_call(&call, command->meanwhile);
		symm_done_wait(&call.done, INT64_MAX); /* the loop keeps the deadline */
		rc = call.err.code == SYMM_OK ? SYMM_OK : symm_err_return(&call.err);
	}
	if (rc == SYMM_OK)
		*reply = call.reply;
	return rc;
}

/* ---- to be awake when asked ---- */

static void rouse(struct symm_store *store);

static void on_roused(void *arg, const struct symm_reply *reply, const struct symm_err *err)
{
	struct symm_store *store = arg;

	(void)reply;
	if (err->code == SYMM_OK && symm_loop_hurried())
		rouse(store);
	else
		__atomic_store_n(&store->roused, false, __ATOMIC_RELAXED);
}

static void rouse(struct symm_store *store)
{
	struct symm_command ping;

	symm_command_init(&ping, NULL);
	symm_command_text(&ping, "PING");
	if (symm_store_send(store, &ping, symm_now() + ROUSED_FOR, on_roused, store) != SYMM_OK)
		__atomic_store_n(&store->roused, false, __ATOMIC_RELAXED);
}

void symm_store_rouse(struct symm_store *store)
{
	if (!__atomic_exchange_n(&store->roused, true, __ATOMIC_RELAXED))
		rouse(store);
}
