"""Saying that something is under way, to a person who waits at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LONG = 1 << 24  # bytes of a model that takes more than a moment


@contextmanager
def waiting(what: str, size: int) -> Iterator[None]:
    """Show `what` on stderr while the block runs, for a large model and on a terminal only."""
    if size < _LONG or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextmanager
def copying(what: str, size: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr that the block moves on, for a long copy and on a terminal only."""
    if size < _LONG or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=size)
        yield lambda count: bar.advance(task, count)
