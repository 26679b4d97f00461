#include "redis_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* Shared by the thread and the loop. While it is not cancelled the store lives, and with it the loop. */
struct symm_lookup {
	pthread_mutex_t lock;
	bool cancelled; /* under lock */
	struct symm_loop *loop;
	struct symm_task task;
	char host[256];
	uint16_t port;
	struct addrinfo *list;
	int error;
	void (*found)(void *arg, struct addrinfo *list, int error);
	void *arg;
};

int symm_lookup_now(const char *host, uint16_t port, int flags, struct addrinfo **list)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags };
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	return getaddrinfo(host, service, &hints, list);
}

static void destroy(struct symm_lookup *lookup)
{
	pthread_mutex_destroy(&lookup->lock);
	free(lookup);
}

static void deliver(void *arg)
{
	struct symm_lookup *lookup = arg;
	bool cancelled;

	/* The thread posts under the lock: once we have had it, the thread is done with us. */
	pthread_mutex_lock(&lookup->lock);
	cancelled = lookup->cancelled;
	pthread_mutex_unlock(&lookup->lock);
	if (!cancelled)
		lookup->found(lookup->arg, lookup->list, lookup->error);
	else if (lookup->list != NULL)
		freeaddrinfo(lookup->list);
	destroy(lookup);
}

static void *run(void *arg)
{
	struct symm_lookup *lookup = arg;
	struct addrinfo *list = NULL;
	int error = symm_lookup_now(lookup->host, lookup->port, 0, &list);
	bool cancelled;

	pthread_mutex_lock(&lookup->lock);
	cancelled = lookup->cancelled;
	if (!cancelled) {
		lookup->list = list;
		lookup->error = error;
		symm_loop_post(lookup->loop, &lookup->task);
	}
	pthread_mutex_unlock(&lookup->lock);
	if (cancelled) {
		if (list != NULL)
			freeaddrinfo(list);
		destroy(lookup);
	}
	return NULL;
}

/* A thread for each: getaddrinfo may hang for longer than anybody waits, and cannot be called off. It inherits the
 * loop's signal mask: all blocked. */
struct symm_lookup *symm_lookup_start(struct symm_loop *loop, const char *host, uint16_t port,
				      void (*found)(void *arg, struct addrinfo *list, int error), void *arg)
{
	struct symm_lookup *lookup = calloc(1, sizeof(*lookup));
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	if (lookup == NULL)
		return NULL;
	pthread_mutex_init(&lookup->lock, NULL);
	lookup->loop = loop;
	lookup->task = (struct symm_task){ .fn = deliver, .arg = lookup };
	snprintf(lookup->host, sizeof(lookup->host), "%s", host);
	lookup->port = port;
	lookup->found = found;
	lookup->arg = arg;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, run, lookup);
	pthread_attr_destroy(&attr);
	if (err != 0) {
		destroy(lookup);
		return NULL;
	}
	return lookup;
}

void symm_lookup_cancel(struct symm_lookup *lookup)
{
	pthread_mutex_lock(&lookup->lock);
	lookup->cancelled = true;
	pthread_mutex_unlock(&lookup->lock);
}
