"""Whatever the package has for users stands in symm-python(7), and calls stand there with all their arguments."""

import inspect
import os
import re
import unittest

import symm
from symm import _handle

PAGE = os.path.join(os.environ["top_srcdir"], "man", "symm-python.7")
OBJECTS = {
    symm.Context: "context",
    symm.Group: "group",
    symm.Mem: "mem",
    symm.Stream: "stream",
    symm.Tensor: "tensor",
    symm.Error: "error",
}
MADE_BY_USERS = (symm.Context, symm.Stream)


def call(name, function, skip=0):
    """As a page shows it: name(first, second=None)."""
    signature = inspect.signature(function)
    given = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    shown = signature.replace(parameters=given[skip:], return_annotation=signature.empty)
    return name + str(shown).replace("'", '"')


def members(kind):
    """The public names of a class, and of its objects."""
    names = set(vars(kind)) | set(re.findall(r"\bself\.(\w+)(?:: [^=\n]+)? = ", inspect.getsource(kind)))
    return sorted(name for name in names if not name.startswith("_"))


def calls():
    for name in symm.__all__:
        if inspect.isfunction(getattr(symm, name)):
            yield call(name, getattr(symm, name))
    for kind, instance in OBJECTS.items():
        if kind in MADE_BY_USERS:
            yield call(kind.__name__, kind.__init__, 1)
        for name in members(kind):
            method = getattr(kind, name, None)
            if inspect.isfunction(method) and not name.endswith("_on_stream"):
                # What two classes share goes by no object's name.
                yield call("close" if method is _handle.Handle.close else f"{instance}.{name}", method, 1)


def words():
    """What is no call."""
    yield from (name for name in symm.__all__ if not inspect.isfunction(getattr(symm, name)))
    yield from ("close", "closed", "leave", "__version__")
    for kind in OBJECTS:
        yield from (name for name in members(kind) if not inspect.isfunction(getattr(kind, name, None)))


def missing(page):
    """What the page does not show: calls in displays or markup, other names in markup."""
    displays = " ".join(re.findall(r"^\.Bd -literal(.*?)^\.Ed", page, flags=re.S | re.M))
    marked = " ".join(re.findall(r"^\.(?:It|Li|Fn) .*", page, flags=re.M))
    shown = re.sub(r"\s+", " ", f"{displays} {marked}")
    names = [one for one in calls() if not re.search(rf"(?<![\w.]){re.escape(one)}", shown)]
    return names + sorted(set(words()) - set(re.findall(r"\w+", marked)))


class Page(unittest.TestCase):
    def test_names(self):
        with open(PAGE, encoding="utf-8") as file:
            page = file.read()
        self.assertEqual(missing(page), [])

    def test_nothing(self):
        """Without a page all of it is missed."""
        names = missing("")
        self.assertGreater(len(names), 60)
        for name in "CHANNELS", "has_multicast_support(device=None)", "mem.sync_words()", "buffers_dev", "detail":
            self.assertIn(name, names)

    def test_on_stream(self):
        """As the page says: a form that enqueues takes the same arguments, and then a stream."""
        names = [name for name in members(symm.Mem) if name.endswith("_on_stream")]
        self.assertEqual(len(names), 9)
        for name in names:
            with self.subTest(name):
                blocks = inspect.signature(getattr(symm.Mem, name[: -len("_on_stream")]))
                enqueues = list(inspect.signature(getattr(symm.Mem, name)).parameters.values())
                self.assertEqual(enqueues[:-1], list(blocks.parameters.values()))
                self.assertEqual((enqueues[-1].name, enqueues[-1].default), ("stream", None))
