"""What is raised, when and how it reads."""

import builtins
import os
import pickle
import subprocess
import sys
import time
import unittest
from functools import partial
from unittest import mock

import symm
from symm import _errors
from symm._library import lib
from world import Ranks


class Errors(unittest.TestCase):
    def test_classes(self):
        for code in range(-18, 0):
            error = _errors.error_of(code, "it was so")
            with self.subTest(error.name):
                self.assertIsInstance(error, symm.Error)
                self.assertEqual((error.code, error.detail), (code, "it was so"))
                self.assertEqual(str(error), f"it was so [{error.name}]")
                again = pickle.loads(pickle.dumps(error))
                self.assertEqual((type(again), str(again)), (type(error), str(error)))
                self.assertIs(getattr(symm, type(error).__name__), type(error))
        self.assertEqual(_errors.error_of(-99, "new").name, "code -99")

    def test_builtins(self):
        pairs = (
            (symm.TimeoutError, builtins.TimeoutError),
            (symm.InvalidError, ValueError),
            (symm.NoMemoryError, MemoryError),
            (symm.NotFoundError, LookupError),
            (symm.BusyError, BufferError),
        )
        for ours, builtin in pairs:
            self.assertTrue(issubclass(ours, builtin))

    def test_no_store(self):
        with self.assertRaises((symm.StoreError, symm.TimeoutError)):
            symm.Context(url="unix:///nowhere/redis.sock", device="host", timeout=0.2)
        with self.assertRaisesRegex(symm.InvalidError, "timeout is 0 seconds"):
            symm.Context(timeout=0)
        with self.assertRaisesRegex(symm.InvalidError, "lease is -1 seconds"):
            symm.Context(lease=-1)

    def import_with(self, library):
        environment = dict(os.environ, SYMM_LIBRARY=library)
        command = [sys.executable, "-c", "import symm"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr

    def test_no_library(self):
        self.assertRegex(self.import_with("/nowhere/libsymm.so"), "ImportError: .*/nowhere/libsymm.so.*SYMM_LIBRARY")
        self.assertRegex(self.import_with("libc.so.6"), "ImportError: .*libc.so.6.*symm_.*SYMM_LIBRARY")


class Arguments(Ranks):
    def test_numbers(self):
        """None is cut to its C type in silence."""
        _, mem = self.share()
        for number in (1 << 32, -(1 << 40)):
            self.refuses(symm.InvalidError, mem.barrier, channel=number)
            self.refuses(symm.InvalidError, mem.put_signal, number)
            self.refuses(symm.InvalidError, mem.wait_signal, number)
            self.refuses(symm.InvalidError, mem.get_buffer, number, 1, "int8")
            self.refuses(symm.InvalidError, mem.buffer, number)
            self.refuses(symm.InvalidError, self.context.join, "x", rank=number)
        self.refuses(symm.InvalidError, mem.put, 0, b"x", offset=(1 << 64) + 5)
        self.refuses(symm.InvalidError, mem.put, 0, b"x", offset=-1)
        self.refuses(symm.InvalidError, self.group.alloc, 1 << 64)
        self.refuses(symm.InvalidError, self.group.alloc, 8, alloc_id=-1)
        with self.assertRaises(TypeError):
            mem.barrier(channel=0.5)

    def test_details(self):
        _, mem = self.share()
        self.assertIn("channel 32", self.refuses(symm.InvalidError, mem.barrier, symm.CHANNELS))
        self.assertIn("rank is 2", self.refuses(symm.InvalidError, mem.buffer, self.world))
        self.assertIn("timeout is -0.5", self.refuses(symm.InvalidError, mem.barrier, timeout=-0.5))
        self.assertIn("nan", self.refuses(symm.InvalidError, mem.barrier, timeout=float("nan")))
        self.refuses(symm.NotFoundError, self.context.find, "another")
        self.refuses(symm.NotFoundError, symm.find_mem, 4096)

    def test_seconds(self):
        """Each of them reaches the library, in milliseconds."""
        tensor, mem = self.share()
        stream = symm.Stream(self.context)
        calls = {
            "symm_group_join": lambda: self.context.join("seconds", timeout=0.3),
            "symm_group_join_ranks": lambda: self.group.join_ranks("seconds", [self.rank], timeout=0.3),
            "symm_rendezvous": lambda: symm.rendezvous(tensor, timeout=0.3),
            "symm_stream_synchronize": lambda: stream.synchronize(timeout=0.3),
        }
        methods = {"barrier": (), "put_signal": (0,), "wait_signal": (0,), "put_with_signal": (0, b"")}
        for name, arguments in methods.items():
            calls["symm_" + name] = partial(getattr(mem, name), *arguments, timeout=0.3)
            calls[f"symm_{name}_on_stream"] = partial(
                getattr(mem, name + "_on_stream"), *arguments, timeout=0.3, stream=stream
            )
        for name, call in calls.items():
            with self.subTest(name), mock.patch.object(lib, name, side_effect=InterruptedError) as function:
                self.assertRaises(InterruptedError, call)
                self.assertIn(300, function.call_args.args)
        with mock.patch.object(lib, "symm_open", side_effect=InterruptedError) as function:
            self.assertRaises(InterruptedError, symm.Context, timeout=0.3, lease=0.0011)
        options = function.call_args.args[0]._obj
        self.assertEqual((options.timeout_ms, options.lease_ms), (300, 2))

    def test_mismatch(self):
        tensor = self.group.alloc(64 * (1 + self.rank))
        self.assertIn("64", self.refuses(symm.MismatchError, symm.rendezvous, tensor))
        self.assertFalse(symm.rendezvous_completed(tensor))

    def test_timeout(self):
        """A rank that does not come fails the group, for all."""
        tensor, mem = self.share()
        mem.barrier(timeout=float("inf"))
        if self.rank == 0:
            start = time.monotonic()
            self.assertIn("after 0.3 s", self.refuses(symm.TimeoutError, mem.barrier, timeout=0.3))
            self.assertGreaterEqual(time.monotonic() - start, 0.3)
        else:
            self.refuses(symm.Error, mem.wait_signal, 0)
        self.refuses(symm.Error, self.group.status)
