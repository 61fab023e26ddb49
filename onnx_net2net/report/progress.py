"""Saying that something is under way, to a person who waits at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
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
