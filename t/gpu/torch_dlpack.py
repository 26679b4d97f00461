#!/usr/bin/env python3
"""PyTorch takes tensors of symm over: torch.from_dlpack of symm_empty_strided, of a peer's block and of a signal pad,
written and read by torch on both ranks with symm's barrier on torch's stream; and their ends, which are torch's.

usage: symmrun -n 2 --device cuda python3 torch_dlpack.py [LIBSYMM]        (LIBSYMM: libsymm.so.0)
"""
import ctypes
import gc
import os
import sys

import torch
import torch.utils.dlpack
from torch_ctypes import CALLS, I, L, P, Symm, runtime_error, state

ROWS, COLUMNS, STRIDE = 256, 1000, 1024
ROUNDS = 20
CUDA = 2
SHAPE = ctypes.POINTER(L)


class DType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class DLTensor(ctypes.Structure):
    _fields_ = [("data", P), ("device_type", I), ("device_id", I), ("ndim", I), ("dtype", DType), ("shape", SHAPE),
                ("strides", SHAPE), ("byte_offset", ctypes.c_uint64)]


class Versioned(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("manager", P), ("deleter", P),
                ("flags", ctypes.c_uint64), ("tensor", DLTensor)]


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("device", ctypes.c_char_p), ("persistent", I),
                ("alloc_id", ctypes.c_uint64), ("signal_pad_bytes", ctypes.c_size_t)]


OUT = ctypes.POINTER(P)
CALLS.update({
    "symm_empty_strided": (P, I, SHAPE, SHAPE, DType, P, OUT),
    "symm_get_buffer": (P, I, I, SHAPE, DType, L, OUT),
    "symm_get_signal_pad": (P, I, I, SHAPE, DType, L, OUT),
    "symm_tensor_rendezvous": (ctypes.POINTER(DLTensor), P, L, OUT),
    "symm_tensor_mem": (ctypes.POINTER(DLTensor), P, OUT),
    "symm_tensor_unversioned": (P, OUT),
})
FLOAT, HALF, LONG = DType(2, 32, 1), DType(4, 16, 1), DType(0, 64, 1)
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int64": torch.int64}


def numbers(*values):
    return (L * len(values))(*values)


def capsule(pointer, name):
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, (P, ctypes.c_char_p, P)
    return new(pointer, name, None)


class Exporter:
    """What torch.from_dlpack asks, about one tensor."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack_device__(self):
        described = Versioned.from_address(self.tensor).tensor
        return described.device_type, described.device_id

    def __dlpack__(self, *, max_version, **_):
        assert max_version[0] == 1
        return capsule(self.tensor, b"dltensor_versioned")


def torch_of(tensor, dtype, device):
    """Torch's tensor: the same memory, of this rank's device even where it is a peer's."""
    described = Versioned.from_address(tensor).tensor
    data, kind, index = described.data, described.device_type, described.device_id
    assert (kind, index) == (CUDA, device), (kind, index)
    taken = torch.from_dlpack(Exporter(tensor))
    assert taken.data_ptr() == data and taken.device.index == device and taken.dtype == TYPES[dtype]
    return taken


def refused(call, *arguments):
    """The text of the error; empty if the call succeeds."""
    try:
        call(*arguments)
    except RuntimeError as error:
        return str(error)
    return ""


def make(symm, group, device):
    tensor = symm.empty_strided(group, 2, numbers(ROWS, COLUMNS), numbers(STRIDE, 1), FLOAT, None)
    own = torch_of(tensor, "float32", device)
    assert own.shape == (ROWS, COLUMNS) and own.stride() == (STRIDE, 1)
    assert own.count_nonzero().item() == 0
    inside = DLTensor(data=own.data_ptr(), byte_offset=own[ROWS // 2].data_ptr() - own.data_ptr())
    mem = symm.tensor_rendezvous(inside, group, 0)
    assert symm.tensor_mem(inside, None) == mem
    symm.mem_release(mem)
    return own, mem


def exchange(symm, own, mem, rank, world, device):
    """Rounds on torch's stream: write to the next rank by torch, barrier, read what the previous one wrote."""
    view = symm.get_buffer(mem, (rank + 1) % world, 2, numbers(ROWS - 1, STRIDE), FLOAT, 0)
    peer = torch_of(view, "float32", device)[:, :COLUMNS]
    index = torch.arange((ROWS - 1) * COLUMNS, device=own.device).view(ROWS - 1, COLUMNS) % 4096
    stream = torch.cuda.Stream()
    wrong = torch.zeros((), dtype=torch.int64, device=own.device)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        raw = stream.cuda_stream
        for n in range(ROUNDS):
            peer.copy_(index + (n * 10 + rank))
            symm.barrier_on_stream(mem, 0, 0, raw)
            wrong += (own[: ROWS - 1] != index + (n * 10 + (rank - 1) % world)).sum()
            wrong += (peer != index + (n * 10 + rank)).sum()
            symm.barrier_on_stream(mem, 0, 0, raw)
    stream.synchronize()
    return wrong.item()


def parts(symm, own, mem, rank, world, device):
    """Another type, an offset, the form before DLPack 1.0, and the signal pad."""
    after = (rank + 1) % world
    own.zero_()
    torch.cuda.synchronize()
    symm.barrier_on_stream(mem, 0, 0, torch.cuda.current_stream().cuda_stream)
    halves = torch_of(symm.get_buffer(mem, after, 1, numbers(10), HALF, 20), "bfloat16", device)
    halves.fill_(1.5 + rank)
    old = symm.tensor_unversioned(symm.get_buffer(mem, after, 1, numbers(4), LONG, 100))
    longs = torch.utils.dlpack.from_dlpack(capsule(old, b"dltensor"))
    longs.fill_(7000 + rank)
    pad = torch_of(symm.get_signal_pad(mem, after, 1, numbers(16), LONG, 4), "int64", device)
    pad.fill_(rank + 1)
    symm.barrier_on_stream(mem, 0, 0, torch.cuda.current_stream().cuda_stream)
    before = (rank - 1) % world
    block = torch_of(symm.get_buffer(mem, rank, 1, numbers(128), LONG, 0), "int64", device)
    wrong = (block[100:104] != 7000 + before).sum() + (block[5:].view(torch.bfloat16)[:10] != 1.5 + before).sum()
    mine = torch_of(symm.get_signal_pad(mem, rank, 1, numbers(16), LONG, 4), "int64", device)
    wrong += (mine != before + 1).sum()
    mine.zero_()
    symm.barrier_on_stream(mem, 0, 0, torch.cuda.current_stream().cuda_stream)
    return wrong.item()


def persist(symm, group, device):
    """While torch holds the tensor its alloc_id is taken; then it gives the same address, as torch left it."""
    named = Options(ctypes.sizeof(Options), None, 1, 7)
    options = ctypes.addressof(named)
    shape = numbers(1000)
    first = torch_of(symm.empty_strided(group, 1, shape, None, FLOAT, options), "float32", device)
    slice_ = first[10:20].fill_(3)
    address = first.data_ptr()
    del first
    assert "alloc_id 7 is still active" in refused(symm.empty_strided, group, 1, shape, None, FLOAT, options)
    torch.cuda.synchronize()
    del slice_
    again = torch_of(symm.empty_strided(group, 1, shape, None, FLOAT, options), "float32", device)
    assert again.data_ptr() == address and again.sum().item() == 30


def main():
    rank, world = int(os.environ["SYMM_RANK"]), int(os.environ["SYMM_WORLD_SIZE"])
    device = rank % torch.cuda.device_count()
    torch.cuda.set_device(device)
    torch.zeros(1, device=f"cuda:{device}")
    before = state()

    symm = Symm(sys.argv[1] if len(sys.argv) > 1 else "libsymm.so.0")
    context = symm.open(None)
    group = symm.group_join(context, b"dlpack", -1, -1, 0)
    own, mem = make(symm, group, device)
    wrong = exchange(symm, own, mem, rank, world, device)
    wrong += parts(symm, own, mem, rank, world, device)
    persist(symm, group, device)
    symm.group_status(group)
    print(f"figure dlpack.rank{rank}.wrong {wrong} words", flush=True)

    gc.collect()
    torch.cuda.synchronize()
    assert "1 tensor of the memory of this context is alive" in refused(symm.close, context)
    symm.mem_release(mem)
    del own
    gc.collect()
    symm.close(context)
    assert state() == before, "torch's device or stream has changed"
    assert runtime_error() == 0, "the runtime's last error is set"
    print(f"ok - rank {rank}: torch {torch.__version__} on {torch.cuda.get_device_name(device)}", flush=True)
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
