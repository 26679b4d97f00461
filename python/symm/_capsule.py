"""The capsules in which Python hands over a tensor."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_void_p, py_object
from typing import Any

from ._library import check, lib

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = py_object, [c_void_p, c_char_p, c_void_p]

# A capsule may outlive this module, and points to its name: these are never freed.
_names = {
    versioned: ctypes.create_string_buffer(name)
    for versioned, name in ((True, b"dltensor_versioned"), (False, b"dltensor"))
}
ctypes.pythonapi.Py_IncRef(py_object(_names))

# It is the library's, because a capsule that nobody wanted dies while the error of whoever refused it is on its way:
# no code of Python's may run then.
_destructor = ctypes.cast(lib.symm_tensor_capsule_end, c_void_p)


def make_capsule(managed: Any, versioned: bool) -> Any:
    """Takes the managed tensor over."""
    tensor = ctypes.cast(managed, c_void_p)
    if not versioned:
        old = c_void_p()
        check(lib.symm_tensor_unversioned(managed, ctypes.byref(old)))
        tensor = old
    return _new(tensor, _names[versioned], _destructor)
