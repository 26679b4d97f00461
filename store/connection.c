#include "log.h"
#include "redis_internal.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* For each of connect, and TLS with greeting: what hangs for longer is tried again. */
#define PATIENCE (3000 * SYMM_NS_PER_MS)
#define REPLY_MAX (64 << 20)

enum { GREET_AUTH = 1, GREET_SELECT = 2, GREET_NAME = 4 };

void symm_timer_set(struct event *timer, int64_t ns)
{
	struct timeval after = { .tv_sec = ns / INT64_C(1000000000), .tv_usec = ns % INT64_C(1000000000) / 1000 };

	evtimer_add(timer, &after);
}

const char *symm_connection_doing(const struct symm_store *store)
{
	static const char *const doing[] = {
		[SYMM_CONNECTION_IDLE] = "not connected",
		[SYMM_CONNECTION_LOOKUP] = "looking up the host",
		[SYMM_CONNECTION_CONNECTING] = "connecting",
		[SYMM_CONNECTION_TLS] = "no answer to the TLS handshake",
		[SYMM_CONNECTION_GREETING] = "no answer to the greeting",
		[SYMM_CONNECTION_READY] = "no answer",
		[SYMM_CONNECTION_BACKOFF] = "not connected",
	};

	return doing[store->state];
}

void symm_connection_blame(struct symm_store *store, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(store->cause, sizeof(store->cause), format, args);
	va_end(args);
}

/* ---- the end of a connection ---- */

static void disconnect(struct symm_store *store)
{
	__atomic_store_n(&store->unbroken_since, INT64_MAX, __ATOMIC_RELAXED);
	evtimer_del(&store->timer);
	if (store->lookup != NULL)
		symm_lookup_cancel(store->lookup);
	store->lookup = NULL;
	if (store->fd >= 0) {
		event_del(&store->connecting);
		close(store->fd);
	}
	store->fd = -1;
	if (store->bev != NULL)
		bufferevent_free(store->bev);
	store->bev = NULL;
	if (store->reader != NULL)
		redisReaderFree(store->reader);
	store->reader = NULL;
	store->paused = false;
}

static void forget_addresses(struct symm_store *store)
{
	if (store->found != NULL)
		freeaddrinfo(store->found);
	store->found = NULL;
	store->next = NULL;
}

void symm_connection_close(struct symm_store *store)
{
	disconnect(store);
	forget_addresses(store);
	store->state = SYMM_CONNECTION_IDLE;
}

/* It will not do: whoever waits learns it now, and the next who asks makes us try again. */
static void give_up(struct symm_store *store, int code, const char *why)
{
	struct symm_err err;

	symm_connection_blame(store, "%s", why);
	symm_err_set(&err, code, "%s: %s", store->url.name, store->cause);
	symm_log(SYMM_LOG_INFO, "%s", err.text);
	symm_connection_close(store);
	symm_requests_fail(store, &err);
}

static void back_off(struct symm_store *store)
{
	forget_addresses(store);
	store->state = SYMM_CONNECTION_BACKOFF;
	symm_requests_delayed(store);
	symm_timer_set(&store->timer, symm_jitter(store->backoff));
	store->backoff = store->backoff * 2 < SYMM_BACKOFF_MAX ? store->backoff * 2 : SYMM_BACKOFF_MAX;
}

/* ---- greeting ---- */

static void ready(struct symm_store *store)
{
	if (store->unparsed > 0) {
		symm_connection_drop(store, "it does not speak RESP: it answers what nobody asked");
		return;
	}
	store->state = SYMM_CONNECTION_READY;
	evtimer_del(&store->timer);
	forget_addresses(store);
	__atomic_store_n(&store->unbroken_since, symm_now(), __ATOMIC_RELAXED);
	__atomic_fetch_add(&store->connects, 1, __ATOMIC_RELAXED);
	symm_log(SYMM_LOG_INFO, "%s: connected", store->url.name);
	symm_requests_flush(store);
}

static void say(struct symm_store *store, unsigned step, const char *word, const char *one, const char *two)
{
	const char *arg[] = { word, one, two };
	int n = two != NULL ? 3 : 2;
	size_t length[3];
	char *bytes;
	long long size;

	for (int i = 0; i < n; i++)
		length[i] = strlen(arg[i]);
	size = redisFormatCommandArgv(&bytes, n, arg, length);
	if (size < 0)
		return;
	bufferevent_write(store->bev, bytes, (size_t)size);
	redisFreeCommand(bytes);
	store->greeting |= step;
}

static void greet(struct symm_store *store)
{
	const struct symm_url *url = &store->url;
	char db[12];

	store->state = SYMM_CONNECTION_GREETING;
	store->greeting = 0;
	if (url->user[0] != '\0')
		say(store, GREET_AUTH, "AUTH", url->user, url->password);
	else if (url->password[0] != '\0')
		say(store, GREET_AUTH, "AUTH", url->password, NULL);
	snprintf(db, sizeof(db), "%d", url->db);
	if (url->db != 0)
		say(store, GREET_SELECT, "SELECT", db, NULL);
	say(store, GREET_NAME, "CLIENT", "SETNAME", "symm");
}

/* A server without AUTH, or a proxy, may repeat the password in its complaint. */
static void refuse(struct symm_store *store, const char *text)
{
	const char *password = store->url.password;

	if (password[0] != '\0' && strstr(text, password) != NULL)
		text = "AUTH was refused";
	give_up(store, SYMM_EAUTH, text);
}

static void greeted(struct symm_store *store, struct symm_reply *reply)
{
	unsigned step = store->greeting & -store->greeting;
	const char *error = symm_reply_error(reply);
	enum symm_error_verdict verdict = error != NULL ? symm_error_verdict(error) : SYMM_ERROR_FINAL;
	bool auth = verdict == SYMM_ERROR_AUTH;

	/* The name is for operators only. */
	if (step == GREET_NAME && error != NULL && (verdict == SYMM_ERROR_FINAL || strncmp(error, "NOPERM ", 7) == 0))
		error = NULL;
	store->greeting &= ~step;
	if (error == NULL) {
		if (store->greeting == 0)
			ready(store);
	} else if (verdict == SYMM_ERROR_AGAIN || verdict == SYMM_ERROR_RECONNECT) {
		symm_connection_drop(store, "%s", error);
	} else if (step == GREET_AUTH || auth) {
		refuse(store, error);
	} else {
		give_up(store, SYMM_ESTORE, error);
	}
}

/* ---- bytes ---- */

/* False at an error. *reply is NULL when there is no whole one. */
static bool next_reply(struct symm_store *store, struct symm_reply **reply)
{
	void *got = NULL;

	if (redisReaderGetReply(store->reader, &got) != REDIS_OK)
		return false;
	*reply = got;
	if (got != NULL)
		store->unparsed = store->reader->len - store->reader->pos;
	return store->unparsed <= REPLY_MAX;
}

/* A reply may end the connection, and a new one may even have begun. */
static void parse(struct symm_store *store)
{
	struct redisReader *reader = store->reader;
	struct symm_reply *reply = NULL;

	while (store->reader == reader) {
		if (!next_reply(store, &reply)) {
			symm_connection_drop(store, "it does not speak RESP: %s",
					     reader->err != 0 ? reader->errstr : "a reply of more than 64 MiB");
			return;
		}
		if (reply == NULL)
			return;
		if (store->state == SYMM_CONNECTION_GREETING) {
			greeted(store, reply);
			symm_reply_free(reply);
		} else {
			symm_requests_reply(store, reply);
		}
	}
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct symm_store *store = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	size_t n;

	while ((n = evbuffer_get_contiguous_space(in)) > 0) {
		redisReaderFeed(store->reader, (const char *)evbuffer_pullup(in, (ev_ssize_t)n), n);
		store->unparsed += n;
		evbuffer_drain(in, n);
	}
	parse(store);
}

/* libevent gives the errors last first, and mixes results of SSL_get_error in, which are of no OpenSSL library. */
static void on_tls_error(struct symm_store *store)
{
	unsigned long one, error = 0;
	char why[200];

	while ((one = bufferevent_get_openssl_error(store->bev)) != 0)
		if (ERR_GET_LIB(one) != 0)
			error = one;
	if (symm_tls_refused(bufferevent_openssl_get_ssl(store->bev), error, why, sizeof(why)))
		give_up(store, SYMM_EAUTH, why);
	else
		symm_connection_drop(store, "%s", why);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct symm_store *store = arg;
	int sys = errno;

	(void)bev;
	if (what & BEV_EVENT_CONNECTED)
		greet(store);
	else if (store->tls != NULL)
		on_tls_error(store);
	else if (what & BEV_EVENT_EOF)
		symm_connection_drop(store, "the server closed the connection");
	else
		symm_connection_drop(store, "%s", strerror(sys));
}

/* ---- connecting ---- */

static void set_options(const struct symm_store *store)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },   { SOL_SOCKET, SO_KEEPALIVE, 1 }, { IPPROTO_TCP, TCP_KEEPIDLE, 15 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 5 }, { IPPROTO_TCP, TCP_KEEPCNT, 3 },
	};

	if (store->url.kind == SYMM_URL_UNIX)
		return;
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		setsockopt(store->fd, options[i].level, options[i].name, &options[i].value, sizeof(options[i].value));
}

static struct bufferevent *wrap(struct symm_store *store)
{
	struct event_base *base = symm_loop_base(store->loop);
	struct bufferevent *bev;
	SSL *ssl;

	if (store->tls == NULL)
		return bufferevent_socket_new(base, store->fd, BEV_OPT_CLOSE_ON_FREE);
	ssl = symm_tls_new(store->tls, &store->url);
	if (ssl == NULL)
		return NULL;
	bev = bufferevent_openssl_socket_new(base, store->fd, ssl, BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL)
		SSL_free(ssl);
	return bev;
}

static void connected(struct symm_store *store)
{
	set_options(store);
	store->reader = symm_reader_new();
	store->unparsed = 0;
	if (store->reader != NULL)
		store->bev = wrap(store);
	if (store->bev == NULL) {
		symm_connection_drop(store, "no memory for a connection");
		return;
	}
	store->fd = -1;
	symm_timer_set(&store->timer, PATIENCE);
	bufferevent_setcb(store->bev, on_read, NULL, on_event, store);
	bufferevent_enable(store->bev, EV_READ | EV_WRITE);
	if (store->tls != NULL)
		store->state = SYMM_CONNECTION_TLS;
	else
		greet(store);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
	struct symm_store *store = arg;
	socklen_t size = sizeof(int);
	int err = 0;

	(void)what;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size);
	if (err != 0)
		symm_connection_drop(store, "%s", strerror(err));
	else
		connected(store);
}

/* True if the attempt is under way, or over: a failure has then been followed up. */
static bool try_address(struct symm_store *store, const struct addrinfo *address)
{
	store->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	event_assign(&store->connecting, symm_loop_base(store->loop), store->fd, EV_WRITE, on_connected, store);
	if (store->fd >= 0 && connect(store->fd, address->ai_addr, address->ai_addrlen) == 0) {
		connected(store);
		return true;
	}
	if (store->fd < 0 || errno != EINPROGRESS) {
		symm_connection_blame(store, "%s", strerror(errno));
		disconnect(store);
		return false;
	}
	store->state = SYMM_CONNECTION_CONNECTING;
	event_add(&store->connecting, NULL);
	symm_timer_set(&store->timer, PATIENCE);
	return true;
}

static void try_next(struct symm_store *store)
{
	while (store->next != NULL) {
		const struct addrinfo *address = store->next;

		store->next = address->ai_next;
		if (try_address(store, address))
			return;
	}
	back_off(store);
}

void symm_connection_drop(struct symm_store *store, const char *format, ...)
{
	int64_t since = __atomic_load_n(&store->unbroken_since, __ATOMIC_RELAXED);
	va_list args;

	va_start(args, format);
	vsnprintf(store->cause, sizeof(store->cause), format, args);
	va_end(args);
	symm_log(SYMM_LOG_INFO, "%s: %s", store->url.name, store->cause);
	/* Short lives in a row are no reason to hurry. */
	if (since != INT64_MAX && symm_now() - since > SYMM_BACKOFF_MAX)
		store->backoff = SYMM_BACKOFF_MIN;
	disconnect(store);
	symm_requests_land(store);
	try_next(store);
}

/* ---- addresses ---- */

static void on_found(void *arg, struct addrinfo *list, int error)
{
	struct symm_store *store = arg;

	store->lookup = NULL;
	if (error != 0)
		symm_connection_blame(store, "%s: %s", store->url.host, gai_strerror(error));
	store->found = list;
	store->next = list;
	try_next(store);
}

static void begin(struct symm_store *store)
{
	struct addrinfo *list;

	if (store->url.kind == SYMM_URL_UNIX) {
		store->next = &store->unix_address;
		try_next(store);
	} else if (symm_lookup_now(store->url.host, store->url.port, AI_NUMERICHOST, &list) == 0) {
		on_found(store, list, 0);
	} else {
		store->state = SYMM_CONNECTION_LOOKUP;
		store->lookup = symm_lookup_start(store->loop, store->url.host, store->url.port, on_found, store);
		if (store->lookup == NULL)
			symm_connection_drop(store, "cannot start a thread to look up %s", store->url.host);
	}
}

void symm_connection_want(struct symm_store *store)
{
	if (store->state == SYMM_CONNECTION_IDLE)
		begin(store);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct symm_store *store = arg;

	(void)fd;
	(void)what;
	if (store->state == SYMM_CONNECTION_BACKOFF) {
		begin(store);
	} else if (store->state == SYMM_CONNECTION_READY) {
		store->paused = false;
		symm_requests_flush(store);
	} else {
		symm_connection_drop(store, "%s for %d s", symm_connection_doing(store),
				     (int)(PATIENCE / SYMM_NS_PER_MS / 1000));
	}
}

void symm_connection_init(struct symm_store *store)
{
	evtimer_assign(&store->timer, symm_loop_base(store->loop), on_timer, store);
	store->backoff = SYMM_BACKOFF_MIN;
	store->fd = -1;
	store->unbroken_since = INT64_MAX;
	store->unix_name.sun_family = AF_UNIX;
	memcpy(store->unix_name.sun_path, store->url.path, sizeof(store->unix_name.sun_path));
	store->unix_address = (struct addrinfo){
		.ai_family = AF_UNIX,
		.ai_addr = (struct sockaddr *)&store->unix_name,
		.ai_addrlen = sizeof(store->unix_name),
	};
}
