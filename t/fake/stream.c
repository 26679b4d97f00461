/* Streams and the work on them.
 *
 * A piece of work knows what it comes after: the one before it in its stream, and what streams wait for by events and
 * by the rules of the legacy stream. It runs in a hardware queue, one thread each, in the order of enqueueing: as on
 * real hardware, what cannot begin yet holds up what is behind it, of other streams too.
 */
#include "fake.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct fake_work {
	struct fake_work *next; /* in its queue */
	int users;
	bool over; /* uses no memory any more */
	bool done;
	uint64_t ns; /* when it was done */
	struct fake_task task;
	size_t n_after;
	struct fake_work **after;
};

struct queue {
	struct fake_work *head, **tail;
	pthread_cond_t wake;
	unsigned int seed;
};

static struct queue *queues[FAKE_DEVICES][FAKE_ENGINES][32];
static pthread_cond_t finished = PTHREAD_COND_INITIALIZER;
static _Thread_local struct fake_work *running;

/* ---- work ---- */

bool fake_work_done(const struct fake_work *work)
{
	return work == NULL || work->done;
}

void fake_work_wait(struct fake_work *work)
{
	fake_work_hold(work);
	while (!fake_work_done(work))
		pthread_cond_wait(&finished, &fake_lock);
	fake_work_drop(work);
}

struct fake_work *fake_work_hold(struct fake_work *work)
{
	if (work != NULL)
		work->users++;
	return work;
}

void fake_work_drop(struct fake_work *work)
{
	if (work == NULL || --work->users > 0)
		return;
	free(work->after);
	free(work);
}

uint64_t fake_work_ns(const struct fake_work *work)
{
	return work->ns;
}

void fake_work_over(void)
{
	pthread_mutex_lock(&fake_lock);
	running->over = true;
	pthread_mutex_unlock(&fake_lock);
}

static void come_after(struct fake_work *work, struct fake_work *other)
{
	if (fake_work_done(other))
		return;
	work->after = reallocarray(work->after, work->n_after + 1, sizeof(struct fake_work *));
	FAKE_ASSERT(work->after != NULL, "no memory");
	work->after[work->n_after++] = fake_work_hold(other);
}

static bool may_begin(const struct fake_work *work)
{
	for (size_t i = 0; i < work->n_after; i++)
		if (!work->after[i]->done)
			return false;
	return true;
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void finish(struct fake_work *work)
{
	work->ns = clock_ns();
	work->done = true;
	for (size_t i = 0; i < work->n_after; i++)
		fake_work_drop(work->after[i]);
	work->n_after = 0;
	pthread_cond_broadcast(&finished);
}

/* ---- hardware queues ---- */

static void dawdle(struct queue *queue)
{
	struct timespec pause = { 0, 1000L * (rand_r(&queue->seed) % 300) };

	if (fake_config.seed != 0 && rand_r(&queue->seed) % 4 == 0)
		nanosleep(&pause, NULL);
}

static void check_access(const void *address, size_t bytes, void *arg)
{
	const struct fake_task *task = arg;
	bool known = fake_memory_check(address, bytes, task->context->device, task->name);

	FAKE_ASSERT(known || task->kind->host, "%s uses %p, which the driver does not know", task->name, address);
}

static void run_work(struct queue *queue, struct fake_work *work)
{
	struct fake_task *task = &work->task;

	if (task->kind->visit != NULL)
		task->kind->visit(task, check_access, task);
	running = work;
	pthread_mutex_unlock(&fake_lock);
	dawdle(queue);
	task->kind->run(task);
	pthread_mutex_lock(&fake_lock);
}

static void *run_queue(void *arg)
{
	struct queue *queue = arg;

	pthread_mutex_lock(&fake_lock);
	for (;;) {
		struct fake_work *work;

		while (queue->head == NULL)
			pthread_cond_wait(&queue->wake, &fake_lock);
		work = queue->head;
		while (!may_begin(work))
			pthread_cond_wait(&finished, &fake_lock);
		run_work(queue, work);
		queue->head = work->next;
		if (queue->head == NULL)
			queue->tail = &queue->head;
		finish(work);
		fake_work_drop(work);
	}
	return NULL;
}

static struct queue *start_queue(unsigned int number)
{
	struct queue *queue = fake_new(sizeof(*queue));
	sigset_t all, before;
	pthread_t thread;

	queue->tail = &queue->head;
	queue->seed = fake_config.seed + number;
	pthread_cond_init(&queue->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	FAKE_ASSERT(pthread_create(&thread, NULL, run_queue, queue) == 0, "no thread");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_detach(thread);
	return queue;
}

static struct queue *get_queue(int device, enum fake_engine engine, int number)
{
	struct queue **queue = &queues[device][engine][number];

	if (*queue == NULL)
		*queue = start_queue((unsigned int)(number + 100 * (int)engine + 1000 * device));
	return *queue;
}

/* Takes over the caller's hold. */
static void submit(struct fake_work *work, int number)
{
	struct queue *queue = get_queue(work->task.context->device, work->task.kind->engine, number);

	*queue->tail = work;
	queue->tail = &work->next;
	pthread_cond_signal(&queue->wake);
}

/* Unfinished work, of all contexts. */
static void each_work(void (*look)(const struct fake_work *work, void *arg), void *arg)
{
	for (size_t i = 0; i < sizeof(queues) / sizeof(struct queue *); i++) {
		const struct queue *queue = ((struct queue **)queues)[i];

		for (const struct fake_work *work = queue != NULL ? queue->head : NULL; work != NULL; work = work->next)
			if (!work->over)
				look(work, arg);
	}
}

struct range {
	const char *address;
	size_t bytes;
	const char *what, *who;
};

static void refuse_overlap(const void *address, size_t bytes, void *arg)
{
	const struct range *range = arg;
	const char *start = address;

	FAKE_ASSERT(start >= range->address + range->bytes || range->address >= start + bytes,
		    "%p: %s under running work (%s)", (const void *)range->address, range->what, range->who);
}

static void refuse_use(const struct fake_work *work, void *arg)
{
	const struct fake_task *task = &work->task;
	struct range *range = arg;

	range->who = task->name;
	if (task->kind->visit != NULL)
		task->kind->visit(task, refuse_overlap, range);
}

void fake_work_check_unused(const void *address, size_t bytes, const char *what)
{
	struct range range = { address, bytes, what, NULL };

	each_work(refuse_use, &range);
}

static void refuse_context(const struct fake_work *work, void *context)
{
	FAKE_ASSERT(work->task.context != context, "the context is released under running work (%s)", work->task.name);
}

void fake_work_check_none(const struct CUctx_st *context)
{
	each_work(refuse_context, (void *)context);
}

/* ---- streams ---- */

static void come_after_tail(struct fake_work *work, const struct CUstream_st *stream)
{
	come_after(work, stream->tail);
}

/* After all streams of a context, or all that wait for the legacy stream. */
static void come_after_streams(struct fake_work *work, const struct CUctx_st *context, bool all)
{
	static const enum fake_kind kinds[] = { FAKE_STREAM, FAKE_BUILTIN };

	come_after_tail(work, &context->legacy);
	for (int i = 0; i < 2; i++) {
		for
			FAKE_EACH(kinds[i], object)
			{
				const struct CUstream_st *stream = (const struct CUstream_st *)object;

				if (stream->context == context && (all || stream->blocking))
					come_after_tail(work, stream);
			}
	}
}

static struct fake_work *make_work(struct CUstream_st *stream, const struct fake_task *task)
{
	struct fake_work *work = fake_new(sizeof(*work));

	work->task = *task;
	work->users = 1;
	come_after_tail(work, stream);
	if (stream == &stream->context->legacy)
		come_after_streams(work, stream->context, false);
	else if (stream->blocking)
		come_after_tail(work, &stream->context->legacy);
	return work;
}

static void set_tail(struct CUstream_st *stream, struct fake_work *work)
{
	fake_work_drop(stream->tail);
	stream->tail = fake_work_hold(work);
}

static void run_nothing(const struct fake_task *task)
{
	(void)task;
}

static const struct fake_task_kind nothing = { FAKE_COMPUTE, false, run_nothing, NULL };

static enum symm_cuda_result enqueue(struct CUstream_st *stream, const struct fake_task *task, struct fake_work *other)
{
	enum symm_cuda_result refused = SYMM_CUDA_SUCCESS;
	struct fake_work *work;

	if (stream == &stream->context->legacy)
		refused = fake_capture_legacy(stream->context);
	if (refused != SYMM_CUDA_SUCCESS)
		return refused;
	work = make_work(stream, task);
	come_after(work, other);
	set_tail(stream, work);
	submit(work, stream->queue);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result fake_stream_enqueue(struct CUstream_st *stream, const struct fake_task *task)
{
	return stream->capture != NULL ? fake_capture_add(stream, task) : enqueue(stream, task, NULL);
}

enum symm_cuda_result fake_stream_join(struct CUstream_st *stream, struct fake_work *other)
{
	struct fake_task task = { .kind = &nothing, .name = "an event", .context = stream->context };

	return enqueue(stream, &task, other);
}

void fake_stream_launch(struct CUstream_st *stream, const struct fake_node *nodes, int n, struct fake_work **last)
{
	struct fake_task end_task = { .kind = &nothing, .name = "a graph", .context = stream->context };
	struct fake_work *end = make_work(stream, &end_task), **works = fake_new(sizeof(*works) * (size_t)(n + 1));

	for (int i = 0; i < n; i++) {
		works[i] = make_work(stream, &nodes[i].task);
		come_after(works[i], *last);
		for (int k = 0; k < nodes[i].n_after; k++)
			come_after(works[i], works[nodes[i].after[k]]);
		come_after(end, works[i]);
	}
	set_tail(stream, end);
	fake_work_drop(*last);
	*last = fake_work_hold(end);
	/* No work runs before the lock is given up: none of these is done, or freed, before the last is submitted. */
	for (int i = 0; i < n; i++)
		submit(works[i], nodes[i].queue);
	submit(end, stream->queue);
	free(works);
}

void fake_stream_drain(const struct CUstream_st *stream)
{
	fake_work_wait(stream->tail);
}

void fake_work_wait_all(const struct CUctx_st *context)
{
	struct fake_work *all = fake_new(sizeof(*all));

	all->users = 1;
	come_after_streams(all, context, true);
	while (!may_begin(all))
		pthread_cond_wait(&finished, &fake_lock);
	finish(all);
	fake_work_drop(all);
}

struct CUstream_st *fake_stream_find(struct CUstream_st *handle)
{
	struct CUctx_st *context = fake_context_current();

	if (handle == NULL || handle == SYMM_CUDA_STREAM_LEGACY)
		return &context->legacy;
	if (handle == SYMM_CUDA_STREAM_PER_THREAD)
		return fake_context_per_thread(context);
	return fake_object_lives(FAKE_STREAM, handle) ? handle : NULL;
}

enum symm_cuda_result cuStreamCreate(struct CUstream_st **stream, unsigned int flags)
{
	struct CUstream_st *made;

	FAKE_ENTER(FAKE_CONTEXT);
	if ((flags & ~(unsigned int)SYMM_CUDA_STREAM_NON_BLOCKING) != 0)
		return SYMM_CUDA_INVALID_VALUE;
	made = fake_new(sizeof(*made));
	made->context = fake_context_current();
	made->blocking = flags == 0;
	fake_manners.blocking_streams += made->blocking;
	made->queue = ++made->context->queue % fake_config.queues;
	fake_object_add(&made->object, FAKE_STREAM);
	*stream = made;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuStreamDestroy(struct CUstream_st *handle)
{
	FAKE_ENTER(FAKE_CONTEXT);
	if (!fake_object_lives(FAKE_STREAM, handle))
		return SYMM_CUDA_INVALID_HANDLE;
	FAKE_ASSERT(handle->capture == NULL, "the stream is capturing");
	fake_object_remove(&handle->object);
	fake_work_drop(handle->tail);
	free(handle);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuStreamGetCtx(struct CUstream_st *handle, struct CUctx_st **context)
{
	const struct CUstream_st *stream;

	FAKE_ENTER(FAKE_CONTEXT);
	stream = fake_stream_find(handle);
	if (stream == NULL)
		return SYMM_CUDA_INVALID_HANDLE;
	*context = stream->context;
	return SYMM_CUDA_SUCCESS;
}

/* A stream that may be asked about its work. */
static enum symm_cuda_result find_uncaptured(struct CUstream_st *handle, const struct CUstream_st **stream)
{
	*stream = fake_stream_find(handle);
	if (*stream == NULL)
		return SYMM_CUDA_INVALID_HANDLE;
	if ((*stream)->capture != NULL)
		return fake_capture_spoil((*stream)->capture, SYMM_CUDA_STREAM_CAPTURE_UNSUPPORTED);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuStreamQuery(struct CUstream_st *handle)
{
	const struct CUstream_st *stream;
	enum symm_cuda_result result;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	result = find_uncaptured(handle, &stream);
	if (result != SYMM_CUDA_SUCCESS)
		return result;
	return fake_work_done(stream->tail) ? SYMM_CUDA_SUCCESS : SYMM_CUDA_NOT_READY;
}

enum symm_cuda_result cuStreamSynchronize(struct CUstream_st *handle)
{
	const struct CUstream_st *stream;
	enum symm_cuda_result result;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	result = find_uncaptured(handle, &stream);
	if (result == SYMM_CUDA_SUCCESS)
		fake_stream_drain(stream);
	return result;
}
