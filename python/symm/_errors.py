"""What a call of the library raises: one class for each of its codes, all of them of symm.Error."""

from __future__ import annotations

import builtins
from typing import Any


class Error(Exception):
    """A call of symm failed. code: negative, as in symm.h; name: SYMM_E...; detail: a sentence that tells the rest."""

    def __init__(self, code: int, name: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.name = name
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.detail} [{self.name}]"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.name, self.detail)


class InvalidError(Error, ValueError):
    """An argument is wrong."""


class NoMemoryError(Error, MemoryError):
    """No memory, of the host or of the device."""


class TimeoutError(Error, builtins.TimeoutError):
    """A deadline passed; the detail says who was missing."""


class PeerError(Error):
    """A peer died, left or failed."""


class StaleError(Error):
    """What the object or the generation stood for is gone: closed, left or freed."""


class BusyError(Error, BufferError):
    """Still in use: by a stream, by another thread, or by an array made of the memory."""


class ExistsError(Error):
    """Somebody else holds that rank or name."""


class NotFoundError(Error, LookupError):
    """No such group, allocation or rendezvous."""


class MismatchError(Error):
    """The ranks of a collective do not agree."""


class StoreError(Error):
    """Redis cannot be reached, or answered with an error."""


class AuthError(Error):
    """Redis refused the user, the password or a command; TLS refused the peer."""


class DeviceError(Error):
    """The device is absent or failed."""


class NotSupportedError(Error):
    """Not on this device or platform."""


class DeadlockError(Error):
    """The call would wait for itself."""


class ForkError(Error):
    """Called in the child of a fork."""


class ProtocolError(Error):
    """A record or message was not understood."""


class SystemCallError(Error):
    """A system call failed; the detail names it."""


class UnreachableError(Error):
    """Two ranks cannot map each other's memory; the detail names them."""


OK = 0
EINVAL = -1
ESTALE = -5
EBUSY = -6
ENOENT = -8
ENOTSUP = -13
EFORK = -15

_CODES: dict[int, tuple[str, type[Error]]] = {
    EINVAL: ("SYMM_EINVAL", InvalidError),
    -2: ("SYMM_ENOMEM", NoMemoryError),
    -3: ("SYMM_ETIMEDOUT", TimeoutError),
    -4: ("SYMM_EPEER", PeerError),
    ESTALE: ("SYMM_ESTALE", StaleError),
    EBUSY: ("SYMM_EBUSY", BusyError),
    -7: ("SYMM_EEXIST", ExistsError),
    ENOENT: ("SYMM_ENOENT", NotFoundError),
    -9: ("SYMM_EMISMATCH", MismatchError),
    -10: ("SYMM_ESTORE", StoreError),
    -11: ("SYMM_EAUTH", AuthError),
    -12: ("SYMM_EDEVICE", DeviceError),
    ENOTSUP: ("SYMM_ENOTSUP", NotSupportedError),
    -14: ("SYMM_EDEADLK", DeadlockError),
    EFORK: ("SYMM_EFORK", ForkError),
    -16: ("SYMM_EPROTO", ProtocolError),
    -17: ("SYMM_ESYS", SystemCallError),
    -18: ("SYMM_EUNREACH", UnreachableError),
}


def error_of(code: int, detail: str) -> Error:
    """The exception for a code of the library's."""
    name, kind = _CODES.get(code, (f"code {code}", Error))
    return kind(code, name, detail)
