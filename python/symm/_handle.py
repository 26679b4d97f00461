"""What all objects of the library's have in common: they end once, and in an order that harms nothing."""

from __future__ import annotations

import threading
import weakref
from types import TracebackType
from typing import Any, Callable, ClassVar, Iterator, Optional, TypeVar

from ._errors import EFORK, ESTALE, OK, BusyError, error_of
from ._library import check

Self = TypeVar("Self", bound="Handle")


class Handle:
    """An object of the library's. It ends by close(), at the end of a with block, when nothing refers to it any more,
    or when the interpreter exits; what was made of it ends before it, and keeps it alive."""

    _end: ClassVar[Callable[..., Any]]  # the function of the library that ends it

    def __init__(self, value: Any, parent: Optional[Handle]) -> None:
        self._value = value
        self._parent = parent
        self._children: weakref.WeakSet[Handle] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._arm()
        if parent is not None:
            with parent._lock:
                parent._children.add(self)

    def _arm(self) -> None:
        """Sees to it that it ends when nobody refers to it; what _end returns is nobody's business then."""
        self._finalizer = weakref.finalize(self, type(self)._end, self._value)

    @property
    def closed(self) -> bool:
        """True once it has ended."""
        return not self._finalizer.alive

    def _check_open(self) -> None:
        if self.closed:
            raise error_of(ESTALE, f"this {type(self).__name__} has been closed")

    @property
    def _handle(self) -> Any:
        self._check_open()
        return self._value

    def close(self) -> None:
        """Ends it, after what was made of it. The second time it does nothing. BusyError: it is still in use, by
        arrays, and then nothing has ended, or by another thread; try again."""
        self._check_unused()
        self._end_all()

    def _check_unused(self) -> None:
        """Raises BusyError if it is known beforehand that it cannot end."""

    def _end_all(self) -> None:
        with self._lock:
            children = list(self._children)
        for child in children:
            child._end_all()
        with self._lock:
            # What ends twice might end another's, so nobody else may end it from here on.
            if self._finalizer.detach() is None:
                return
            code = type(self)._end(self._value)
            if code in (None, OK, ESTALE, EFORK):  # of a tensor; well; gone already; the parent's of a fork
                return
            self._arm()
            check(code)

    def _descendants(self) -> Iterator[Handle]:
        with self._lock:
            children = list(self._children)
        for child in children:
            yield child
            yield from child._descendants()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], value: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        try:
            self.close()
        except BusyError:
            # What went wrong may itself hold an array, in its traceback: it goes first.
            if kind is None:
                raise
