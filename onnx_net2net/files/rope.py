"""A lazy sequence of bytes: ranges of files and of memory, read only when touched."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

from onnx_net2net.errors import ModelError

_BLOCK = 1 << 12  # what a small read takes along, for the next one
_CHUNK = 1 << 20  # what is compared at a time


@dataclass(frozen=True)
class File:
    """A file as it was when first seen; reading it after a change is an error."""

    path: Path
    size: int
    modified_ns: int
    place: tuple[int, int]  # device and number, the same under every name of the file

    @classmethod
    def at(cls, path: Path) -> File:
        """The file at `path` as it is now; raises OSError."""
        status = path.stat()
        place = status.st_dev, status.st_ino
        return cls(path, status.st_size, status.st_mtime_ns, place)

    def is_same(self, other: File) -> bool:
        """Whether both are one file in one state, perhaps under two names."""
        one, two = ((f.place, f.size, f.modified_ns) for f in (self, other))
        return one == two and self.place[1] != 0

    def open(self) -> io.FileIO:
        """Open for unbuffered reading; raises ModelError if it changed or vanished."""
        try:
            if File.at(self.path) != self:
                raise ModelError(f"'{self.path}' changed while it was in use", "read it again")
            return io.FileIO(self.path)
        except OSError as error:
            raise ModelError(f"cannot read '{self.path}'", str(error.strerror)) from error

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; raises ModelError if there are fewer."""
        parts: list[bytes] = []
        with self.open() as stream:
            stream.seek(offset)
            while length:
                part = stream.read(length)
                if not part:
                    raise ModelError(f"'{self.path}' was cut short while in use", "read it again")
                parts.append(part)
                length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Range(NamedTuple):
    """`length` bytes from `offset` of a file or of bytes in memory."""

    store: File | bytes
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes."""
        if isinstance(self.store, File):
            return self.store.read(self.offset, self.length)
        return self.store[self.offset : self.offset + self.length]


def memory(data: bytes) -> Range:
    """All of `data` as a range."""
    return Range(data, 0, len(data))


class Rope:
    """Ranges one after another, addressed as one sequence of bytes.

    >>> rope = Rope([memory(b"widen"), memory(b"deepen")])
    >>> rope.size, rope.read(3, 8)
    (11, b'endee')
    """

    __slots__ = ("_near", "_starts", "ranges", "size")

    def __init__(self, ranges: Iterable[Range]) -> None:
        self.ranges = _joined(ranges)
        self._starts = list(accumulate((piece.length for piece in self.ranges), initial=0))
        self.size = self._starts.pop()
        self._near = (0, b"")  # where a block starts that was read, and the block

    def slice(self, start: int, end: int) -> list[Range]:
        """The ranges that make up the bytes from `start` to `end`."""
        if start >= end:
            return []
        found: list[Range] = []
        index = bisect_right(self._starts, start) - 1
        while start < end:
            store, offset, length = self.ranges[index]
            skipped = start - self._starts[index]
            taken = min(length - skipped, end - start)
            found.append(Range(store, offset + skipped, taken))
            start += taken
            index += 1
        return found

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""
        if end - start > _BLOCK:
            return self._read(start, end)
        base, block = self._near
        if not base <= start <= end <= base + len(block):
            base, block = start, self._read(start, min(start + _BLOCK, self.size))
            self._near = base, block
        return block[start - base : end - base]

    def _read(self, start: int, end: int) -> bytes:
        parts = [piece.read() for piece in self.slice(start, end)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def equals(self, other: Rope, whole: bool = False) -> bool:
        """Whether both hold the same bytes; what lies at one place of one file is not read.

        Args:
            whole: read that, too.
        """
        if self.size != other.size:
            return False
        edges = sorted({*self._starts, *other._starts, self.size})
        for start, end in pairwise(edges):
            (one,), (two,) = self.slice(start, end), other.slice(start, end)
            if not whole and _at_one_place(one, two):
                continue
            for at in range(start, end, _CHUNK):
                stop = min(at + _CHUNK, end)
                if self._read(at, stop) != other._read(at, stop):
                    return False
        return True

    def files(self) -> set[File]:
        """The files that the rope reads from."""
        return {piece.store for piece in self.ranges if isinstance(piece.store, File)}


def _at_one_place(one: Range, two: Range) -> bool:
    if one.offset != two.offset:
        return False
    if isinstance(one.store, File) and isinstance(two.store, File):
        return one.store.is_same(two.store)
    return one.store is two.store


def _joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Without empty ranges, and with neighbours in one store made one."""
    joined: list[Range] = []
    for piece in ranges:
        if not piece.length:
            continue
        last = joined[-1] if joined else None
        if last and last.store is piece.store and last.offset + last.length == piece.offset:
            joined[-1] = Range(last.store, last.offset, last.length + piece.length)
        else:
            joined.append(piece)
    return tuple(joined)
