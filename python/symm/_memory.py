"""Addresses of what users have: tensors, arrays, bytes, pointers."""

from __future__ import annotations

import ctypes
import math
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_ssize_t, c_void_p, py_object
from typing import Any, Iterator, Optional

from ._library import invalid, size


class _PyBuffer(ctypes.Structure):
    """Py_buffer"""

    _fields_ = [
        ("buf", c_void_p),
        ("obj", c_void_p),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", POINTER(c_ssize_t)),
        ("strides", POINTER(c_ssize_t)),
        ("suboffsets", POINTER(c_ssize_t)),
        ("internal", c_void_p),
    ]


_SIMPLE, _WRITABLE = 0, 1
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [py_object, POINTER(_PyBuffer), c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.restype, _release_buffer.argtypes = None, [POINTER(_PyBuffer)]


def address_of(thing: Any) -> int:
    """Of a pointer as a number, of a tensor of symm's or torch's, or of an array of NumPy's or CuPy's."""
    if isinstance(thing, int):
        return thing
    if hasattr(thing, "data_ptr"):
        return int(thing.data_ptr())
    for name in ("__array_interface__", "__cuda_array_interface__"):
        interface = getattr(thing, name, None)
        if interface is not None:
            return int(interface["data"][0])
    raise invalid(f"{type(thing).__name__} has no address: give a tensor, an array or a pointer as a number")


def _on_device(thing: Any) -> Optional[tuple[int, int]]:
    """Address and bytes of memory that the interpreter cannot look at as a buffer; None if it can."""
    if hasattr(thing, "data_ptr"):
        if not thing.is_contiguous():
            raise invalid("the tensor is not contiguous")
        return int(thing.data_ptr()), int(thing.nbytes)
    interface = getattr(thing, "__cuda_array_interface__", None)
    if interface is None:
        return None
    if interface.get("strides") is not None:
        raise invalid("the array is not contiguous")
    return int(interface["data"][0]), math.prod(interface["shape"]) * int(interface["typestr"][2:])


def _part(have: int, want: Optional[int]) -> int:
    if want is None:
        return have
    if size("nbytes", want) > have:
        raise invalid(f"nbytes is {want}, and there are only {have}")
    return want


@contextmanager
def memory_of(thing: Any, nbytes: Optional[int], writable: bool) -> Iterator[tuple[int, int]]:
    """Address and bytes of a contiguous array, a tensor, bytes or a pointer, valid meanwhile."""
    if isinstance(thing, int):
        if nbytes is None:
            raise invalid("a pointer as a number needs nbytes")
        yield thing, size("nbytes", nbytes)
        return
    device = _on_device(thing)
    if device is not None:
        yield device[0], _part(device[1], nbytes)
        return
    view = _PyBuffer()
    _get_buffer(thing, ctypes.byref(view), _WRITABLE if writable else _SIMPLE)
    try:
        yield view.buf or 0, _part(view.len, nbytes)
    finally:
        _release_buffer(ctypes.byref(view))
