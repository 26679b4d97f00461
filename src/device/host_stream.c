/* The host device's streams. A stream is a FIFO of work; a queue is a worker thread and what it is to do. Each stream
 * has a queue of its own; when the device is strict, the streams share a few, as those of a GPU share its hardware
 * queues.
 *
 * Work of a queue is numbered in the order of launching: a stream is done when the last number that it launched has
 * ended.
 */
#include "host.h"

#include "error.h"
#include "symm/kernel/layout.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SHARED_QUEUES 8
#define BUCKETS 256
#define DELAY_MAX_NS 200000

struct item {
	struct symm_sync_op op;
	void (*failed)(void *arg);
	void *arg;
	struct item *next;
};

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t come, gone; /* work has come; work has ended */
	struct item *head, *tail;
	struct item *spare;       /* items to use again */
	uint64_t launched, ended; /* how many */
	struct symm_device *device;
	uint64_t random; /* strict: state of the delays; else 0 */
	pthread_t worker;
	bool running, quit;
	int users; /* its streams, and who drains it: changed under streams_lock */
};

struct stream {
	struct queue *queue;
	uint64_t last;       /* number of the last work launched on it, counted from 1 */
	struct stream *next; /* in its bucket */
};

static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stream *buckets[BUCKETS];
static struct queue *shared[SHARED_QUEUES];
static unsigned next_shared;
static _Thread_local const struct queue *working; /* the queue whose worker this thread is */

/* ---- queues ---- */

static struct queue *queue_new(struct symm_device *device, uint64_t random)
{
	struct queue *queue = calloc(1, sizeof(*queue));
	pthread_condattr_t attr;

	if (queue == NULL)
		return NULL;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->come, NULL);
	pthread_cond_init(&queue->gone, &attr);
	pthread_condattr_destroy(&attr);
	queue->device = device;
	queue->random = random;
	return queue;
}

/* Ends the worker; the queue is empty. */
static void queue_free(struct queue *queue)
{
	struct item *item;

	pthread_mutex_lock(&queue->lock);
	queue->quit = true;
	pthread_cond_signal(&queue->come);
	pthread_mutex_unlock(&queue->lock);
	if (queue->running)
		pthread_join(queue->worker, NULL);
	while ((item = queue->spare) != NULL) {
		queue->spare = item->next;
		free(item);
	}
	pthread_cond_destroy(&queue->gone);
	pthread_cond_destroy(&queue->come);
	pthread_mutex_destroy(&queue->lock);
	free(queue);
}

static void queue_delay(struct queue *queue)
{
	queue->random ^= queue->random << 13;
	queue->random ^= queue->random >> 7;
	queue->random ^= queue->random << 17;
	symm_sleep((int64_t)(queue->random % DELAY_MAX_NS), INT64_MAX);
}

static void queue_do(struct queue *queue, struct item *item)
{
	uint32_t peer;
	int code;

	if (queue->random != 0)
		queue_delay(queue);
	symm_host_run(queue->device, &item->op, &code, &peer);
	if (code != 0 && item->failed != NULL)
		item->failed(item->arg);
	/* Whoever waits for the count may free the struct at once. */
	__atomic_fetch_add(&item->op.sync->ended, 1, __ATOMIC_RELEASE);
}

static void *queue_work(void *arg)
{
	struct queue *queue = arg;
	struct item *item;

	working = queue;
	pthread_mutex_lock(&queue->lock);
	for (;;) {
		while (queue->head == NULL && !queue->quit)
			pthread_cond_wait(&queue->come, &queue->lock);
		item = queue->head;
		if (item == NULL)
			break;
		queue->head = item->next;
		pthread_mutex_unlock(&queue->lock);
		queue_do(queue, item);
		pthread_mutex_lock(&queue->lock);
		item->next = queue->spare;
		queue->spare = item;
		queue->ended++;
		pthread_cond_broadcast(&queue->gone);
	}
	pthread_mutex_unlock(&queue->lock);
	return NULL;
}

/* Signals are for the threads of the program. */
static int queue_start(struct queue *queue)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&queue->worker, NULL, queue_work, queue);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err != 0)
		return symm_error_sys(SYMM_ESYS, err, "cannot start a stream's thread (ulimit -u)");
	pthread_setname_np(queue->worker, "symm-stream");
	queue->running = true;
	return 0;
}

static struct item *queue_item(struct queue *queue)
{
	struct item *item = queue->spare;

	if (item == NULL)
		return malloc(sizeof(*item));
	queue->spare = item->next;
	return item;
}

/* Called with the queue's lock. */
static int queue_push(struct queue *queue, const struct item *work)
{
	int rc = queue->running ? 0 : queue_start(queue);
	struct item *item;

	if (rc != 0)
		return rc;
	item = queue_item(queue);
	if (item == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	*item = *work;
	item->next = NULL;
	if (queue->head == NULL)
		queue->head = item;
	else
		queue->tail->next = item;
	queue->tail = item;
	queue->launched++;
	pthread_cond_signal(&queue->come);
	return 0;
}

/* False at the deadline. */
static bool queue_wait(struct queue *queue, uint64_t number, int64_t deadline)
{
	struct timespec at = { deadline / INT64_C(1000000000), deadline % INT64_C(1000000000) };
	bool done;

	pthread_mutex_lock(&queue->lock);
	while (queue->ended < number)
		if (pthread_cond_timedwait(&queue->gone, &queue->lock, &at) != 0)
			break;
	done = queue->ended >= number;
	pthread_mutex_unlock(&queue->lock);
	return done;
}

/* One of the shared queues in turn; streams_lock is held. */
static struct queue *queue_shared(struct host_device *device)
{
	unsigned i = next_shared++ % SHARED_QUEUES;
	uint64_t seed = (device->strict + i) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)getpid();

	if (shared[i] == NULL)
		shared[i] = queue_new(&device->base, seed | 1);
	return shared[i];
}

/* One user less; the last ends the queue, all of whose work has ended. streams_lock is held. */
static void queue_leave(struct queue *queue)
{
	if (--queue->users > 0)
		return;
	for (int i = 0; i < SHARED_QUEUES; i++)
		if (shared[i] == queue)
			shared[i] = NULL;
	queue_free(queue);
}

/* ---- streams ---- */

/* Where the pointer to the stream is kept: what a user hands us is never followed before it is found here. */
static struct stream **stream_place(const void *stream)
{
	struct stream **place = &buckets[(uintptr_t)stream / 32 % BUCKETS];

	while (*place != NULL && *place != stream)
		place = &(*place)->next;
	return place;
}

/* 0 if the stream, as found for a user's pointer, is there and this thread may wait for it. */
static int stream_check(const struct stream *stream, const void *pointer)
{
	if (pointer == NULL)
		return symm_error(SYMM_EINVAL, "stream is NULL");
	if (stream == NULL)
		return symm_error(SYMM_EINVAL, "%p is no stream of the host device", pointer);
	if (stream->queue == working)
		return symm_error(SYMM_EDEADLK, "a stream's callback cannot wait for the stream");
	return 0;
}

int symm_host_stream_create(struct symm_device *device, void **out)
{
	struct stream *stream = calloc(1, sizeof(*stream)), **place;
	struct host_device *host = host_device(device);

	if (stream == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	pthread_mutex_lock(&streams_lock);
	stream->queue = host->strict != 0 ? queue_shared(host) : queue_new(device, 0);
	if (stream->queue != NULL) {
		stream->queue->users++;
		place = stream_place(stream);
		*place = stream;
	}
	pthread_mutex_unlock(&streams_lock);
	if (stream->queue == NULL) {
		free(stream);
		return symm_error(SYMM_ENOMEM, "no memory");
	}
	*out = stream;
	return 0;
}

int symm_host_launch(struct symm_device *device, void *pointer, const struct symm_sync_op *op,
		     void (*failed)(void *arg), void *arg, uint64_t *count)
{
	struct item work = { *op, failed, arg, NULL };
	struct stream *stream;
	int rc;

	(void)device;
	pthread_mutex_lock(&streams_lock);
	stream = *stream_place(pointer);
	if (stream == NULL) {
		rc = stream_check(stream, pointer);
	} else {
		pthread_mutex_lock(&stream->queue->lock);
		rc = queue_push(stream->queue, &work);
		if (rc == 0)
			stream->last = stream->queue->launched;
		pthread_mutex_unlock(&stream->queue->lock);
	}
	pthread_mutex_unlock(&streams_lock);
	if (rc == 0)
		*count = 1;
	return rc;
}

int symm_host_stream_wait(struct symm_device *device, void *pointer, int64_t deadline)
{
	struct queue *queue = NULL;
	struct stream *stream;
	uint64_t last = 0;
	int rc;

	(void)device;
	pthread_mutex_lock(&streams_lock);
	stream = *stream_place(pointer);
	rc = stream_check(stream, pointer);
	if (rc == 0) {
		queue = stream->queue;
		last = stream->last;
	}
	pthread_mutex_unlock(&streams_lock);
	if (rc == 0 && !queue_wait(queue, last, deadline))
		rc = symm_error(SYMM_ETIMEDOUT, "the stream's work has not ended yet");
	return rc;
}

int symm_host_stream_destroy(struct symm_device *device, void *pointer)
{
	struct stream **place, *stream;
	int rc;

	(void)device;
	pthread_mutex_lock(&streams_lock);
	place = stream_place(pointer);
	stream = *place;
	rc = stream_check(stream, pointer);
	if (rc == 0)
		*place = stream->next;
	pthread_mutex_unlock(&streams_lock);
	if (rc != 0)
		return rc;
	queue_wait(stream->queue, stream->last, INT64_MAX);
	pthread_mutex_lock(&streams_lock);
	queue_leave(stream->queue);
	pthread_mutex_unlock(&streams_lock);
	free(stream);
	return 0;
}

static void queue_drain(int i)
{
	struct queue *queue;
	uint64_t launched;

	pthread_mutex_lock(&streams_lock);
	queue = shared[i];
	if (queue != NULL && queue != working) {
		queue->users++;
		pthread_mutex_lock(&queue->lock);
		launched = queue->launched;
		pthread_mutex_unlock(&queue->lock);
		pthread_mutex_unlock(&streams_lock);
		queue_wait(queue, launched, INT64_MAX);
		pthread_mutex_lock(&streams_lock);
		queue_leave(queue);
	}
	pthread_mutex_unlock(&streams_lock);
}

void symm_host_drain(const struct host_device *device)
{
	for (int i = 0; device->strict != 0 && i < SHARED_QUEUES; i++)
		queue_drain(i);
}
