#!/usr/bin/env python3
"""One rank of t/numpy.sh: NumPy takes symmetric memory of the host device over, as tensors of DLPack.

usage: symmrun -n 2 python3 numpy.py LIBSYMM
"""
import ctypes
import gc
import os
import sys

sys.path.pop(0)  # the folder of this file, whose name is that of what it wants
import numpy

P, I, L, Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_size_t
S, OUT = ctypes.POINTER(L), ctypes.POINTER(P)
EBUSY = -6
KINDS = {"i": 0, "u": 1, "f": 2, "c": 5}


class DType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class DLTensor(ctypes.Structure):
    _fields_ = [("data", P), ("device_type", I), ("device_id", I), ("ndim", I), ("dtype", DType), ("shape", S),
                ("strides", S), ("byte_offset", ctypes.c_uint64)]


class Versioned(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("manager", P), ("deleter", P),
                ("flags", ctypes.c_uint64), ("tensor", DLTensor)]


CALLS = {
    "symm_open": (P, OUT),
    "symm_close": (P,),
    "symm_group_join": (P, ctypes.c_char_p, I, I, L, OUT),
    "symm_empty_strided": (P, I, S, S, DType, P, OUT),
    "symm_get_buffer": (P, I, I, S, DType, L, OUT),
    "symm_get_signal_pad": (P, I, I, S, DType, L, OUT),
    "symm_tensor_rendezvous": (ctypes.POINTER(DLTensor), P, L, OUT),
    "symm_tensor_unversioned": (P, OUT),
    "symm_mem_release": (P,),
    "symm_barrier": (P, I, L),
    "symm_put": (P, I, Z, P, Z),
}


class Failure(Exception):
    def __init__(self, name, code, text):
        super().__init__(f"symm_{name}: {code}: {text}")
        self.code = code


class Symm:
    """The calls above: each returns its last argument, if that is an output, and raises its errors."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.symm_last_error.restype = ctypes.c_char_p

    def __getattr__(self, name):
        function = self.library["symm_" + name]
        types = function.argtypes = CALLS["symm_" + name]

        def call(*arguments):
            output = P() if types[-1] is OUT else None
            code = function(*arguments, *([ctypes.byref(output)] if output is not None else []))
            if code != 0:
                raise Failure(name, code, self.library.symm_last_error().decode())
            return output.value if output is not None else None

        return call


class Exporter:
    """What numpy.from_dlpack asks, about one tensor; from NumPy 2.1 on for DLPack 1.0 too."""

    def __init__(self, symm, tensor):
        self.symm = symm
        self.tensor = tensor

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, max_version=None, **_):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, (P, ctypes.c_char_p, P)
        if max_version is not None:
            return new(self.tensor, b"dltensor_versioned", None)
        return new(self.symm.tensor_unversioned(self.tensor), b"dltensor", None)


def numbers(*values):
    return (L * len(values))(*values)


def dtype_of(text):
    dtype = numpy.dtype(text)
    return DType(KINDS[dtype.kind], 8 * dtype.itemsize, 1)


def array_of(symm, tensor):
    """NumPy's array: the same memory. Its end calls the tensor's deleter. Before NumPy 2.3 it may be read-only."""
    data = Versioned.from_address(tensor).tensor.data
    array = numpy.from_dlpack(Exporter(symm, tensor))
    assert array.size == 0 or array.ctypes.data == data, "NumPy has made a copy"
    return array


def write(array, values):
    """By address, as the array may be read-only."""
    words = ctypes.c_double * array.size
    numpy.ctypeslib.as_array(words.from_address(array.ctypes.data))[:] = values


def check(got, expected, what):
    assert numpy.array_equal(got, expected), f"{what}: {got}, not {expected}"


def make(symm, group, rank):
    """4 rows of 6 numbers, which are 8 apart, and the rendezvous."""
    tensor = symm.empty_strided(group, 2, numbers(4, 6), numbers(8, 1), dtype_of("f8"), None)
    mem = symm.tensor_rendezvous(Versioned.from_address(tensor).tensor, None, 0)
    array = array_of(symm, tensor)
    assert array.dtype == numpy.float64 and array.strides == (64, 8)
    check(array, numpy.zeros((4, 6)), "new memory")
    for row in range(4):
        write(array[row], numpy.arange(6) + 10 * row + 100 * rank)
    return array, mem


def exchange(symm, mine, mem, rank):
    """Each rank reads the other's block, and writes into it: by an array, and by symm_put from one."""
    other = 1 - rank
    rows = numpy.arange(4).reshape(4, 1) * 10 + numpy.arange(6)
    theirs = array_of(symm, symm.get_buffer(mem, other, 2, numbers(3, 8), dtype_of("f8"), 6))
    symm.barrier(mem, 0, 0)
    check(theirs[:, 2:], (rows[1:] + 100 * other), "the peer's block from its second row on")
    symm.barrier(mem, 0, 0)
    write(theirs[1, 2:], numpy.full(6, -1.0 - rank))
    new = numpy.linspace(0, 1, 6) + rank
    symm.put(mem, other, 0, new.ctypes.data, new.nbytes)
    symm.barrier(mem, 0, 0)
    expected = rows + 100.0 * rank
    expected[0] = numpy.linspace(0, 1, 6) + other
    expected[2] = -1 - other
    check(mine, expected, "the own block, written by the peer")
    symm.barrier(mem, 0, 0)
    return theirs


def types(symm, mem, rank):
    """The peer's bytes as each type that both know."""
    block = array_of(symm, symm.get_buffer(mem, 1 - rank, 1, numbers(192), dtype_of("u1"), 0))
    for text in "i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split():
        size = numpy.dtype(text).itemsize
        view = array_of(symm, symm.get_buffer(mem, 1 - rank, 1, numbers(32 // size), dtype_of(text), 64 // size))
        assert view.dtype == numpy.dtype(text)
        check(view.view("u1"), block[64:96], text)
    pad = array_of(symm, symm.get_signal_pad(mem, 1 - rank, 2, numbers(4, 8), dtype_of("u4"), 32))
    check(pad, numpy.zeros((4, 8)), "the signal pad")
    scalar = array_of(symm, symm.get_buffer(mem, 1 - rank, 0, None, dtype_of("f8"), 2))
    assert scalar.shape == () and scalar == block.view("f8")[2]
    nothing = array_of(symm, symm.get_buffer(mem, 1 - rank, 2, numbers(3, 0), dtype_of("f8"), 2))
    assert nothing.shape == (3, 0)


def check_refused(symm, context):
    try:
        symm.close(context)
    except Failure as failure:
        assert failure.code == EBUSY and "2 tensors" in str(failure), failure
    else:
        raise AssertionError("the context was closed under two arrays")


def main():
    rank = int(os.environ["SYMM_RANK"])
    symm = Symm(sys.argv[1])
    context = symm.open(None)
    group = symm.group_join(context, b"numpy", -1, -1, 0)
    mine, mem = make(symm, group, rank)
    theirs = exchange(symm, mine, mem, rank)
    types(symm, mem, rank)
    gc.collect()
    check_refused(symm, context)
    symm.barrier(mem, 0, 0)
    symm.mem_release(mem)
    del mine, theirs
    gc.collect()
    symm.close(context)
    os.write(1, f"ok rank {rank}\n".encode())  # whole, beside the other rank's


if __name__ == "__main__":
    main()
