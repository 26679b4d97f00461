#include "link_internal.h"

#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOSSES 5 /* connections lost, each within a second, until we believe that it cannot be made again */
#define RETRY_NS (5 * SYMM_NS_PER_MS)
#define LINGER_NS (100 * SYMM_NS_PER_MS)

/* A notice under way. */
struct symm_note {
	struct symm_task task;
	struct symm_link *link;
	struct symm_message message;
	struct symm_note *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* never held while a hook runs */
static struct symm_link *links;

/* The loop thread's. */
static struct symm_link *ending;
static struct symm_done *settled; /* set when the last ending link is gone */

static void link_pump(struct symm_link *link);
static void link_connect(struct symm_link *link);

/* ---- the end of a link ---- */

static void notes_drop(struct symm_link *link)
{
	struct symm_note *note;

	while ((note = link->notes) != NULL) {
		link->notes = note->next;
		free(note);
	}
	link->last_note = &link->notes;
}

static void event_drop(struct event **event)
{
	if (*event != NULL)
		event_free(*event);
	*event = NULL;
}

static void link_disconnect(struct symm_link *link)
{
	symm_conn_close(&link->conn);
	event_drop(&link->death);
	event_drop(&link->retry);
	if (link->pidfd >= 0)
		close(link->pidfd);
	link->pidfd = -1;
}

static void link_unlist(struct symm_link *link)
{
	for (struct symm_link **at = &links; *at != NULL; at = &(*at)->next)
		if (*at == link) {
			*at = link->next;
			return;
		}
}

static void link_free(struct symm_link *link)
{
	for (struct symm_link **at = &ending; *at != NULL; at = &(*at)->next_ending)
		if (*at == link) {
			*at = link->next_ending;
			break;
		}
	if (link->state != SYMM_LINK_GONE)
		symm_err_set(&link->why, SYMM_ESTALE, "the link to process %d on %s was closed", link->process.pid,
			     link->process.host);
	link_disconnect(link);
	symm_pulls_fail(link);
	notes_drop(link);
	event_drop(&link->linger);
	free(link);
	symm_pulls_pump();
	if (ending == NULL && settled != NULL)
		symm_done_set(settled);
}

/* What the process has told us comes before the news of its death. Frees an ending link. */
static void link_gone(struct symm_link *link, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void link_gone(struct symm_link *link, const char *format, ...)
{
	struct symm_process process = link->process;
	char why[SYMM_ERROR_TEXT / 2];
	bool used;
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	symm_err_set(&link->why, SYMM_EPEER, "process %d on %s %s", process.pid, process.host, why);
	link->state = SYMM_LINK_GONE;
	link_disconnect(link);
	symm_endpoint_drain(&process.id);
	pthread_mutex_lock(&lock);
	link_unlist(link);
	used = link->users > 0;
	pthread_mutex_unlock(&lock);
	symm_pulls_fail(link);
	notes_drop(link);
	if (link->ending)
		link_free(link);
	else
		symm_pulls_pump();
	if (used)
		symm_endpoint.hooks.died(&process.id);
}

/* ---- the connection ---- */

static void link_lost(struct symm_link *link)
{
	int64_t now = symm_now();
	struct timeval delay;

	symm_conn_close(&link->conn);
	if (link->state == SYMM_LINK_READY && now - link->ready_since > 1000 * SYMM_NS_PER_MS)
		link->losses = 0;
	link->state = SYMM_LINK_CONNECTING;
	symm_pulls_again(link);
	if (++link->losses > LOSSES) {
		link_gone(link, "closes each connection to its link socket");
		return;
	}
	delay = (struct timeval){ .tv_usec = (link->losses - 1) * (RETRY_NS / 1000) };
	event_add(link->retry, &delay);
	symm_pulls_pump();
}

/* Reads and handles one message. False: no more now; the link may be gone. */
static bool link_take(struct symm_link *link)
{
	struct symm_parcel parcel;
	int rc = symm_socket_recv(link->conn.fd, &parcel);

	if (rc == -EAGAIN)
		return false;
	if (rc == 0 && link->state == SYMM_LINK_READY && symm_pulls_answer(link, &parcel))
		return true;
	if (rc == 0)
		symm_parcel_drop(&parcel);
	if (rc != 0 || link->state == SYMM_LINK_READY || parcel.message.type != SYMM_MESSAGE_HELLO) {
		link_lost(link);
		return false;
	}
	if (!symm_id_equal(&parcel.message.process, &link->process.id)) {
		link_gone(link, "is another process by now");
		return false;
	}
	link->state = SYMM_LINK_READY;
	link->ready_since = symm_now();
	return true;
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	if (link_take(arg))
		link_pump(arg);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	link_pump(arg);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	link_connect(arg);
}

static void on_death(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	link_gone(arg, "has exited");
}

static void on_linger(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	link_free(arg);
}

/* False: it is dead. Where there is no pidfd, or no such pid in our namespace, the end of the connection has to do. The
 * start time is looked at after the pidfd is made: so the pidfd cannot be that of a stranger with the same pid. */
static bool link_watch(struct symm_link *link, pid_t pid)
{
	if (link->pidfd >= 0 || pid <= 0)
		return true;
	link->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (link->pidfd < 0)
		return errno != ESRCH;
	link->death = event_new(symm_endpoint.base, link->pidfd, EV_READ, on_death, link);
	if (link->death == NULL || event_add(link->death, NULL) != 0)
		symm_log(SYMM_LOG_WARN, "no memory to watch process %d", (int)pid);
	return symm_process_look(&link->process) != SYMM_DEAD;
}

/* Neither a full backlog nor our own lack of something says anything of the process. */
static void link_retry(struct symm_link *link)
{
	struct timeval delay = { .tv_usec = RETRY_NS / 1000 };

	if (symm_process_look(&link->process) == SYMM_DEAD)
		link_gone(link, "has exited");
	else
		event_add(link->retry, &delay);
}

static void link_connect(struct symm_link *link)
{
	char why[128];
	pid_t pid;
	int fd, err = symm_socket_connect(&link->process, symm_endpoint.self.netns, &fd);

	if (err == 0)
		err = symm_conn_open(&link->conn, fd, on_read, on_again, link);
	if (err != 0 && symm_socket_passing(-err)) {
		link_retry(link);
	} else if (err != 0) {
		link_gone(link, "cannot be reached at its link socket: %s", strerror_r(-err, why, sizeof(why)));
	} else if (!symm_socket_trusted(link->conn.fd, &pid)) {
		link_gone(link, "does not belong to our user");
	} else if (!link_watch(link, pid)) {
		link_gone(link, "has exited");
	} else {
		link->state = SYMM_LINK_GREETING;
		if (symm_socket_hello(link->conn.fd, &symm_endpoint.self.id) != 0)
			link_lost(link);
	}
}

bool symm_link_can_send(const struct symm_link *link)
{
	return link->state == SYMM_LINK_READY && !symm_conn_waiting(&link->conn);
}

/* ---- uses of a link ---- */

static void link_pump(struct symm_link *link)
{
	struct symm_note *note;
	int rc = 0;

	while (rc == 0 && (note = link->notes) != NULL && symm_link_can_send(link)) {
		rc = symm_socket_send(link->conn.fd, &note->message, NULL, 0);
		if (rc != 0 && symm_socket_passing(-rc))
			symm_conn_wait(&link->conn, -rc);
		if (rc != 0)
			break;
		link->notes = note->next;
		if (link->notes == NULL)
			link->last_note = &link->notes;
		free(note);
	}
	symm_pulls_pump();
	if (link->ending && link->notes == NULL)
		link_free(link);
}

static void link_start(void *arg)
{
	struct symm_link *link = arg;

	link->retry = event_new(symm_endpoint.base, -1, 0, on_retry, link);
	link->linger = event_new(symm_endpoint.base, -1, 0, on_linger, link);
	if (link->retry == NULL || link->linger == NULL)
		link_gone(link, "cannot be watched: no memory");
	else
		link_connect(link);
}

static void link_finish(void *arg)
{
	static const struct timeval linger_time = { .tv_usec = LINGER_NS / 1000 };
	struct symm_link *link = arg;

	if (link->notes == NULL) {
		link_free(link);
		return;
	}
	link->ending = true;
	link->next_ending = ending;
	ending = link;
	event_add(link->linger, &linger_time);
}

static struct symm_link *link_new(const struct symm_process *process)
{
	struct symm_link *link = calloc(1, sizeof(*link));

	if (link == NULL)
		return NULL;
	link->process = *process;
	link->start = (struct symm_task){ .fn = link_start, .arg = link };
	link->finish = (struct symm_task){ .fn = link_finish, .arg = link };
	link->conn.fd = -1;
	link->pidfd = -1;
	link->last_note = &link->notes;
	return link;
}

/* Under lock. */
static struct symm_link *find_or_list(const struct symm_process *process)
{
	struct symm_link *link = links;

	while (link != NULL && !symm_id_equal(&link->process.id, &process->id))
		link = link->next;
	if (link != NULL)
		return link;
	link = link_new(process);
	if (link == NULL)
		return NULL;
	link->next = links;
	links = link;
	symm_loop_post(symm_endpoint.loop, &link->start);
	return link;
}

int symm_link_get(const struct symm_process *process, struct symm_link **out)
{
	struct symm_link *link;

	if (process->netns != symm_endpoint.self.netns && process->path[0] == '\0')
		return symm_error(SYMM_EUNREACH,
				  "process %d on %s is in another network namespace: SYMM_LINK_DIR must name a folder "
				  "that both see",
				  process->pid, process->host);
	pthread_mutex_lock(&lock);
	link = find_or_list(process);
	if (link != NULL)
		link->users++;
	pthread_mutex_unlock(&lock);
	if (link == NULL)
		return symm_error(SYMM_ENOMEM, "no memory for a link");
	*out = link;
	return SYMM_OK;
}

void symm_link_put(struct symm_link *link)
{
	bool last;

	if (link == NULL)
		return;
	pthread_mutex_lock(&lock);
	last = --link->users == 0;
	if (last)
		link_unlist(link);
	pthread_mutex_unlock(&lock);
	if (last)
		symm_loop_post(symm_endpoint.loop, &link->finish);
}

static void note_run(void *arg)
{
	struct symm_note *note = arg;
	struct symm_link *link = note->link;

	if (link->state == SYMM_LINK_GONE) {
		free(note);
		return;
	}
	*link->last_note = note;
	link->last_note = &note->next;
	link_pump(link);
}

void symm_link_notify(struct symm_link *link, const struct symm_notice *notice)
{
	struct symm_note *note = calloc(1, sizeof(*note));

	if (note == NULL) {
		symm_log(SYMM_LOG_ERROR, "no memory to notify process %d", link->process.pid);
		return;
	}
	note->task = (struct symm_task){ .fn = note_run, .arg = note };
	note->link = link;
	note->message = (struct symm_message){
		.type = notice->type, .code = notice->why.code, .nonce = notice->nonce, .rank = (uint32_t)notice->rank
	};
	snprintf(note->message.text, sizeof(note->message.text), "%.*s", SYMM_MESSAGE_TEXT - 1, notice->why.text);
	symm_loop_post(symm_endpoint.loop, &note->task);
}

static void settle_begin(void *arg)
{
	settled = arg;
	if (ending == NULL)
		symm_done_set(settled);
}

static void settle_end(void *arg)
{
	(void)arg;
	settled = NULL;
	while (ending != NULL)
		link_free(ending);
}

void symm_link_settle(void)
{
	struct symm_done done;

	symm_done_init(&done);
	symm_loop_call(symm_endpoint.loop, settle_begin, &done);
	symm_done_wait(&done, symm_now() + 2 * LINGER_NS);
	symm_loop_call(symm_endpoint.loop, settle_end, NULL);
}
