"""Rows of linear maps as linear forms.

A row is, for every label at the input, the sum of the weights of all positions that carry
it. Its random projections add copies up by themselves, so equal forms have equal ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from onnx_net2net.typing import Array
from onnx_net2net.verification.certificate.domain import Const, UnknownError
from onnx_net2net.verification.certificate.names import (
    ZERO,
    CollisionError,
    Labels,
    digest,
    key,
    labels_of,
    mix,
    mixed,
    positions,
    row_digests,
    same_bits,
)

_PROJECTIONS = 3
_NUMBERS = np.arange(_PROJECTIONS, dtype=np.uint64)
CHUNK = 1 << 22
# four unit roundoffs of the type: the rounding of shares, not more
_TOLERANCES = {"float64": 2.0**-51, "float32": 2.0**-22, "float16": 2.0**-9, "bfloat16": 2.0**-6}


def tolerance(dtype: np.dtype[Any]) -> float:
    """How far a sum of shares may be off, relative to the shares; 0 for integers."""
    return _TOLERANCES.get(dtype.name, 0.0)


@dataclass(eq=False)
class Rows:
    """The weights of a contraction, group by group.

    Attributes:
        weight: a constant whose array, brought into form by `shaped`, is [g, o, i, window].
        labels: [g, i], what stands at the input.
        scale: [g, i] factors of the input, None for ones.
        bias: [g * o] or None.
    """

    weight: Const
    shaped: Any
    labels: Labels
    scale: Array | None
    bias: Const | None
    bias_factor: float = 1.0

    @cached_property
    def name(self) -> int:
        """A name for all of it."""
        scale = None if self.scale is None else digest(self.scale)
        bias = None if self.bias is None else (self.bias.key, self.bias_factor)
        return key("rows", self.weight.key, self.shaped.key, digest(self.labels), scale, bias)

    @cached_property
    def raw(self) -> Array:
        """Weights as stored, [g, o, i, window]; kept only while matching."""
        return self.shaped(self.weight.array(), len(self.labels))

    def release(self) -> None:
        """Forget the weights; they can be read again."""
        self.__dict__.pop("raw", None)
        self.__dict__.pop("projected", None)

    @property
    def integer(self) -> bool:
        """Whether the numbers are integers, whose sums are exact and go round at 2**64.

        Raises:
            UnknownError: integers with factors.
        """
        found = self.weight.dtype.kind in "iub"
        if found and (self.scale is not None or self.shaped.factor != 1 or self.bias_factor != 1):
            raise UnknownError("integers with factors")
        return found

    @property
    def count(self) -> int:
        """How many rows there are."""
        g, o = self.raw.shape[:2]
        return int(g * o)

    @cached_property
    def biases(self) -> Array:
        """[rows], float64; of integers int64, in which 2**53 + 1 is not 2**53."""
        if self.bias is None:
            return np.zeros(self.count, np.int64 if self.integer else np.float64)
        flat = self.bias.array().reshape(-1)
        wide = np.int64 if self.integer else np.float64
        flat = flat.astype(wide) * wide(self.bias_factor)
        return np.broadcast_to(flat, (self.count,)) if flat.size == 1 else flat

    def group(self, row: Array) -> Array:
        """The group of each row."""
        return row // self.raw.shape[1]

    def wide(self, rows: Array, g: int) -> Array:
        """Weights of some rows of one group, the input's factors included."""
        o = self.raw.shape[1]
        found = self.raw[g, rows - g * o].astype(wide_dtype(self.weight.dtype))
        return found if self.scale is None else found * self.scale[g][:, None]

    def wide_group(self, g: int) -> Array:
        """All weights of one group, the input's factors included."""
        o = self.raw.shape[1]
        return self.wide(np.arange(g * o, (g + 1) * o), g)

    def bytes_rows(self) -> Labels:
        """A label for each row from its bits; equal only where the inputs are equal too."""
        flat = self.raw.reshape(self.count, -1)
        found = row_digests(flat, "row")
        read = [digest(x) for x in self.labels]
        if self.scale is not None:
            read = [key(a, digest(b)) for a, b in zip(read, self.scale, strict=True)]
        groups = np.repeat(labels_of(read), self.raw.shape[1])
        return mix(found, groups, self.bias_bits)

    @property
    def bias_bits(self) -> Labels:
        """[rows]: biases as they are stored."""
        return np.ascontiguousarray(self.biases).view(np.uint64)

    def look_at(self, mine: Array, other: Rows, theirs: Array) -> None:
        """Compare rows of one name bit by bit, with their inputs and biases.

        Raises:
            CollisionError: two of them differ.
        """
        a, b = (r.raw.reshape(r.count, -1) for r in (self, other))
        same = np.array_equal(self.bias_bits[mine], other.bias_bits[theirs])
        step = max(1, CHUNK // max(1, a.shape[1]))
        for k in range(0, len(mine), step):
            i, j = mine[k : k + step], theirs[k : k + step]
            same = same and same_bits(a[i], b[j])
        groups = np.unique(np.stack([self.group(mine), other.group(theirs)]), axis=1)
        for g, h in groups.T.tolist():
            same = same and np.array_equal(self.labels[g], other.labels[h])
            same = same and np.array_equal(_factors(self, g), _factors(other, h))
        if not same:
            raise CollisionError("two rows have one name")

    @cached_property
    def projected(self) -> Array:
        """[rows, projections]: equal forms have equal projections, up to rounding."""
        g, o, i, window = self.raw.shape
        by_window = _window_directions(window)
        by_label = np.where((self.labels == ZERO)[..., None], 0.0, _directions(self.labels, 2))
        if self.scale is not None:
            by_label = by_label * self.scale[..., None]
        found = np.empty((g, o, _PROJECTIONS))
        step = max(1, CHUNK // max(1, i * window))
        for k in range(g):
            for at in range(0, o, step):
                part = self.raw[k, at : at + step].astype(np.float64)
                inner = part.reshape(-1, window) @ by_window
                inner = inner.reshape(part.shape[0], i, _PROJECTIONS)
                found[k, at : at + step] = np.einsum("oip,ip->op", inner, by_label[k])
        rows = found.reshape(g * o, _PROJECTIONS)
        return rows if self.bias is None else rows + self.biases[:, None] * _BIAS_DIRECTIONS


def _factors(rows: Rows, group: int) -> Array:
    return np.ones(rows.labels.shape[1]) if rows.scale is None else rows.scale[group]


def wide_dtype(dtype: np.dtype[Any]) -> Any:
    """The type in which sums of numbers of a type are exact, or nearly so."""
    if dtype.kind in "iub":
        return np.int64
    # a sum of float64 shares needs more bits than they have
    return np.longdouble if dtype == np.float64 else np.float64


def _directions(labels: Labels, salt: int) -> Array:
    """A random direction for each label, in (-1, 1)."""
    raw = mixed(labels[..., None], salt, _NUMBERS)[0]
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


@lru_cache(maxsize=256)
def _window_directions(window: int) -> Array:
    return _directions(positions(window), 1)


_BIAS_DIRECTIONS = _directions(np.array([7], np.uint64), 3)
