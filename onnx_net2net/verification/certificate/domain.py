"""Names for functions of the model's inputs: what the certificate computes with.

An element of a tensor is named by the tensor's tag and one label per axis. Elements with
equal names, in the teacher or the student, are the same function of the inputs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_net2net.typing import Array

Labels = npt.NDArray[np.uint64]

ZERO = np.uint64(2**64 - 1)
"""The label of a position at which everything is zero, whatever the tag and other labels."""
_SMALL = 1 << 16
_FEW_WORDS = 8
_WORD = 2**64 - 1
_START, _STEP = 0x243F6A8885A308D3, 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_STEP_WORD, _ONE = np.uint64(_STEP), np.uint64(1)
_FACTORS = np.uint64(_FIRST), np.uint64(_SECOND)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


class UnknownError(Exception):
    """A rule cannot name its outputs axis by axis here; the message says why."""


def key(*parts: Any) -> int:
    """A 64-bit name for plain values (numbers, texts, bytes, tuples of these).

    >>> key("Relu", 1) == key("Relu", 1) != key("Relu", 2)
    True
    """
    data = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(data, "little") & (2**63 - 1)


@lru_cache(maxsize=256)
def dtype_name(dtype: np.dtype[Any]) -> str:
    """What numpy calls an element type."""
    return str(dtype)


def digest(array: Array) -> int:
    """A name for an array's type, shape and bits."""
    state = hashlib.blake2b(f"{dtype_name(array.dtype)}{array.shape}".encode(), digest_size=8)
    plain = array.nbytes <= _SMALL and not array.dtype.hasobject  # what is copied is hashed sooner
    bits = array.tobytes() if plain else np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    state.update(bits)
    return int.from_bytes(state.digest(), "little") & (2**63 - 1)


def label_digest(labels: Labels) -> int:
    """`digest` of the labels of an axis; that of an axis as it was is known."""
    n = len(labels)
    return _position_digest(n) if labels is positions(n) else digest(labels)


@lru_cache(maxsize=4096)
def _position_digest(n: int) -> int:
    return digest(positions(n))


def row_digests(array: Array, *salt: Any) -> Labels:
    """A label for each row (axis 0) from its bits; rows that are all zero are ZERO."""
    rows = np.ascontiguousarray(array.reshape(len(array), -1))
    start = key(dtype_name(array.dtype), rows.shape[1], salt)
    data = rows.view(np.uint8).reshape(len(rows), -1)
    if data.shape[1] <= 8 * _FEW_WORDS:
        words = np.zeros((len(rows), 8 * -(-data.shape[1] // 8)), np.uint8)
        words[:, : data.shape[1]] = data
        found = np.broadcast_to(mix(start, *words.view(np.uint64).T), len(rows)).copy()
    else:
        prefix = start.to_bytes(8, "little")
        digests = b"".join(_hashed(prefix, row) for row in data)
        found = np.frombuffer(digests, np.uint64) >> np.uint64(1)
    found[~rows.astype(bool).any(1)] = ZERO
    return found


def _hashed(prefix: bytes, row: Array) -> bytes:
    state = hashlib.blake2b(prefix, digest_size=8)
    state.update(row.data)
    return state.digest()


def constant_label(value: Any) -> np.uint64:
    """The label of a position at which everything has one value."""
    number = float(value)
    return ZERO if number == 0 else np.uint64(key("constant", number))


def mix(*parts: Labels | int) -> Labels:
    """One label for each combination of labels (or numbers), position by position.

    >>> bool(mix(1, positions(3))[2] == mix(1, 2)[0])
    True
    """
    number, state = _START, None
    for part in parts:
        if state is None and isinstance(part, int):  # much quicker without numpy
            number = _scramble_int(number * _STEP + part)
            continue
        before = np.uint64(number * _STEP & _WORD) if state is None else state * _STEP_WORD
        state = _scramble(np.atleast_1d(np.asarray(part, np.uint64)) + before)
    return np.array([number >> 1], np.uint64) if state is None else state >> _ONE


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


def _scramble_int(x: int) -> int:
    x &= _WORD
    x = (x ^ (x >> 30)) * _FIRST & _WORD
    x = (x ^ (x >> 27)) * _SECOND & _WORD
    return x ^ (x >> 31)


@lru_cache(maxsize=4096)
def positions(n: int) -> Labels:
    """The labels of an axis that is what it was in the teacher: 0, 1, ..."""
    found = np.arange(n, dtype=np.uint64)
    found.flags.writeable = False
    return found


def is_positions(labels: Labels) -> bool:
    """Whether an axis has the trivial labels."""
    return labels is positions(len(labels)) or bool(np.array_equal(labels, positions(len(labels))))


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that depends on the inputs.

    Attributes:
        tag: what it is, together with the labels.
        labels: one array per axis; None where the shape is unknown.
        scale: (axis, factors) that the named elements are multiplied by, if any.
    """

    tag: int
    labels: tuple[Labels, ...] | None
    scale: tuple[int, Array] | None = None

    @property
    def axes(self) -> tuple[Labels, ...]:
        """The labels; raises UnknownError where the shape is unknown."""
        if self.labels is None:
            raise UnknownError("a shape is unknown")
        return self.labels

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(len(x) for x in self.axes)

    @cached_property
    def whole(self) -> int:
        """A name for the tensor as it is, with every position in its place."""
        if self.labels is None:
            return key("whole", self.tag)
        v = self.settled()
        return key("whole", v.tag, [label_digest(x) for x in v.axes])

    def settled(self) -> Value:
        """The same without `scale`: the factors become part of the labels."""
        if self.scale is None:
            return self
        axis, factors = self.scale
        labels = list(self.axes)
        bits = np.ascontiguousarray(factors, np.float64).view(np.uint64)
        scaled = np.where(factors == 1.0, labels[axis], mix(labels[axis], bits))
        labels[axis] = np.where((factors == 0.0) | (labels[axis] == ZERO), ZERO, scaled)
        return Value(self.tag, tuple(labels))

    def relabelled(self, axis: int, labels: Labels) -> Value:
        """With other labels on one axis."""
        found = list(self.axes)
        found[axis] = labels
        return replace(self, labels=tuple(found))


class Const:
    """A tensor that does not depend on the inputs; its array is read when it is needed."""

    __slots__ = ("_array", "_known", "_load", "dtype", "key", "shape")

    def __init__(
        self, name: int, shape: Sequence[int], dtype: np.dtype[Any], load: Callable[[], Array]
    ) -> None:
        self.key, self.shape, self.dtype = name, tuple(shape), dtype
        self._load = load
        self._array: Array | None = None
        self._known: dict[Any, Any] = {}

    @classmethod
    def of(cls, array: Array) -> Const:
        """A constant that is at hand, named by its content."""
        return cls(key("array", digest(array)), array.shape, array.dtype, lambda: array)

    @property
    def whole(self) -> int:
        """A name for the tensor as it is."""
        return self.key

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    def rows(self, axis: int) -> Labels:
        """A label for each position of an axis from the bits that stand there."""
        if axis not in self._known:
            found = row_digests(np.moveaxis(self.array(), axis, 0), [])
            found.flags.writeable = False
            self._known[axis] = found
        return self._known[axis]

    def along(self, rank: int) -> Const:
        """A vector as a constant that broadcasts along the first of `rank` axes."""
        if ("along", rank) not in self._known:
            shape = (self.size, *[1] * (rank - 1))
            view = Const(self.key, shape, self.dtype, lambda: self.array().reshape(shape))
            self._known["along", rank] = view
        return self._known["along", rank]

    def array(self) -> Array:
        """What it holds; small ones are kept."""
        if self._array is not None:
            return self._array
        found = self._load()
        if found.nbytes <= _SMALL:
            self._array = found
        return found


Term = Value | Const
