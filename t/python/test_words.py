"""What kernels are given; a signal made of loads and stores alone, as symm-sync-words(7) tells."""

import ctypes
import platform
import time
import unittest
from unittest import mock

import symm
from world import TIMEOUT, Ranks, on_host

CHANNEL = 5

on_x86 = unittest.skipUnless(platform.machine() == "x86_64", "Python's stores have no order on this processor")


def load(address, kind=ctypes.c_uint64):
    return kind.from_address(address).value


def store(address, value):
    ctypes.c_uint64.from_address(address).value = value


def add(counter):
    """Nobody else is at it here."""
    was = load(counter)
    store(counter, was + 1)
    return was


class Hand:
    """One rank's side of a channel."""

    def __init__(self, words, channel):
        self.words = words
        self.row = channel * words.channel_stride
        self.ticket = channel * words.ticket_stride

    def word(self, call):
        return self.words.generation << 32 | (self.words.epoch0 + call) % 2**32

    def where(self, offset, reader, writer):
        return self.words.slots[reader] + offset + self.row + 8 * writer

    def counter(self, address, peer):
        return address + peer * self.words.peer_stride + self.ticket

    def reach(self, address, want):
        deadline = time.monotonic() + TIMEOUT
        while True:
            word = load(address)
            if word >> 32 == want >> 32 and (word - want) % 2**32 < 2**31:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{word:#x} has not reached {want:#x}")
            time.sleep(0)

    def put_signal(self, dst):
        words = self.words
        ticket = add(self.counter(words.put_ticket, dst))
        if ticket > 0:
            self.reach(self.where(words.credit_offset, words.rank, dst), self.word(ticket))
        store(self.where(words.signal_offset, dst, words.rank), self.word(ticket + 1))

    def wait_signal(self, src):
        words = self.words
        ticket = add(self.counter(words.wait_ticket, src))
        self.reach(self.where(words.signal_offset, words.rank, src), self.word(ticket + 1))
        store(self.where(words.credit_offset, src, words.rank), self.word(ticket + 1))


class Words(Ranks):
    def test_view(self):
        tensor, mem = self.share(100)
        view = mem.device_view()
        self.assertEqual((view.rank, view.world_size), (self.rank, self.world))
        self.assertEqual((view.buffers, view.signal_pads), (mem.buffers_dev, mem.signal_pads_dev))
        self.assertEqual((view.buffer_size, view.signal_pad_size), (100, mem.signal_pad_size))
        self.assertEqual(view.multicast, mem.multicast if mem.has_multicast else None)
        self.assertTrue(view.sync and view.group and view.own)
        self.assertEqual(len(bytes(view)), ctypes.sizeof(view))
        tensor.close()

    def test_words(self):
        _, mem = self.share()
        words = mem.sync_words()
        self.assertEqual((words.rank, words.world_size, words.channels), (self.rank, self.world, symm.CHANNELS))
        self.assertEqual((words.generation, words.epoch0), (self.group.generation, 0))
        self.assertEqual(len({words.slots[rank] for rank in range(self.world)}), self.world)
        self.assertGreater(words.slot_bytes, words.channels * words.channel_stride)

    def test_refused(self):
        """A Mem that has ended, and a library of another version."""
        _, mem = self.share()
        for call, name in (mem.device_view, "DEVICE_VIEW_VERSION"), (mem.sync_words, "SYNC_WORDS_VERSION"):
            with mock.patch(f"symm._mem.{name}", 99):
                self.assertIn("the package 99", self.refuses(symm.NotSupportedError, call))
            call()
        mem.barrier()
        mem.close()
        for call in mem.device_view, mem.sync_words:
            self.assertIn("closed", self.refuses(symm.StaleError, call))

    @on_host
    @on_x86
    def test_signals_by_hand(self):
        """Rank 0's signals and waits are by hand, but for each third; rank 1 calls the library."""
        _, mem = self.share(64)
        hand = Hand(mem.sync_words(), CHANNEL)
        for number in range(1, 31):
            if self.rank == 1:
                mem.wait_signal(0, CHANNEL)
                self.assertEqual(load(mem.buffer(1)), number)
                store(mem.buffer(0), number + 1000)
                mem.put_signal(0, CHANNEL)
                continue
            store(mem.buffer(1), number)
            if number % 3 == 0:
                mem.put_signal(1, CHANNEL)
                mem.wait_signal(1, CHANNEL)
            else:
                hand.put_signal(1)
                hand.wait_signal(1)
            self.assertEqual(load(mem.buffer(0)), number + 1000)
        self.assertEqual(load(hand.words.poison, ctypes.c_uint32), 0)
        mem.barrier()

    @on_host
    @on_x86
    def test_credit_by_hand(self):
        """A signal waits until the last one was consumed."""
        _, mem = self.share(64)
        words = mem.sync_words()
        hand = Hand(words, symm.CHANNELS - 1)
        for number in range(1, 6):
            if self.rank == 0:
                hand.put_signal(1)
            else:
                time.sleep(0.005)
                self.assertLessEqual(load(hand.where(words.signal_offset, 1, 0)), hand.word(number))
                mem.wait_signal(0, symm.CHANNELS - 1)
        mem.barrier()
        if self.rank == 0:
            self.assertEqual(load(hand.where(words.credit_offset, 0, 1)), hand.word(5))
