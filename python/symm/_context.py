"""Contexts and groups."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any, Optional, Sequence

from ._errors import EBUSY, ENOENT, ESTALE, OK, Error, error_of
from ._handle import Handle
from ._library import AllocOptions, Options, Stats, auto, check, encode, integer, lib, make, milliseconds, size
from ._tensor import DType, Sizes, Tensor, empty_tensor, lent_tensors


def _busy(lent: int, what: str) -> Error:
    are = "is" if lent == 1 else "are"
    tensors = "tensor" if lent == 1 else "tensors"
    return error_of(EBUSY, f"{lent} {tensors} of the memory of {what} {are} in use by arrays: delete these first")


class Context(Handle):
    """One rank's use of symm: a store, a device, defaults. What is None comes from the environment, see symm(7).

    timeout: the default deadline of this context's calls; lease: how long the silence of a rank on another host is
    believed; both in seconds.
    """

    _end = lib.symm_close

    def __init__(
        self,
        url: Optional[str] = None,
        device: Optional[str] = None,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
        *,
        local_rank: Optional[int] = None,
        job: Optional[str] = None,
        timeout: Optional[float] = None,
        lease: Optional[float] = None,
        share_device: bool = False,
    ) -> None:
        options = Options(
            size=ctypes.sizeof(Options),
            url=encode(url),
            job=encode(job),
            device=encode(device),
            rank=auto("rank", rank),
            world_size=auto("world_size", world_size),
            local_rank=auto("local_rank", local_rank),
            timeout_ms=milliseconds(timeout),
            lease_ms=milliseconds(lease, "lease"),
            share_device=share_device,
        )
        super().__init__(make(lib.symm_open, ctypes.byref(options)), None)

    def _check_unused(self) -> None:
        lent = lent_tensors(self, self._value, None)
        if lent > 0:
            raise _busy(lent, "the context")

    @property
    def rank(self) -> int:
        return check(lib.symm_context_rank(self._handle))

    @property
    def world_size(self) -> int:
        return check(lib.symm_context_world_size(self._handle))

    @property
    def local_rank(self) -> int:
        return check(lib.symm_context_local_rank(self._handle))

    def join(
        self,
        name: str,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> Group:
        """Joins the group, with all its ranks; rank and world_size are the context's unless given. Collective."""
        arguments = (auto("rank", rank), auto("world_size", world_size), milliseconds(timeout))
        return Group(make(lib.symm_group_join, self._handle, encode(name), *arguments), self)

    def find(self, name: str) -> Group:
        """The group of that name that this context has joined."""
        group = _groups.get(make(lib.symm_group_find, self._handle, encode(name)))
        if group is None:
            raise error_of(ENOENT, f"group {name} was joined without this package")
        return group

    def stats(self) -> dict[str, int]:
        """What this context has done since it was opened, by the names of symm_context_stats(3)."""
        stats = Stats(size=ctypes.sizeof(Stats))
        check(lib.symm_context_stats(self._handle, ctypes.byref(stats)))
        return {field[0]: getattr(stats, field[0]) for field in Stats._fields_[1:]}


class Group(Handle):
    """This rank's membership of a group, from Context.join. Leaving, by close() or leave(), waits for no peer."""

    _end = lib.symm_group_leave

    def __init__(self, handle: int, context: Context) -> None:
        super().__init__(handle, context)
        self.context = context
        _groups[handle] = self

    leave = Handle.close

    def _check_unused(self) -> None:
        lent = lent_tensors(self, None, self._value)
        if lent > 0:
            raise _busy(lent, f"group {self.name}")

    @property
    def rank(self) -> int:
        return check(lib.symm_group_rank(self._handle))

    @property
    def world_size(self) -> int:
        return check(lib.symm_group_world_size(self._handle))

    @property
    def generation(self) -> int:
        """The number of the group's present membership, 1 or more."""
        return check(lib.symm_group_generation(self._handle))

    @property
    def name(self) -> str:
        return self._text(lib.symm_group_name)

    @property
    def store(self) -> str:
        """The store's URL, without secrets."""
        return self._text(lib.symm_group_store)

    def _text(self, function: Any) -> str:
        text: Optional[bytes] = function(self._handle)
        if text is None:
            raise error_of(ESTALE, lib.symm_last_error().decode(errors="replace"))
        return text.decode()

    def status(self) -> None:
        """Raises the error with which the group has failed, if it has. What an enqueued call could not tell is told
        here, after its stream was synchronised."""
        check(lib.symm_group_status(self._handle))

    def join_ranks(self, name: str, ranks: Sequence[int], timeout: Optional[float] = None) -> Group:
        """Joins a group of some ranks of this one, in that order: ranks[0] becomes rank 0. Collective among them."""
        numbers = (ctypes.c_int * len(ranks))(*(integer("a rank", rank) for rank in ranks))
        arguments = (numbers, len(ranks), milliseconds(timeout))
        return Group(make(lib.symm_group_join_ranks, self._handle, encode(name), *arguments), self.context)

    def empty(
        self,
        sizes: Sizes,
        dtype: DType,
        alloc_id: Optional[int] = None,
        signal_pad_bytes: Optional[int] = None,
    ) -> Tensor:
        """A new row-major tensor of symmetric memory, for a rendezvous with this group: zero-filled, except for memory
        that alloc_id has kept. Local."""
        return self.empty_strided(sizes, None, dtype, alloc_id, signal_pad_bytes)

    def empty_strided(
        self,
        sizes: Sizes,
        strides: Optional[Sequence[int]],
        dtype: DType,
        alloc_id: Optional[int] = None,
        signal_pad_bytes: Optional[int] = None,
    ) -> Tensor:
        """The same with strides, in elements. Once the tensor and all arrays made of it have ended, a call with the
        same alloc_id gives the same memory again; until then it raises BusyError."""
        options = AllocOptions(size=ctypes.sizeof(AllocOptions))
        if alloc_id is not None:
            options.persistent = 1
            options.alloc_id = integer("alloc_id", alloc_id, 0, (1 << 64) - 1)
        if signal_pad_bytes is not None:
            options.signal_pad_bytes = size("signal_pad_bytes", signal_pad_bytes)
        return empty_tensor(self, sizes, strides, dtype, options)

    def alloc(self, nbytes: int, alloc_id: Optional[int] = None, signal_pad_bytes: Optional[int] = None) -> Tensor:
        """As many bytes of symmetric memory, as a tensor of uint8."""
        return self.empty((nbytes,), "uint8", alloc_id, signal_pad_bytes)


_groups: weakref.WeakValueDictionary[int, Group] = weakref.WeakValueDictionary()


def group_of(address: int, mem: int) -> Optional[Group]:
    """The group in which the memory there has that symm_mem; None if it was joined without this package."""
    for group in list(_groups.values()):
        found = ctypes.c_void_p()
        if lib.symm_mem_find(address, group._value, ctypes.byref(found)) == OK:
            lib.symm_mem_release(found)
            if found.value == mem:
                return group
    return None
