/* stream.h: streams, inside. */
#ifndef SYMM_STREAM_H
#define SYMM_STREAM_H

#include "context.h"

struct stream;

/* The device's own stream behind what a user gave; *held keeps it until symm_stream_unhold (NULL: nothing to keep). */
int symm_stream_hold(void *stream, const struct symm_device *device, struct stream **held, void **raw);
void symm_stream_unhold(struct stream *held);

#endif
