"""Stop what takes too long: for programs that run others' models."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class OutOfTime(BaseException):
    """Not an Exception, so that nothing under test swallows it."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise OutOfTime where the block takes longer."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise OutOfTime

    previous = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
