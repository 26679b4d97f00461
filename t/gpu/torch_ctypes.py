#!/usr/bin/env python3
"""Symmetric memory in a process that holds PyTorch: libsymm.so is loaded by ctypes beside torch's own CUDA runtime, a
peer's block is seen as a torch tensor, and symm's barrier stands on torch's stream between torch's operations.

usage: symmrun -n 2 --device cuda python3 torch_ctypes.py [LIBSYMM]        (LIBSYMM: libsymm.so.0)
"""
import ctypes
import os
import sys

import torch
import torch.utils.dlpack

P, I, L, Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_size_t
CALLS = {
    "symm_open": (P, ctypes.POINTER(P)),
    "symm_close": (P,),
    "symm_group_join": (P, ctypes.c_char_p, I, I, L, ctypes.POINTER(P)),
    "symm_group_status": (P,),
    "symm_alloc": (P, Z, P, ctypes.POINTER(P)),
    "symm_free": (P,),
    "symm_rendezvous": (P, P, L, ctypes.POINTER(P)),
    "symm_mem_release": (P,),
    "symm_barrier_on_stream": (P, I, L, P),
    "symm_put_signal_on_stream": (P, I, I, L, P),
    "symm_wait_signal_on_stream": (P, I, I, L, P),
}
WORDS = 1 << 20
ROUNDS = 50


class Symm:
    """The calls above: each returns its last argument, if that is an output, and raises its errors."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.symm_last_error.restype = ctypes.c_char_p
        self.library.symm_mem_buffer.restype = P
        self.library.symm_mem_buffer.argtypes = (P, I)
        self.buffer = self.library.symm_mem_buffer

    def __getattr__(self, name):
        function = self.library["symm_" + name]
        types = function.argtypes = CALLS["symm_" + name]

        def call(*arguments):
            output = P() if types[-1] is ctypes.POINTER(P) else None
            code = function(*arguments, *([ctypes.byref(output)] if output is not None else []))
            if code != 0:
                raise RuntimeError(f"symm_{name}: {code}: {self.library.symm_last_error().decode()}")
            return output.value if output is not None else None

        return call


class DLTensor(ctypes.Structure):
    _fields_ = [("data", P), ("device_type", I), ("device_id", I), ("ndim", I), ("code", ctypes.c_uint8),
                ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(L)),
                ("strides", ctypes.POINTER(L)), ("byte_offset", ctypes.c_uint64)]


class DLManagedTensor(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("manager", P), ("deleter", P)]


KEPT = []  # what torch's tensors point to


def tensor_at(address, device):
    """The memory there as int64 words, without a copy, and as memory of this device even where it is a peer's."""
    shape = (L * 1)(WORDS)
    managed = DLManagedTensor(DLTensor(address, 2, device, 1, 0, 64, 1, shape, None, 0), None, None)
    KEPT.append((shape, managed))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, (P, ctypes.c_char_p, P)
    tensor = torch.utils.dlpack.from_dlpack(new(ctypes.addressof(managed), b"dltensor", None))
    assert tensor.data_ptr() == address and tensor.device.index == device
    return tensor


def state():
    """What a library must leave alone."""
    stream = torch.cuda.current_stream()
    return torch.cuda.current_device(), stream.cuda_stream, torch.cuda.default_stream().cuda_stream


def runtime_error():
    """The last error of the CUDA runtime that torch has loaded."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        path = next(line.split()[-1] for line in maps if "libcudart" in line)
    return ctypes.CDLL(path).cudaPeekAtLastError()


def exchange(symm, mem, rank, world, device):
    """Rounds on torch's stream: write to the next rank by torch, barrier, read what the previous one wrote."""
    own = tensor_at(symm.buffer(mem, rank), device)
    peer = tensor_at(symm.buffer(mem, (rank + 1) % world), device)
    stream = torch.cuda.Stream()
    wrong = torch.zeros((), dtype=torch.int64, device=f"cuda:{device}")
    index = torch.arange(WORDS, device=f"cuda:{device}")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        before = state()
        raw = torch.cuda.current_stream().cuda_stream
        for n in range(ROUNDS):
            torch.add(index, n * 1000 + rank, out=peer)
            symm.barrier_on_stream(mem, 0, 0, raw)
            wrong += (own != index + (n * 1000 + (rank - 1) % world)).sum()
            symm.barrier_on_stream(mem, 0, 0, raw)
        assert state() == before, "torch's device or stream has changed"
    stream.synchronize()
    return wrong.item()


def signal(symm, mem, rank, world, device):
    """The same in a captured graph of torch's, with signals in place of barriers."""
    own = tensor_at(symm.buffer(mem, rank), device)
    peer = tensor_at(symm.buffer(mem, (rank + 1) % world), device)
    number = torch.zeros((), dtype=torch.int64, device=f"cuda:{device}")
    wrong = torch.zeros((), dtype=torch.int64, device=f"cuda:{device}")

    def once(raw):
        number.add_(1)
        peer.copy_(number.expand(WORDS))
        if raw is not None:
            symm.put_signal_on_stream(mem, (rank + 1) % world, 1, 0, raw)
            symm.wait_signal_on_stream(mem, (rank - 1) % world, 1, 0, raw)
        wrong.add_((own != number).sum())
        if raw is not None:
            symm.barrier_on_stream(mem, 1, 0, raw)

    once(None)  # loads torch's kernels
    number.zero_()
    wrong.zero_()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        once(torch.cuda.current_stream().cuda_stream)
    for _ in range(ROUNDS):
        graph.replay()
    torch.cuda.synchronize()
    assert number.item() == ROUNDS
    return wrong.item()


def main():
    rank, world = int(os.environ["SYMM_RANK"]), int(os.environ["SYMM_WORLD_SIZE"])
    device = rank % torch.cuda.device_count()
    torch.cuda.set_device(device)
    kept = torch.full((WORDS,), 7, device=f"cuda:{device}")
    before = state()

    symm = Symm(sys.argv[1] if len(sys.argv) > 1 else "libsymm.so.0")
    context = symm.open(None)
    group = symm.group_join(context, b"torch", -1, -1, 0)
    block = symm.alloc(group, WORDS * 8, None)
    mem = symm.rendezvous(block, None, 0)
    assert state() == before, "torch's device or stream has changed"
    assert runtime_error() == 0, "the runtime's last error is set"

    wrong = exchange(symm, mem, rank, world, device)
    wrong_graph = signal(symm, mem, rank, world, device)
    symm.group_status(group)
    print(f"figure torch.rank{rank}.wrong {wrong} words")
    print(f"figure torch.rank{rank}.wrong_graph {wrong_graph} words", flush=True)

    symm.mem_release(mem)
    symm.free(block)
    symm.close(context)
    assert state() == before, "torch's device or stream has changed"
    assert runtime_error() == 0, "the runtime's last error is set"
    assert (kept * 2).sum().item() == 14 * WORDS, "torch does not work any more"
    print(f"ok - rank {rank}: torch {torch.__version__} on {torch.cuda.get_device_name(device)}", flush=True)
    return wrong + wrong_graph != 0


if __name__ == "__main__":
    sys.exit(main())
