"""Barriers, signals and copies, now and on streams."""

import array
import threading
import types
from unittest import mock

import symm
from world import FACTOR, ON_HOST, Ranks, numpy, with_numpy


class Foreign:
    """An array of another library for GPUs."""

    def __init__(self, tensor, strides=None):
        self.__cuda_array_interface__ = {
            "data": (tensor.data_ptr(), False),
            "shape": tensor.shape,
            "typestr": "|u1",
            "strides": strides,
            "version": 3,
        }


class Sync(Ranks):
    def setUp(self):
        super().setUp()
        self.tensor, self.mem = self.share(64)

    def look(self, nbytes=8, offset=0):
        got = bytearray(nbytes)
        self.mem.get(self.rank, got, offset)
        return bytes(got)

    def test_copies(self):
        """From and into all that has an address."""
        source = self.group.alloc(8)
        symm.rendezvous(source).put(self.rank, b"tensor..")
        sources = [
            (b"bytes...", {}),
            (bytearray(b"array..."), {}),
            (memoryview(b"xxview....")[2:], {}),
            (array.array("q", [int.from_bytes(b"a number", "little")]), {}),
            (source, {}),
            (source.data_ptr(), {"nbytes": 8}),
            (Foreign(source), {}),
            (b"bytes... and more", {"nbytes": 8}),
        ]
        wanted = [b"bytes...", b"array...", b"view....", b"a number", *[b"tensor.."] * 3, b"bytes..."]
        for number, ((data, named), want) in enumerate(zip(sources, wanted)):
            with self.subTest(number):
                self.mem.put(self.peer, data, offset=8 * self.rank, **named)
                self.mem.barrier()
                self.assertEqual(self.look(8, 8 * self.peer), want)
                self.mem.barrier()

    def test_refused_copies(self):
        self.assertIn("only 3", self.refuses(symm.InvalidError, self.mem.put, 0, b"abc", nbytes=4))
        self.assertIn("needs nbytes", self.refuses(symm.InvalidError, self.mem.put, 0, 4096))
        self.refuses(symm.InvalidError, self.mem.put, 0, bytes(65))
        self.refuses(symm.InvalidError, self.mem.put, 2, b"x")
        for strided in (self.group.empty_strided(4, (2,), "uint8"), Foreign(self.tensor, (2,))):
            self.assertIn("not contiguous", self.refuses(symm.InvalidError, self.mem.put, 0, strided))
        with self.assertRaises(BufferError):
            self.mem.get(0, b"read-only")
        with self.assertRaises(TypeError):
            self.mem.put(0, None)
        self.assertIn("no address", self.refuses(symm.InvalidError, symm.rendezvous, "text"))
        self.mem.put(0, b"")

    def test_moves(self):
        """What both ranks do to each other's block, at once and on a stream."""
        with symm.Stream(self.context) as stream:
            for name, where in ("", {}), ("_on_stream", {"stream": stream}):
                call = {each: getattr(self.mem, each + name) for each in ("copy", "memset32", "write_value")}
                call["memset32"](self.peer, 0x01010101 * (1 + self.rank), 2, offset=16, **where)
                call["copy"](self.peer, self.peer, 8, dst_offset=32, src_offset=16, **where)
                call["write_value"](self.peer, 0x0202 + self.rank, 40, **where)
                call["write_value"](self.peer, 7, offset=48, nbytes=4, **where)
                data = b"payload" + bytes([48 + self.rank])
                getattr(self.mem, "put_with_signal" + name)(self.peer, data, 56, channel=4, timeout=10, **where)
                stream.synchronize()
                self.mem.wait_signal(self.peer, 4)
                want = bytes([1 + self.peer] * 8) + (0x0202 + self.peer).to_bytes(8, "little") + b"\7\0\0\0"
                self.assertEqual(self.look(20, 32), want)
                self.assertEqual(self.look(8, 56), b"payload%d" % self.peer)
                self.mem.memset32(self.rank, 0, 16)
                self.mem.barrier()
        self.refuses(symm.InvalidError, self.mem.memset32, 0, 1 << 32, 1)
        self.refuses(symm.InvalidError, self.mem.write_value, 0, 1 << 32, nbytes=4)
        self.refuses(symm.InvalidError, self.mem.write_value, 0, 1, nbytes=5)
        self.refuses(symm.InvalidError, self.mem.copy, 0, 1, 65)

    @with_numpy
    def test_numpy_copies(self):
        numbers = numpy.arange(self.rank, self.rank + 8, dtype=numpy.int16)
        self.mem.put(self.peer, numbers)
        self.mem.barrier()
        got = numpy.zeros(4, numpy.int16)
        self.mem.get(self.rank, got, offset=8)
        self.assertEqual(list(got), [self.peer + n for n in range(4, 8)])
        with self.assertRaises((ValueError, BufferError)):
            self.mem.put(0, numbers[::2])

    def test_signals(self):
        """A token goes round; each round on another channel."""
        for channel in range(0, symm.CHANNELS, 10):
            if self.rank == 0:
                self.mem.put(1, bytes([channel] * 8))
                self.mem.put_signal(1, channel)
                self.mem.wait_signal(1, channel, timeout=10)
                self.assertEqual(self.look(), bytes([channel + 1] * 8))
            else:
                self.mem.wait_signal(0, channel)
                self.assertEqual(self.look(), bytes([channel] * 8))
                self.mem.put(0, bytes([channel + 1] * 8))
                self.mem.put_signal(0, channel, timeout=10)

    def test_threads(self):
        """While a thread waits the others go on, even to send what its peer waits for."""
        done = []

        def wait():
            self.mem.wait_signal(self.peer, 1)
            done.append("waited")

        thread = threading.Thread(target=wait)
        thread.start()
        self.mem.barrier()
        self.mem.put_signal(self.peer, 1)
        thread.join(20 * FACTOR)
        self.assertEqual(done, ["waited"])

    def exchange(self, **where):
        """Enqueues a round; where: the stream."""
        data, got = bytes([1 + self.rank] * 8), bytearray(8)
        self.mem.put_on_stream(self.peer, data, 16, **where)
        self.mem.barrier_on_stream(2, **where)
        self.mem.get_on_stream(self.rank, got, 16, **where)
        self.mem.put_signal_on_stream(self.peer, 3, 10, **where)
        self.mem.wait_signal_on_stream(self.peer, 3, 10, **where)
        return data, got

    def test_stream(self):
        with symm.Stream(self.context) as stream:
            kept = self.exchange(stream=stream)
            stream.synchronize(10 * FACTOR)
            self.assertEqual(kept[1], bytes([1 + self.peer] * 8))
            # as other libraries name a stream
            handle = stream._handle
            foreign = (handle, mock.Mock(spec=["cuda_stream"], cuda_stream=handle), mock.Mock(spec=["ptr"], ptr=handle))
            protocol = types.SimpleNamespace(__cuda_stream__=lambda: (0, handle))
            for one in (*foreign, protocol):
                self.mem.barrier_on_stream(stream=one)
            stream.synchronize()
            self.assertIn("no stream", self.refuses(symm.InvalidError, self.mem.barrier_on_stream, stream="0"))

    def test_current_stream(self):
        """Without a stream it is torch's, of the memory's device."""
        asked = []
        if ON_HOST:
            self.refuses(symm.NotSupportedError, self.mem.barrier_on_stream)
            return
        with mock.patch.dict("sys.modules", torch=None):
            self.assertIn("torch", self.refuses(symm.NotSupportedError, self.mem.barrier_on_stream))
        with symm.Stream(self.context) as stream:

            def current_stream(device):
                asked.append(device)
                return types.SimpleNamespace(cuda_stream=stream._handle)

            torch = types.SimpleNamespace(cuda=types.SimpleNamespace(current_stream=current_stream))
            with mock.patch.dict("sys.modules", torch=torch):
                kept = self.exchange()
            stream.synchronize()
            self.assertEqual(kept[1], bytes([1 + self.peer] * 8))
        self.assertEqual(set(asked), {self.tensor.device})
