"""Streams: the library's own, and those of whoever else is in the process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Optional, Union

from ._errors import ENOTSUP, error_of
from ._handle import Handle
from ._library import check, invalid, lib, make, milliseconds

if TYPE_CHECKING:
    from ._context import Context


class Stream(Handle):
    """A stream of the context's device: a FIFO of work. On the host device it is a worker thread."""

    _end = lib.symm_stream_destroy

    def __init__(self, context: Context) -> None:
        super().__init__(make(lib.symm_stream_create, context._handle), context)

    def synchronize(self, timeout: Optional[float] = None) -> None:
        """Waits until all that was enqueued is done. TimeoutError leaves it running."""
        check(lib.symm_stream_synchronize(self._handle, milliseconds(timeout)))


# symm's, torch.cuda.Stream, cupy.cuda.Stream, what has __cuda_stream__, or a CUstream as a number.
AnyStream = Union[Stream, int, Any]


def current_stream(device: str) -> int:
    """torch's current stream on that device, "cuda:1", as a CUstream. NotSupportedError without torch, and on the host
    device, where there is none."""
    torch = sys.modules.get("torch")
    if not device.startswith("cuda"):
        raise error_of(ENOTSUP, "the host device has no current stream: give one of symm.Stream")
    if torch is None:
        raise error_of(ENOTSUP, "torch, whose current stream it would be, has not been imported: give a stream")
    return int(torch.cuda.current_stream(device).cuda_stream)


def stream_handle(stream: AnyStream) -> int:
    """What the library takes for a stream."""
    if isinstance(stream, Stream):
        return int(stream._handle)
    if isinstance(stream, int):
        return stream
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for attribute in ("cuda_stream", "ptr"):  # of torch, of cupy
        if hasattr(stream, attribute):
            return int(getattr(stream, attribute))
    raise invalid(f"{stream!r} is no stream: give one of symm, torch or cupy, or a CUstream as a number")
