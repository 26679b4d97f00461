"""Tensors, and who takes them."""

import ctypes
import gc

import symm
from world import ON_HOST, Ranks, numpy, on_host, with_numpy


class Capsule:
    """What a library is given: passes on what it asks for."""

    def __init__(self, tensor, **fixed):
        self.tensor, self.fixed = tensor, fixed

    def __dlpack__(self, **asked):
        return self.tensor.__dlpack__(**{**asked, **self.fixed})

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


def is_called(capsule, name):
    is_valid = ctypes.pythonapi.PyCapsule_IsValid
    is_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return bool(is_valid(capsule, name))


class Tensors(Ranks):
    def test_shape(self):
        tensor = self.group.empty((3, 4), "float32")
        self.assertEqual((tensor.shape, tensor.strides, tensor.dtype), ((3, 4), (4, 1), "float32"))
        self.assertEqual((tensor.itemsize, tensor.nbytes), (4, 48))
        self.assertTrue(tensor.is_contiguous())
        self.assertEqual(tensor.device == "host", ON_HOST)
        self.assertEqual(tensor.__dlpack_device__()[0], 1 if ON_HOST else 2)
        self.assertIn("float32 [3, 4]", repr(tensor))
        other = self.group.empty_strided((3, 4), (1, 5), "int16")
        self.assertEqual((other.strides, other.nbytes), ((1, 5), 24))
        self.assertFalse(other.is_contiguous())
        self.assertEqual(self.group.empty((), "float64").nbytes, 8)
        self.assertEqual(self.group.empty(5, "bool").shape, (5,))
        self.assertEqual(self.group.empty(range(1, 4), "bool").shape, (1, 2, 3))
        self.assertEqual(symm.rendezvous(self.group.empty_strided(3, (7,), "int16")).buffer_size, 30)

    def test_refused(self):
        empty = self.group.empty_strided
        self.refuses(symm.InvalidError, empty, (2, -1), None, "int8")
        self.refuses(symm.InvalidError, empty, (2, 2), (1, 1), "int8")
        self.refuses(symm.InvalidError, empty, (1 << 62, 1 << 62), None, "int8")
        self.assertIn("2 sizes and 1 strides", self.refuses(symm.InvalidError, empty, (2, 2), (1,), "int8"))
        self.assertIn("float32", self.refuses(symm.InvalidError, empty, 1, None, "float31"))
        tensor, mem = self.share(64)
        self.assertIn("64", self.refuses(symm.InvalidError, mem.get_buffer, 0, 65, "uint8"))
        self.assertIn("64", self.refuses(symm.InvalidError, mem.get_buffer, 0, 8, "int64", 1))
        self.refuses(symm.InvalidError, mem.get_buffer, 2, 8, "int64")
        self.refuses(symm.InvalidError, mem.get_buffer, 0, 8, "int64", -1)
        with self.assertRaisesRegex(BufferError, "on device"):
            tensor.__dlpack__(dl_device=(7, 0))
        with self.assertRaisesRegex(BufferError, "not copied"):
            tensor.__dlpack__(copy=True)

    def test_persistent(self):
        first = self.group.alloc(64, alloc_id=5)
        address = first.data_ptr()
        self.refuses(symm.BusyError, self.group.alloc, 64, alloc_id=5)
        capsule = first.__dlpack__()
        first.close()
        self.refuses(symm.BusyError, self.group.alloc, 64, alloc_id=5)
        del capsule
        self.assertEqual(self.group.alloc(64, alloc_id=5).data_ptr(), address)

    def test_capsule(self):
        """One that nobody takes frees its tensor: else the group could not be left."""
        tensor = self.group.alloc(64)
        old, new = tensor.__dlpack__(), tensor.__dlpack__(max_version=(1, 0), stream=None)
        self.assertTrue(is_called(old, b"dltensor"))
        self.assertTrue(is_called(new, b"dltensor_versioned"))
        self.assertTrue(is_called(tensor.__dlpack__(max_version=(0, 9)), b"dltensor"))
        tensor.close()
        self.refuses(symm.BusyError, self.group.leave)
        del old
        self.refuses(symm.BusyError, self.group.leave)
        del new
        self.group.leave()

    def test_pad(self):
        mem = symm.rendezvous(self.group.alloc(8, signal_pad_bytes=4096))
        self.assertEqual(mem.signal_pad_size, 4096)
        self.refuses(symm.InvalidError, self.group.alloc, 8, signal_pad_bytes=-8)

    def test_mem(self):
        """By a pointer too, and without a word of which group."""
        tensor, mem = self.share((4, 4), "int64")
        self.assertTrue(symm.rendezvous_completed(tensor))
        for thing in (tensor, tensor.data_ptr(), tensor.data_ptr() + 100, mem.get_buffer(self.rank, 1, "int8")):
            found = symm.find_mem(thing)
            self.assertEqual((found.buffers, found.group), (mem.buffers, self.group))
            self.assertEqual(symm.rendezvous(thing).buffers, mem.buffers)
        self.assertEqual(mem.buffer(self.rank), tensor.data_ptr())
        self.assertEqual((mem.rank, mem.world_size, mem.buffer_size), (self.rank, self.world, 128))
        self.assertEqual(mem.get_buffer(self.peer, 3, "int16", 5).data_ptr(), mem.buffer(self.peer) + 10)
        pad = mem.get_signal_pad(self.peer)
        self.assertEqual((pad.data_ptr(), pad.nbytes), (mem.signal_pad(self.peer), mem.signal_pad_size))
        self.assertEqual(mem.get_signal_pad(0, None, "int64", 1).nbytes, mem.signal_pad_size - 8)
        self.assertEqual(len(mem.signal_pads), self.world)
        self.assertTrue(mem.buffers_dev and mem.signal_pads_dev and mem.buffers_dev != mem.signal_pads_dev)
        self.assertFalse(mem.has_multicast)
        self.refuses(symm.NotSupportedError, lambda: mem.multicast)
        tensor.close()
        mem.barrier()

    @with_numpy
    def test_dtypes(self):
        for dtype in ("int32", numpy.int32, numpy.dtype("int32"), numpy.dtype("<i4")):
            self.assertEqual(self.group.empty(1, dtype).dtype, "int32")
        swapped = numpy.dtype("int32").newbyteorder()
        self.assertRaises(symm.InvalidError, self.group.empty, 1, swapped)
        self.assertEqual(self.group.empty(1, numpy.bool_).dtype, "bool")
        self.assertEqual(self.group.empty(1, bool).dtype, "bool")


@on_host
@with_numpy
class Numpy(Ranks):
    def test_dlpack(self):
        """With what this NumPy asks for, and as if it knew no versions."""
        tensor = self.group.empty_strided((3, 4), (1, 5), "float64")
        for taken in (tensor, Capsule(tensor, max_version=None)):
            array = numpy.from_dlpack(taken)
            self.assertEqual((array.shape, array.strides, array.dtype), ((3, 4), (8, 40), numpy.float64))
            self.assertEqual(array.ctypes.data, tensor.data_ptr())

    def test_array(self):
        for dtype in ("bool", "int8", "uint16", "int64", "float16", "float32", "complex128"):
            tensor = self.group.empty((2, 3), dtype)
            array = numpy.asarray(tensor)
            array[1] = 1
            again = numpy.from_dlpack(tensor) if dtype != "bool" else numpy.array(tensor)
            self.assertEqual((array.dtype, again.dtype), (numpy.dtype(dtype),) * 2)
            self.assertEqual(again.sum(), 3)
        self.assertEqual(numpy.asarray(tensor, dtype="complex64").dtype, numpy.complex64)
        copy = numpy.array(tensor)
        copy[0] = 5
        self.assertEqual(array[0].sum(), 0)
        with self.assertRaisesRegex(TypeError, "NumPy has no bfloat16"):
            numpy.asarray(self.group.empty(1, "bfloat16"))

    def test_refused(self):
        """NumPy's own error comes through, and the tensor is freed."""
        with self.assertRaises((BufferError, RuntimeError)):
            numpy.from_dlpack(self.group.empty(1, "bfloat16"))
        gc.collect()
        self.group.leave()

    def test_keeps(self):
        """The array outlives the tensor that it was made of."""
        array = numpy.asarray(self.group.empty(4, "int64"))
        other = numpy.from_dlpack(self.group.empty(4, "int64"))
        gc.collect()
        array[:] = 5
        self.assertEqual((array.sum(), other.sum()), (20, 0))
        mem = symm.rendezvous(array)
        numpy.asarray(mem.get_buffer(self.peer, 1, "int64", 3))[0] = self.rank
        mem.barrier()
        self.assertEqual(array[3], self.peer)

    def test_views(self):
        """Both ranks write into each other's block and pad."""
        tensor, mem = self.share((4, 4), numpy.int64)
        theirs = numpy.asarray(mem.get_buffer(self.peer, (4, 4), numpy.int64))
        theirs[:] = numpy.arange(16).reshape(4, 4) + 100 * self.rank
        numpy.asarray(mem.get_signal_pad(self.peer))[3] = 1 + self.rank
        mem.barrier()
        self.assertEqual(numpy.from_dlpack(tensor)[2, 1], 9 + 100 * self.peer)
        pad = numpy.asarray(mem.get_signal_pad(self.rank))
        self.assertEqual(pad[3], 1 + self.peer)
        pad[3] = 0
