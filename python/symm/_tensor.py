"""Symmetric memory as tensors, which NumPy, PyTorch, CuPy and JAX take over without a copy, by DLPack."""

from __future__ import annotations

import ctypes
import math
import sys
from contextlib import ExitStack
from ctypes import c_int64
from typing import TYPE_CHECKING, Any, Iterable, Optional, Sequence, Union

from ._capsule import make_capsule
from ._dlpack import DLDataType, DLManagedTensorVersioned
from ._errors import EFORK, ESTALE
from ._handle import Handle
from ._library import AllocOptions, check, integer, invalid, lib

if TYPE_CHECKING:
    from ._context import Group

# A name, as in "float32", or a dtype of NumPy, PyTorch or JAX.
DType = Union[str, Any]
Sizes = Union[int, Sequence[int]]

_INT, _UINT, _FLOAT, _BFLOAT, _COMPLEX, _BOOL = 0, 1, 2, 4, 5, 6
_DTYPES: dict[str, tuple[int, int]] = {  # DLPack's code, bits
    "bool": (_BOOL, 8),
    "int8": (_INT, 8),
    "int16": (_INT, 16),
    "int32": (_INT, 32),
    "int64": (_INT, 64),
    "uint8": (_UINT, 8),
    "uint16": (_UINT, 16),
    "uint32": (_UINT, 32),
    "uint64": (_UINT, 64),
    "float16": (_FLOAT, 16),
    "float32": (_FLOAT, 32),
    "float64": (_FLOAT, 64),
    "bfloat16": (_BFLOAT, 16),
    "complex64": (_COMPLEX, 64),
    "complex128": (_COMPLEX, 128),
    "float8_e4m3fn": (10, 8),
    "float8_e4m3fnuz": (11, 8),
    "float8_e5m2": (12, 8),
    "float8_e5m2fnuz": (13, 8),
    "float8_e8m0fnu": (14, 8),
}
_NUMPY_KINDS = {_INT: "i", _UINT: "u", _FLOAT: "f", _COMPLEX: "c", _BOOL: "b"}
_HOST = 1  # DLPack's kDLCPU


def dtype_name(dtype: DType) -> str:
    """float32 for "float32", numpy.float32, numpy.dtype("float32") and torch.float32."""
    if isinstance(dtype, type):
        name = dtype.__name__
    else:
        name = str(getattr(dtype, "name", dtype))
    name = name.rpartition(".")[2].rstrip("_")  # torch.float32, numpy.bool_
    if name not in _DTYPES or not getattr(dtype, "isnative", True):  # numpy.dtype(">f4") is a float32 too
        raise invalid(f"dtype is {dtype!r}: it must be one of {', '.join(_DTYPES)}")
    return name


def _dldtype(dtype: DType) -> DLDataType:
    code, bits = _DTYPES[dtype_name(dtype)]
    return DLDataType(code, bits, 1)


def itemsize(dtype: DType) -> int:
    return _DTYPES[dtype_name(dtype)][1] // 8


def _int64s(what: str, numbers: Sizes) -> ctypes.Array[c_int64]:
    each = tuple(numbers) if isinstance(numbers, Iterable) else (numbers,)
    low, high = -(1 << 63), (1 << 63) - 1
    return (c_int64 * len(each))(*(integer(what, number, low, high) for number in each))


class Tensor(Handle):
    """Symmetric memory with a shape: of Group.empty, or a view by Mem.get_buffer.

    numpy.asarray, numpy.from_dlpack, torch.from_dlpack and their like make arrays of it, which share its memory and
    keep it: when the tensor has ended, they are still good, and the memory goes with the last of them.
    """

    _end = lib.symm_tensor_free

    def __init__(self, managed: Any, parent: Optional[Handle]) -> None:
        super().__init__(managed, parent)
        tensor = managed.contents.dl_tensor
        self.shape: tuple[int, ...] = tuple(tensor.shape[: tensor.ndim])
        self.strides: tuple[int, ...] = tuple(tensor.strides[: tensor.ndim])
        """In elements."""
        dtype = tensor.dtype.code, tensor.dtype.bits
        self.dtype: str = next(name for name, known in _DTYPES.items() if known == dtype)
        self.itemsize: int = tensor.dtype.bits // 8
        self._device = tensor.device.device_type, tensor.device.device_id
        self._address: int = (tensor.data or 0) + tensor.byte_offset

    @property
    def nbytes(self) -> int:
        """The bytes of its elements."""
        return math.prod(self.shape) * self.itemsize

    @property
    def device(self) -> str:
        """ "host", or "cuda:1"."""
        return "host" if self._device[0] == _HOST else f"cuda:{self._device[1]}"

    def data_ptr(self) -> int:
        """The address of its first element; called as with torch, so that Triton's kernels take the tensor too."""
        self._check_open()
        return self._address

    def is_contiguous(self) -> bool:
        """True if it is row-major without gaps."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides)):
            if size != 1 and stride != step:
                return False
            step *= size
        return True

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"at {self._address:#x}"
        return f"<symm.Tensor {self.dtype} {list(self.shape)} on {self.device}, {state}>"

    def _alias(self) -> Any:
        """One more managed tensor of the same memory."""
        alias = ctypes.POINTER(DLManagedTensorVersioned)()
        with self._lock:  # it does not end meanwhile
            check(lib.symm_tensor_alias(self._handle, ctypes.byref(alias)))
        return alias

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(
        self,
        *,
        stream: Optional[int] = None,
        max_version: Optional[tuple[int, int]] = None,
        dl_device: Optional[tuple[int, int]] = None,
        copy: Optional[bool] = None,
    ) -> Any:
        """A capsule for one consumer. What streams still do with the memory is the caller's to order: stream is not
        looked at."""
        if dl_device is not None and tuple(dl_device) != self._device:
            raise BufferError(f"the tensor is on device {self._device} of DLPack, not on {tuple(dl_device)}")
        if copy:
            raise BufferError("the tensor is shared, not copied: copy it afterwards")
        return make_capsule(self._alias(), versioned=max_version is not None and max_version[0] >= 1)

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        """For numpy.asarray: an array of the same memory, on the host device. Other than from numpy.from_dlpack, it can
        be written to under every version of NumPy."""
        import numpy

        array = numpy.asarray(_ForNumpy(self))
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"an array of {dtype} would be a copy of this {self.dtype}")
            return array.astype(dtype)
        return array.copy() if copy else array


class _ForNumpy:
    """What an array is made of: it keeps the memory, as an array of numpy.from_dlpack does, and the group too."""

    def __init__(self, tensor: Tensor) -> None:
        code, bits = _DTYPES[tensor.dtype]
        if tensor._device[0] != _HOST:
            raise TypeError(f"{tensor!r}: the host cannot reach this memory; use symm.Mem.get, or a library for GPUs")
        if code not in _NUMPY_KINDS:
            raise TypeError(f"NumPy has no {tensor.dtype}")
        order = "|" if bits == 8 else "<" if sys.byteorder == "little" else ">"
        self._parent = tensor._parent
        self._kept = Tensor(tensor._alias(), None)
        self._kept._finalizer.atexit = False  # there may be code yet to run that looks at the array
        self.__array_interface__ = {
            "version": 3,
            "data": (tensor._address, False),
            "typestr": f"{order}{_NUMPY_KINDS[code]}{bits // 8}",
            "shape": tensor.shape,
            "strides": tuple(stride * tensor.itemsize for stride in tensor.strides),
        }


def empty_tensor(
    group: Group, sizes: Sizes, strides: Optional[Sequence[int]], dtype: DType, options: AllocOptions
) -> Tensor:
    shape = _int64s("a size", sizes)
    steps = None if strides is None else _int64s("a stride", strides)
    if steps is not None and len(steps) != len(shape):
        raise invalid(f"there are {len(shape)} sizes and {len(steps)} strides: it must be as many")
    managed = ctypes.POINTER(DLManagedTensorVersioned)()
    check(
        lib.symm_empty_strided(
            group._handle,
            len(shape),
            shape,
            steps,
            _dldtype(dtype),
            ctypes.byref(options),
            ctypes.byref(managed),
        )
    )
    return Tensor(managed, group)


def lent_tensors(owner: Handle, context: Optional[int], group: Optional[int]) -> int:
    """How many tensors of the owner's memory, a context's or a group's, live on when it ends its own: in arrays."""
    tensors = [child for child in owner._descendants() if isinstance(child, Tensor)]
    with ExitStack() as held:
        for tensor in sorted(tensors, key=id):  # in one order, whoever else does this
            held.enter_context(tensor._lock)
        if owner.closed:
            return 0
        own = [tensor._value for tensor in tensors if not tensor.closed]
        array = (ctypes.POINTER(DLManagedTensorVersioned) * len(own))(*own)
        lent = lib.symm_tensor_count(context, group, array, len(own))
        return 0 if lent in (ESTALE, EFORK) else check(lent)


def view_tensor(function: Any, mem: Handle, rank: int, sizes: Sizes, dtype: DType, storage_offset: int) -> Tensor:
    shape = _int64s("a size", sizes)
    offset = integer("storage_offset", storage_offset, -(1 << 63), (1 << 63) - 1)
    managed = ctypes.POINTER(DLManagedTensorVersioned)()
    check(
        function(
            mem._handle,
            integer("rank", rank),
            len(shape),
            shape,
            _dldtype(dtype),
            offset,
            ctypes.byref(managed),
        )
    )
    return Tensor(managed, mem)
