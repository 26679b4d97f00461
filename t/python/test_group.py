"""Contexts, groups, and how all ends."""

import gc
import os
import threading
import unittest

import symm
from world import Ranks, numpy, on_host, with_numpy


class Groups(Ranks):
    def test_numbers(self):
        self.assertEqual((self.context.rank, self.context.world_size), (self.rank, self.world))
        self.assertEqual((self.rank, self.context.local_rank), (int(os.environ["SYMM_RANK"]),) * 2)
        self.assertEqual(self.group.generation, 1)
        self.assertTrue(self.group.store.startswith("unix://"))
        self.assertIs(self.context.find(self.group.name), self.group)
        self.assertIsNone(self.group.status())

    def test_stats(self):
        before = self.context.stats()
        tensor, mem = self.share(64)
        mem.barrier()
        after = self.context.stats()
        grown = {name: after[name] - before[name] for name in after}
        self.assertEqual((grown["rendezvous_done"], grown["barriers"], grown["allocations"]), (1, 1, 1))
        self.assertEqual((grown["timeouts"], grown["enqueued"]), (0, 0))
        tensor.close()

    def test_ranks_by_hand(self):
        """In reverse, by arguments."""
        with self.context.join("reverse", self.peer, self.world, timeout=10) as group:
            self.assertEqual(group.rank, self.peer)

    def test_some_ranks(self):
        """Both in another order, and each by itself."""
        with self.group.join_ranks("turned", [1, 0], timeout=10) as group:
            self.assertEqual((group.rank, group.context), (self.peer, self.context))
        with self.group.join_ranks(f"alone{self.rank}", [self.rank]) as group:
            self.assertEqual((group.rank, group.world_size), (0, 1))
        self.refuses(symm.InvalidError, self.group.join_ranks, "other", [self.peer])

    def test_several(self):
        """One allocation in two groups."""
        tensor, mem = self.share()
        with self.context.join("other") as other:
            self.assertFalse(symm.rendezvous_completed(tensor, other))
            second = symm.rendezvous(tensor, other)
            self.assertTrue(symm.rendezvous_completed(tensor, other))
            self.assertIs(second.group, other)
            self.assertEqual(second.buffer(self.rank), mem.buffer(self.rank))
            second.barrier()
        self.assertTrue(second.closed)
        mem.barrier()

    def test_closed(self):
        context = symm.Context()
        group = context.join("closed")
        stream = symm.Stream(context)
        tensor = group.alloc(64)
        mem = symm.rendezvous(tensor)
        view = mem.get_buffer(0, 64, "uint8")
        context.close()
        context.close()
        for one in (context, group, stream, tensor, mem, view):
            self.assertTrue(one.closed)
            one.close()
        for call in (lambda: context.rank, lambda: group.rank, lambda: mem.rank, stream.synchronize, tensor.data_ptr):
            self.assertIn("closed", self.refuses(symm.StaleError, call))
        self.refuses(symm.StaleError, tensor.__dlpack__)
        self.assertIn("closed", repr(tensor))

    def test_with(self):
        with self.context.join("with") as group, group.alloc(64) as tensor, symm.rendezvous(tensor) as mem:
            mem.barrier()
        self.assertTrue(group.closed and tensor.closed and mem.closed)
        with self.context.join("with") as group:
            self.assertEqual(group.rank, self.rank)

    def test_dropped(self):
        """What nobody refers to has ended, in whatever order, and what is needed has not."""
        tensor = self.context.join("dropped").alloc(64)
        gc.collect()
        mem = symm.rendezvous(tensor)
        del tensor
        gc.collect()
        mem.barrier()
        self.assertEqual(mem.buffer_size, 64)
        ring = [self.context.join("ring")]
        ring.append(ring[0].alloc(64))
        ring.append(symm.rendezvous(ring[1]))
        ring.append(ring)
        del ring, mem
        gc.collect()
        for name in ("dropped", "ring"):
            self.refuses(symm.NotFoundError, self.context.find, name)

    @on_host
    @with_numpy
    def test_busy(self):
        """Memory does not go under an array: BusyError, and then all goes on."""
        group = self.context.join("busy")
        array = numpy.asarray(group.empty(4, "int32"))
        self.assertIn("tensor", self.refuses(symm.BusyError, group.leave))
        array[:] = 7
        self.assertEqual(array.sum(), 28)
        self.assertEqual(group.rank, self.rank)
        with self.assertRaises(symm.BusyError):
            with group:
                pass
        with self.assertRaisesRegex(RuntimeError, "what went wrong"):
            with group:
                raise RuntimeError("what went wrong")
        del array
        group.leave()
        self.assertTrue(group.closed)

    def check_whole(self, context, groups, tensors, mems):
        """Nothing has ended: all handles are good, and the groups too."""
        for one in (context, *groups, *tensors, *mems):
            self.assertFalse(one.closed)
        for group, tensor, mem in zip(groups, tensors, mems):
            self.assertEqual((group.rank, mem.rank), (self.rank, self.rank))
            self.assertIs(context.find(group.name), group)
            self.assertNotEqual(tensor.data_ptr(), 0)
            mem.barrier()
            self.assertEqual(symm.rendezvous(group.alloc(64)).buffer_size, 64)

    @on_host
    @with_numpy
    def test_refused_leave(self):
        """An array of a tensor, of a view, or of a tensor that has been closed: all is as it was, on both ranks."""
        group = self.context.join("refused")
        tensor = group.empty(4, "int64")
        mem = symm.rendezvous(tensor)
        view = mem.get_buffer(self.peer, 4, "int64")
        closed = group.empty(4, "int64")
        for make in (lambda: numpy.asarray(tensor), lambda: numpy.from_dlpack(view), lambda: numpy.asarray(closed)):
            array = make()
            closed.close()
            detail = self.refuses(symm.BusyError, group.leave)
            self.assertRegex(detail, r"1 tensor of .*group refused .*arrays: delete")
            self.check_whole(self.context, [group], [tensor, view], [mem])
            self.assertEqual(array.sum(), 0)
            del array
            if closed.closed:
                closed = group.empty(4, "int64")
        group.leave()
        for one in (group, tensor, mem, view):
            self.assertTrue(one.closed)

    @on_host
    @with_numpy
    def test_refused_close(self):
        """Of many groups one holds an array, of rank 0 alone: there none is left."""
        context = symm.Context()
        groups = [context.join(f"refused{number}") for number in range(5)]
        tensors = [group.empty(4, "int64") for group in groups]
        mems = [symm.rendezvous(tensor) for tensor in tensors]
        stream = symm.Stream(context)
        array = numpy.asarray(tensors[2]) if self.rank == 0 else None
        if self.rank == 0:
            self.assertRegex(self.refuses(symm.BusyError, context.close), "1 tensor .* the context .*delete")
            with self.assertRaises(symm.BusyError):
                with context:
                    pass
        self.check_whole(context, groups, tensors, mems)
        stream.synchronize()
        del array
        context.close()
        for one in (context, *groups, *tensors, *mems, stream):
            self.assertTrue(one.closed)

    def test_closed_at_once(self):
        """By many threads: it ends once, and another reference to the same memory is none of it."""
        for _ in range(5):
            tensor, mem = self.share(64)
            kept = symm.find_mem(tensor)
            objects = [tensor, mem] * 4
            threads = [threading.Thread(target=one.close) for one in objects]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertTrue(tensor.closed and mem.closed)
            self.assertEqual(kept.buffer_size, 64)
            kept.close()

    def test_fork(self):
        """A child gets an error, and ends in peace."""
        tensor, mem = self.share()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                self.refuses(symm.ForkError, mem.barrier)
                tensor.close()
                self.context.close()
                status = 0
            finally:
                os._exit(status)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        mem.barrier()


class Multicast(unittest.TestCase):
    def test_support(self):
        self.assertFalse(symm.has_multicast_support("host"))
        with self.assertRaises(symm.InvalidError):
            symm.has_multicast_support("toaster")
