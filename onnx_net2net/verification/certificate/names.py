"""Names: 128 bits that stand for what was computed, and the labels that stand for names in arrays.

The key is drawn anew in every process, so that nobody can make two things of one name. A label
is half of a name; `Book` keeps the other half and notices two names that share a label.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_net2net.typing import Array

Labels = npt.NDArray[np.uint64]

ZERO = np.uint64(2**64 - 1)
"""The label of a position at which everything is zero, whatever the tag and other labels."""
_SMALL = 1 << 16
_WORD = 2**64 - 1
_MANY = _LARGEST = 1 << 20
_SECRET = secrets.token_bytes(32)
_STEPS = np.array([[secrets.randbits(64) | 1], [secrets.randbits(64) | 1]], np.uint64)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_ONE, _MADE = np.uint64(1), np.uint64(1 << 63)


class CollisionError(Exception):
    """Two names have one label, or two arrays one name: nothing that was found may be trusted."""


class Book:
    """The labels made while it is open, each with the other half of its name."""

    def __init__(self) -> None:
        self._labels: list[Labels] = []
        self._checks: list[Labels] = []
        self._waiting = 0
        self._arrays: dict[int, Array] = {}

    def note(self, labels: Labels, checks: Labels) -> None:
        """Remember labels with the other halves of their names."""
        self._labels.append(labels.reshape(-1))
        self._checks.append(checks.reshape(-1))
        self._waiting += labels.size
        if self._waiting > _MANY:
            self.audit()

    def holds(self, name: int, array: Array) -> None:
        """Remember what an array's name stands for.

        Raises:
            CollisionError: it stands for another array.
        """
        known = self._arrays.setdefault(name, array)
        if known is not array and not same_bits(known, array):
            raise CollisionError("two constants have one name")

    def audit(self) -> None:
        """Look at all labels again.

        Raises:
            CollisionError: one of them stands for two names.
        """
        if not self._labels:
            return
        labels, checks = np.concatenate(self._labels), np.concatenate(self._checks)
        order = np.argsort(labels, kind="stable")
        labels, checks = labels[order], checks[order]
        again = labels[1:] == labels[:-1]
        if (again & (checks[1:] != checks[:-1])).any() or (len(labels) and labels[-1] == ZERO):
            raise CollisionError("two names have one label")
        first = np.concatenate([[True], ~again])
        self._labels, self._checks, self._waiting = [labels[first]], [checks[first]], 0


_BOOK: ContextVar[Book | None] = ContextVar("book", default=None)


@contextmanager
def audited() -> Iterator[Book]:
    """Keep a book of the labels made inside.

    >>> with audited() as book:
    ...     label = mix(positions(3))
    ...     book.audit()
    """
    book = Book()
    token = _BOOK.set(book)
    try:
        yield book
    finally:
        _BOOK.reset(token)


def key(*parts: Any) -> int:
    """A name for plain values (numbers, texts, bytes, tuples of these).

    >>> key("Relu", 1) == key("Relu", 1) != key("Relu", 2)
    True
    """
    state = hashlib.blake2b(repr(parts).encode(), digest_size=16, key=_SECRET)
    return int.from_bytes(state.digest(), "little")


@lru_cache(maxsize=256)
def dtype_name(dtype: np.dtype[Any]) -> str:
    """What numpy calls an element type."""
    return str(dtype)


def bits_of(array: Array) -> npt.NDArray[np.uint8]:
    """[*shape, bytes]: -0.0 is not 0.0, and a NaN is itself."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return flat.reshape(*array.shape, array.dtype.itemsize)


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays have one type, one shape and the same bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.nbytes <= _SMALL:
        return a.tobytes() == b.tobytes()
    return bool(np.array_equal(bits_of(a), bits_of(b)))


def repeats(array: Array, axis: int) -> bool:
    """Whether a constant is the same, bit by bit, at all positions of an axis."""
    bits = bits_of(array)
    return bool((bits == np.take(bits, [0], axis)).all())


def digest(array: Array) -> int:
    """A name for an array's type, shape and bits."""
    about = f"{dtype_name(array.dtype)}{array.shape}".encode()
    state = hashlib.blake2b(about, digest_size=16, key=_SECRET)
    plain = array.nbytes <= _SMALL and not array.dtype.hasobject  # what is copied is hashed sooner
    bits = array.tobytes() if plain else np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    state.update(bits)
    return int.from_bytes(state.digest(), "little")


def content_name(array: Array) -> int:
    """A name for a constant by what it holds, looked at wherever two have one.

    Raises:
        CollisionError: another array has that name.
    """
    name, book = key("array", digest(array)), _BOOK.get()
    if book is not None and array.nbytes <= _LARGEST and not array.dtype.hasobject:
        book.holds(name, array)
    return name


def label_digest(labels: Labels) -> int:
    """`digest` of the labels of an axis; that of an axis as it was is known."""
    n = len(labels)
    return _position_digest(n) if labels is positions(n) else digest(labels)


@lru_cache(maxsize=4096)
def _position_digest(n: int) -> int:
    return digest(positions(n))


def label(name: int) -> np.uint64:
    """The label of a name."""
    return labels_of([name])[0]


def labels_of(names: Sequence[int]) -> Labels:
    """The labels of some names."""
    words = b"".join(n.to_bytes(16, "little") for n in names)
    return _labels(np.frombuffer(words, np.uint64).reshape(-1, 2).T)


def row_digests(array: Array, *salt: Any) -> Labels:
    """A label for each row (axis 0) from its bits; rows of which every bit is zero are ZERO."""
    rows = np.ascontiguousarray(array.reshape(len(array), -1))
    data = rows.view(np.uint8).reshape(len(rows), -1)
    prefix = key(dtype_name(array.dtype), rows.shape[1], salt).to_bytes(16, "little")
    digests = b"".join(_hashed(prefix, row) for row in data)
    found = _labels(np.frombuffer(digests, np.uint64).reshape(-1, 2).T)
    return np.where(data.any(1), found, ZERO)


def rows_along(array: Array, axis: int, *salt: Any) -> Labels:
    """A label for each position of an axis from what stands there, and where it stands.

    Axes of one position say nothing, and axes are counted from the last, as in broadcasting.
    """
    rank = array.ndim
    where = [(k - rank, d) for k, d in enumerate(array.shape) if k != axis and d != 1]
    return row_digests(np.moveaxis(array, axis, 0), where, *salt)


def _hashed(prefix: bytes, row: Array) -> bytes:
    state = hashlib.blake2b(prefix, digest_size=16)
    state.update(row.data)
    return state.digest()


def constant_label(value: Any) -> np.uint64:
    """The label of a position at which everything has one value, a numpy scalar.

    >>> bool(constant_label(np.float32(0)) == ZERO != constant_label(np.float32(-0.0)))
    True
    """
    bits = value.tobytes()
    return label(key("constant", dtype_name(value.dtype), bits)) if any(bits) else ZERO


def mix(*parts: Labels | int) -> Labels:
    """One label for each combination of labels (or names), position by position.

    >>> bool(mix(1, positions(3))[2] == mix(1, positions(4))[2])
    True
    """
    return _labels(mixed(*parts))


def mixed(*parts: Labels | int) -> Labels:
    """[2, ...] both halves of a name for each combination of labels (or names)."""
    lead = list(takewhile(lambda p: isinstance(p, int), parts))
    rank = max([np.ndim(p) for p in parts] + [1])
    state = _halves(key("mix", *map(int, lead)), rank)
    steps = _STEPS.reshape(2, *[1] * rank)
    for part in parts[len(lead) :]:
        more = _halves(part, rank) if isinstance(part, int) else np.asarray(part, np.uint64)
        state = _scramble(state * steps + more)
    return state


def _halves(name: int, rank: int) -> Labels:
    return np.array([name & _WORD, name >> 64], np.uint64).reshape(2, *[1] * rank)


def _labels(halves: Labels) -> Labels:
    """Labels of names: never those of positions, which are small."""
    found = halves[0] >> _ONE
    found |= _MADE
    book = _BOOK.get()
    if book is not None:
        book.note(found, halves[1])
    return found


def _scramble(x: Labels) -> Labels:
    """Of the array's own: it is changed in place."""
    shifted = x >> _SHIFTS[0]
    x ^= shifted
    x *= _FACTORS[0]
    np.right_shift(x, _SHIFTS[1], out=shifted)
    x ^= shifted
    x *= _FACTORS[1]
    np.right_shift(x, _SHIFTS[2], out=shifted)
    x ^= shifted
    return x


@lru_cache(maxsize=4096)
def positions(n: int) -> Labels:
    """The labels of an axis that is what it was in the teacher: 0, 1, ..."""
    found = np.arange(n, dtype=np.uint64)
    found.flags.writeable = False
    return found


def is_positions(labels: Labels) -> bool:
    """Whether an axis has the trivial labels."""
    return labels is positions(len(labels)) or bool(np.array_equal(labels, positions(len(labels))))
