"""libsymm.so.0, found and loaded; the types of its functions; its codes as exceptions."""

from __future__ import annotations

import ctypes
import importlib
import math
import operator
import os
from ctypes import POINTER, Structure, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Optional

from ._dlpack import DLDataType, DLManagedTensorVersioned
from ._errors import EINVAL, Error, error_of

AUTO = -1
CHANNELS = 32
DEVICE_VIEW_VERSION = 4
SYNC_WORDS_VERSION = 1


class Options(Structure):
    """struct symm_options"""

    _fields_ = [
        ("size", c_size_t),
        ("url", c_char_p),
        ("job", c_char_p),
        ("device", c_char_p),
        ("rank", c_int),
        ("world_size", c_int),
        ("local_rank", c_int),
        ("timeout_ms", c_int64),
        ("lease_ms", c_int64),
        ("share_device", c_int),
    ]


class AllocOptions(Structure):
    """struct symm_alloc_options"""

    _fields_ = [
        ("size", c_size_t),
        ("device", c_char_p),
        ("persistent", c_int),
        ("alloc_id", c_uint64),
        ("signal_pad_bytes", c_size_t),
    ]


class Stats(Structure):
    """struct symm_stats"""

    _fields_ = [
        ("size", c_size_t),
        ("rendezvous_done", c_uint64),
        ("rendezvous_failed", c_uint64),
        ("rendezvous_cached", c_uint64),
        ("collective_ns", c_uint64),
        ("allocations", c_uint64),
        ("allocated_bytes", c_uint64),
        ("mapped_bytes", c_uint64),
        ("persistent_reuses", c_uint64),
        ("barriers", c_uint64),
        ("signals_put", c_uint64),
        ("signals_waited", c_uint64),
        ("enqueued", c_uint64),
        ("waited_ns", c_uint64),
        ("timeouts", c_uint64),
        ("polls", c_uint64),
        ("store_commands", c_uint64),
        ("store_retries", c_uint64),
        ("store_reconnects", c_uint64),
    ]


class DeviceView(Structure):
    """struct symm_device_view, of Mem.device_view: what kernels made with symm/device.cuh take by value."""

    _fields_ = [
        ("version", c_uint32),
        ("rank", c_int32),
        ("world_size", c_int32),
        ("buffers", c_void_p),
        ("signal_pads", c_void_p),
        ("buffer_size", c_uint64),
        ("signal_pad_size", c_uint64),
        ("multicast", c_void_p),
        ("sync", c_void_p),
        ("group", c_void_p),
        ("own", c_void_p),
    ]


class SyncWords(Structure):
    """struct symm_sync_words, of Mem.sync_words: where the words of barriers and signals are. slots[rank] is an
    address."""

    _fields_ = [
        ("version", c_uint32),
        ("generation", c_uint32),
        ("epoch0", c_uint32),
        ("rank", c_int32),
        ("world_size", c_int32),
        ("channels", c_uint32),
        ("slots", POINTER(c_void_p)),
        ("slot_bytes", c_uint64),
        ("channel_stride", c_uint64),
        ("barrier_offset", c_uint64),
        ("signal_offset", c_uint64),
        ("credit_offset", c_uint64),
        ("state_offset", c_uint64),
        ("bell_offset", c_uint64),
        ("bell_stride", c_uint64),
        ("barrier_ticket", c_uint64),
        ("barrier_done", c_uint64),
        ("barrier_stride", c_uint64),
        ("put_ticket", c_uint64),
        ("wait_ticket", c_uint64),
        ("ticket_stride", c_uint64),
        ("peer_stride", c_uint64),
        ("poison", c_uint64),
    ]


_HANDLE = POINTER(c_void_p)
_INT64S = POINTER(c_int64)
_TENSOR = POINTER(DLManagedTensorVersioned)

# Name: type of the result, types of the arguments. t/python/test_abi.py compares them with the headers.
PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "symm_last_error": (c_char_p, []),
    "symm_version": (c_char_p, []),
    "symm_open": (c_int, [POINTER(Options), _HANDLE]),
    "symm_close": (c_int, [c_void_p]),
    "symm_context_rank": (c_int, [c_void_p]),
    "symm_context_world_size": (c_int, [c_void_p]),
    "symm_context_local_rank": (c_int, [c_void_p]),
    "symm_context_stats": (c_int, [c_void_p, POINTER(Stats)]),
    "symm_group_join": (c_int, [c_void_p, c_char_p, c_int, c_int, c_int64, _HANDLE]),
    "symm_group_join_ranks": (c_int, [c_void_p, c_char_p, POINTER(c_int), c_int, c_int64, _HANDLE]),
    "symm_group_find": (c_int, [c_void_p, c_char_p, _HANDLE]),
    "symm_group_leave": (c_int, [c_void_p]),
    "symm_group_rank": (c_int, [c_void_p]),
    "symm_group_world_size": (c_int, [c_void_p]),
    "symm_group_generation": (c_int64, [c_void_p]),
    "symm_group_name": (c_char_p, [c_void_p]),
    "symm_group_store": (c_char_p, [c_void_p]),
    "symm_group_status": (c_int, [c_void_p]),
    "symm_rendezvous": (c_int, [c_void_p, c_void_p, c_int64, _HANDLE]),
    "symm_rendezvous_completed": (c_int, [c_void_p, c_void_p]),
    "symm_mem_find": (c_int, [c_void_p, c_void_p, _HANDLE]),
    "symm_mem_release": (c_int, [c_void_p]),
    "symm_mem_rank": (c_int, [c_void_p]),
    "symm_mem_world_size": (c_int, [c_void_p]),
    "symm_mem_buffer": (c_void_p, [c_void_p, c_int]),
    "symm_mem_signal_pad": (c_void_p, [c_void_p, c_int]),
    "symm_mem_buffers_dev": (c_void_p, [c_void_p]),
    "symm_mem_signal_pads_dev": (c_void_p, [c_void_p]),
    "symm_mem_buffer_size": (c_size_t, [c_void_p]),
    "symm_mem_signal_pad_size": (c_size_t, [c_void_p]),
    "symm_mem_has_multicast": (c_int, [c_void_p]),
    "symm_mem_multicast": (c_void_p, [c_void_p]),
    "symm_has_multicast_support": (c_int, [c_char_p]),
    "symm_mem_device_view": (c_int, [c_void_p, POINTER(DeviceView)]),
    "symm_mem_sync_words": (c_int, [c_void_p, POINTER(SyncWords)]),
    "symm_stream_create": (c_int, [c_void_p, _HANDLE]),
    "symm_stream_synchronize": (c_int, [c_void_p, c_int64]),
    "symm_stream_destroy": (c_int, [c_void_p]),
    "symm_barrier": (c_int, [c_void_p, c_int, c_int64]),
    "symm_barrier_on_stream": (c_int, [c_void_p, c_int, c_int64, c_void_p]),
    "symm_put_signal": (c_int, [c_void_p, c_int, c_int, c_int64]),
    "symm_put_signal_on_stream": (c_int, [c_void_p, c_int, c_int, c_int64, c_void_p]),
    "symm_wait_signal": (c_int, [c_void_p, c_int, c_int, c_int64]),
    "symm_wait_signal_on_stream": (c_int, [c_void_p, c_int, c_int, c_int64, c_void_p]),
    "symm_put": (c_int, [c_void_p, c_int, c_size_t, c_void_p, c_size_t]),
    "symm_put_on_stream": (c_int, [c_void_p, c_int, c_size_t, c_void_p, c_size_t, c_void_p]),
    "symm_get": (c_int, [c_void_p, c_int, c_size_t, c_void_p, c_size_t]),
    "symm_get_on_stream": (c_int, [c_void_p, c_int, c_size_t, c_void_p, c_size_t, c_void_p]),
    "symm_copy": (c_int, [c_void_p, c_int, c_size_t, c_int, c_size_t, c_size_t]),
    "symm_copy_on_stream": (c_int, [c_void_p, c_int, c_size_t, c_int, c_size_t, c_size_t, c_void_p]),
    "symm_put_with_signal": (c_int, [c_void_p, c_int, c_size_t, c_void_p, c_size_t, c_int, c_int64]),
    "symm_put_with_signal_on_stream": (
        c_int,
        [c_void_p, c_int, c_size_t, c_void_p, c_size_t, c_int, c_int64, c_void_p],
    ),
    "symm_memset32": (c_int, [c_void_p, c_int, c_size_t, c_uint32, c_size_t]),
    "symm_memset32_on_stream": (c_int, [c_void_p, c_int, c_size_t, c_uint32, c_size_t, c_void_p]),
    "symm_write_value": (c_int, [c_void_p, c_int, c_size_t, c_uint64, c_int]),
    "symm_write_value_on_stream": (c_int, [c_void_p, c_int, c_size_t, c_uint64, c_int, c_void_p]),
    "symm_empty_strided": (
        c_int,
        [c_void_p, c_int, _INT64S, _INT64S, DLDataType, POINTER(AllocOptions), POINTER(_TENSOR)],
    ),
    "symm_get_buffer": (c_int, [c_void_p, c_int, c_int, _INT64S, DLDataType, c_int64, POINTER(_TENSOR)]),
    "symm_get_signal_pad": (c_int, [c_void_p, c_int, c_int, _INT64S, DLDataType, c_int64, POINTER(_TENSOR)]),
    "symm_tensor_unversioned": (c_int, [_TENSOR, _HANDLE]),
    "symm_tensor_alias": (c_int, [_TENSOR, POINTER(_TENSOR)]),
    "symm_tensor_count": (c_int, [c_void_p, c_void_p, POINTER(_TENSOR), c_size_t]),
    "symm_tensor_free": (None, [_TENSOR]),
    "symm_tensor_capsule_end": (None, [c_void_p]),
}


def _path() -> str:
    """SYMM_LIBRARY, else where make install has put it, else what the dynamic linker finds."""
    named = os.environ.get("SYMM_LIBRARY")
    if named:
        return named
    try:
        return str(importlib.import_module("symm._config").LIBRARY)
    except ModuleNotFoundError:
        return "libsymm.so.0"


def _load(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
        for name, (result, arguments) in PROTOTYPES.items():
            function = library[name]
            function.restype, function.argtypes = result, arguments
            setattr(library, name, function)
        return library
    except (OSError, AttributeError) as error:
        raise ImportError(f"no usable libsymm.so.0: {error}; set SYMM_LIBRARY to its path") from error


lib = _load(_path())


def check(code: int) -> int:
    """The code if it is no error; else raises it, with the detail that this thread's call has left."""
    if code >= 0:
        return code
    raise error_of(code, lib.symm_last_error().decode(errors="replace"))


def make(function: Any, *arguments: Any) -> int:
    """Calls a function whose last argument is a handle that it makes."""
    handle = c_void_p()
    check(function(*arguments, ctypes.byref(handle)))
    assert handle.value is not None
    return handle.value


def invalid(detail: str) -> Error:
    return error_of(EINVAL, detail)


def encode(text: Optional[str]) -> Optional[bytes]:
    return None if text is None else os.fsencode(text)


def milliseconds(seconds: Optional[float], what: str = "timeout") -> int:
    """For a timeout of the library's, which takes 0 for its default."""
    if seconds is None:
        return 0
    if not seconds > 0:
        raise invalid(f"{what} is {seconds} seconds: it must be more than 0, or None for the default")
    return math.ceil(seconds * 1000) if seconds < 1e15 else 2**63 - 1


def integer(what: str, value: Any, low: int = -(1 << 31), high: int = (1 << 31) - 1) -> int:
    """The number, which ctypes would cut to its type without a word."""
    number = operator.index(value)
    if not low <= number <= high:
        raise invalid(f"{what} is {number}: it must be from {low} to {high}")
    return number


def size(what: str, value: Any) -> int:
    return integer(what, value, 0, (1 << 63) - 1)


def auto(what: str, number: Optional[int]) -> int:
    return AUTO if number is None else integer(what, number, 0)
