"""What the tests share: this rank's context, a group of both ranks, and what depends on the device."""

import itertools
import os
import unittest

import symm

try:
    import numpy
except ImportError:
    numpy = None

FACTOR = int(os.environ.get("TAP_TIMEOUT_FACTOR", "1"))
TIMEOUT = 20 * FACTOR
ON_HOST = os.environ.get("SYMM_DEVICE", "host") == "host"

on_host = unittest.skipUnless(ON_HOST, "the host cannot reach memory of this device")
with_numpy = unittest.skipIf(numpy is None, "no NumPy for this Python")

_numbers = itertools.count()


def open_context():
    """Skips the tests where there is no such device."""
    try:
        return symm.Context(timeout=TIMEOUT)
    except symm.DeviceError as error:
        if os.environ.get("SYMM_REQUIRE_GPU") == "1":
            raise
        raise unittest.SkipTest(error.detail) from None


class Ranks(unittest.TestCase):
    """Each test has a group of its own, which it must leave without an error."""

    @classmethod
    def setUpClass(cls):
        cls.context = open_context()

    @classmethod
    def tearDownClass(cls):
        cls.context.close()

    def setUp(self):
        self.group = self.context.join(f"group{next(_numbers)}")
        self.rank, self.world = self.group.rank, self.group.world_size
        self.peer = (self.rank + 1) % self.world
        self.addCleanup(self.group.close)

    def share(self, sizes=1024, dtype="uint8"):
        """A tensor and its rendezvous."""
        tensor = self.group.empty(sizes, dtype)
        return tensor, symm.rendezvous(tensor)

    def refuses(self, kind, function, *arguments, **named):
        """The detail of the error, which this is."""
        with self.assertRaises(kind) as caught:
            function(*arguments, **named)
        return caught.exception.detail
