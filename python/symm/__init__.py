"""symm: symmetric memory between the ranks of a group.

    with symm.Context() as context, context.join("world") as group:
        tensor = group.empty((1024,), "float32")
        mem = symm.rendezvous(tensor)
        mem.barrier()

Each rank opens a context, joins a group, makes a tensor of the same size and calls rendezvous, which is collective;
then every rank's block is addressable by every other. See symm-python(7), and symm(7) for what it is all about.

What fails raises symm.Error or one of its classes. Timeouts are in seconds; None is the context's default. Calls may be
made from any thread, and let others run while they wait.
"""

from ._context import Context, Group
from ._errors import (
    AuthError,
    BusyError,
    DeadlockError,
    DeviceError,
    Error,
    ExistsError,
    ForkError,
    InvalidError,
    MismatchError,
    NoMemoryError,
    NotFoundError,
    NotSupportedError,
    PeerError,
    ProtocolError,
    StaleError,
    StoreError,
    SystemCallError,
    TimeoutError,
    UnreachableError,
)
from ._library import CHANNELS, DeviceView, SyncWords, lib
from ._mem import Mem, find_mem, has_multicast_support, rendezvous, rendezvous_completed
from ._stream import Stream, current_stream
from ._tensor import Tensor

__version__: str = lib.symm_version().decode()

__all__ = [
    "CHANNELS",
    "AuthError",
    "BusyError",
    "Context",
    "DeadlockError",
    "DeviceError",
    "DeviceView",
    "Error",
    "ExistsError",
    "ForkError",
    "Group",
    "InvalidError",
    "MismatchError",
    "Mem",
    "NoMemoryError",
    "NotFoundError",
    "NotSupportedError",
    "PeerError",
    "ProtocolError",
    "StaleError",
    "StoreError",
    "Stream",
    "SyncWords",
    "SystemCallError",
    "Tensor",
    "TimeoutError",
    "UnreachableError",
    "current_stream",
    "find_mem",
    "has_multicast_support",
    "rendezvous",
    "rendezvous_completed",
]
