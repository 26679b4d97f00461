/* Events: each stands for the work that was last in a stream when it was recorded. */
#include "fake.h"

#include <stdlib.h>

enum symm_cuda_result cuEventCreate(struct CUevent_st **event, unsigned int flags)
{
	struct CUevent_st *made;

	FAKE_ENTER(FAKE_CONTEXT);
	made = fake_new(sizeof(*made));
	made->timed = (flags & SYMM_CUDA_EVENT_DISABLE_TIMING) == 0;
	fake_object_add(&made->object, FAKE_EVENT);
	*event = made;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuEventDestroy(struct CUevent_st *event)
{
	FAKE_ENTER(FAKE_CONTEXT);
	if (!fake_object_lives(FAKE_EVENT, event))
		return SYMM_CUDA_INVALID_HANDLE;
	fake_object_remove(&event->object);
	fake_work_drop(event->work);
	free(event);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuEventRecord(struct CUevent_st *event, struct CUstream_st *handle)
{
	struct CUstream_st *stream;
	enum symm_cuda_result result;

	FAKE_ENTER(FAKE_CONTEXT);
	stream = fake_stream_find(handle);
	if (stream == NULL || !fake_object_lives(FAKE_EVENT, event) || stream->context != event->object.owner)
		return SYMM_CUDA_INVALID_HANDLE;
	if (stream->capture != NULL) {
		fake_capture_record(stream, event);
		return SYMM_CUDA_SUCCESS;
	}
	result = fake_stream_join(stream, NULL);
	if (result != SYMM_CUDA_SUCCESS)
		return result;
	fake_work_drop(event->work);
	event->work = fake_work_hold(stream->tail);
	event->capture = NULL;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuEventQuery(struct CUevent_st *event)
{
	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	if (!fake_object_lives(FAKE_EVENT, event))
		return SYMM_CUDA_INVALID_HANDLE;
	if (event->capture != NULL)
		return fake_capture_spoil(event->capture, SYMM_CUDA_STREAM_CAPTURE_UNSUPPORTED);
	return fake_work_done(event->work) ? SYMM_CUDA_SUCCESS : SYMM_CUDA_NOT_READY;
}

enum symm_cuda_result cuEventSynchronize(struct CUevent_st *event)
{
	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	if (!fake_object_lives(FAKE_EVENT, event))
		return SYMM_CUDA_INVALID_HANDLE;
	if (event->capture != NULL)
		return fake_capture_spoil(event->capture, SYMM_CUDA_STREAM_CAPTURE_UNSUPPORTED);
	fake_work_wait(event->work);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuEventElapsedTime(float *ms, struct CUevent_st *from, struct CUevent_st *to)
{
	FAKE_ENTER(FAKE_CONTEXT);
	if (!fake_object_lives(FAKE_EVENT, from) || !fake_object_lives(FAKE_EVENT, to) || from->work == NULL ||
	    to->work == NULL || !from->timed || !to->timed)
		return SYMM_CUDA_INVALID_HANDLE;
	if (!fake_work_done(from->work) || !fake_work_done(to->work))
		return SYMM_CUDA_NOT_READY;
	*ms = (float)((double)(fake_work_ns(to->work) - fake_work_ns(from->work)) / 1e6);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuStreamWaitEvent(struct CUstream_st *handle, struct CUevent_st *event, unsigned int flags)
{
	struct CUstream_st *stream;

	FAKE_ENTER(FAKE_CONTEXT);
	stream = fake_stream_find(handle);
	if (stream == NULL || !fake_object_lives(FAKE_EVENT, event) || flags != 0)
		return SYMM_CUDA_INVALID_HANDLE;
	if (stream->capture != NULL || event->capture != NULL)
		return fake_capture_wait(stream, event);
	return fake_stream_join(stream, event->work);
}
