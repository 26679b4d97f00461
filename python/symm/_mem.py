"""Rendezvous, and what comes of it."""

from __future__ import annotations

import ctypes
from typing import Any, Optional, TypeVar, Union

from ._context import Group, group_of
from ._errors import ENOTSUP, ESTALE, error_of
from ._handle import Handle
from ._library import (
    DEVICE_VIEW_VERSION,
    SYNC_WORDS_VERSION,
    DeviceView,
    SyncWords,
    check,
    encode,
    integer,
    lib,
    make,
    milliseconds,
    size,
)
from ._memory import address_of, memory_of
from ._stream import AnyStream, current_stream, stream_handle
from ._tensor import DType, Sizes, Tensor, itemsize, view_tensor

Struct = TypeVar("Struct", DeviceView, SyncWords)


def rendezvous(tensor: Union[Tensor, int, Any], group: Optional[Group] = None, timeout: Optional[float] = None) -> Mem:
    """Makes the allocation around a tensor or pointer addressable by all ranks of the group, by default the one that it
    was allocated for. tensor: of symm's, an array or tensor made of one, or an address in it. Collective the first
    time, a look-up afterwards."""
    return _mem(lib.symm_rendezvous, tensor, group, milliseconds(timeout))


def find_mem(tensor: Union[Tensor, int, Any], group: Optional[Group] = None) -> Mem:
    """The Mem of an earlier rendezvous. Local."""
    return _mem(lib.symm_mem_find, tensor, group)


def rendezvous_completed(tensor: Union[Tensor, int, Any], group: Optional[Group] = None) -> bool:
    """True if the rendezvous is done. Local."""
    return bool(check(lib.symm_rendezvous_completed(address_of(tensor), group._handle if group else None)))


def has_multicast_support(device: Optional[str] = None) -> bool:
    """True if a rendezvous on that device would try multicast."""
    return bool(check(lib.symm_has_multicast_support(encode(device))))


def _mem(function: Any, tensor: Any, group: Optional[Group], *timeout_ms: int) -> Mem:
    address = address_of(tensor)
    handle = make(function, address, group._handle if group else None, *timeout_ms)
    return Mem(handle, group or group_of(address, handle))


class Mem(Handle):
    """An allocation's view of all ranks' blocks. It keeps the memory, as the tensor does that it was made from; its
    views, by get_buffer, end with it.

    Ranks and channels are numbers from 0. The calls that synchronise or copy block; those that end in _on_stream only
    enqueue, on any stream of the device: one of symm's, torch's or CuPy's, or a CUstream as a number. Without one it is
    torch's current stream. A timeout is in seconds.
    """

    _end = lib.symm_mem_release

    def __init__(self, handle: int, group: Optional[Group]) -> None:
        super().__init__(handle, group)
        self.group = group
        self._device: Optional[str] = None

    @property
    def rank(self) -> int:
        return check(lib.symm_mem_rank(self._handle))

    @property
    def world_size(self) -> int:
        return check(lib.symm_mem_world_size(self._handle))

    def buffer(self, rank: int) -> int:
        """The address here of that rank's block."""
        return self._address(lib.symm_mem_buffer, self._peer(rank))

    def signal_pad(self, rank: int) -> int:
        """The address here of that rank's signal pad."""
        return self._address(lib.symm_mem_signal_pad, self._peer(rank))

    @property
    def buffers(self) -> list[int]:
        return [self.buffer(rank) for rank in range(self.world_size)]

    @property
    def signal_pads(self) -> list[int]:
        return [self.signal_pad(rank) for rank in range(self.world_size)]

    @property
    def buffers_dev(self) -> int:
        """The address of an array, world_size pointers, that the device's kernels can read: all ranks' blocks."""
        return self._address(lib.symm_mem_buffers_dev)

    @property
    def signal_pads_dev(self) -> int:
        """The same with all ranks' signal pads."""
        return self._address(lib.symm_mem_signal_pads_dev)

    @property
    def buffer_size(self) -> int:
        """In bytes."""
        return self._address(lib.symm_mem_buffer_size)

    @property
    def signal_pad_size(self) -> int:
        """In bytes."""
        return self._address(lib.symm_mem_signal_pad_size)

    @property
    def has_multicast(self) -> bool:
        return bool(check(lib.symm_mem_has_multicast(self._handle)))

    @property
    def multicast(self) -> int:
        """The address here that stands for all ranks' blocks at once."""
        if not self.has_multicast:
            raise error_of(ENOTSUP, "the rendezvous was made without multicast")
        return self._address(lib.symm_mem_multicast)

    def device_view(self) -> DeviceView:
        """What kernels with symm/device.cuh take by value: bytes() of it. Good until this Mem ends."""
        return self._fill(lib.symm_mem_device_view, DeviceView(), DEVICE_VIEW_VERSION)

    def sync_words(self) -> SyncWords:
        """Where the words of barriers and signals are, for kernels in other languages: see symm-sync-words(7). Good
        until this Mem ends."""
        return self._fill(lib.symm_mem_sync_words, SyncWords(), SYNC_WORDS_VERSION)

    def _fill(self, function: Any, struct: Struct, version: int) -> Struct:
        check(function(self._handle, ctypes.byref(struct)))
        if struct.version != version:
            kind = type(struct).__name__
            raise error_of(ENOTSUP, f"{kind}: the library has version {struct.version}, the package {version}")
        return struct

    def _address(self, function: Any, *arguments: int) -> int:
        """What is 0 for a handle that has gone stale."""
        value = function(self._handle, *arguments)
        if not value:
            raise error_of(ESTALE, lib.symm_last_error().decode(errors="replace"))
        return int(value)

    def _peer(self, rank: int) -> int:
        return integer("rank", rank, 0, self.world_size - 1)

    def get_buffer(self, rank: int, sizes: Sizes, dtype: DType, storage_offset: int = 0) -> Tensor:
        """That rank's block as a row-major tensor, from storage_offset on, in elements."""
        return view_tensor(lib.symm_get_buffer, self, rank, sizes, dtype, storage_offset)

    def get_signal_pad(
        self, rank: int, sizes: Optional[Sizes] = None, dtype: DType = "uint32", storage_offset: int = 0
    ) -> Tensor:
        """That rank's signal pad likewise; sizes None: all that follows storage_offset, in one dimension."""
        if sizes is None:
            sizes = max(0, self.signal_pad_size // itemsize(dtype) - storage_offset)
        return view_tensor(lib.symm_get_signal_pad, self, rank, sizes, dtype, storage_offset)

    def barrier(self, channel: int = 0, timeout: Optional[float] = None) -> None:
        """Returns when all ranks have entered; what each wrote before is then visible to all."""
        check(lib.symm_barrier(self._handle, integer("channel", channel), milliseconds(timeout)))

    def barrier_on_stream(
        self, channel: int = 0, timeout: Optional[float] = None, stream: Optional[AnyStream] = None
    ) -> None:
        arguments = (integer("channel", channel), milliseconds(timeout), self._stream(stream))
        check(lib.symm_barrier_on_stream(self._handle, *arguments))

    def put_signal(self, dst: int, channel: int = 0, timeout: Optional[float] = None) -> None:
        """Signals rank dst; waits while the last signal to it on this channel is unconsumed."""
        arguments = (integer("rank", dst), integer("channel", channel), milliseconds(timeout))
        check(lib.symm_put_signal(self._handle, *arguments))

    def put_signal_on_stream(
        self, dst: int, channel: int = 0, timeout: Optional[float] = None, stream: Optional[AnyStream] = None
    ) -> None:
        arguments = (integer("rank", dst), integer("channel", channel), milliseconds(timeout), self._stream(stream))
        check(lib.symm_put_signal_on_stream(self._handle, *arguments))

    def wait_signal(self, src: int, channel: int = 0, timeout: Optional[float] = None) -> None:
        """Waits for a signal from rank src and consumes it."""
        arguments = (integer("rank", src), integer("channel", channel), milliseconds(timeout))
        check(lib.symm_wait_signal(self._handle, *arguments))

    def wait_signal_on_stream(
        self, src: int, channel: int = 0, timeout: Optional[float] = None, stream: Optional[AnyStream] = None
    ) -> None:
        arguments = (integer("rank", src), integer("channel", channel), milliseconds(timeout), self._stream(stream))
        check(lib.symm_wait_signal_on_stream(self._handle, *arguments))

    def put(self, dst: int, data: Any, offset: int = 0, nbytes: Optional[int] = None) -> None:
        """Copies data into rank dst's block, offset bytes into it. data: anything contiguous on this device or in the
        host's memory: a tensor, an array, bytes; or a pointer as a number, with nbytes."""
        with memory_of(data, nbytes, writable=False) as (address, length):
            check(lib.symm_put(self._handle, integer("rank", dst), size("offset", offset), address, length))

    def put_on_stream(
        self, dst: int, data: Any, offset: int = 0, nbytes: Optional[int] = None, stream: Optional[AnyStream] = None
    ) -> None:
        """The caller keeps data as it is until the copy is done."""
        with memory_of(data, nbytes, writable=False) as (address, length):
            arguments = (integer("rank", dst), size("offset", offset), address, length, self._stream(stream))
            check(lib.symm_put_on_stream(self._handle, *arguments))

    def get(self, src: int, into: Any, offset: int = 0, nbytes: Optional[int] = None) -> None:
        """Copies from offset bytes into rank src's block into what can be written to: like put's data."""
        with memory_of(into, nbytes, writable=True) as (address, length):
            check(lib.symm_get(self._handle, integer("rank", src), size("offset", offset), address, length))

    def get_on_stream(
        self, src: int, into: Any, offset: int = 0, nbytes: Optional[int] = None, stream: Optional[AnyStream] = None
    ) -> None:
        """The caller keeps into until the copy is done."""
        with memory_of(into, nbytes, writable=True) as (address, length):
            arguments = (integer("rank", src), size("offset", offset), address, length, self._stream(stream))
            check(lib.symm_get_on_stream(self._handle, *arguments))

    def put_with_signal(
        self,
        dst: int,
        data: Any,
        offset: int = 0,
        nbytes: Optional[int] = None,
        channel: int = 0,
        timeout: Optional[float] = None,
    ) -> None:
        """put, and then put_signal: who has waited for the signal sees the bytes."""
        with memory_of(data, nbytes, writable=False) as (address, length):
            where = (integer("rank", dst), size("offset", offset), address, length)
            how = (integer("channel", channel), milliseconds(timeout))
            check(lib.symm_put_with_signal(self._handle, *where, *how))

    def put_with_signal_on_stream(
        self,
        dst: int,
        data: Any,
        offset: int = 0,
        nbytes: Optional[int] = None,
        channel: int = 0,
        timeout: Optional[float] = None,
        stream: Optional[AnyStream] = None,
    ) -> None:
        with memory_of(data, nbytes, writable=False) as (address, length):
            where = (integer("rank", dst), size("offset", offset), address, length)
            how = (integer("channel", channel), milliseconds(timeout), self._stream(stream))
            check(lib.symm_put_with_signal_on_stream(self._handle, *where, *how))

    def copy(self, dst: int, src: int, nbytes: int, dst_offset: int = 0, src_offset: int = 0) -> None:
        """Copies from rank src's block into rank dst's, of which this rank need be neither."""
        check(lib.symm_copy(self._handle, *_copy(dst, src, nbytes, dst_offset, src_offset)))

    def copy_on_stream(
        self,
        dst: int,
        src: int,
        nbytes: int,
        dst_offset: int = 0,
        src_offset: int = 0,
        stream: Optional[AnyStream] = None,
    ) -> None:
        arguments = _copy(dst, src, nbytes, dst_offset, src_offset)
        check(lib.symm_copy_on_stream(self._handle, *arguments, self._stream(stream)))

    def memset32(self, dst: int, value: int, count: int, offset: int = 0) -> None:
        """Fills count 32-bit words of rank dst's block; offset, in bytes, is a multiple of 4."""
        check(lib.symm_memset32(self._handle, *_memset(dst, value, count, offset)))

    def memset32_on_stream(
        self, dst: int, value: int, count: int, offset: int = 0, stream: Optional[AnyStream] = None
    ) -> None:
        check(lib.symm_memset32_on_stream(self._handle, *_memset(dst, value, count, offset), self._stream(stream)))

    def write_value(self, dst: int, value: int, offset: int = 0, nbytes: int = 8) -> None:
        """Stores a value of 4 or 8 bytes, at a multiple of its size, atomically; who acquires it sees what came before,
        in this thread or in the stream."""
        check(lib.symm_write_value(self._handle, *_value(dst, value, offset, nbytes)))

    def write_value_on_stream(
        self, dst: int, value: int, offset: int = 0, nbytes: int = 8, stream: Optional[AnyStream] = None
    ) -> None:
        check(lib.symm_write_value_on_stream(self._handle, *_value(dst, value, offset, nbytes), self._stream(stream)))

    def _stream(self, stream: Optional[AnyStream]) -> int:
        if stream is not None:
            return stream_handle(stream)
        if self._device is None:
            with self.get_buffer(self.rank, 1, "uint8") as own:
                self._device = own.device
        return current_stream(self._device)


def _copy(dst: int, src: int, nbytes: int, dst_offset: int, src_offset: int) -> tuple[int, ...]:
    to = (integer("rank", dst), size("dst_offset", dst_offset))
    return (*to, integer("rank", src), size("src_offset", src_offset), size("nbytes", nbytes))


def _memset(dst: int, value: int, count: int, offset: int) -> tuple[int, ...]:
    word = integer("value", value, 0, (1 << 32) - 1)
    return integer("rank", dst), size("offset", offset), word, size("count", count)


def _value(dst: int, value: int, offset: int, nbytes: int) -> tuple[int, ...]:
    most = (1 << 32) - 1 if nbytes == 4 else (1 << 64) - 1
    return integer("rank", dst), size("offset", offset), integer("value", value, 0, most), integer("nbytes", nbytes)
