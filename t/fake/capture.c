/* Captures and graphs. A stream being captured has heads: the nodes of the graph that its next node comes after. */
#include "fake.h"

#include <stdlib.h>
#include <string.h>

struct fake_capture {
	struct fake_capture *next;
	struct CUstream_st *origin;
	struct CUgraph_st *graph;
	enum symm_cuda_capture_mode mode;
	const void *thread; /* the address of its `mode` stands for it */
	bool spoilt;
};

struct CUgraph_st {
	struct fake_object object;
	struct fake_node *nodes;
	int n;
};

struct CUgraphExec_st {
	struct fake_object object;
	struct fake_node *nodes;
	int n;
	struct fake_work *last; /* of its last launch: launches of one graph follow each other */
};

static struct fake_capture *captures;
static _Thread_local enum symm_cuda_capture_mode mode = SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL;

enum symm_cuda_result cuThreadExchangeStreamCaptureMode(enum symm_cuda_capture_mode *wanted)
{
	enum symm_cuda_capture_mode before = mode;

	FAKE_ENTER(FAKE_INIT);
	if (*wanted > SYMM_CUDA_STREAM_CAPTURE_MODE_RELAXED)
		return SYMM_CUDA_INVALID_VALUE;
	mode = *wanted;
	*wanted = before;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result fake_capture_spoil(struct fake_capture *capture, enum symm_cuda_result why)
{
	capture->spoilt = true;
	return why;
}

/* Whether a capture forbids this thread what may disturb it. */
static bool forbids(const struct fake_capture *capture)
{
	if (mode == SYMM_CUDA_STREAM_CAPTURE_MODE_RELAXED || capture->mode == SYMM_CUDA_STREAM_CAPTURE_MODE_RELAXED)
		return false;
	return capture->thread == &mode ||
	       (mode == SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL && capture->mode == SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL);
}

enum symm_cuda_result fake_capture_unsafe(void)
{
	enum symm_cuda_result result = SYMM_CUDA_SUCCESS;

	for (struct fake_capture *capture = captures; capture != NULL; capture = capture->next)
		if (forbids(capture))
			result = fake_capture_spoil(capture, SYMM_CUDA_STREAM_CAPTURE_UNSUPPORTED);
	return result;
}

/* A capture, of those that the context's legacy stream would have to wait for. */
static struct fake_capture *find_blocking(const struct CUctx_st *context)
{
	struct fake_capture *capture = captures;

	while (capture != NULL && (capture->origin->context != context || !capture->origin->blocking))
		capture = capture->next;
	return capture;
}

enum symm_cuda_result fake_capture_legacy(const struct CUctx_st *context)
{
	struct fake_capture *capture = find_blocking(context);

	return capture != NULL ? fake_capture_spoil(capture, SYMM_CUDA_STREAM_CAPTURE_IMPLICIT) : SYMM_CUDA_SUCCESS;
}

/* ---- nodes ---- */

static void add_heads(struct CUstream_st *stream, const int *heads, int n)
{
	for (int i = 0; i < n; i++) {
		bool known = false;

		for (int k = 0; k < stream->heads; k++)
			known |= stream->head[k] == heads[i];
		FAKE_ASSERT(known || stream->heads < FAKE_MANY, "more than %d events joined at once", FAKE_MANY);
		if (!known)
			stream->head[stream->heads++] = heads[i];
	}
}

enum symm_cuda_result fake_capture_add(struct CUstream_st *stream, const struct fake_task *task)
{
	struct CUgraph_st *graph = stream->capture->graph;
	struct fake_node *node;

	if (stream->capture->spoilt)
		return SYMM_CUDA_STREAM_CAPTURE_INVALIDATED;
	graph->nodes = reallocarray(graph->nodes, (size_t)graph->n + 1, sizeof(*graph->nodes));
	FAKE_ASSERT(graph->nodes != NULL, "no memory");
	node = &graph->nodes[graph->n];
	node->task = *task;
	node->queue = stream->queue;
	node->n_after = stream->heads;
	memcpy(node->after, stream->head, sizeof(node->after));
	stream->heads = 1;
	stream->head[0] = graph->n++;
	return SYMM_CUDA_SUCCESS;
}

void fake_capture_record(const struct CUstream_st *stream, struct CUevent_st *event)
{
	event->capture = stream->capture;
	event->heads = stream->heads;
	memcpy(event->head, stream->head, sizeof(event->head));
}

enum symm_cuda_result fake_capture_wait(struct CUstream_st *stream, const struct CUevent_st *event)
{
	if (event->capture == NULL)
		return fake_capture_spoil(stream->capture, SYMM_CUDA_STREAM_CAPTURE_ISOLATION);
	if (stream->capture == NULL)
		stream->capture = event->capture;
	if (stream->capture != event->capture) {
		fake_capture_spoil(event->capture, SYMM_CUDA_STREAM_CAPTURE_MERGE);
		return fake_capture_spoil(stream->capture, SYMM_CUDA_STREAM_CAPTURE_MERGE);
	}
	add_heads(stream, event->head, event->heads);
	return SYMM_CUDA_SUCCESS;
}

/* ---- begin and end ---- */

enum symm_cuda_result cuStreamBeginCapture(struct CUstream_st *handle, enum symm_cuda_capture_mode wanted)
{
	struct CUstream_st *stream;
	struct fake_capture *capture;

	FAKE_ENTER(FAKE_CONTEXT);
	stream = fake_stream_find(handle);
	if (stream == NULL)
		return SYMM_CUDA_INVALID_HANDLE;
	if (stream == &stream->context->legacy)
		return SYMM_CUDA_STREAM_CAPTURE_UNSUPPORTED;
	if (stream->capture != NULL)
		return SYMM_CUDA_ILLEGAL_STATE;
	capture = fake_new(sizeof(*capture));
	capture->origin = stream;
	capture->graph = fake_new(sizeof(*capture->graph));
	capture->mode = wanted;
	capture->thread = &mode;
	capture->next = captures;
	captures = capture;
	stream->capture = capture;
	stream->heads = 0;
	return SYMM_CUDA_SUCCESS;
}

static void mark_reached(const struct CUgraph_st *graph, bool *reached, int node)
{
	if (reached[node])
		return;
	reached[node] = true;
	for (int i = 0; i < graph->nodes[node].n_after; i++)
		mark_reached(graph, reached, graph->nodes[node].after[i]);
}

/* Whether all nodes come before the origin's next. */
static bool is_joined(const struct fake_capture *capture)
{
	bool *reached = fake_new((size_t)capture->graph->n + 1), all = true;

	for (int i = 0; i < capture->origin->heads; i++)
		mark_reached(capture->graph, reached, capture->origin->head[i]);
	for (int i = 0; i < capture->graph->n; i++)
		all &= reached[i];
	free(reached);
	return all;
}

/* No stream or event knows the capture any more. */
static void forget(struct fake_capture *capture)
{
	static const enum fake_kind kinds[] = { FAKE_STREAM, FAKE_BUILTIN };
	struct fake_capture **link = &captures;

	for (int i = 0; i < 2; i++)
		for
			FAKE_EACH(kinds[i], object)
	if (((struct CUstream_st *)object)->capture == capture)
		((struct CUstream_st *)object)->capture = NULL;
	for
		FAKE_EACH(FAKE_EVENT, object)
	if (((struct CUevent_st *)object)->capture == capture)
		((struct CUevent_st *)object)->capture = NULL;
	while (*link != capture)
		link = &(*link)->next;
	*link = capture->next;
}

enum symm_cuda_result cuStreamEndCapture(struct CUstream_st *handle, struct CUgraph_st **graph)
{
	enum symm_cuda_result result = SYMM_CUDA_SUCCESS;
	struct fake_capture *capture;
	struct CUstream_st *stream;

	FAKE_ENTER(FAKE_CONTEXT);
	stream = fake_stream_find(handle);
	if (stream == NULL || stream->capture == NULL)
		return SYMM_CUDA_ILLEGAL_STATE;
	capture = stream->capture;
	if (capture->origin != stream)
		return SYMM_CUDA_STREAM_CAPTURE_UNMATCHED;
	if (capture->mode != SYMM_CUDA_STREAM_CAPTURE_MODE_RELAXED && capture->thread != &mode)
		return SYMM_CUDA_STREAM_CAPTURE_WRONG_THREAD;
	if (capture->spoilt)
		result = SYMM_CUDA_STREAM_CAPTURE_INVALIDATED;
	else if (!is_joined(capture))
		result = SYMM_CUDA_STREAM_CAPTURE_UNJOINED;
	forget(capture);
	*graph = NULL;
	if (result == SYMM_CUDA_SUCCESS) {
		*graph = capture->graph;
		fake_object_add(&(*graph)->object, FAKE_GRAPH);
	} else {
		free(capture->graph->nodes);
		free(capture->graph);
	}
	free(capture);
	return result;
}

enum symm_cuda_result cuStreamIsCapturing(struct CUstream_st *handle, enum symm_cuda_capture_status *status)
{
	const struct CUstream_st *stream;

	FAKE_ENTER(FAKE_CONTEXT);
	stream = fake_stream_find(handle);
	if (stream == NULL)
		return SYMM_CUDA_INVALID_HANDLE;
	/* This question alone does not spoil the capture. */
	if (stream == &stream->context->legacy && find_blocking(stream->context) != NULL)
		return SYMM_CUDA_STREAM_CAPTURE_IMPLICIT;
	*status = SYMM_CUDA_STREAM_CAPTURE_STATUS_NONE;
	if (stream->capture != NULL)
		*status = stream->capture->spoilt ? SYMM_CUDA_STREAM_CAPTURE_STATUS_INVALIDATED
						  : SYMM_CUDA_STREAM_CAPTURE_STATUS_ACTIVE;
	return SYMM_CUDA_SUCCESS;
}

/* ---- graphs ---- */

enum symm_cuda_result cuGraphInstantiateWithFlags(struct CUgraphExec_st **exec, struct CUgraph_st *graph,
						  unsigned long long flags)
{
	struct CUgraphExec_st *made;

	FAKE_ENTER(FAKE_CONTEXT);
	if (!fake_object_lives(FAKE_GRAPH, graph) || flags != 0)
		return SYMM_CUDA_INVALID_VALUE;
	made = fake_new(sizeof(*made));
	made->n = graph->n;
	made->nodes = fake_new(sizeof(*made->nodes) * (size_t)(graph->n + 1));
	if (graph->n > 0)
		memcpy(made->nodes, graph->nodes, sizeof(*made->nodes) * (size_t)graph->n);
	fake_object_add(&made->object, FAKE_EXEC);
	*exec = made;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuGraphLaunch(struct CUgraphExec_st *exec, struct CUstream_st *handle)
{
	enum symm_cuda_result refused_legacy = SYMM_CUDA_SUCCESS;
	struct CUstream_st *stream;

	FAKE_ENTER(FAKE_CONTEXT);
	stream = fake_stream_find(handle);
	if (stream == NULL || !fake_object_lives(FAKE_EXEC, exec))
		return SYMM_CUDA_INVALID_HANDLE;
	FAKE_ASSERT(stream->capture == NULL, "a graph in a graph: not known here");
	if (stream == &stream->context->legacy)
		refused_legacy = fake_capture_legacy(stream->context);
	if (refused_legacy != SYMM_CUDA_SUCCESS)
		return refused_legacy;
	fake_stream_launch(stream, exec->nodes, exec->n, &exec->last);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuGraphExecDestroy(struct CUgraphExec_st *exec)
{
	FAKE_ENTER(FAKE_CONTEXT);
	if (!fake_object_lives(FAKE_EXEC, exec))
		return SYMM_CUDA_INVALID_HANDLE;
	fake_object_remove(&exec->object);
	fake_work_drop(exec->last);
	free(exec->nodes);
	free(exec);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuGraphDestroy(struct CUgraph_st *graph)
{
	FAKE_ENTER(FAKE_CONTEXT);
	if (!fake_object_lives(FAKE_GRAPH, graph))
		return SYMM_CUDA_INVALID_HANDLE;
	fake_object_remove(&graph->object);
	free(graph->nodes);
	free(graph);
	return SYMM_CUDA_SUCCESS;
}
