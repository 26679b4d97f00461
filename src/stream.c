/* stream.c: streams that symm makes. What users hold is a handle; a device's own stream may stand in its place. */
#include "stream.h"

#include "base.h"
#include "handle.h"
#include "log.h"
#include "trace.h"

#include <stdlib.h>

struct stream {
	void *handle;
	int64_t timeout_ms; /* of the context that made it, which may be closed before it */
	struct symm_device *device;
	void *raw;
};

int symm_stream_hold(void *stream, const struct symm_device *device, struct stream **held, void **raw)
{
	struct stream *found;
	int rc;

	*held = NULL;
	*raw = stream;
	if (!symm_handle_is(stream))
		return 0;
	found = symm_handle_get(stream, SYMM_HANDLE_STREAM, &rc);
	if (found == NULL)
		return rc;
	if (found->device != device) {
		symm_handle_put(stream);
		return symm_error(SYMM_EINVAL, "the stream belongs to device %s, the symm_mem to %s",
				  found->device->ops->name, device->ops->name);
	}
	*held = found;
	*raw = found->raw;
	return 0;
}

void symm_stream_unhold(struct stream *held)
{
	if (held != NULL)
		symm_handle_put(held->handle);
}

static int make(struct context *context, struct stream **out)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	int rc;

	if (stream == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	stream->timeout_ms = context->timeout_ms;
	rc = symm_device_hold(context->device);
	if (rc != 0)
		goto fail;
	stream->device = context->device;
	rc = stream->device->ops->stream_create(stream->device, &stream->raw);
	if (rc != 0)
		goto fail_device;
	stream->handle = symm_handle_new(SYMM_HANDLE_STREAM, stream);
	if (stream->handle == NULL) {
		rc = SYMM_ENOMEM;
		goto fail_raw;
	}
	*out = stream;
	return 0;
fail_raw:
	stream->device->ops->stream_destroy(stream->device, stream->raw);
fail_device:
	symm_device_close(stream->device);
fail:
	free(stream);
	return rc;
}

int symm_stream_create(struct symm_context *handle, void **out)
{
	SYMM_TRACE("symm_stream_create");
	struct context *context;
	struct stream *stream = NULL;
	int rc;

	if (out == NULL)
		return symm_error(SYMM_EINVAL, "symm_stream_create: stream is NULL");
	context = symm_handle_get(handle, SYMM_HANDLE_CONTEXT, &rc);
	if (context == NULL)
		return symm_error_prefix(rc, "symm_stream_create");
	rc = make(context, &stream);
	if (rc == 0)
		*out = stream->handle;
	symm_handle_put(handle);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_stream_create");
}

int symm_stream_synchronize(void *handle, int64_t timeout_ms)
{
	SYMM_TRACE("symm_stream_synchronize");
	struct stream *stream;
	int64_t deadline;
	int rc;

	if (symm_log_here())
		return symm_log_refuse("symm_stream_synchronize");
	stream = symm_handle_get(handle, SYMM_HANDLE_STREAM, &rc);
	if (stream == NULL)
		return symm_error_prefix(rc, "symm_stream_synchronize");
	rc = symm_deadline(stream->timeout_ms, timeout_ms, &deadline);
	if (rc == 0)
		rc = stream->device->ops->stream_wait(stream->device, stream->raw, deadline);
	symm_handle_put(handle);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_stream_synchronize");
}

int symm_stream_destroy(void *handle)
{
	SYMM_TRACE("symm_stream_destroy");
	struct stream *stream;
	int rc;

	if (handle == NULL)
		return 0;
	stream = symm_handle_get_alone(handle, SYMM_HANDLE_STREAM, &rc);
	if (stream == NULL)
		return symm_error_prefix(rc, "symm_stream_destroy");
	symm_handle_close(handle);
	symm_handle_retire(handle, 1);
	symm_handle_put(handle);
	symm_handle_free(handle);
	rc = stream->device->ops->stream_destroy(stream->device, stream->raw);
	symm_device_close(stream->device);
	free(stream);
	return rc == 0 ? 0 : symm_error_prefix(rc, "symm_stream_destroy");
}
